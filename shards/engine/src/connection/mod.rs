//! One network connection: from its first byte to its last.

pub(crate) mod ack_gate;
pub(crate) mod authenticate;
mod connect;
pub(crate) mod disconnect;
pub(crate) mod outbox;
pub(crate) mod reason_string;
mod receive;
pub(crate) mod table;
pub(crate) mod topic_alias;
