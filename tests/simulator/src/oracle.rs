//! What was published, and whether what is received keeps the promises of the standard.
//! Knows no engine and no lane: it sees what clients write and read.

use std::collections::{BTreeMap, BTreeSet};

use wire::QoS;

use crate::session::{Got, NEVER, Session};

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Plain,
    /// For shared subscriptions alone.
    Group,
    Will,
}

/// A message that a client published, or that the broker is to publish for it.
///
/// Each topic has one publisher, so its messages have an order.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) kind: Kind,
    pub(crate) topic: String,
    /// Its place among the messages of its topic.
    pub(crate) sequence: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// How often PUBLISH was written.
    pub(crate) write_count: u32,
    /// When first.
    pub(crate) written_at: u64,
    /// When it was certain that the broker had taken it.
    pub(crate) taken_at: u64,
    /// The client withdrew it before the broker was to publish it.
    pub(crate) forbidden: bool,
    /// An empty payload: the end of what is retained.
    pub(crate) is_empty: bool,
    pub(crate) payload_bytes: usize,
}

/// Deliveries that did not reach the session they were for, by the broker's own books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Of QoS 0, or ended with their session.
    pub(crate) dropped: u64,
    /// Ended with their session.
    pub(crate) ended: u64,
    /// Their group had nobody.
    pub(crate) without_member: u64,
    /// They went to another member of their group.
    pub(crate) moved: u64,
}

/// A copy of a message that a client received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    sequences: BTreeMap<String, u64>,
    /// By identity.
    pub(crate) sessions: Vec<Session>,
    /// Groups: share name and filter.
    pub(crate) groups: Vec<String>,
    /// By identity: the one group that it is ever a member of.
    pub(crate) group_of: Vec<String>,
    /// Topics of which a retained QoS 1 message was sent again, perhaps after newer ones: what is retained there
    /// may rightly be older than what was.
    blurred: BTreeSet<String>,
    /// By message and group: copies received by its members.
    group_copies: BTreeMap<(u32, String), u32>,
    pub(crate) failure: Option<String>,
}

impl Oracle {
    pub(crate) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    pub(crate) fn message(&mut self, id: u32) -> &mut Message {
        &mut self.messages[id as usize]
    }

    /// A new message, the next of its topic.
    pub(crate) fn publishing(
        &mut self,
        kind: Kind,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload_bytes: usize,
    ) -> u32 {
        let sequence = self.sequences.entry(topic.into()).or_default();
        *sequence += 1;
        let message = Message {
            kind,
            topic: topic.into(),
            sequence: *sequence,
            qos,
            retain,
            write_count: 0,
            written_at: NEVER,
            taken_at: NEVER,
            forbidden: false,
            is_empty: payload_bytes == 0,
            payload_bytes,
        };
        self.messages.push(message);
        u32::try_from(self.messages.len() - 1).expect("a run is short")
    }

    pub(crate) fn wrote(&mut self, id: u32, at: u64) {
        let message = self.message(id);
        message.write_count += 1;
        message.written_at = message.written_at.min(at);
        if message.write_count > 1 && message.retain && message.qos == QoS::AtLeastOnce {
            let topic = message.topic.clone();
            self.blurred.insert(topic);
        }
    }

    pub(crate) fn taken(&mut self, id: u32, at: u64) {
        let message = self.message(id);
        message.taken_at = message.taken_at.min(at);
    }

    /// A copy reached the application behind `identity`.
    pub(crate) fn received(&mut self, identity: usize, copy: Copy<'_>, at: u64) -> Option<u32> {
        let who = format!("client {identity} received {:?} copy", copy.qos);
        if copy.payload.is_empty() {
            let session = &self.sessions[identity];
            if session.wish_count(copy.topic, 0) == 0 {
                self.fail(format!("{who} of {}, which it never subscribed to", copy.topic));
            }
            return None;
        }
        let Some(id) = read_payload(copy.payload).filter(|&id| (id as usize) < self.messages.len()) else {
            self.fail(format!("{who} with a payload that nobody sent, on {}", copy.topic));
            return None;
        };
        let message = self.messages[id as usize].clone();
        let Message { sequence, written_at, .. } = message;
        let what = format!("message {id}, number {sequence} of {} ({:?})", message.topic, message.qos);
        if *message.topic != *copy.topic || copy.payload != payload(id, message.payload_bytes) {
            self.fail(format!("{who} of {what} altered, on {}", copy.topic));
        }
        if message.forbidden || message.write_count == 0 {
            self.fail(format!("{who} of {what}, which is not to be published"));
        }
        if copy.qos > message.qos {
            self.fail(format!("{who} of {what}: more than was published"));
        }
        let session = &mut self.sessions[identity];
        let wish_count = session.wish_count(&message.topic, written_at);
        if wish_count == 0 {
            self.fail(format!("{who} of {what}, published after the end of its subscription"));
            return Some(id);
        }
        let got = session.got.entry(id).or_default();
        let was_live = got.is_live;
        got.last_at = at;
        let copies_max = if message.qos == QoS::ExactlyOnce { 1 } else { message.write_count };
        if message.kind == Kind::Group {
            got.is_live = true;
            if !(was_live && copy.dup) {
                self.group_copied(id, identity, copies_max, &what);
            }
            return Some(id);
        }
        if copy.retain {
            got.retained_count += u32::from(!copy.dup);
            let was_retained = core::mem::replace(&mut got.is_retained, true);
            if was_retained && copy.dup {
                return Some(id);
            }
            let key = (message.topic.clone(), copy.qos.bits());
            let newest = session.newest_update.get(&key).copied().unwrap_or(0);
            if !message.retain {
                self.fail(format!("{who} of {what} as retained, which it was not"));
            } else if sequence < newest && !self.blurred.contains(&message.topic) {
                self.fail(format!("{who} of {what} as retained, after number {newest} came live"));
            } else if got.retained_count as usize > wish_count {
                self.fail(format!("{who} of {what} as retained more often than it subscribed"));
            }
            return Some(id);
        }
        got.is_live = true;
        got.live_count += u32::from(!copy.dup || copy.qos == QoS::ExactlyOnce);
        let Got { live_count, .. } = *got;
        if message.retain {
            let key = (message.topic.clone(), copy.qos.bits());
            let newest = session.newest_update.entry(key).or_default();
            *newest = sequence.max(*newest);
        }
        let key = (message.topic.clone(), message.qos.bits(), copy.qos.bits());
        let last = session.last_in_order.entry(key).or_default();
        let before = *last;
        // A QoS 1 message that its publisher sent again may come again, later than what followed it.
        let in_order = !was_live && (message.write_count == 1 || message.qos != QoS::AtLeastOnce);
        if in_order {
            *last = sequence.max(before);
        }
        if live_count > copies_max {
            self.fail(format!("{who} of {what} for the {live_count}. time"));
        } else if in_order && sequence <= before {
            self.fail(format!("{who} of {what} after number {before}"));
        }
        Some(id)
    }

    fn group_copied(&mut self, id: u32, identity: usize, copies_max: u32, what: &str) {
        let group = self.group_of[identity].clone();
        let qos = self.messages[id as usize].qos;
        let count = self.group_copies.entry((id, group)).or_default();
        *count += 1;
        let count = *count;
        // QoS 1 comes again when its receiver leaves before its acknowledgement arrives.
        if count > copies_max && qos != QoS::AtLeastOnce {
            let group = &self.group_of[identity];
            self.fail(format!("{what} reached {count} members of {group}"));
        }
    }

    /// Copies of QoS 1 that a group received beyond those that were published.
    fn copied_again(&self) -> u64 {
        let extra = |(&(id, _), &count): (&(u32, String), &u32)| {
            u64::from(count.saturating_sub(self.messages[id as usize].write_count))
        };
        self.group_copies.iter().map(extra).sum()
    }

    /// Checks that everything owed has come.
    pub(crate) fn check_owed(&mut self, counted: Counted) {
        let Counted { dropped: dropped_count, ended: ended_count, without_member, moved: moved_count } =
            counted;
        let mut missing_qos0: u64 = 0;
        let mut missing_exactly_once: u64 = 0;
        let mut missing_in_groups = Vec::new();
        let mut missing = Vec::new();
        for (id, message) in (0u32..).zip(&self.messages) {
            if message.taken_at == NEVER || message.is_empty {
                continue;
            }
            if message.kind == Kind::Group {
                let missing = self.missing_groups(id, message);
                match message.qos {
                    QoS::AtMostOnce => {}
                    // Whoever leaves takes none of them along.
                    QoS::AtLeastOnce => missing_in_groups.extend(missing.map(|group| (id, group.clone()))),
                    QoS::ExactlyOnce => missing_exactly_once += missing.count() as u64,
                }
                continue;
            }
            for (identity, session) in self.sessions.iter().enumerate() {
                let owed = session
                    .intervals
                    .iter()
                    .filter(|interval| {
                        let certain = interval.from < message.written_at && message.taken_at < interval.until;
                        certain
                            && !interval.waived
                            && !interval.is_shared()
                            && interval.matches(&message.topic)
                    })
                    .map(|interval| session.qos_of(interval).min(message.qos))
                    .max();
                let is_live = session.got.get(&id).is_some_and(|got| got.is_live);
                match owed {
                    None => {}
                    Some(_) if is_live => {}
                    Some(QoS::AtMostOnce) => {
                        missing_qos0 += u64::from(session.unbroken_since < message.written_at);
                    }
                    Some(QoS::AtLeastOnce | QoS::ExactlyOnce) => missing.push((identity, id)),
                }
            }
        }
        if let Some(&(identity, id)) = missing.first() {
            let message = self.messages[id as usize].clone();
            let count = missing.len();
            let owing: Vec<_> = self.sessions[identity]
                .intervals
                .iter()
                .filter(|interval| !interval.waived && interval.matches(&message.topic))
                .cloned()
                .collect();
            self.fail(format!(
                "client {identity} never received message {id} ({count} are missing): {message:?} for {owing:?}"
            ));
        }
        if missing_qos0 > dropped_count {
            self.fail(format!("{missing_qos0} QoS 0 deliveries are missing, {dropped_count} were counted"));
        }
        let unmanned: u64 = self.messages.iter().map(|message| self.unmanned_groups(message)).sum();
        if without_member > unmanned {
            self.fail(format!("groups had no member for {without_member} messages, rightly for {unmanned}"));
        }
        if let Some((id, group)) = missing_in_groups.first() {
            let message = self.messages[*id as usize].clone();
            let count = missing_in_groups.len();
            self.fail(format!(
                "no member of {group} received message {id} ({count} are missing): {message:?}"
            ));
        }
        if missing_exactly_once > ended_count {
            self.fail(format!(
                "groups miss {missing_exactly_once} messages of QoS 2; {ended_count} ended with sessions"
            ));
        }
        let copied_again = self.copied_again();
        if copied_again > moved_count {
            self.fail(format!("groups received {copied_again} copies too many, {moved_count} moved"));
        }
    }

    /// How often a message may rightly have found nobody in a group.
    fn unmanned_groups(&self, message: &Message) -> u64 {
        let matching = self.groups.iter().filter(|group| crate::session::matches(group, &message.topic));
        let unmanned = matching.filter(|group| {
            !self.sessions.iter().any(|session| {
                // Nobody keeps QoS 0 for a member that is away.
                let is_there = message.qos > QoS::AtMostOnce || session.unbroken_since < message.written_at;
                is_there && session.intervals.iter().any(|interval| interval.mans(group, message.written_at))
            })
        });
        unmanned.count() as u64 * u64::from(message.write_count)
    }

    /// Groups that had a member all the time and yet did not receive a message.
    fn missing_groups<'a>(&'a self, id: u32, message: &'a Message) -> impl Iterator<Item = &'a String> {
        self.groups.iter().filter(move |group| {
            let mut intervals = self.sessions.iter().flat_map(|session| &session.intervals);
            crate::session::matches(group, &message.topic)
                && intervals.any(|interval| interval.mans(group, message.written_at))
                && !self.group_copies.contains_key(&(id, (*group).clone()))
        })
    }

    /// Checks that every subscription that was to be sent what is retained on `topic` has it: message `id`.
    /// Returns how many deliveries of QoS 0 are missing.
    pub(crate) fn check_retained(&mut self, id: u32) -> u64 {
        let message = self.messages[id as usize].clone();
        let mut missing_qos0 = 0;
        for identity in 0..self.sessions.len() {
            let session = &self.sessions[identity];
            // What came live after it stands for it: it may not follow that any more.
            let newer = session.got.iter().filter(|&(&other, got)| {
                let other = &self.messages[other as usize];
                // To the broker, an older one that its publisher sent again is newer.
                let is_newer = other.sequence > message.sequence || other.write_count > 1;
                other.topic == message.topic && is_newer && got.is_live
            });
            let this = session.got.get(&id).map_or(0, |got| got.last_at);
            let last_at = newer.map(|(_, got)| got.last_at).fold(this, u64::max);
            let missed = session.intervals.iter().find(|interval| {
                let certain = interval.until == NEVER && interval.wants_retained && !interval.is_shared();
                certain && interval.matches(&message.topic) && last_at < interval.asked_at
            });
            let Some(missed) = missed else { continue };
            // A newer live message of QoS 0, sent and lost with its connection, stands for it as well.
            let newer_qos0 = self.messages.iter().any(|other| {
                let is_newer = other.sequence > message.sequence && other.topic == message.topic;
                is_newer && other.qos.min(missed.qos) == QoS::AtMostOnce
            });
            if newer_qos0 && session.unbroken_since > missed.asked_at {
                continue;
            }
            if missed.qos.min(message.qos) == QoS::AtMostOnce {
                missing_qos0 += u64::from(session.unbroken_since < missed.asked_at);
                continue;
            }
            let what = format!(
                "client {identity} subscribed to {} and never saw message {id}, number {} of {}, which is retained",
                missed.filter, message.sequence, message.topic
            );
            self.fail(what);
        }
        missing_qos0
    }

    /// Checks that what is retained on a topic is no older than what the broker is known to have taken.
    pub(crate) fn check_newest(&mut self, found: &BTreeMap<String, u32>) {
        let mut newest: BTreeMap<String, (u64, u32)> = BTreeMap::new();
        for (id, message) in (0u32..).zip(&self.messages) {
            if message.retain && message.taken_at != NEVER {
                let entry = newest.entry(message.topic.clone()).or_default();
                *entry = (*entry).max((message.sequence, id));
            }
        }
        newest.retain(|topic, _| !self.blurred.contains(topic));
        for (topic, (sequence, id)) in newest {
            let kept = found.get(&topic).map(|&id| self.messages[id as usize].sequence);
            // Later ones may have been taken without the publisher knowing: QoS 0, and the end of what is retained.
            let later_empty = self.messages.iter().any(|message| {
                message.topic == topic && message.is_empty && message.retain && message.sequence >= sequence
            });
            let gone = kept.is_none() && !later_empty;
            if gone || kept.is_some_and(|kept| kept < sequence) {
                let message = self.messages[id as usize].clone();
                self.fail(format!("message {id} is retained as {kept:?}: {message:?}"));
            }
        }
    }
}

/// The payload of message `id`: who it is, then bytes that tell when one is lost.
pub(crate) fn payload(id: u32, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes);
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend((payload.len()..bytes).map(|at| at.to_le_bytes()[0] ^ id.to_le_bytes()[0]));
    payload.truncate(bytes);
    payload
}

/// Bytes of the shortest payload that tells which message it is.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 4;

fn read_payload(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<PAYLOAD_BYTES_MIN>().map(|id| u32::from_le_bytes(*id))
}
