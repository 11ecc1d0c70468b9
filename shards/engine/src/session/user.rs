//! Users: the names that the host's verdicts give to clients, and what a verdict grants with them.

use crate::base::time::Instant;

/// The part of a verdict that says who a client is and what it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserGrant<'a> {
    /// The name of the user; `None` for an anonymous client.
    pub user: Option<&'a str>,
    /// Roles that the verdict gives beside those of the user, such as a token's. Names that no rule has count for nothing.
    pub roles: &'a [&'a str],
    /// The client identifier that the user is bound to; another one is refused with 0x85. `None`: any.
    pub client_id_must_be: Option<&'a str>,
    /// When the grant ends; `None`: never.
    pub expires_at: Option<Instant>,
}

impl UserGrant<'_> {
    /// The grant of a client that nobody judged.
    pub const NOBODY: Self = Self { user: None, roles: &[], client_id_must_be: None, expires_at: None };
}
