//! The log lines of connections: a client was let in, a client was closed, a connection was refused, each with the reason.
//! Invariants: text of a peer is a field of at most 256 bytes without a control character; and the lines of each reason
//! have a budget, so that no storm of connections fills the disk or delays a shard.

use std::net::SocketAddr;

use engine::{Cause, CauseGroup, Limits, LiveLimits, Refused};
use tracing::field::display;
use tracing::{debug, info};
use wire::ProtocolVersion;

use crate::config::ConnectionLines;
use crate::net::listen::ListenerNumber;
use crate::observe::closings::{Closed, Closing, Closings, TLS_FAILED, Why};
use crate::observe::line_budget::LineBudget;
use crate::observe::refusals::{Refusal, Refusals};
use crate::observe::tally::Tally;
use crate::process::clock;

/// Lines of one reason that each shard may write at once.
const BURST: u64 = 200;

/// Milliseconds until it may write one more of that reason.
const INTERVAL_MS: u64 = 50;

/// Bytes of a peer's text in a line, with its escapes.
const TEXT_BYTES_MAX: usize = 256;

/// **Lives on:** one thread. **Sees:** each connection that begins or ends there.
#[derive(Clone)]
pub(crate) struct ConnectionLog {
    lines: ConnectionLines,
    limits: Limits,
    /// Names of the sockets.
    listeners: Box<[String]>,
    connected: LineBudget,
    closed: [LineBudget; CauseGroup::COUNT],
    refused: [LineBudget; CauseGroup::COUNT],
    tls_failed: LineBudget,
    /// The last refusals, whatever lines are logged.
    refusals: Refusals,
    /// The last ends of connections, likewise.
    closings: Closings,
    tally: Tally,
}

/// The place of a connection: its peer, if that is known, and its listener.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: ListenerNumber,
}

/// A client that was let in.
pub(crate) struct Connected<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user: Option<&'a str>,
    /// The method of authentication that let it in.
    pub(crate) method: Option<&'static str>,
    pub(crate) version: ProtocolVersion,
    pub(crate) keep_alive_s: u16,
    pub(crate) clean_start: bool,
    pub(crate) resumed: bool,
}

/// A connection that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) client_id: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    /// The method of authentication that refused it.
    pub(crate) method: Option<&'static str>,
    pub(crate) was_let_in: bool,
    pub(crate) cause: Cause,
    /// The peer that has taken the session over.
    pub(crate) taken_over_by: Option<SocketAddr>,
    pub(crate) packets: u32,
    pub(crate) age_ms: u64,
}

impl ConnectionLog {
    /// A log of the given lines, on one of so many shards. `limits` are those that the explanations name.
    pub(crate) fn new(
        lines: ConnectionLines,
        limits: Limits,
        listeners: &[String],
        shard_count: u16,
        tally: Tally,
    ) -> Self {
        Self {
            lines,
            limits,
            listeners: listeners.into(),
            connected: LineBudget::default(),
            closed: Default::default(),
            refused: Default::default(),
            tls_failed: LineBudget::default(),
            refusals: Refusals::default(),
            closings: Closings::of_shards(shard_count),
            tally,
        }
    }

    /// Explanations name these bounds from now on.
    pub(crate) fn change_limits(&mut self, live: &LiveLimits) {
        self.limits.set_live(live);
    }

    /// The names of sockets from now on. None of those before has another one.
    pub(crate) fn change_names(&mut self, listeners: &[String]) {
        self.listeners = listeners.into();
    }

    /// Logs that a client was let in.
    pub(crate) fn connected(&mut self, now_ms: u64, place: Place, connected: &Connected<'_>) {
        self.tally.count(place.listener.index(), connected.method, true);
        if self.lines != ConnectionLines::All || !self.connected.admit(now_ms, BURST, INTERVAL_MS) {
            return;
        }
        info!(
            client = &*printable(connected.client_id),
            user = connected.user.map(printable),
            peer = place.peer.map(display),
            listener = self.listener(place.listener).map(display),
            method = connected.method.map(display),
            version = %version(connected.version),
            keep_alive_s = connected.keep_alive_s,
            clean = connected.clean_start,
            resumed = connected.resumed,
            "client connected"
        );
    }

    /// Logs that a client was closed, or that a connection was refused.
    pub(crate) fn ended(&mut self, now_ms: u64, place: Place, ended: &Ended<'_>) {
        let group = ended.cause.group();
        // A peer that connects and goes is a check of the port most often: a load balancer may do so every second.
        let is_probe = !ended.was_let_in && group.party() != engine::Party::Broker && ended.packets == 0;
        if !ended.was_let_in && !is_probe {
            self.tally.count(place.listener.index(), ended.method, false);
            self.keep_refusal(place, ended);
        }
        if !is_probe {
            self.keep_closing(place, ended);
        }
        if self.lines == ConnectionLines::None || ended.was_let_in && self.lines == ConnectionLines::Refusals
        {
            return;
        }
        let budgets = if ended.was_let_in { &mut self.closed } else { &mut self.refused };
        if !is_probe && !budgets[group.index()].admit(now_ms, BURST, INTERVAL_MS) {
            return;
        }
        let client = ended.client_id.map(printable);
        let client = client.as_deref();
        let (peer, listener) = (place.peer.map(display), self.listener(place.listener).map(display));
        let (by, reason) = (group.party().name(), group.name());
        let detail = ended.cause.explained(&self.limits).to_string();
        if is_probe {
            debug!(peer, listener, %by, %reason, detail, "connection ended before a CONNECT");
        } else if ended.was_let_in {
            info!(
                client,
                peer,
                listener,
                %by,
                %reason,
                detail,
                taken_over_by = ended.taken_over_by.map(display),
                seconds = %tenths(ended.age_ms),
                packets = ended.packets,
                "client closed"
            );
        } else if client.is_some() {
            let (user, method) = (ended.user.map(printable), ended.method.map(display));
            info!(client, user, peer, listener, method, %by, %reason, detail, "client refused");
        } else {
            info!(peer, listener, %by, %reason, detail, "connection refused");
        }
    }

    /// The last refusals, the oldest first.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.refusals.all()
    }

    /// The last ends of connections: see [`Closings::visit`].
    pub(crate) fn visit_closed(
        &self,
        before: Option<u64>,
        client_id: Option<&str>,
        each: &mut dyn FnMut(Closed) -> bool,
    ) -> Option<u64> {
        self.closings.visit((&self.limits, &self.listeners), before, client_id, each)
    }

    /// Bytes that are held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.refusals.memory_bytes() + self.closings.memory_bytes()
    }

    fn keep_closing(&mut self, place: Place, ended: &Ended<'_>) {
        self.closings.keep(Closing {
            at_us: clock::unix_us(),
            client: ended.client_id.map(Into::into),
            user: ended.user.map(Into::into),
            peer: place.peer,
            listener: u16::try_from(place.listener.address()).unwrap_or(u16::MAX),
            method: ended.method,
            was_let_in: ended.was_let_in,
            why: Why::Cause(ended.cause),
            taken_over_by: ended.taken_over_by.map(Box::new),
            lasted_ms: ended.age_ms,
            packets: ended.packets,
        });
    }

    fn keep_refusal(&mut self, place: Place, ended: &Ended<'_>) {
        let refusal = Refusal {
            client: ended.client_id.map(printable),
            user: ended.user.map(printable),
            method: ended.method.map(str::to_owned),
            reason: ended.cause.group().name().to_owned(),
            why: ended.cause.explained(&self.limits).to_string(),
            ..self.refusal_at(place)
        };
        self.refusals.keep(refusal);
    }

    /// A refusal now, of a peer at this place.
    fn refusal_at(&self, place: Place) -> Refusal {
        Refusal {
            at_us: clock::unix_us(),
            peer: place.peer.map(|peer| peer.to_string()),
            listener: self.listener(place.listener).map(printable),
            ..Refusal::default()
        }
    }

    /// Logs a peer with which TLS has failed.
    pub(crate) fn tls_failed(&mut self, now_ms: u64, place: Place, fault: &dyn std::fmt::Display) {
        let detail = printable(&fault.to_string());
        self.closings.keep(Closing {
            at_us: clock::unix_us(),
            client: None,
            user: None,
            peer: place.peer,
            listener: u16::try_from(place.listener.address()).unwrap_or(u16::MAX),
            method: None,
            was_let_in: false,
            why: Why::Tls(detail.as_str().into()),
            taken_over_by: None,
            lasted_ms: 0,
            packets: 0,
        });
        let refusal =
            Refusal { reason: TLS_FAILED.to_owned(), why: detail.clone(), ..self.refusal_at(place) };
        self.refusals.keep(refusal);
        if self.lines == ConnectionLines::None || !self.tls_failed.admit(now_ms, BURST, INTERVAL_MS) {
            return;
        }
        let (peer, listener) = (place.peer.map(display), self.listener(place.listener).map(display));
        info!(peer, listener, by = %"client", reason = %TLS_FAILED, detail, "connection refused");
    }

    /// Logs a connection that was closed without an answer, because not even a refusal had a permit.
    pub(crate) fn turned_away(&mut self, now_ms: u64, place: Place, refused: Refused) {
        let ended = Ended {
            client_id: None,
            user: None,
            method: None,
            was_let_in: false,
            cause: refused.cause(),
            taken_over_by: None,
            packets: 0,
            age_ms: 0,
        };
        self.ended(now_ms, place, &ended);
    }

    /// Logs how many lines were held back, where a storm is over or goes on for a minute.
    pub(crate) fn tell_suppressed(&mut self, now_ms: u64) {
        self.each_suppressed(|budget| budget.due(now_ms));
    }

    /// Logs how many lines were held back, at the end.
    pub(crate) fn end(&mut self) {
        self.each_suppressed(LineBudget::rest);
    }

    fn each_suppressed(&mut self, mut told: impl FnMut(&mut LineBudget) -> Option<u64>) {
        let mut tell = |line: &str, reason: Option<&str>, budget: &mut LineBudget| {
            if let Some(suppressed) = told(budget) {
                let reason = reason.map(display);
                info!(suppressed, lines = %line, reason, "log lines held back, because there were too many");
            }
        };
        tell("client connected", None, &mut self.connected);
        for (group, budget) in CauseGroup::ALL.iter().zip(&mut self.closed) {
            tell("client closed", Some(group.name()), budget);
        }
        for (group, budget) in CauseGroup::ALL.iter().zip(&mut self.refused) {
            tell("connection refused", Some(group.name()), budget);
        }
        tell("connection refused", Some(TLS_FAILED), &mut self.tls_failed);
    }

    /// The name of a listener.
    pub(crate) fn listener(&self, number: ListenerNumber) -> Option<&str> {
        self.listeners.get(number.address()).map(String::as_str)
    }
}

/// `1.5` for 1,500 milliseconds.
fn tenths(ms: u64) -> String {
    format!("{}.{}", ms / 1_000, ms % 1_000 / 100)
}

/// The name of a version.
pub(crate) fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "3.1",
        ProtocolVersion::V3_1_1 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}

/// The beginning of a text that has at most 256 bytes once the log has escaped it. Characters that both formats escape
/// stay; others that no terminal should see become U+FFFD.
pub(crate) fn printable(text: &str) -> String {
    const ELLIPSIS: char = '…';
    let (mut shown, mut bytes, mut cut_at) = (String::new(), 0, 0);
    for character in text.chars() {
        let is_escaped = character < ' ' || matches!(character, '"' | '\\');
        let is_harmless = is_escaped || character.escape_debug().len() == 1 || character == '\'';
        let character = if is_harmless { character } else { char::REPLACEMENT_CHARACTER };
        // An escape has six bytes at most, in either format.
        bytes += if is_escaped { 6 } else { character.len_utf8() };
        if bytes > TEXT_BYTES_MAX {
            shown.truncate(cut_at);
            shown.push(ELLIPSIS);
            break;
        }
        shown.push(character);
        if bytes + ELLIPSIS.len_utf8() <= TEXT_BYTES_MAX {
            cut_at = shown.len();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_is_short_and_has_nothing_that_a_terminal_obeys() {
        assert_eq!(printable("sensor-1/β"), "sensor-1/β");
        // Escaped by the log itself.
        assert_eq!(format!("{:?}", printable("a\n\u{1b}[31m\"\\")), r#""a\n\u{1b}[31m\"\\""#);
        // Control characters of eight bits, and marks that reverse the direction of text, have no escape in JSON.
        assert_eq!(printable("a\u{9b}31m\u{202e}b\u{7f}"), "a\u{fffd}31m\u{fffd}b\u{fffd}");
        for text in ["x".repeat(1_000), "\0".repeat(1_000), "€".repeat(1_000), "\u{202e}".repeat(300)] {
            let shown = printable(&text);
            assert!(shown.ends_with('…'), "{shown:?}");
            for escaped in [format!("{shown:?}"), serde_json::to_string(&shown).unwrap()] {
                // The two quotes come on top.
                assert!(escaped.len() <= TEXT_BYTES_MAX + 2, "{} bytes: {escaped}", escaped.len());
            }
        }
        assert_eq!(printable(&"x".repeat(256)).len(), 256);
    }
}
