//! Commands of the operator to a running broker: `mqtt-broker health` and its like.

pub(crate) mod health;
pub(crate) mod operator;
