//! TLS of a listener: its configuration, and the state of each of its connections. No socket is here: bytes come in and go out.

mod session;

pub(crate) use session::{KEPT_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Tls};

/// A configuration that all shards read.
#[expect(clippy::disallowed_types, reason = "rustls takes its configuration in this shape")]
pub(crate) type Shared<T> = std::sync::Arc<T>;
