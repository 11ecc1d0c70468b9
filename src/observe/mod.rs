//! The broker's numbers, shown to operators and clients: the statistics block, `$SYS/broker/...` and load averages.
//! The shards count; this room adds up and formats, so that every output shows the same numbers. Metrics belong here.

pub(crate) mod load_average;
pub(crate) mod statistics;
pub(crate) mod sys_topics;
