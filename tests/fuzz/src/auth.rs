//! The parts of the broker's `auth` that read operators' files and peers' bytes.

#[path = "../../../src/auth/password/file.rs"]
pub(crate) mod file;
#[expect(dead_code, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/auth/password/hash.rs"]
pub(crate) mod hash;

/// The configuration needs the name of the method alone.
pub(crate) const TEST_METHOD: &str = "test-echo";
