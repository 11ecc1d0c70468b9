//! The last ends of connections, closed and refused ones, for the operator who asks why a client is gone.
//! Invariants: all shards together keep the last 10,000, each its share, so that keeping one waits for nobody; an entry has the texts of
//! a notice, cut to 300 bytes, and everything else is spelt out when it is read; all of it is counted as memory.

use std::collections::VecDeque;
use std::net::SocketAddr;

use engine::{Cause, Limits};
use serde::{Deserialize, Serialize};

/// Ends that all shards together keep.
const CLOSINGS_MAX: usize = 10_000;

/// Ends that a shard keeps at least, however many shards there are.
const SHARE_MIN: usize = 256;

/// Entries that are looked at for one answer.
const LOOKS_MAX: usize = 1_024;

/// An end as an operator reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    /// The time of the wall clock, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// Whether its client had been let in: closed, or else refused.
    pub(crate) was_let_in: bool,
    /// The client identifier; `None` if no CONNECT was read.
    pub(crate) client: Option<String>,
    /// The user, or the user name that a refused client sent.
    pub(crate) user: Option<String>,
    /// The address of the peer.
    pub(crate) peer: Option<String>,
    /// The name of the listener.
    pub(crate) listener: Option<String>,
    /// The method of authentication that refused it.
    pub(crate) method: Option<String>,
    /// The side that the end comes from: `client`, `broker`, `network` or `operator`.
    pub(crate) by: String,
    /// The group of the cause.
    pub(crate) reason: String,
    /// The cause as a sentence.
    pub(crate) why: String,
    /// The address of the peer that took the session over.
    pub(crate) taken_over_by: Option<String>,
    /// Milliseconds that it lasted, to a tenth of a second.
    pub(crate) lasted_ms: u64,
    /// Packets that came from the client.
    pub(crate) packets: u32,
}

/// An end as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) at_us: u64,
    pub(crate) client: Option<Box<str>>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// The place of its name among the addresses of all listeners.
    pub(crate) listener: u16,
    pub(crate) method: Option<&'static str>,
    pub(crate) was_let_in: bool,
    pub(crate) why: Why,
    pub(crate) taken_over_by: Option<Box<SocketAddr>>,
    pub(crate) lasted_ms: u64,
    pub(crate) packets: u32,
}

/// The reason of an end.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// The engine's.
    Cause(Cause),
    /// TLS has failed, as this sentence says.
    Tls(Box<str>),
}

/// The reason under which failures of TLS are shown.
pub(crate) const TLS_FAILED: &str = "tls_failed";

impl Closing {
    fn text_bytes(&self) -> usize {
        let texts = [&self.client, &self.user].into_iter().flatten().map(|text| text.len()).sum::<usize>();
        let detail = if let Why::Tls(detail) = &self.why { detail.len() } else { 0 };
        texts + detail + self.taken_over_by.as_ref().map_or(0, |_| size_of::<SocketAddr>())
    }

    fn shown(&self, limits: &Limits, listeners: &[String]) -> Closed {
        let (by, reason, why) = match &self.why {
            Why::Cause(cause) => {
                let group = cause.group();
                (group.party().name(), group.name(), cause.explained(limits).to_string())
            }
            Why::Tls(detail) => ("client", TLS_FAILED, detail.to_string()),
        };
        Closed {
            at_us: self.at_us,
            was_let_in: self.was_let_in,
            client: self.client.as_deref().map(str::to_owned),
            user: self.user.as_deref().map(str::to_owned),
            peer: self.peer.map(|peer| peer.to_string()),
            listener: listeners.get(usize::from(self.listener)).cloned(),
            method: self.method.map(str::to_owned),
            by: by.to_owned(),
            reason: reason.to_owned(),
            why,
            taken_over_by: self.taken_over_by.as_ref().map(ToString::to_string),
            lasted_ms: self.lasted_ms,
            packets: self.packets,
        }
    }
}

/// **Lives on:** one shard. **Sees:** the connections that ended there.
#[derive(Clone, Debug)]
pub(crate) struct Closings {
    ring: VecDeque<Closing>,
    /// The oldest leaves for one more.
    count_max: usize,
    /// Ends so far: the number of the next one.
    count: u64,
    text_bytes: usize,
}

impl Closings {
    /// The share of one of so many shards.
    pub(crate) fn of_shards(shard_count: u16) -> Self {
        let count_max = CLOSINGS_MAX.div_ceil(usize::from(shard_count.max(1))).max(SHARE_MIN);
        Self { ring: VecDeque::new(), count_max, count: 0, text_bytes: 0 }
    }

    /// Keeps an end instead of the oldest.
    pub(crate) fn keep(&mut self, closing: Closing) {
        if self.ring.len() == self.count_max
            && let Some(oldest) = self.ring.pop_front()
        {
            self.text_bytes -= oldest.text_bytes();
        }
        self.text_bytes += closing.text_bytes();
        self.ring.push_back(closing);
        self.count += 1;
    }

    /// Passes ends before number `before`, or all, from the newest back on to `each`: those of the given client, or of all. Stops once
    /// `each` answers `false`, or enough was looked at. Returns the number before which the next call goes on, or `None` at the end.
    pub(crate) fn visit(
        &self,
        (limits, listeners): (&Limits, &[String]),
        before: Option<u64>,
        client_id: Option<&str>,
        each: &mut dyn FnMut(Closed) -> bool,
    ) -> Option<u64> {
        let first = self.count - self.ring.len() as u64;
        let end = before.unwrap_or(self.count).clamp(first, self.count);
        let behind = usize::try_from(self.count - end).unwrap_or(usize::MAX);
        let mut number = end;
        for closing in self.ring.iter().rev().skip(behind).take(LOOKS_MAX) {
            let is_meant = client_id.is_none_or(|id| closing.client.as_deref() == Some(id));
            if is_meant && !each(closing.shown(limits, listeners)) {
                break;
            }
            number -= 1;
        }
        (number > first).then_some(number)
    }

    /// Bytes that the ring takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Closing>() + self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(number: u64) -> Closing {
        Closing {
            at_us: number,
            client: Some(format!("client-{}", number % 10).into()),
            user: None,
            peer: None,
            listener: 0,
            method: None,
            was_let_in: true,
            why: Why::Tls("x".into()),
            taken_over_by: None,
            lasted_ms: 0,
            packets: 0,
        }
    }

    /// The times of all ends, read in parts of `rows_max`.
    fn read(closings: &Closings, client_id: Option<&str>, rows_max: usize) -> Vec<u64> {
        let (limits, names) = (Limits::default(), Vec::new());
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let mut rows = 0;
            before = closings.visit((&limits, &names), before, client_id, &mut |closed| {
                let has_room = rows < rows_max;
                if has_room {
                    seen.push(closed.at_us);
                }
                rows += 1;
                has_room
            });
            if before.is_none() {
                return seen;
            }
        }
    }

    #[test]
    fn the_last_ones_are_read_from_the_newest_back_in_parts_and_their_bytes_are_counted() {
        let mut closings = Closings::of_shards(1);
        assert_eq!((closings.memory_bytes(), read(&closings, None, 1)), (0, Vec::new()));
        (0..12_345).for_each(|number| closings.keep(closing(number)));
        let newest_first: Vec<u64> = (2_345..12_345).rev().collect();
        assert_eq!(read(&closings, None, 256), newest_first);
        assert_eq!(read(&closings, None, 999_999), newest_first);
        let of_one: Vec<u64> = newest_first.iter().copied().filter(|number| number % 10 == 7).collect();
        assert_eq!(read(&closings, Some("client-7"), 3), of_one);
        assert_eq!(read(&closings, Some("client-10"), 3), Vec::<u64>::new());
        assert_eq!(closings.text_bytes, 10_000 * ("client-0".len() + 1));
        assert!(closings.memory_bytes() >= 10_000 * size_of::<Closing>());
        assert_eq!(Closings::of_shards(64).count_max, SHARE_MIN);
    }
}
