//! Subscriptions, the receivers of a topic, and retained messages as an operator sees them, a part at a time. Nothing changes here but
//! the match cache.
//!
//! Invariants: a part is bounded by the caller, who refuses what it has no room for; and a list goes on where it was left, though
//! sessions, subscriptions and messages may have come and gone in between.

use alloc::string::String;
use alloc::vec::Vec;

use wire::{QoS, SubscribeOptions, SubscriptionId, TopicFilter};

use super::summary::SessionSummary;
use super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::time::Instant;
use crate::session::replays::Cursor;
use crate::topic::groups::GroupTag;
use crate::topic::tree::listed::{ListChanged, Listed};
use crate::turn::Turn;

/// A subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionSummary<'a> {
    /// The client identifier of its session.
    pub client_id: &'a str,
    /// The name of its group, if it is shared.
    pub share_name: Option<&'a str>,
    /// The filter, without the share name.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscribeOptions,
    /// The Subscription Identifier that the client gave it.
    pub identifier: Option<u32>,
}

/// A session that is offered the messages of a topic, through one subscription. Of a group one member is offered each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiverSummary<'a> {
    /// The session.
    pub session: SessionSummary<'a>,
    /// The name of the group, if the subscription is shared.
    pub share_name: Option<&'a str>,
    /// The filter that matches.
    pub filter: &'a str,
    /// The options of the subscription.
    pub options: SubscribeOptions,
    /// Whether the rules let the session read the topic.
    pub may_read: bool,
}

/// The place where a list of receivers goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct ReceiverCursor {
    /// The number of the filter.
    pub filter: u32,
    /// 0: its own members; above: those of its groups, in order.
    pub list: u32,
    /// The position in that list.
    pub position: u32,
}

/// A retained message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetainedSummary<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its quality of service.
    pub qos: QoS,
    /// Seconds until it expires; `None`: never.
    pub expiry_left_s: Option<u32>,
    /// The user who published it; "" for nobody.
    pub user: &'a str,
}

/// The list of a session's subscriptions has changed where it was to go on: it is to be begun anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SurveyChanged;

impl Rooms {
    fn subscription<'a>(
        &'a self,
        (share_name, filter, member): Listed<'a>,
    ) -> Option<SubscriptionSummary<'a>> {
        let session = self.delivery.sessions.of_member(member.session());
        let identifier = member.identifier().map(SubscriptionId::get);
        (!session.has_ended()).then(|| SubscriptionSummary {
            client_id: session.client_id(),
            share_name,
            filter,
            options: member.options(),
            identifier,
        })
    }

    fn receiver<'a>(
        &'a self,
        turn: &Turn<'_>,
        topic: &str,
        (share_name, filter, member): Listed<'a>,
    ) -> Option<ReceiverSummary<'a>> {
        let id = self.delivery.sessions.id_at(member.session())?;
        let session = self.summary(id)?;
        let is_readable = |session: &crate::session::Session| session.may_read(turn, topic);
        let may_read = self.delivery.sessions.get(id).is_some_and(is_readable);
        Some(ReceiverSummary { session, share_name, filter, options: member.options(), may_read })
    }

    /// Visits the receivers through one filter from `cursor` on. Returns the place of the one that was refused.
    fn visit_filter(
        &self,
        turn: &Turn<'_>,
        topic: &str,
        cursor: ReceiverCursor,
        each: &mut dyn FnMut(ReceiverSummary<'_>) -> bool,
    ) -> Option<ReceiverCursor> {
        let ReceiverCursor { filter, .. } = cursor;
        let text = self.topics.filter_text(filter);
        let groups = self.topics.groups(filter).iter().map(|&group| {
            let name = self.topics.share_name(GroupTag::of(group));
            (Some(name), self.topics.group_members(group))
        });
        let lists = core::iter::once((None, self.topics.members(filter))).chain(groups);
        for (list, (share_name, members)) in (0u32..).zip(lists).skip(cursor.list as usize) {
            let first = if list == cursor.list { cursor.position } else { 0 };
            for (position, member) in (first..).zip(members.iter_from(first as usize)) {
                let receiver = self.receiver(turn, topic, (share_name, text, member));
                if receiver.is_some_and(|receiver| !each(receiver)) {
                    return Some(ReceiverCursor { filter, list, position });
                }
            }
        }
        None
    }
}

impl Engine {
    /// Passes the subscriptions in the slots from `from` up to `end` on to `each`, until that answers `false`. Returns where the next
    /// call goes on, or `None` at the end.
    pub fn visit_subscriptions(
        &self,
        from: u32,
        end: u32,
        each: &mut dyn FnMut(SubscriptionSummary<'_>) -> bool,
    ) -> Option<u32> {
        let rooms = &self.rooms;
        rooms.topics.visit_all(from, end, |listed| rooms.subscription(listed).is_none_or(&mut *each))
    }

    /// Passes the subscriptions of a client identifier on to `each`, from the place `from` on that the call before has returned,
    /// until that answers `false`. Returns where the next call goes on; `None` at the end, and for a client without a session.
    ///
    /// # Errors
    /// If the subscription where the list was to go on is gone.
    pub fn visit_subscriptions_of(
        &self,
        client_id: &str,
        from: Option<u32>,
        each: &mut dyn FnMut(SubscriptionSummary<'_>) -> bool,
    ) -> Result<Option<u32>, SurveyChanged> {
        let rooms = &self.rooms;
        let sessions = &rooms.delivery.sessions;
        let found = sessions.find(client_id).and_then(|id| Some((id, sessions.get(id)?)));
        let Some((id, session)) = found else { return Ok(None) };
        let visit = |listed: Listed<'_>| rooms.subscription(listed).is_none_or(&mut *each);
        let visited = rooms.topics.visit_of((id.index(), session.subscriptions()), from, visit);
        visited.map_err(|ListChanged| SurveyChanged)
    }

    /// Passes the receivers of a topic on to `each`, in the order of filters from `cursor` on, until that answers `false`. Returns
    /// where the next call goes on, or `None` at the end. Finding the filters takes as long as it does for a publish.
    ///
    /// # Panics
    /// If the list would go back.
    pub fn visit_receivers(
        &mut self,
        topic: &str,
        cursor: ReceiverCursor,
        each: &mut dyn FnMut(ReceiverSummary<'_>) -> bool,
    ) -> Option<ReceiverCursor> {
        let mut actions = Actions::new();
        let (rooms, turn) = self.turn(Instant::default(), &mut actions);
        let mut filters = Vec::new();
        rooms.topics.matches(topic, &mut filters);
        filters.sort_unstable();
        for filter in filters.into_iter().filter(|&filter| filter >= cursor.filter) {
            let from = if filter == cursor.filter {
                cursor
            } else {
                ReceiverCursor { filter, ..Default::default() }
            };
            if let Some(next) = rooms.visit_filter(&turn, topic, from, each) {
                assert!(next >= cursor);
                return Some(next);
            }
        }
        None
    }

    /// Passes retained messages of topics that `filter` matches on to `each`, in the order of topics behind `after`, until that
    /// answers `false` or `topics_max` topics are looked at. Returns the topic behind which the next call goes on, or `None` at the end.
    pub fn visit_retained(
        &self,
        now: Instant,
        (filter, after): (&TopicFilter<'_>, Option<&str>),
        topics_max: usize,
        each: &mut dyn FnMut(RetainedSummary<'_>) -> bool,
    ) -> Option<String> {
        let mut cursor = after.map_or(Cursor::Start, |topic| Cursor::After(topic.into()));
        let store = self.rooms.retained.store();
        store.visit(filter, &mut cursor, topics_max, |topic, _| {
            self.retained_of(now, topic).is_none_or(&mut *each)
        });
        match cursor {
            Cursor::After(topic) if after != Some(&*topic) => Some(topic.into()),
            Cursor::After(_) | Cursor::Start | Cursor::At(_) | Cursor::Done => None,
        }
    }

    /// The retained message of a topic, unless it has expired at `now`.
    #[must_use]
    pub fn retained_of(&self, now: Instant, topic: &str) -> Option<RetainedSummary<'_>> {
        let Rooms { retained, delivery, .. } = &self.rooms;
        let entry = retained.store().get(topic)?;
        let message = delivery.messages.view(entry.message());
        let (user, ..) = delivery.sessions.users().name_of(entry.user()).source_parts();
        (!message.is_expired(now)).then(|| RetainedSummary {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            expiry_left_s: message.expiry_left_s(now),
            user,
        })
    }
}
