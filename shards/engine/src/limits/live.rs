//! The bounds that change while a shard runs.
//!
//! Invariant: each of them is read where something is decided and nowhere else, so what was decided before stays as it is: a queue that is
//! longer than the bound now is not cut before the next message for it, and a session above it goes on.

use alloc::vec::Vec;

use super::{Limits, ListenerLimits, QueueFull};

/// The part of [`Limits`] that [`crate::Event::Limits`] replaces. Each member means what it means there.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the members are those of `Limits`")]
pub struct LiveLimits {
    pub queue_messages_max: u32,
    pub queue_bytes_max: u64,
    pub queue_full: QueueFull,
    pub queue_qos0_offline: bool,
    pub keep_alive_s_max: u16,
    pub connect_timeout_ms: u32,
    pub default_session_expiry_s: u32,
    pub session_expiry_s_max: u32,
    pub sessions_max: u32,
    pub subscriptions_per_session_max: u32,
    pub match_nodes_max: u32,
    pub topic_levels_max: u16,
    pub retained_messages_max: u32,
    pub retained_bytes_max: u64,
    pub denied_publish_closes: bool,
    pub denied_subscribe_accepted: bool,
    /// A connection keeps the number of its listener, so the limits of a number that a client was told must not change; its rates may,
    /// for the clients that come afterwards.
    pub listeners: Vec<ListenerLimits>,
}

macro_rules! members {
    ($($name:ident),+ $(,)?) => {
        impl Limits {
            /// The part that may change while a shard runs.
            #[must_use]
            pub fn live(&self) -> LiveLimits {
                LiveLimits { listeners: self.listeners.clone(), $($name: self.$name),+ }
            }

            /// Replaces that part.
            pub fn set_live(&mut self, live: &LiveLimits) {
                self.listeners.clone_from(&live.listeners);
                $(self.$name = live.$name;)+
            }
        }
    };
}

members! {
    queue_messages_max,
    queue_bytes_max,
    queue_full,
    queue_qos0_offline,
    keep_alive_s_max,
    connect_timeout_ms,
    default_session_expiry_s,
    session_expiry_s_max,
    sessions_max,
    subscriptions_per_session_max,
    match_nodes_max,
    topic_levels_max,
    retained_messages_max,
    retained_bytes_max,
    denied_publish_closes,
    denied_subscribe_accepted,
}
