//! The fan-out of this shard that goes on in later steps, its publisher, and the messages that wait for its end.
//!
//! A shard has one at most. Meanwhile it takes no PUBLISH, SUBSCRIBE or UNSUBSCRIBE, and nothing of data lanes, and sessions that
//! end keep their subscriptions. This cannot deadlock: the messages for other shards leave before a fan-out is cut, so that it waits
//! for no lane and no client, and every tick brings it nearer to its end. Control lanes are always drained.

use core::num::NonZeroU64;

use wire::PacketId;
use wire::packet::AckKind;

use super::Rooms;
use super::backlog::Side;
use crate::base::ids::ConnectionId;
use crate::publish::admission::Routed;
use crate::publish::spread::{Spread, Stage};
use crate::turn::Turn;

/// The client that waits until its message was offered to all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publisher {
    pub(super) connection: ConnectionId,
    /// Of the connection: it may end meanwhile, and its slot be used again.
    pub(super) ordinal: u64,
    /// The acknowledgement that is due then; QoS 0 has none.
    pub(super) answer: Option<(AckKind, PacketId)>,
}

/// The origin of a fan-out that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A client of this shard, or the broker itself: then `publisher` is `None`.
    Client {
        /// Groups and other shards that it was given to.
        other_count: u32,
        /// Its acknowledgement is a promise, whether or not a session of this shard keeps it.
        must_persist: bool,
        /// Whether it counts as unmatched if nobody receives it.
        is_counted: bool,
        publisher: Option<Publisher>,
    },
    /// Another shard.
    Lane {
        /// Whether it counts as unmatched if nobody receives it.
        is_counted: bool,
        /// That shard, and the number of the transfer, if it is one.
        from: u16,
        transfer: Option<NonZeroU64>,
        /// No session of the log receives it.
        is_unpromised: bool,
    },
}

impl Source {
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Client { .. } => Side::Clients,
            Self::Lane { .. } => Side::Lanes,
        }
    }
}

impl Rooms {
    /// The message of a client is under way: no other packet of it is taken before it was offered to all, and it is
    /// acknowledged then.
    pub(super) fn hold_publisher(&mut self, connection: ConnectionId, answer: Option<(AckKind, PacketId)>) {
        let ordinal = self.delivery.connections.hold(connection);
        self.backlog.set_publisher(Publisher { connection, ordinal, answer });
    }

    /// Goes on with the fan-out that is under way.
    pub(super) fn go_on_with_fan_out(&mut self, turn: &mut Turn<'_>) {
        let Some((mut spread, source)) = self.backlog.take_fan_out() else { return };
        let copy = self.delivery.lend_copy(spread.message());
        let message = copy.view();
        let mut fan_out = self.delivery.take_up(&spread, &message, copy.shared_payload());
        let is_unpromised = matches!(source, Source::Lane { is_unpromised: true, .. });
        fan_out.set_unpromised(is_unpromised);
        let checked_all = turn.set_checks_all(is_unpromised || turn.checks_all());
        let Self { topics, delivery, mesh, shared, .. } = self;
        let mut stage = Some(spread.stage);
        if let Some(Stage::Subscribers(position)) = stage {
            let cut = delivery.offer_to_subscribers(turn, topics, spread.filters(), position, &mut fan_out);
            let has_groups = !mesh.placement().is_meshed() && topics.has_groups();
            stage = cut.map(Stage::Subscribers).or(has_groups.then_some(Stage::Groups(0, 0)));
        }
        if let Some(Stage::Groups(filter, group)) = stage {
            let filters = spread.filters();
            let cut =
                shared.offer_to_groups(turn, (topics, delivery), filters, (filter, group), &mut fan_out);
            stage = cut.map(|(filter, group)| Stage::Groups(filter, group));
        }
        turn.set_checks_all(checked_all);
        delivery.put_down(turn, &mut spread, &fan_out);
        delivery.return_copy(copy);
        if let Some(stage) = stage {
            spread.stage = stage;
            self.backlog.begin_fan_out(spread, source);
        } else {
            self.end_fan_out(turn, &spread, source);
        }
    }

    /// Everybody was offered the message: its publisher is answered.
    fn end_fan_out(&mut self, turn: &mut Turn<'_>, spread: &Spread, source: Source) {
        self.delivery.messages.release(spread.message());
        self.delivery.end_cut_fan_out(turn);
        if self.mesh.outbound().holds_any() {
            self.mesh.end_cut(self.delivery.connections.await_batch());
        }
        self.backlog.end_fan_out(source.side());
        match source {
            Source::Lane { is_counted, from, transfer, .. } => {
                self.end_transfer(turn, from, transfer);
                turn.counters.forwarded_unmatched += u64::from(is_counted && spread.offered_count() == 0);
            }
            Source::Client { other_count, must_persist, is_counted, publisher } => {
                let offered_count = spread.offered_count() + other_count;
                turn.counters.publishes_unmatched += u64::from(is_counted && offered_count == 0);
                let Some(Publisher { connection, ordinal, answer }) = publisher else { return };
                if self.delivery.connections.session_of_held(connection, ordinal).is_none() {
                    return;
                }
                if let Some((kind, packet_id)) = answer {
                    let must_persist = must_persist || spread.must_persist();
                    let routed = Routed::Taken { offered_count, must_persist };
                    let answered = self.answer(turn, connection, kind, packet_id, routed);
                    assert!(answered.is_ok());
                }
                self.delivery.connections.end_hold(turn, connection);
            }
        }
    }
}
