//! Commands of the operator to a running broker: `mqtt-broker disconnect` and `mqtt-broker health`.

pub(crate) mod health;
pub(crate) mod operator;
