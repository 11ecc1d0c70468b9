//! New connections on their way to a shard: the listening sockets, the limit on connections, and the pause after a
//! failed accept. Then the layers of a connection: PROXY, TLS and WebSocket.

pub(crate) mod accept_backoff;
pub(crate) mod addresses;
pub(crate) mod interface;
pub(crate) mod layers;
pub(crate) mod listen;
mod local;
pub(crate) mod permits;
mod proxy;
pub(crate) mod tls;
mod upgrade;
