//! Commands of the operator to a running broker: `mqtt-broker health` and its like.

pub(crate) mod health;
pub(crate) mod main_thread;
pub(crate) mod operator;
