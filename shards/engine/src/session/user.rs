//! Users: the names that the host's verdicts give to clients, and what a verdict grants with them.

use crate::base::time::Instant;

/// The number of no set of roles: nothing is checked.
pub const NO_RULES: u32 = u32::MAX;

/// The part of a verdict that says who a client is and what it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserGrant<'a> {
    /// The name of the user; `None` for an anonymous client.
    pub user: Option<&'a str>,
    /// The number of the user's set of roles, or [`NO_RULES`].
    pub rules: u32,
    /// The client identifier that the user is bound to; another one is refused with 0x85. `None`: any.
    pub client_id_must_be: Option<&'a str>,
    /// When the grant ends; `None`: never.
    pub expires_at: Option<Instant>,
}

impl UserGrant<'_> {
    /// The grant of a client that nobody judged.
    pub const NOBODY: Self = Self { user: None, rules: NO_RULES, client_id_must_be: None, expires_at: None };
}
