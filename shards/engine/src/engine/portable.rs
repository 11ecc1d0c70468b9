//! Everything that outlives the process in a form without numbers of this log: for other versions, and for other machines.
//!
//! Invariant: what is brought back is recorded as if it happened now, so it has numbers of the log that it comes into. The price: a message
//! that was sent and not acknowledged is a new one there, and a QoS 2 handshake whose message has arrived is at its end.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::{Packet, ProtocolVersion, QoS, SubscriptionId};

use super::{Engine, Rooms};
use crate::action::Actions;
use crate::base::ids::SessionId;
use crate::base::time::Instant;
use crate::message::borrowed::Message;
use crate::message::origin::Origin;
use crate::message::user_name::UserName;
use crate::record::Content;
use crate::session::Session;
use crate::session::grant::{Grant, Identifiers};
use crate::session::snapshot::SessionRecord;
use crate::session::will::Will;
use crate::timer::Timers;
use crate::topic::sys::is_sys;
use crate::turn::Turn;

/// A message, whose expiry counts from the moment of its description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortableMessage<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// Encoded properties of MQTT 5.0 that travel with it.
    pub properties: &'a [u8],
    /// The QoS that it was published with, 0 to 2.
    pub qos: u8,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// Milliseconds until it expires; `None` for never.
    pub expires_in_ms: Option<u64>,
}

/// Something that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Portable<'a> {
    /// A retained message, and the user who published it: "" for nobody.
    Retained(PortableMessage<'a>, &'a str),
    /// A session with its subscriptions, of which there may be none.
    Session(SessionRecord),
    /// The will of a session, which is due so many seconds from now if it is not back before; and the seconds until the message expires
    /// then.
    Will {
        /// The client identifier.
        client_id: &'a str,
        /// The message.
        message: PortableMessage<'a>,
        /// Seconds from now.
        delay_s: u32,
        /// Seconds from then.
        expiry_interval_s: Option<u32>,
    },
    /// A message that a session has not acknowledged.
    Owed {
        /// The client identifier.
        client_id: &'a str,
        /// The message.
        message: PortableMessage<'a>,
        /// The QoS of the delivery, 1 or 2.
        qos: u8,
        /// The retain flag of the delivery.
        retain: bool,
        /// Subscription Identifiers.
        identifiers: Vec<u32>,
    },
}

impl<'a> PortableMessage<'a> {
    fn of(message: &Message<'a>, now: Instant) -> Self {
        Self {
            topic: message.topic,
            payload: message.payload,
            properties: message.forwarded,
            qos: message.qos.bits(),
            retain: message.retain,
            expires_in_ms: message.expires_at.map(|at| at.as_ms().saturating_sub(now.as_ms())),
        }
    }

    /// The message, if a client can have published it.
    fn message(&self, now: Instant) -> Result<Message<'a>, String> {
        let fault = |reason: &str| Err(alloc::format!("the message to {:?} {reason}", self.topic));
        let Some(qos) = QoS::from_bits(self.qos) else { return fault("has a QoS above 2") };
        // As the packet that a client would publish it by.
        let mut body = Vec::new();
        let Ok(topic_bytes) = u16::try_from(self.topic.len()) else {
            return fault("has a topic that is too long");
        };
        body.extend_from_slice(&topic_bytes.to_be_bytes());
        body.extend_from_slice(self.topic.as_bytes());
        let mut length = self.properties.len();
        while length >= 0x80 {
            body.push(u8::try_from(length % 0x80).unwrap_or_default() | 0x80);
            length /= 0x80;
        }
        body.push(u8::try_from(length).unwrap_or_default());
        body.extend_from_slice(self.properties);
        let frame = wire::Frame { first_byte: 0x30, body: &body };
        let Ok(Packet::Publish(publish)) = Packet::decode(ProtocolVersion::V5, frame) else {
            return fault("has a topic or properties that are none");
        };
        let mut forwarded = Vec::new();
        publish.properties.append_forwardable(&mut forwarded);
        if publish.topic.is_none() || is_sys(self.topic) || forwarded != self.properties {
            return fault("has a topic or properties that no client may publish");
        }
        Ok(Message {
            topic: self.topic,
            forwarded: self.properties,
            payload: self.payload,
            qos,
            retain: self.retain,
            expires_at: self.expires_in_ms.map(|left_ms| now.plus_ms(left_ms)),
            packet: None,
        })
    }
}

impl Engine {
    /// Describes everything that outlives the process, retained messages first, and each session before what it is owed. To be called
    /// when nothing is under way: after [`Engine::recovered`].
    pub fn describe(&self, now: Instant, visit: &mut dyn FnMut(&Portable<'_>)) {
        self.rooms.describe_retained(now, visit);
        let sessions = &self.rooms.delivery.sessions;
        for index in 0..sessions.slot_count() {
            let known = sessions.id_at(index).and_then(|id| Some((id, sessions.get(id)?)));
            if let Some((id, session)) = known
                && session.is_persistent()
                && !session.has_ended()
            {
                self.rooms.describe_session((&self.timers, now), id, session, visit);
            }
        }
    }

    /// Brings something back that [`Engine::describe`] has described, in its order.
    ///
    /// # Errors
    /// The reason why it cannot be: it is none, its session is not there, or a limit is reached.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    pub fn bring_back(&mut self, now: Instant, portable: &Portable<'_>) -> Result<(), String> {
        if let Portable::Session(record) = portable {
            return self.restore(now, record);
        }
        let mut actions = Actions::new();
        let (rooms, mut turn) = self.turn(now, &mut actions);
        let turn = &mut turn;
        match portable {
            Portable::Session(_) => Ok(()),
            Portable::Retained(message, user) => rooms.bring_back_retained(turn, message, user),
            Portable::Will { client_id, message, delay_s, expiry_interval_s } => {
                rooms.bring_back_will(turn, client_id, message, (*delay_s, *expiry_interval_s))
            }
            Portable::Owed { client_id, message, qos, retain, identifiers } => {
                rooms.bring_back_owed(turn, client_id, message, (*qos, *retain, identifiers))
            }
        }
    }
}

impl Rooms {
    fn describe_retained(&self, now: Instant, visit: &mut dyn FnMut(&Portable<'_>)) {
        for (topic, entry) in self.retained.store().after(None) {
            let message = self.delivery.messages.view(entry.message());
            if !is_sys(topic) && !message.is_expired(now) {
                let user = self.delivery.sessions.users().name_of(entry.user()).name();
                visit(&Portable::Retained(PortableMessage::of(&message, now), user));
            }
        }
    }

    fn describe_session(
        &self,
        (timers, now): (&Timers, Instant),
        id: SessionId,
        session: &Session,
        visit: &mut dyn FnMut(&Portable<'_>),
    ) {
        let client_id = session.client_id();
        visit(&Portable::Session(self.session_record(timers, now, id.index(), session)));
        if let Some((will, delay_s, expiry_interval_s)) = session.will_left(timers, now) {
            let message = PortableMessage::of(&will, now);
            visit(&Portable::Will { client_id, message, delay_s, expiry_interval_s });
        }
        session.for_each_owed(&mut |key, grant| {
            let message = self.delivery.messages.view(key);
            if message.is_expired(now) {
                return;
            }
            visit(&Portable::Owed {
                client_id,
                message: PortableMessage::of(&message, now),
                qos: grant.qos.bits(),
                retain: grant.retain,
                identifiers: grant.identifiers.as_slice().iter().map(|identifier| identifier.get()).collect(),
            });
        });
    }

    fn bring_back_retained(
        &mut self,
        turn: &mut Turn<'_>,
        portable: &PortableMessage<'_>,
        user: &str,
    ) -> Result<(), String> {
        let message = Message { retain: true, ..portable.message(turn.now)? };
        if message.payload.is_empty() {
            return Err(alloc::format!("the retained message of {:?} is empty", message.topic));
        }
        let sequence = self.delivery.next_publish();
        let origin = Origin { shard: self.mesh.placement().own(), sequence };
        let user = self.delivery.sessions.users_mut().hold_named(UserName::new(user));
        let mut fan_out = self.delivery.begin(&message, None, None, None);
        self.retain(turn, &mut fan_out, (None, user), origin);
        self.delivery.sessions.users_mut().release(user);
        self.delivery.finish(turn, &fan_out);
        Ok(())
    }

    fn session_named(&self, client_id: &str) -> Result<SessionId, String> {
        let found = self.delivery.sessions.find(client_id);
        found.ok_or_else(|| alloc::format!("there is no session of {client_id:?} before it"))
    }

    fn bring_back_will(
        &mut self,
        turn: &mut Turn<'_>,
        client_id: &str,
        portable: &PortableMessage<'_>,
        (delay_s, expiry_interval_s): (u32, Option<u32>),
    ) -> Result<(), String> {
        let id = self.session_named(client_id)?;
        let message = portable.message(turn.now)?;
        let session = self.delivery.sessions.of_connection(id);
        if session.has_will() || session.connection().is_some() {
            return Err(alloc::format!("the session of {client_id:?} has a will already"));
        }
        // Both of its times count from when it lost its connection.
        let passed_s = session.expiry(turn.timers, turn.now).passed_s;
        let since = Instant::from_ms(turn.now.as_ms().saturating_sub(u64::from(passed_s) * 1_000));
        let delay_s = delay_s.max(1).saturating_add(passed_s);
        let content: Content<'_> = message.content();
        let will = Will::recovered(0, (delay_s, expiry_interval_s), content);
        self.delivery.sessions.recover_will(id, Box::new(will));
        self.delivery.sessions.of_connection(id).wait_with_will(turn, id, since);
        self.record_will(turn, id);
        self.record_session(turn, id);
        self.record_detached(turn, id, since);
        Ok(())
    }

    fn bring_back_owed(
        &mut self,
        turn: &mut Turn<'_>,
        client_id: &str,
        portable: &PortableMessage<'_>,
        (qos, retain, numbers): (u8, bool, &[u32]),
    ) -> Result<(), String> {
        let id = self.session_named(client_id)?;
        let message = portable.message(turn.now)?;
        let qos = QoS::from_bits(qos).filter(|&qos| crate::session::is_tracked(qos));
        let qos = qos.ok_or_else(|| "a message that is owed has QoS 1 or 2".to_string())?;
        let mut identifiers = Identifiers::None;
        for &number in numbers {
            let identifier = SubscriptionId::new(number);
            identifiers.add(Some(identifier.ok_or("a subscription identifier is none")?));
        }
        self.delivery.next_publish();
        let before = self.delivery.sessions.of_connection(id).queued_count();
        let mut fan_out = self.delivery.begin(&message, None, None, None);
        let grant = Grant { qos, retain, group: None, identifiers };
        self.delivery.offer(turn, id.index(), grant, &mut fan_out);
        self.delivery.finish(turn, &fan_out);
        if self.delivery.sessions.of_connection(id).queued_count() == before {
            return Err(alloc::format!(
                "the queue of {client_id:?} is full; raise queue_messages_max or queue_bytes_max"
            ));
        }
        Ok(())
    }
}
