//! Limits on the behaviour of clients: rates, and `[bans]`.

use super::table::{Complete, GivenTable, table};
use super::value::{between, word_fields};

table! {
    /// Bans after failures of authentication. Without this table nobody is banned. Loopback and trusted proxies never are.
    BansConfig {
        /// Failures of one user name from one address within `window_s` that ban this pair; 0 bans none.
        failures_max: u32 = 10, between(0, 1_000_000), "10";
        /// Failures of one address, whatever the name, that ban the whole address; 0 bans none. Behind a NAT one bad device
        /// bans all.
        address_failures_max: u32 = 0, between(0, 1_000_000), "0";
        /// Connections of one user with one client identifier within `window_s` that ban this pair; 0 bans none. Of clients
        /// without a user, an address takes its place.
        flapping_max: u32 = 0, between(0, 1_000_000), "0";
        /// Seconds in which failures add up.
        window_s: u32 = 60, between(1, 86_400), "60";
        /// Seconds for which a ban lasts.
        ban_s: u32 = 300, between(1, 31_536_000), "300";
    }
}

/// The answer to a client that exceeds its rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnRate {
    /// Read on later.
    Pause,
    /// Close the connection with 0x96.
    Disconnect,
}

word_fields! {
    OnRate, "ANSWER": { Pause = "pause", Disconnect = "disconnect", }
}

impl Complete for BansConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        if self.failures_max == 0 && self.address_failures_max == 0 && self.flapping_max == 0 {
            given.refuse("failures_max", "= 0 bans nobody; leave [bans] out, or raise a limit");
        }
    }
}
