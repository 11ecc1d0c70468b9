//! The required deliveries of every message, computed from the acts of clients: to which sessions, how often, in which order, with
//! which identifiers. Of the engine it sees only the packets that clients were sent.

use std::collections::{BTreeMap, BTreeSet};

use wire::TopicFilter;

use crate::client::Message;

/// The publisher of a message and its number among that publisher's messages, as in its payload.
pub(crate) type Name = (String, u32);

/// A client and the number of its session.
pub(crate) type SessionName = (usize, u32);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
}

/// The state of a session that a client and the broker share.
#[derive(Debug, Default)]
pub(crate) struct SessionModel {
    pub(crate) number: u32,
    pub(crate) subscriptions: BTreeMap<String, Wanted>,
    /// Every filter ever subscribed to: a replay may answer late.
    past_filters: BTreeSet<String>,
    /// Identifiers of deliveries that the client has not acknowledged to their end.
    outstanding: BTreeSet<u16>,
    /// QoS 2 identifiers between PUBLISH and PUBREL, with the payloads of their messages.
    received: BTreeMap<u16, Vec<u8>>,
    /// The last message of each publisher, topic and quality.
    last: BTreeMap<(String, String, u8), u32>,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionModel {
    receive_maximum: usize,
    unacknowledged: BTreeSet<u16>,
    last: BTreeMap<(String, String, u8), u32>,
    aliases: BTreeMap<u16, String>,
}

/// A message that was published, and the deliveries that it requires.
#[derive(Debug)]
struct Published {
    topic: String,
    /// The QoS of each required delivery.
    required: BTreeMap<SessionName, u8>,
    /// Unknown when, or whether, the broker took the message: it may reach every session that ever subscribed to it.
    uncertain: bool,
}

/// All messages, and the deliveries that clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    published: BTreeMap<Name, Published>,
    delivered: BTreeMap<(SessionName, Name), u32>,
    /// Wills that a DISCONNECT deleted.
    pub(crate) cancelled_wills: BTreeSet<Name>,
    retained: BTreeMap<String, Option<Name>>,
    pub(crate) deliveries: u64,
}

pub(crate) fn payload(name: &Name) -> Vec<u8> {
    format!("{} {}", name.0, name.1).into_bytes()
}

fn name_in(payload: &[u8]) -> Name {
    let text = core::str::from_utf8(payload).expect("the oracle's payloads are text");
    let (publisher, number) = text.split_once(' ').expect("publisher and number");
    (publisher.to_owned(), number.parse().expect("a number"))
}

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::parse(filter).expect("tests use good filters").matches(topic)
}

impl ConnectionModel {
    pub(crate) fn new(receive_maximum: usize) -> Self {
        Self { receive_maximum, ..Self::default() }
    }

    /// The topic of a message, by name or by alias.
    fn resolve(&mut self, message: &Message) -> String {
        match message.alias {
            Some(alias) if message.topic.is_empty() => self.aliases[&alias].clone(),
            Some(alias) => {
                self.aliases.insert(alias, message.topic.clone());
                message.topic.clone()
            }
            None => message.topic.clone(),
        }
    }
}

impl SessionModel {
    pub(crate) fn subscribe(&mut self, filter: &str, wanted: Wanted) {
        self.subscriptions.insert(filter.to_owned(), wanted);
        self.past_filters.insert(filter.to_owned());
    }

    /// Everything ends: a new session with the next number.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { number: self.number + 1, ..Self::default() };
    }

    /// PUBREL: the identifier is free again.
    pub(crate) fn released(&mut self, id: u16) {
        self.received.remove(&id);
    }

    /// The end of a delivery, as far as the client is concerned.
    pub(crate) fn acknowledged(&mut self, connection: &mut ConnectionModel, id: u16) {
        self.outstanding.remove(&id);
        connection.unacknowledged.remove(&id);
    }
}

impl Oracle {
    /// The broker takes a message now. `sessions` are the existing ones, each with whether it keeps messages. Without
    /// them, the required deliveries are uncertain.
    pub(crate) fn publish(
        &mut self,
        name: &Name,
        topic: &str,
        qos: u8,
        publisher: usize,
        sessions: Option<&[(usize, &SessionModel, bool)]>,
    ) {
        let mut required = BTreeMap::new();
        for (client, session, keeps) in sessions.unwrap_or_default() {
            let granted = session
                .subscriptions
                .iter()
                .filter(|(filter, wanted)| {
                    matches(filter, topic) && !(wanted.no_local && *client == publisher)
                })
                .map(|(_, wanted)| wanted.qos.min(qos))
                .max();
            if let Some(granted) = granted.filter(|_| *keeps) {
                required.insert((*client, session.number), granted);
            }
        }
        // A repetition changes nothing: the required deliveries were decided before, or remain uncertain.
        let topic = topic.to_owned();
        let uncertain = sessions.is_none();
        self.published.entry(name.clone()).or_insert(Published { topic, required, uncertain });
    }

    /// The broker may take it later than now, or never.
    pub(crate) fn doubt(&mut self, name: &Name) {
        self.published.get_mut(name).expect("published before").uncertain = true;
    }

    /// The broker retains it now. `None`: the retained message is uncertain.
    pub(crate) fn retain(&mut self, topic: &str, name: Option<Name>) {
        self.retained.insert(topic.to_owned(), name);
    }

    /// A client reads a PUBLISH.
    pub(crate) fn deliver(
        &mut self,
        client: usize,
        session: &mut SessionModel,
        connection: &mut ConnectionModel,
        message: &Message,
    ) {
        self.deliveries += 1;
        let topic = connection.resolve(message);
        let name = name_in(&message.payload);
        let published = self.published.get(&name).unwrap_or_else(|| panic!("nobody published {name:?}"));
        assert_eq!(published.topic, topic, "{name:?}");
        assert!(!self.cancelled_wills.contains(&name), "a will that was taken back: {name:?}");
        if message.qos > 0 {
            let is_new = session.outstanding.insert(message.id);
            assert!(is_new || message.dup, "identifier {} is in use", message.id);
            connection.unacknowledged.insert(message.id);
            let count = connection.unacknowledged.len();
            assert!(count <= connection.receive_maximum, "{count} unacknowledged");
        }
        let wanted = session.past_filters.iter().any(|filter| matches(filter, &topic));
        assert!(wanted, "{name:?} to {topic}, which client {client} never subscribed to");
        if message.qos == 2 {
            if let Some(before) = session.received.get(&message.id) {
                assert!(
                    message.dup && *before == message.payload,
                    "identifier {} stands for another",
                    message.id
                );
                return;
            }
            session.received.insert(message.id, message.payload.clone());
        }
        if message.retain {
            // A retained message comes once for each subscription.
            return;
        }
        let required = published.required.get(&(client, session.number));
        assert!(required.is_some() || published.uncertain, "{name:?} is not required for client {client}");
        if let Some(qos) = required.filter(|_| !published.uncertain) {
            assert_eq!(message.qos, *qos, "{name:?}");
        }
        let count = self.delivered.entry(((client, session.number), name.clone())).or_default();
        *count += 1;
        assert!(*count == 1 || message.qos == 1, "{name:?} came {count} times to client {client}");
        assert!(*count == 1 || message.dup, "{name:?} came again without DUP");

        let key = (name.0.clone(), topic, message.qos);
        let before = connection.last.insert(key.clone(), name.1);
        assert!(before.is_none_or(|before| before < name.1), "{name:?} after {before:?} on one connection");
        let before = session.last.entry(key).or_insert(name.1);
        assert!(message.dup || *before <= name.1, "{name:?} after {before}");
        *before = (*before).max(name.1);
    }

    /// At the end, every session that still exists has been resumed and drained, so it has received every required delivery
    /// of QoS 1 and 2.
    pub(crate) fn check_complete(&self, alive: &[SessionName]) {
        for (name, published) in self.published.iter().filter(|(_, published)| !published.uncertain) {
            for (session, qos) in &published.required {
                let count = self.delivered.get(&(*session, name.clone())).copied().unwrap_or(0);
                if *qos > 0 && alive.contains(session) {
                    assert!(count > 0, "{name:?} never reached {session:?}");
                }
            }
        }
    }

    /// Asserts that a new subscriber to every topic was sent the retained messages.
    pub(crate) fn check_retained(&self, messages: &[Message]) {
        let mut found: BTreeMap<&str, Name> = BTreeMap::new();
        for message in messages {
            assert!(message.retain);
            let before = found.insert(&message.topic, name_in(&message.payload));
            assert_eq!(before, None, "one for each topic");
        }
        for (topic, expected) in &self.retained {
            if let Some(expected) = expected {
                assert_eq!(found.get(topic.as_str()), Some(expected), "{topic}");
            }
        }
        assert!(found.keys().all(|topic| self.retained.contains_key(*topic)));
    }
}
