//! New connections on their way to a shard: the listening sockets, the limit on connections, and the pause after a
//! failed accept. TLS, WebSocket and the PROXY protocol belong here.

pub(crate) mod accept_backoff;
pub(crate) mod interface;
pub(crate) mod listen;
pub(crate) mod permits;
