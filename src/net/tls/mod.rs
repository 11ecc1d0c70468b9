//! TLS of a listener: its configuration out of files that may change, and the state of each of its connections. No socket is here:
//! bytes come in and go out.

mod certificate;
mod files;
mod handshakes;
mod revoked;
mod rotation;
mod server;
mod session;

pub(crate) use certificate::{PeerCertificate, usable_name};
pub(crate) use handshakes::{HandshakeCounts, HandshakeEnd};
#[cfg(feature = "admin")]
pub(crate) use rotation::TlsListeners;
pub(crate) use rotation::{ListenerTls, Rotation, Watched};
pub(crate) use server::{Expiry, FileFault};
pub(crate) use session::{KEPT_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Tls};

/// A value that all shards read. rustls takes its configuration in this shape.
#[expect(clippy::disallowed_types, reason = "shared by the listener's shards and the control plane")]
pub(crate) type Shared<T> = std::sync::Arc<T>;

/// A shared value that the control plane exchanges. A shard reads it once for each connection that begins.
type Swapped<T> = std::sync::RwLock<Shared<T>>;
