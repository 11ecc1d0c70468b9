//! The packets of one client, or the PUBLISH packets of one topic, as an operator follows them: cut out of the bytes that went over a
//! connection, and described in a line each.
//!
//! Invariants:
//! - A trace holds at most [`ROWS_MAX`] rows with [`TEXT_BYTES_MAX`] bytes of text, and at most [`PARTIAL_BYTES_MAX`] bytes of packets that
//!   have not come whole. The oldest row makes room for a new one. Every reader counts what it has missed by the numbers of the rows.
//! - No password is kept, and no payload that nobody asked for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::num::NonZeroU16;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::{ConnectionId, StreamPosition};
use serde::{Deserialize, Serialize};
use wire::packet::{Ack, Packet, Publish};
use wire::{Assembler, Frame, PacketId, ProtocolVersion, TopicFilter};

use super::connection_log::version as version_name;
use crate::process::clock;

/// Rows that a trace holds.
pub(crate) const ROWS_MAX: usize = 1_024;

/// Bytes of their texts.
const TEXT_BYTES_MAX: usize = 1_048_576;

/// Longer packets are left out, and counted.
const PACKET_BYTES_MAX: u32 = 65_536;

/// Bytes of packets that have not come whole, on all connections of a trace.
const PARTIAL_BYTES_MAX: usize = 4_194_304;

/// Bytes of a payload that a row has at most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;

/// Characters of the text that a row has beside its topic.
const DETAIL_CHARACTERS_MAX: usize = 1_024;

/// Aliases of a direction whose topics are remembered.
const ALIASES_MAX: usize = 256;

/// The subject of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TraceTarget {
    /// The client with this identifier.
    Client(String),
    /// The topics that this filter matches.
    Topic(String),
}

/// A packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TraceRow {
    /// When it was received or sent, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// The number of the shard.
    pub(crate) shard: u16,
    /// The client identifier.
    pub(crate) client: String,
    /// `in`: from the client; `out`: to it.
    pub(crate) direction: String,
    /// The name of its type, such as `PUBLISH`.
    pub(crate) packet: String,
    /// Its bytes.
    pub(crate) bytes: usize,
    /// Its Packet Identifier.
    pub(crate) packet_id: Option<u16>,
    /// The topic of a PUBLISH; without it there is an alias whose topic went by before the trace.
    pub(crate) topic: Option<String>,
    /// The Topic Alias.
    pub(crate) alias: Option<u16>,
    /// The quality of service of a PUBLISH.
    pub(crate) qos: Option<u8>,
    /// Whether it is retained, or comes out of the store.
    pub(crate) retain: Option<bool>,
    /// Whether it was sent before.
    pub(crate) dup: Option<bool>,
    /// The reason code.
    pub(crate) reason: Option<u8>,
    /// Bytes of the payload.
    pub(crate) payload_bytes: Option<usize>,
    /// The beginning of the payload in base64, if it was asked for.
    pub(crate) payload: Option<String>,
    /// The rest that is worth knowing, such as the filters of a SUBSCRIBE.
    pub(crate) detail: Option<String>,
}

impl TraceRow {
    /// Bytes of its texts.
    pub(crate) fn text_bytes(&self) -> usize {
        let optional = [&self.topic, &self.payload, &self.detail];
        self.client.len() + optional.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
}

/// One direction of a connection.
#[derive(Default)]
struct Side {
    /// `None` until it is known where a packet begins.
    assembler: Option<Assembler>,
    aliases: BTreeMap<u16, String>,
}

/// A connection that is followed.
struct Followed {
    id: ConnectionId,
    client: String,
    version: ProtocolVersion,
    sides: [Side; 2],
}

/// A trace on one shard.
pub(crate) struct Trace {
    target: TraceTarget,
    shard: u16,
    payload_bytes_max: usize,
    /// By the slot of the connection.
    followed: BTreeMap<u32, Followed>,
    partial_bytes: usize,
    rows: VecDeque<TraceRow>,
    text_bytes: usize,
    /// The number of the first row.
    first: u64,
    /// Packets that were too long to be described, or could not be read.
    left_out: u64,
    /// When an operator asked last, in milliseconds.
    asked_ms: u64,
}

impl Trace {
    /// A trace that has seen nothing.
    pub(crate) fn new(target: TraceTarget, shard: u16) -> Self {
        Self {
            target,
            shard,
            payload_bytes_max: 0,
            followed: BTreeMap::new(),
            partial_bytes: 0,
            rows: VecDeque::new(),
            text_bytes: 0,
            first: 0,
            left_out: 0,
            asked_ms: 0,
        }
    }

    /// Its subject.
    pub(crate) fn target(&self) -> &TraceTarget {
        &self.target
    }

    /// An operator asks for it. Rows have so many bytes of a payload from now on, at least.
    pub(crate) fn ask(&mut self, now_ms: u64, payload_bytes_max: usize) {
        self.asked_ms = now_ms;
        self.payload_bytes_max = self.payload_bytes_max.max(payload_bytes_max.min(PAYLOAD_BYTES_MAX));
    }

    /// When an operator asked last, in milliseconds.
    pub(crate) fn asked_ms(&self) -> u64 {
        self.asked_ms
    }

    /// Bytes that it holds.
    pub(crate) fn bytes_held(&self) -> usize {
        let followed = self.followed.len() * size_of::<Followed>();
        followed + self.partial_bytes + self.text_bytes + self.rows.capacity() * size_of::<TraceRow>()
    }

    /// Packets so far that were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The number of the next row.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// The rows from a number on, each with its number.
    pub(crate) fn rows_from(&self, number: u64) -> impl Iterator<Item = (u64, &TraceRow)> {
        let skipped = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.first + skipped as u64..).zip(self.rows.iter().skip(skipped))
    }

    /// A connection stands there: it is followed from now on if it is meant, and packets are cut out of a direction that stands between two.
    pub(crate) fn see(&mut self, slot: u32, id: ConnectionId, position: &StreamPosition<'_>) {
        if let TraceTarget::Client(client) = &self.target
            && client != position.client_id
        {
            return;
        }
        if self.followed.get(&slot).is_none_or(|followed| followed.id != id) {
            self.forget(slot);
            let client = position.client_id.to_owned();
            let sides = Default::default();
            self.followed.insert(slot, Followed { id, client, version: position.version, sides });
        }
        let Some(followed) = self.followed.get_mut(&slot) else { return };
        let stands = [position.is_received_whole, position.is_sent_whole];
        for (side, stands) in followed.sides.iter_mut().zip(stands) {
            if stands && side.assembler.is_none() {
                side.assembler = Some(Assembler::new());
            }
        }
    }

    /// A connection has ended.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(Followed { sides, .. }) = self.followed.remove(&slot) {
            let held: usize =
                sides.iter().filter_map(|side| side.assembler.as_ref()).map(Assembler::bytes_held).sum();
            self.partial_bytes -= held;
        }
    }

    /// The connections that are followed, with their slots.
    pub(crate) fn followed(&self) -> Vec<(u32, ConnectionId)> {
        self.followed.iter().map(|(&slot, followed)| (slot, followed.id)).collect()
    }

    /// Bytes went over a connection.
    pub(crate) fn pass(&mut self, slot: u32, id: ConnectionId, direction: Direction, bytes: &[u8]) {
        let Some(followed) = self.followed.get_mut(&slot).filter(|followed| followed.id == id) else {
            return;
        };
        let Followed { client, version, sides, .. } = followed;
        let side = &mut sides[direction as usize];
        let Some(mut assembler) = side.assembler.take() else { return };
        self.partial_bytes -= assembler.bytes_held();
        let mut rows = Vec::new();
        let mut rest = bytes;
        let is_readable = loop {
            match assembler.next(&mut rest, PACKET_BYTES_MAX) {
                Ok(Some(frame)) => match describe(*version, frame, &mut side.aliases, self.payload_bytes_max)
                {
                    Some(row) => rows.push(row),
                    None => self.left_out += 1,
                },
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_readable && self.partial_bytes + assembler.bytes_held() <= PARTIAL_BYTES_MAX {
            self.partial_bytes += assembler.bytes_held();
            side.assembler = Some(assembler);
        } else {
            // It is followed again from where it next stands between two packets.
            self.left_out += 1;
        }
        let client = client.clone();
        for row in rows {
            let direction = if direction == Direction::In { "in" } else { "out" }.to_owned();
            self.push(TraceRow { shard: self.shard, client: client.clone(), direction, ..row });
        }
    }

    fn push(&mut self, row: TraceRow) {
        if let TraceTarget::Topic(filter) = &self.target {
            let is_meant =
                |topic: &String| TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(topic));
            if !row.topic.as_ref().is_some_and(is_meant) {
                return;
            }
        }
        self.text_bytes += row.text_bytes();
        self.rows.push_back(row);
        while self.rows.len() > ROWS_MAX || self.text_bytes > TEXT_BYTES_MAX {
            let Some(oldest) = self.rows.pop_front() else { return };
            self.text_bytes -= oldest.text_bytes();
            self.first += 1;
        }
    }
}

/// The row of a packet, without its client; `None` if it cannot be read.
fn describe(
    version: ProtocolVersion,
    frame: Frame<'_>,
    aliases: &mut BTreeMap<u16, String>,
    payload_bytes_max: usize,
) -> Option<TraceRow> {
    let bytes = frame.packet_bytes();
    let packet = Packet::decode(version, frame).ok()?;
    let row = TraceRow {
        at_us: clock::unix_us(),
        packet: format!("{:?}", packet.packet_type()).to_uppercase(),
        bytes,
        ..TraceRow::default()
    };
    let ack = |ack: &Ack<'_>| (Some(ack.packet_id.get()), Some(ack.reason.code()));
    Some(match &packet {
        Packet::Publish(publish) => with_publish(row, publish, aliases, payload_bytes_max),
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            let (packet_id, reason) = ack(it);
            TraceRow { packet_id, reason, ..row }
        }
        Packet::ConnAck(it) => {
            let detail = format!("session_present={}", it.session_present);
            TraceRow { reason: Some(it.reason.code()), detail: Some(detail), ..row }
        }
        Packet::Disconnect(it) => TraceRow { reason: Some(it.reason.code()), ..row },
        Packet::Auth(it) => TraceRow { reason: Some(it.reason.code()), ..row },
        Packet::SubAck(it) => {
            TraceRow { packet_id: Some(it.packet_id.get()), detail: Some(reasons(it.reasons.iter())), ..row }
        }
        Packet::UnsubAck(it) => {
            TraceRow { packet_id: Some(it.packet_id.get()), detail: Some(reasons(it.reasons.iter())), ..row }
        }
        Packet::Subscribe(it) => {
            let filters = it.filters.iter().map(|(filter, options)| {
                let share = filter.share_name().map_or(String::new(), |name| format!("$share/{name}/"));
                format!("{share}{} qos={}", filter.filter(), options.qos.bits())
            });
            let detail = Some(joined(filters));
            TraceRow { packet_id: Some(it.packet_id.get()), detail, ..row }
        }
        Packet::Unsubscribe(it) => {
            let detail = Some(joined(it.filters.iter().map(|filter| filter.filter().to_owned())));
            TraceRow { packet_id: Some(it.packet_id.get()), detail, ..row }
        }
        Packet::Connect(it) => {
            let (user, will) =
                (it.user_name.unwrap_or("-"), it.will.as_ref().map_or("-", |will| will.topic.as_str()));
            let detail = format!(
                "version={} keep_alive_s={} clean_start={} user={user} will={will}",
                version_name(it.version),
                it.keep_alive_s,
                it.clean_start,
            );
            TraceRow { detail: Some(cut(&detail)), ..row }
        }
        Packet::PingReq | Packet::PingResp => row,
    })
}

fn with_publish(
    row: TraceRow,
    publish: &Publish<'_>,
    aliases: &mut BTreeMap<u16, String>,
    payload_bytes_max: usize,
) -> TraceRow {
    let alias = publish.properties.topic_alias.map(NonZeroU16::get);
    let topic = match (publish.topic, alias) {
        (Some(topic), Some(alias)) => {
            if aliases.len() < ALIASES_MAX || aliases.contains_key(&alias) {
                aliases.insert(alias, topic.as_str().to_owned());
            }
            Some(topic.as_str().to_owned())
        }
        (Some(topic), None) => Some(topic.as_str().to_owned()),
        (None, alias) => alias.and_then(|alias| aliases.get(&alias).cloned()),
    };
    let shown = publish.payload.len().min(payload_bytes_max);
    TraceRow {
        packet_id: publish.packet_id.map(PacketId::get),
        topic,
        alias,
        qos: Some(publish.qos.bits()),
        retain: Some(publish.retain),
        dup: Some(publish.dup),
        payload_bytes: Some(publish.payload.len()),
        payload: (payload_bytes_max > 0).then(|| BASE64.encode(&publish.payload[..shown])),
        ..row
    }
}

fn reasons(codes: impl Iterator<Item = wire::ReasonCode>) -> String {
    joined(codes.map(|code| format!("{:#04x}", code.code())))
}

/// Texts, one behind the other, as far as there is room.
fn joined(texts: impl Iterator<Item = String>) -> String {
    let mut all = String::new();
    for text in texts {
        if all.len() > DETAIL_CHARACTERS_MAX {
            break;
        }
        let _ = write!(all, "{}{text}", if all.is_empty() { "" } else { ", " });
    }
    cut(&all)
}

/// A text, cut where it is long.
fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use engine::{Admission, Arrival, Engine, Entropy, Instant, Limits};

    use super::*;

    /// The identity of a connection.
    fn connection() -> ConnectionId {
        let now = Instant::from_ms(0);
        let mut engine = Engine::new(Limits::default(), Entropy(1), now);
        engine.accept(now, Admission::Serve, Arrival::new(0), 0)
    }

    fn position(is_whole: bool) -> StreamPosition<'static> {
        StreamPosition {
            client_id: "a",
            version: ProtocolVersion::V5,
            is_received_whole: is_whole,
            is_sent_whole: is_whole,
        }
    }

    /// PUBLISH of QoS 0 to a topic.
    fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x30, u8::try_from(3 + topic.len() + payload.len()).unwrap()];
        bytes.extend_from_slice(&[0, u8::try_from(topic.len()).unwrap()]);
        bytes.extend_from_slice(topic.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn topics(trace: &Trace) -> Vec<&str> {
        trace.rows_from(0).map(|(_, row)| row.topic.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn packets_are_cut_out_of_whatever_pieces_came() {
        let id = connection();
        for piece in [1, 2, 7, 100] {
            let mut trace = Trace::new(TraceTarget::Client("a".to_owned()), 0);
            trace.ask(0, 2);
            trace.see(0, id, &position(true));
            let bytes = [publish("one", b"xyz"), vec![0xC0, 0], publish("two", b"")].concat();
            for part in bytes.chunks(piece) {
                trace.pass(0, id, Direction::In, part);
            }
            let rows: Vec<&TraceRow> = trace.rows_from(0).map(|(_, row)| row).collect();
            assert_eq!(
                rows.iter().map(|row| &*row.packet).collect::<Vec<_>>(),
                ["PUBLISH", "PINGREQ", "PUBLISH"]
            );
            let first = rows[0];
            assert_eq!(
                (first.topic.as_deref(), first.payload_bytes, first.bytes),
                (Some("one"), Some(3), 11)
            );
            assert_eq!(first.payload.as_deref(), Some("eHk="), "two bytes, as was asked for");
            assert_eq!((trace.partial_bytes, trace.left_out()), (0, 0));
        }
    }

    #[test]
    fn a_direction_is_followed_from_where_it_stands_between_two_packets() {
        let id = connection();
        let mut trace = Trace::new(TraceTarget::Client("a".to_owned()), 0);
        trace.see(0, id, &position(false));
        trace.pass(0, id, Direction::In, &publish("lost", b"")[3..]);
        trace.see(0, id, &position(true));
        trace.pass(0, id, Direction::In, &publish("seen", b""));
        // Neither an unreadable packet nor one that is too long is followed by nonsense.
        trace.pass(0, id, Direction::In, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        trace.pass(0, id, Direction::In, &publish("nonsense", b""));
        trace.see(0, id, &position(true));
        trace.pass(0, id, Direction::In, &publish("again", b""));
        assert_eq!((topics(&trace), trace.left_out()), (vec!["seen", "again"], 1));
        // Another client is none of its business, and neither is another connection in the same slot.
        let mut other = Trace::new(TraceTarget::Client("b".to_owned()), 0);
        other.see(0, id, &position(true));
        other.pass(0, id, Direction::In, &publish("x", b""));
        assert_eq!(other.end(), 0);
    }

    #[test]
    fn the_oldest_rows_make_room_and_readers_know_by_the_numbers() {
        let id = connection();
        let mut trace = Trace::new(TraceTarget::Topic("a/+".to_owned()), 0);
        trace.see(0, id, &position(true));
        for _ in 0..ROWS_MAX + 10 {
            trace.pass(0, id, Direction::Out, &publish("a/b", b""));
            trace.pass(0, id, Direction::Out, &publish("b", b""));
        }
        assert_eq!(trace.end(), ROWS_MAX as u64 + 10);
        assert_eq!(trace.rows_from(0).next().map(|(number, _)| number), Some(10));
        assert_eq!(trace.rows_from(20).next().map(|(number, _)| number), Some(20));
        assert_eq!(trace.rows_from(trace.end()).count(), 0);
        assert!(trace.bytes_held() > ROWS_MAX * size_of::<TraceRow>());
    }
}
