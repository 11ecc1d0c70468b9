//! Recovery: the records of a log, read in their order, become the state that wrote them.
//!
//! Invariant: what the log says of a session that it does not know is skipped, since a checkpoint may be newer than a record.

mod crossings;
mod recovered;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU64;

use wire::{QoS, TopicFilter};

use super::recovering::{Delivered, OpenMessage, Recovering, Source};
use super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::time::Instant;
use crate::message::borrowed::Message;
use crate::message::origin::Origin;
use crate::message::user_name::UserName;
use crate::publish::fan_out::FanOut;
use crate::record::{
    Body, Content, DeliveryList, LookedUp, Malformed, Numbers, StoredBody, TargetList, start_of,
};
use crate::retained::store::RetainedEntry;
use crate::session::access::Access;
use crate::session::grant::Identifiers;
use crate::session::replays::{Cursor, ReplayShards, ReplayTerms, Since};
use crate::session::will::Will;
use crate::turn::Turn;

/// The reason why a record cannot be taken in: another version wrote it, or none did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoverFault {
    /// The kind of the record.
    pub kind: u8,
    reason: &'static str,
}

impl fmt::Display for RecoverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record of kind {} {}", self.kind, self.reason)
    }
}

impl RecoverFault {
    pub(super) const fn new(kind: u8, reason: &'static str) -> Self {
        Self { kind, reason }
    }
}

type Outcome = Result<(), &'static str>;

impl Engine {
    /// Takes in the next record of a log without a checkpoint: [`Engine::recover_at`] for one that stands behind all of them.
    ///
    /// # Errors
    /// See [`Engine::recover_at`].
    ///
    /// # Panics
    /// See [`Engine::recover_at`].
    pub fn recover(&mut self, kind: u8, body: &[u8]) -> Result<(), RecoverFault> {
        self.recover_at(u64::MAX, kind, body)
    }

    /// Takes in the next record of the log, which stands at this position, before anything else has happened. The objects of a
    /// checkpoint come first. [`Engine::recovered`] follows the last record. A record is skipped for an object that is newer.
    ///
    /// # Errors
    /// If the record contradicts what was read before, or no writer wrote it. The engine is not to be used then.
    ///
    /// # Panics
    /// Without [`crate::Limits::journal_start`], or if the engine's own tables contradict each other.
    pub fn recover_at(&mut self, position: u64, kind: u8, body: &[u8]) -> Result<(), RecoverFault> {
        self.recover_from(Source::Log(position), kind, body)
    }

    /// Takes in the next record of a checkpoint, of a slice with this `as_of`.
    ///
    /// # Errors
    /// See [`Engine::recover_at`].
    ///
    /// # Panics
    /// See [`Engine::recover_at`].
    pub fn recover_object(&mut self, as_of: u64, kind: u8, body: &[u8]) -> Result<(), RecoverFault> {
        self.recover_from(Source::Checkpoint(as_of), kind, body)
    }

    fn recover_from(&mut self, source: Source, kind: u8, body: &[u8]) -> Result<(), RecoverFault> {
        assert!(self.recorder.is_some());
        let fault = |reason| RecoverFault { kind, reason };
        let body = Body::decode(kind, body).map_err(|Malformed| fault("is not what this version reads"))?;
        let mut actions = Actions::new();
        let (rooms, mut turn) = self.turn(Instant::default(), &mut actions);
        // It is in the log already.
        turn.set_recorder(None);
        rooms.recover(&mut turn, source, &body).map_err(fault)
    }
}

impl Rooms {
    fn recover(&mut self, turn: &mut Turn<'_>, source: Source, body: &Body<'_>) -> Outcome {
        let mut recovering = self.recovering.take().unwrap_or_default();
        recovering.set_source(source);
        let outcome = self.recover_record(turn, &mut recovering, body);
        self.recovering = Some(recovering);
        outcome
    }

    fn recover_record(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &mut Recovering,
        body: &Body<'_>,
    ) -> Outcome {
        match *body {
            Body::Message { number, sender, ends, will, stored, crossing, deliveries, content, goes_on } => {
                self.recover_effects(recovering, sender, ends, will);
                if let Some((source, sequence)) = crossing.from() {
                    self.recover_taken(source, sequence)?;
                }
                let parts = (content, stored, deliveries);
                self.recover_message(turn, recovering, (number, goes_on, crossing.targets()), parts)?;
            }
            Body::Taken { source, sequence } => self.recover_taken(source, sequence)?,
            Body::Crossed { target, sequence } => self.recover_crossed(target, sequence)?,
            Body::Settled { session, delivery } => self.settle_recovered(recovering, (session, delivery)),
            Body::Received { session, delivery } => {
                let is_object = recovering.reads_checkpoint();
                let session = recovering.session_mut(session);
                let received = session.and_then(|session| session.left_mut().receive(delivery, is_object));
                if let Some(message) = received {
                    self.delivery.messages.release(message);
                }
            }
            Body::Accepted { session, packet_id } => {
                if let Some(session) = recovering.session_mut(session) {
                    session.left_mut().record_received(packet_id);
                }
            }
            Body::Numbered { session, next_delivery } => {
                if let Some(session) = recovering.session_mut(session) {
                    session.left_mut().number_from(next_delivery);
                }
            }
            Body::Released { session, packet_id } => {
                if let Some(session) = recovering.session_mut(session) {
                    session.left_mut().release_received(packet_id);
                }
            }
            Body::Session { .. } => self.recover_session(turn, recovering, body)?,
            Body::Ended { session, owed } => self.forget_recovered(turn, recovering, session, owed),
            Body::Detached { session, at_ms } => {
                if let Some(session) = recovering.session_mut(session) {
                    session.detach(Instant::from_ms(at_ms));
                }
            }
            Body::Subscribed { .. } => self.recover_subscription(turn, recovering, body)?,
            Body::Unsubscribed { session, filter, owed } => {
                self.recover_unsubscription(turn, recovering, session, (filter, owed))?;
            }
            Body::Will { number, user, delay_interval_s, expiry_interval_s, content } => {
                let will = Will::recovered(number, (delay_interval_s, expiry_interval_s), content);
                recovering.insert_will(number, user.into(), Box::new(will));
            }
            Body::WillEnded { number } => {
                recovering.remove_will(number);
            }
            Body::Expired { topic } => {
                let held = self.delivery.retention();
                self.retained.store_mut().remove(turn, held, topic);
            }
            Body::LookedUp { session, filter, shard, cursor } => {
                self.recover_look_up(turn, recovering, session, (filter, shard, cursor));
            }
        }
        Ok(())
    }

    fn recover_session(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &mut Recovering,
        body: &Body<'_>,
    ) -> Outcome {
        let &Body::Session { number, client_id, user, expiry_interval_s, will } = body else {
            unreachable!("the caller has looked");
        };
        let number = NonZeroU64::new(number).ok_or("has a session without a number")?;
        let mut known = self.delivery.sessions.find(client_id);
        if recovering.reads_checkpoint()
            && let Some(former) = known.and_then(|known| recovering.number_of(known))
            && former != number.get()
        {
            // It ended while the checkpoint was made, and the log behind tells of it.
            self.forget_recovered(turn, recovering, former, Numbers::default());
            known = None;
        }
        let sessions = &mut self.delivery.sessions;
        let id = match (recovering.any_id_of(number.get()), known) {
            (Some(id), Some(known)) if known == id => id,
            (None, None) => {
                let id = sessions.create(client_id);
                recovering.insert_session(number, id);
                id
            }
            // A newer one has its client identifier: it has ended since.
            (None, Some(known)) if recovering.is_newer(known) => return Ok(()),
            (Some(_), _) | (None, Some(_)) => return Err("has the client identifier of another session"),
        };
        if recovering.id_of(number.get()).is_none() {
            return Ok(());
        }
        if let Some(session) = recovering.session_mut(number.get()) {
            session.attach(will);
        }
        sessions.of_connection(id).set_expiry_interval(expiry_interval_s);
        sessions.set_user(id, UserName::new(user));
        // The log does not say whether a list knew this user. If a list that has it loses it, the session ends.
        sessions.set_access(id, Access::of_user((!user.is_empty()).then_some(user), true));
        Ok(())
    }

    fn recover_subscription(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &Recovering,
        body: &Body<'_>,
    ) -> Outcome {
        let &Body::Subscribed { session, filter, options, identifier, look_up_since } = body else {
            unreachable!("the caller has looked");
        };
        let Some(id) = recovering.id_of(session) else { return Ok(()) };
        let filter = TopicFilter::parse(filter).map_err(|_| "has a filter that is none")?;
        let session = self.delivery.sessions.of_connection(id);
        let is_lasting = session.is_lasting(options.qos);
        let list = session.subscriptions_mut();
        self.topics.subscribe(list, (id.index(), is_lasting), &filter, options, identifier);
        if filter.share_name().is_some() {
            return Ok(());
        }
        let terms = ReplayTerms { options, identifier };
        if let Some(replays) = session.replays_mut() {
            replays.update(filter.filter(), terms);
        }
        if let Some(since) = look_up_since {
            let placement = self.mesh.placement();
            let shards = if filter.has_wildcard() {
                ReplayShards::all(placement.shard_count())
            } else {
                ReplayShards::only(placement.home_of_topic(filter.filter()))
            };
            let replays = session.replays_or_new();
            replays.start(filter.filter(), terms, shards, Since::new(since, 0));
            replays.forget_live();
        }
        session.note_replays(turn.held_mut());
        Ok(())
    }

    fn recover_unsubscription(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &mut Recovering,
        number: u64,
        (filter, owed): (&str, Numbers<'_>),
    ) -> Outcome {
        let Some(id) = recovering.id_of(number) else { return Ok(()) };
        let filter = TopicFilter::parse(filter).map_err(|_| "has a filter that is none")?;
        let own = self.delivery.sessions.of_connection(id);
        if filter.share_name().is_none()
            && let Some(replays) = own.replays_mut()
        {
            replays.cancel(filter.filter());
            own.note_replays(turn.held_mut());
        }
        self.topics.unsubscribe(own.subscriptions_mut(), id.index(), &filter);
        recovering.owe(number, owed);
        Ok(())
    }

    fn recover_look_up(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &Recovering,
        session: u64,
        (filter, shard, cursor): (&str, u16, LookedUp<'_>),
    ) {
        let Some(id) = recovering.id_of(session) else { return };
        let session = self.delivery.sessions.of_connection(id);
        let cursor = match cursor {
            LookedUp::Done => Cursor::Done,
            LookedUp::At(topic) => Cursor::At(topic.into()),
            LookedUp::After(topic) => Cursor::After(topic.into()),
        };
        if let Some(replays) = session.replays_mut() {
            replays.resume(filter, shard, cursor);
            session.note_replays(turn.held_mut());
        }
    }

    /// The part of a publish that does not need its content.
    fn recover_effects(
        &mut self,
        recovering: &mut Recovering,
        sender: Option<(u64, u16)>,
        ends: Option<Delivered>,
        will: Option<u64>,
    ) {
        if let Some((session, packet_id)) = sender
            && let Some(session) = recovering.session_mut(session)
        {
            session.left_mut().record_received(packet_id);
        }
        if let Some(ended) = ends {
            self.settle_recovered(recovering, ended);
        }
        if let Some(will) = will {
            recovering.remove_will(will);
        }
    }

    fn recover_message(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &mut Recovering,
        (number, goes_on, targets): (u64, bool, TargetList<'_>),
        (content, stored, deliveries): (Option<Content<'_>>, Option<StoredBody<'_>>, DeliveryList<'_>),
    ) -> Outcome {
        match (content, recovering.take_open()) {
            (Some(content), former) => {
                // A message that the process began and did not end is not gone on with by the next one. While it is fanned out,
                // retained messages are looked up, each a message of its own.
                let former = former.and_then(|former| {
                    let goes_on = start_of(former.number()) == start_of(number);
                    if !goes_on {
                        self.delivery.messages.release(former.message());
                    }
                    goes_on.then_some(former)
                });
                if goes_on && former.is_some() {
                    return Err("begins before the one before it has ended");
                }
                self.delivery.set_publish_sequence(number);
                let message = Message::from(content);
                let mut fan_out = self.delivery.begin(&message, None, None, None);
                if let Some(stored) = stored {
                    self.recover_stored(turn, &mut fan_out, &stored)?;
                }
                let open = self.recover_deliveries(recovering, deliveries, goes_on, &mut fan_out)?;
                if goes_on {
                    let message = self.delivery.keep(&mut fan_out);
                    self.delivery.messages.hold(message);
                    recovering.open_message(OpenMessage::new(number, message, open));
                } else if let Some(former) = former {
                    recovering.open_message(former);
                }
                if !targets.is_empty() {
                    let message = self.delivery.keep(&mut fan_out);
                    self.recover_transfer(number, message, targets)?;
                }
                self.delivery.finish(turn, &fan_out);
            }
            (None, Some(mut open)) if open.number() == number => {
                let copy = self.delivery.lend_copy(open.message());
                let message = copy.view();
                let mut fan_out = self.delivery.begin_stored(open.message(), &message, copy.shared_payload());
                let added = self.recover_deliveries(recovering, deliveries, goes_on, &mut fan_out);
                self.delivery.finish(turn, &fan_out);
                self.delivery.return_copy(copy);
                open.add_deliveries(added?);
                if goes_on {
                    recovering.open_message(open);
                    return Ok(());
                }
                if !targets.is_empty() {
                    self.recover_transfer(number, open.message(), targets)?;
                }
                self.delivery.messages.release(open.message());
            }
            (None, _) => return Err("goes on with a message that is not there"),
        }
        Ok(())
    }

    fn recover_stored(
        &mut self,
        turn: &mut Turn<'_>,
        fan_out: &mut FanOut<'_>,
        stored: &StoredBody<'_>,
    ) -> Outcome {
        let ((publisher, user), (shard, sequence)) = (stored.author(), stored.origin());
        let message = fan_out.message();
        let newest = self.retained.store().get(message.topic).map(RetainedEntry::sequence);
        if !message.retain {
            return Err("is retained without the flag for it");
        }
        if newest.is_some_and(|newest| newest >= self.delivery.publish_sequence()) {
            // A checkpoint has a newer one.
            return Ok(());
        }
        let user = self.delivery.sessions.users_mut().hold_named(UserName::new(user));
        let origin = Origin { shard, sequence };
        self.retain(turn, fan_out, (NonZeroU64::new(publisher), user), origin);
        self.delivery.sessions.users_mut().release(user);
        Ok(())
    }

    /// Takes in the deliveries of a record. Returns them if the message goes on.
    fn recover_deliveries(
        &mut self,
        recovering: &mut Recovering,
        deliveries: DeliveryList<'_>,
        goes_on: bool,
        fan_out: &mut FanOut<'_>,
    ) -> Result<Vec<Delivered>, &'static str> {
        let mut open = Vec::new();
        for body in deliveries.iter() {
            let ((number, delivery), qos, terms) = (body.of(), body.qos(), body.terms());
            let identifiers = identifiers_of(terms.identifiers())?;
            if qos == QoS::AtMostOnce {
                return Err("has a delivery that is not tracked");
            }
            if terms.is_owed() {
                let key = terms.group().ok_or("owes a message to no group")?;
                let message = self.delivery.keep(fan_out);
                self.delivery.messages.hold(message);
                if let Some(former) = recovering.owe_to_group((number, delivery), message, key) {
                    self.delivery.messages.release(former);
                }
                if goes_on {
                    open.push((number, delivery));
                }
                continue;
            }
            let Some(session) = recovering.session_mut(number) else { continue };
            let message = self.delivery.keep(fan_out);
            self.delivery.messages.hold(message);
            let terms = (qos, terms.retain(), terms.group());
            if !session.left_mut().add(delivery, message, terms, identifiers) {
                return Err("has deliveries in another order than their numbers");
            }
            if goes_on {
                open.push((number, delivery));
            }
        }
        Ok(open)
    }

    /// A delivery has ended, as one of a session or as one that a group got back.
    fn settle_recovered(&mut self, recovering: &mut Recovering, of: Delivered) {
        if let Some(message) = recovering.settle(of) {
            self.delivery.messages.release(message);
        }
    }

    /// A session has ended. Its groups get some of its messages back.
    fn forget_recovered(
        &mut self,
        turn: &mut Turn<'_>,
        recovering: &mut Recovering,
        number: u64,
        owed: Numbers<'_>,
    ) {
        recovering.owe(number, owed);
        let Some(session) = recovering.remove_session(number) else { return };
        let Self { topics, delivery, .. } = self;
        let id = session.id();
        for message in session.into_left().1.messages() {
            delivery.messages.release(message);
        }
        let will = delivery.sessions.begin_end(turn, id);
        assert!(will.is_none());
        let own = delivery.sessions.of_connection(id);
        while own.forget_replay(turn.held_mut()) {}
        while topics.unsubscribe_one(own.subscriptions_mut()) {}
        delivery.sessions.remove(id);
    }
}

fn identifiers_of(numbers: Numbers<'_>) -> Result<Identifiers, &'static str> {
    let mut identifiers = Identifiers::None;
    for number in numbers.iter() {
        let identifier = u32::try_from(number).ok().and_then(wire::SubscriptionId::new);
        identifiers.add(Some(identifier.ok_or("has a subscription identifier that is none")?));
    }
    Ok(identifiers)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::num::NonZeroU32;

    use super::*;
    use crate::base::hash::Entropy;
    use crate::limits::Limits;
    use crate::record::Crossing;

    #[test]
    fn a_whole_message_between_the_parts_of_another_one_does_not_end_that() {
        let limits = Limits { journal_start: NonZeroU32::new(2), ..Limits::default() };
        let mut engine = Engine::new(limits, Entropy(1), Instant::default());
        let content = Some(Content::new(("a", &[], b"x"), (QoS::AtLeastOnce, false), None));
        for (number, content, goes_on) in
            [(1, content, true), (1, content, false), (1, None, true), (1, None, false)]
        {
            let mut bytes = Vec::new();
            let kind = Body::Message {
                number,
                sender: None,
                ends: None,
                will: None,
                stored: None,
                crossing: Crossing::default(),
                deliveries: DeliveryList::default(),
                content,
                goes_on,
            }
            .encode(&mut bytes);
            assert_eq!(engine.recover(kind, &bytes), Ok(()));
        }
        engine.recovered(Instant::default(), &mut Actions::new());
        assert_eq!(engine.audit().messages, 0);
    }
}
