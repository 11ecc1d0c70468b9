//! Subscribers of the filters that match a topic. Overlapping subscriptions of one session become one delivery.

use super::Delivery;
use super::fan_out::FanOut;
use crate::message::borrowed::Message;
use crate::session::grant::{Grant, Identifiers};
use crate::topic::members::Member;
use crate::topic::tree::Tree;
use crate::turn::Turn;

/// One session matched by several filters: one delivery at the highest QoS [MQTT-3.3.4-2], with all Subscription
/// Identifiers [MQTT-3.3.4-4].
#[derive(Debug)]
pub(super) struct Match {
    session: u32,
    grant: Grant,
}

/// Members that are joined for one unit of work.
const MEMBERS_PER_WORK: usize = 4;

/// The place where a fan-out to subscribers was cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    /// One filter: the member that is next.
    Member(usize),
    /// Several filters: the filter and its member that are joined next.
    Join(usize, usize),
    /// All members are joined, and the matches that are left are offered.
    Matches,
}

impl Position {
    /// The beginning of a fan-out to the subscribers of so many filters.
    pub(crate) const fn start(filter_count: usize) -> Self {
        if filter_count == 1 { Self::Member(0) } else { Self::Join(0, 0) }
    }
}

impl Delivery {
    /// Delivers to the subscribers of `filters` that are in no group, from `position` on. A step that does too much is cut:
    /// then it returns where to go on.
    pub(crate) fn offer_to_subscribers(
        &mut self,
        turn: &mut Turn<'_>,
        topics: &Tree,
        filters: &[u32],
        position: Position,
        fan_out: &mut FanOut<'_>,
    ) -> Option<Position> {
        match (position, filters) {
            (_, []) => None,
            (Position::Member(from), filters) => {
                let members = topics.members(filters[0]);
                // Each takes a unit of work at most, so the cut is known in advance.
                let end = from.saturating_add(turn.overdraft_left());
                if let Some(members) = members.in_piece() {
                    let end = end.min(members.len());
                    self.offer_to_members(turn, &members[from..end], fan_out);
                    return (end < members.len()).then_some(Position::Member(end));
                }
                let (mut at, end) = (from, end.min(members.len()));
                while at < end {
                    let piece = members.piece(at);
                    let piece = &piece[..piece.len().min(end - at)];
                    self.offer_to_members(turn, piece, fan_out);
                    at += piece.len();
                }
                (end < members.len()).then_some(Position::Member(end))
            }
            (Position::Join(filter, member), filters) => {
                if let Some(cut) = self.join_matches(turn, topics, filters, (filter, member), fan_out) {
                    return Some(cut);
                }
                self.offer_matches(turn, fan_out)
            }
            (Position::Matches, _) => self.offer_matches(turn, fan_out),
        }
    }

    #[inline]
    fn offer_to_members(&mut self, turn: &mut Turn<'_>, members: &[Member], fan_out: &mut FanOut<'_>) {
        for member in members {
            if let Some(grant) = grant(member, fan_out.message(), fan_out.publisher()) {
                self.offer(turn, member.session(), grant, fan_out);
            }
        }
    }

    /// Joins the members of several filters into one match for each session.
    fn join_matches(
        &mut self,
        turn: &mut Turn<'_>,
        topics: &Tree,
        filters: &[u32],
        (first, mut from): (usize, usize),
        fan_out: &FanOut<'_>,
    ) -> Option<Position> {
        let Self { sessions, matches, publish_sequence, .. } = self;
        assert!((first, from) != (0, 0) || matches.is_empty());
        // A lasting subscription is too early, and may not raise the QoS of another one of its session.
        let skips_lasting = fan_out.is_unpromised();
        for (number, &filter) in filters.iter().enumerate().skip(first) {
            let from = core::mem::take(&mut from);
            for (at, member) in (from..).zip(topics.members(filter).iter_from(from)) {
                if at % MEMBERS_PER_WORK == 0 {
                    if turn.is_overdrawn() {
                        return Some(Position::Join(number, at));
                    }
                    turn.spend(1);
                }
                if skips_lasting && member.is_lasting() {
                    continue;
                }
                let Some(grant) = grant(member, fan_out.message(), fan_out.publisher()) else { continue };
                let session = sessions.of_member_mut(member.session());
                if let Some(at) = session.match_of(*publish_sequence) {
                    let known = &mut matches[at];
                    assert!(known.session == member.session());
                    known.grant.qos = known.grant.qos.max(grant.qos);
                    known.grant.retain |= grant.retain;
                    known.grant.identifiers.add(member.identifier());
                } else {
                    // There is at most one match a session, and sessions are numbered by 32 bits.
                    session.set_match(*publish_sequence, u32::try_from(matches.len()).unwrap_or(u32::MAX));
                    matches.push(Match { session: member.session(), grant });
                }
            }
        }
        None
    }

    /// Delivers to the sessions that are joined, the last one first: sessions have no order among each other.
    fn offer_matches(&mut self, turn: &mut Turn<'_>, fan_out: &mut FanOut<'_>) -> Option<Position> {
        let mut matches = core::mem::take(&mut self.matches);
        while !turn.is_overdrawn()
            && let Some(Match { session, grant }) = matches.pop()
        {
            self.offer(turn, session, grant, fan_out);
        }
        assert!(self.matches.is_empty());
        self.matches = matches;
        (!self.matches.is_empty()).then_some(Position::Matches)
    }
}

/// The terms that a subscription grants a message; `None` if it does not want it from this publisher.
pub(crate) fn grant(member: &Member, message: &Message<'_>, publisher: Option<u32>) -> Option<Grant> {
    let options = member.options();
    // [MQTT-3.8.3-3]
    if options.no_local && publisher == Some(member.session()) {
        return None;
    }
    Some(Grant {
        qos: message.qos.min(options.qos),
        retain: message.retain && options.retain_as_published,
        group: None,
        identifiers: Identifiers::from(member.identifier()),
    })
}
