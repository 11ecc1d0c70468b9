//! The last refusals of connections, for `mqtt-broker refusals`.
//! Invariants: a ring keeps the last 256, and each shard has its own, so that recording one waits for nobody; text of a peer has at
//! most 256 bytes without a control character.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Refusals that a ring keeps; the oldest leaves for one more.
pub(crate) const REFUSALS_MAX: usize = 256;

/// A connection whose client was not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The time of the wall clock, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// The client identifier; `None` if no CONNECT was read.
    pub(crate) client: Option<String>,
    /// The user name that the client sent.
    pub(crate) user: Option<String>,
    /// The address of the peer.
    pub(crate) peer: Option<String>,
    /// The name of the listener.
    pub(crate) listener: Option<String>,
    /// The method of authentication that decided.
    pub(crate) method: Option<String>,
    /// The group of the cause.
    pub(crate) reason: String,
    /// The cause as a sentence.
    pub(crate) why: String,
}

impl Refusal {
    /// Bytes that it takes, by capacity.
    fn bytes(&self) -> usize {
        let texts = [&self.client, &self.user, &self.peer, &self.listener, &self.method];
        let optional: usize = texts.into_iter().flatten().map(String::capacity).sum();
        optional + self.reason.capacity() + self.why.capacity()
    }
}

/// **Lives on:** the shard that refused.
#[derive(Clone, Default)]
pub(crate) struct Refusals {
    ring: VecDeque<Refusal>,
    text_bytes: usize,
}

impl Refusals {
    /// Keeps a refusal instead of the oldest.
    pub(crate) fn keep(&mut self, refusal: Refusal) {
        if self.ring.len() == REFUSALS_MAX
            && let Some(oldest) = self.ring.pop_front()
        {
            self.text_bytes -= oldest.bytes();
        }
        self.text_bytes += refusal.bytes();
        self.ring.push_back(refusal);
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Refusal> {
        self.ring.iter().cloned().collect()
    }

    /// Bytes that the ring takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Refusal>() + self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_stay_and_their_bytes_are_counted() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.memory_bytes(), 0);
        for at_us in 0..1_000 {
            refusals.keep(Refusal { at_us, why: "x".repeat(10), ..Refusal::default() });
        }
        let kept: Vec<u64> = refusals.all().iter().map(|refusal| refusal.at_us).collect();
        assert_eq!(kept, (744..1_000).collect::<Vec<u64>>());
        assert_eq!(refusals.text_bytes, 256 * 10);
        assert!(refusals.memory_bytes() >= 256 * (size_of::<Refusal>() + 10));
    }
}
