//! The public interface: every cut of a client's bytes gives the same payload, every violation its code, and the frames that leave
//! can be read by another reader, however the transport takes them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "the property tests' macros share strategies through Arc")]

mod client;
mod memory;
mod receiving;
mod refusals;
mod sending;
