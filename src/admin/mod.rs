//! The operator and a running broker: commands such as `mqtt-broker health`, and the admin thread that answers over HTTP.

pub(crate) mod health;
#[cfg_attr(not(feature = "admin"), path = "without_http.rs")]
pub(crate) mod http;
pub(crate) mod main_thread;
pub(crate) mod operator;
