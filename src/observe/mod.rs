//! The statistics of the broker for operators and clients: the statistics block, `$SYS/broker/...` and load averages.
//! The shards count. This room adds and formats, so that every output shows the same numbers. Metrics belong here.

pub(crate) mod busy;
pub(crate) mod closings;
pub(crate) mod connection_log;
pub(crate) mod drop_log;
pub(crate) mod lasting;
pub(crate) mod line_budget;
pub(crate) mod load_average;
pub(crate) mod memory_log;
pub(crate) mod refusals;
pub(crate) mod statistics;
pub(crate) mod sys_topics;
