//! The operator's commands on a running broker: `mqtt-broker disconnect` and `mqtt-broker health`.

pub(crate) mod health;
pub(crate) mod operator;
