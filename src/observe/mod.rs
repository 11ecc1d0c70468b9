//! The statistics of the broker for operators and clients: the statistics block, `$SYS/broker/...`, load averages and metrics.
//! The shards count. This room adds and formats, so that every output shows the same numbers.

pub(crate) mod busy;
pub(crate) mod closings;
pub(crate) mod connection_log;
pub(crate) mod drop_log;
#[cfg(feature = "admin")]
pub(crate) mod exposition;
pub(crate) mod histogram;
pub(crate) mod lasting;
pub(crate) mod line_budget;
pub(crate) mod load_average;
pub(crate) mod log_tail;
pub(crate) mod memory_log;
#[cfg(feature = "admin")]
pub(crate) mod metrics;
pub(crate) mod packet_trace;
pub(crate) mod refusals;
#[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "the admin thread reads it"))]
pub(crate) mod service_state;
pub(crate) mod statistics;
pub(crate) mod sys_topics;
#[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "the admin thread reads it"))]
pub(crate) mod tally;
