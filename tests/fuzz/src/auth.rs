//! The parts of the broker's `auth` that read operators' files and peers' bytes.

#[expect(dead_code, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/auth/password/file.rs"]
pub(crate) mod file;
#[expect(dead_code, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/auth/password/hash.rs"]
pub(crate) mod hash;
#[expect(dead_code, reason = "the broker uses more of it than the checks do")]
#[path = "../../../src/auth/password/prepared.rs"]
pub(crate) mod prepared;

#[path = "../../../src/auth/jwt/mod.rs"]
pub(crate) mod jwt;

pub(crate) use jwt::JWT_METHOD;

/// The configuration needs the names of the methods alone.
pub(crate) const TEST_METHOD: &str = "test-echo";
pub(crate) const SCRAM_METHOD: &str = "SCRAM-SHA-256";
