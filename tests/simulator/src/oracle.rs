//! Records the published messages, and checks that the received ones satisfy the standard. The oracle sees only what
//! clients write and read, no engine and no lane.

use std::collections::{BTreeMap, BTreeSet};

use wire::QoS;

use crate::session::{NEVER, ReceivedCopies, Session};

/// The purpose of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Plain,
    /// For shared subscriptions only.
    Group,
    Will,
}

/// A message that a client published, or that the broker must publish for it.
///
/// Each topic has one publisher, so its messages are ordered.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) kind: Kind,
    pub(crate) topic: String,
    /// Its position among the messages of its topic.
    pub(crate) sequence: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Crashes after which a copy of it was received that the log need not know: each may repeat it.
    pub(crate) again_count: u32,
    /// How often the PUBLISH was written.
    pub(crate) write_count: u32,
    /// When it was written first.
    pub(crate) written_at: u64,
    /// When the broker had certainly accepted it.
    pub(crate) taken_at: u64,
    /// The client withdrew it before the broker was due to publish it.
    pub(crate) forbidden: bool,
    /// An empty payload, which removes the retained message.
    pub(crate) is_empty: bool,
    pub(crate) payload_bytes: usize,
}

/// Deliveries that did not reach their session, by the broker's own counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// QoS 0 deliveries, or deliveries that ended with their session.
    pub(crate) dropped: u64,
    /// Deliveries that ended with their session.
    pub(crate) ended: u64,
    /// Messages whose group had no member.
    pub(crate) without_member: u64,
    /// Messages that were reassigned to another member of their group.
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

impl Message {
    /// The copies that one session may receive, beside those that say that they are repeated.
    fn copies_max(&self, crashed_at: u64) -> u32 {
        // No log knows that it came before if nobody lasting wanted it with more than QoS 0, or a crash cut its fan-out.
        let is_known = self.qos == QoS::ExactlyOnce && self.written_at > crashed_at;
        let write_count = if is_known { 1 } else { self.write_count };
        // A crash forgets which acknowledgements made room for the last messages that were sent, so it does not know that they were.
        write_count * (1 + self.again_count)
    }
}

/// Events that the fan-out of one message lasts, at most.
const CUT_EVENTS_MAX: u64 = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    sequences: BTreeMap<String, u64>,
    /// Indexed by identity.
    pub(crate) sessions: Vec<Session>,
    /// Groups: share name and filter.
    pub(crate) groups: Vec<String>,
    /// Indexed by identity: the only group that it ever joins.
    pub(crate) group_of: Vec<String>,
    /// Topics with a repeated retained QoS 1 message, perhaps after newer ones. The message retained there may be older
    /// than the newest one.
    blurred: BTreeSet<String>,
    /// Indexed by identity: whether its sessions end with their connections.
    pub(crate) is_volatile: Vec<bool>,
    /// Indexed by message and group: the members that received a copy, whose sessions did not end in a crash.
    group_copies: BTreeMap<(u32, String), Vec<usize>>,
    /// Messages that a group received, each with the group.
    group_received: BTreeSet<(u32, String)>,
    /// When the broker crashed last; 0: never.
    crashed_at: u64,
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
            again_count: 0,
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

    /// The broker crashed. The log has everything that happened before `firm_at`.
    pub(crate) fn crashed(&mut self, at: u64, firm_at: u64) {
        self.crashed_at = at;
        let mut doubtful = BTreeSet::new();
        for session in &mut self.sessions {
            let received = session.received.iter().filter(|(_, received)| received.last_at > firm_at);
            doubtful.extend(received.map(|(id, _)| *id));
            // Copies of QoS 0 may come again of which the log does not know.
            session.last_in_order.retain(|(.., granted), (_, at)| *granted > 0 || *at <= firm_at);
            // Updates that nobody waited for are gone.
            session.newest_update.clear();
        }
        for (id, message) in (0u32..).zip(&mut self.messages) {
            // A will that a crash interrupts is published again, to whom it was on its way too. When a late one is due is not known.
            let is_fresh = message.taken_at == NEVER || message.taken_at + CUT_EVENTS_MAX > at;
            let is_interrupted = message.kind == Kind::Will && is_fresh;
            message.again_count += u32::from(is_interrupted || doubtful.contains(&id));
        }
        let mut copies = core::mem::take(&mut self.group_copies);
        for ((id, group), receivers) in &mut copies {
            // A group without a lasting member has nothing in a log.
            if !self.has_lasting_member(group, self.messages[*id as usize].written_at) {
                receivers.retain(|&identity| !self.is_volatile[identity]);
            }
        }
        self.group_copies = copies;
    }

    pub(crate) fn taken(&mut self, id: u32, at: u64) {
        let message = self.message(id);
        message.taken_at = message.taken_at.min(at);
    }

    /// A copy reached the application of `identity`.
    pub(crate) fn received(&mut self, identity: usize, copy: Copy<'_>, at: u64) -> Option<u32> {
        let label = format!("client {identity} received {:?} copy", copy.qos);
        if copy.payload.is_empty() {
            let session = &self.sessions[identity];
            if session.request_count(copy.topic, 0) == 0 {
                self.fail(format!("{label} of {}, which it never subscribed to", copy.topic));
            }
            return None;
        }
        let Some(id) = read_payload(copy.payload).filter(|&id| (id as usize) < self.messages.len()) else {
            self.fail(format!("{label} with a payload that nobody sent, on {}", copy.topic));
            return None;
        };
        let message = self.messages[id as usize].clone();
        let Message { sequence, written_at, .. } = message;
        let what = format!("message {id}, number {sequence} of {} ({:?})", message.topic, message.qos);
        if *message.topic != *copy.topic || copy.payload != payload(id, message.payload_bytes) {
            self.fail(format!("{label} of {what} altered, on {}", copy.topic));
        }
        if message.forbidden || message.write_count == 0 {
            self.fail(format!("{label} of {what}, which must not be published"));
        }
        if copy.qos > message.qos {
            self.fail(format!("{label} of {what}: a higher QoS than published"));
        }
        let session = &mut self.sessions[identity];
        let request_count = session.request_count(&message.topic, written_at);
        if request_count == 0 {
            self.fail(format!("{label} of {what}, published after the end of its subscription"));
            return Some(id);
        }
        let received = session.received.entry(id).or_default();
        let was_live = received.is_live;
        received.last_at = at;
        let copies_max = message.copies_max(self.crashed_at);
        if message.kind == Kind::Group {
            received.is_live = true;
            if !(was_live && copy.dup) {
                let copies_max = if message.qos == QoS::ExactlyOnce { 1 } else { copies_max };
                self.group_copied(id, identity, copies_max, &what);
            }
            return Some(id);
        }
        if copy.retain {
            received.retained_count += u32::from(!copy.dup);
            let was_retained = core::mem::replace(&mut received.is_retained, true);
            if was_retained && copy.dup {
                return Some(id);
            }
            let key = (message.topic.clone(), copy.qos.bits());
            let newest = session.newest_update.get(&key).copied().unwrap_or(0);
            if !message.retain {
                self.fail(format!("{label} of {what} as retained, but it was not"));
            } else if sequence < newest && !self.blurred.contains(&message.topic) {
                self.fail(format!("{label} of {what} as retained, after number {newest} came live"));
            } else if received.retained_count as usize > request_count * (1 + message.again_count as usize) {
                self.fail(format!("{label} of {what} as retained more often than it subscribed"));
            }
            return Some(id);
        }
        received.is_live = true;
        received.live_count += u32::from(!copy.dup || copy.qos == QoS::ExactlyOnce);
        received.exact_count += u32::from(copy.qos == QoS::ExactlyOnce);
        let ReceivedCopies { live_count, exact_count, .. } = *received;
        if message.retain {
            let key = (message.topic.clone(), copy.qos.bits());
            let newest = session.newest_update.entry(key).or_default();
            *newest = sequence.max(*newest);
        }
        // A message that nobody lasting wanted is in no log, so one that was repeated because a crash took it is new.
        let was_subscribed = session.was_subscribed(&message.topic, written_at, self.crashed_at);
        let key = (message.topic.clone(), message.qos.bits(), copy.qos.bits());
        let last = session.last_in_order.entry(key).or_default();
        let (before, _) = *last;
        // A QoS 1 message that its publisher repeated may arrive again, later than the messages after it.
        // So may one that its publisher repeated because a crash took it, and that was sent before the disk had it.
        let was_lost = written_at < self.crashed_at && (copy.qos < QoS::ExactlyOnce || !was_subscribed);
        let in_order =
            !was_live && (message.write_count == 1 || (message.qos != QoS::AtLeastOnce && !was_lost));
        if in_order {
            *last = (sequence.max(before), at);
        }
        if live_count > copies_max || exact_count > 1 {
            self.fail(format!("{label} of {what} for the {live_count}. time"));
        } else if in_order && sequence <= before {
            self.fail(format!("{label} of {what} after number {before}"));
        }
        Some(id)
    }

    fn group_copied(&mut self, id: u32, identity: usize, copies_max: u32, what: &str) {
        let group = self.group_of[identity].clone();
        let qos = self.messages[id as usize].qos;
        let count = self.group_copies.entry((id, group.clone())).or_default();
        count.push(identity);
        let count = count.len();
        self.group_received.insert((id, group));
        // QoS 1 arrives again if its receiver leaves before its acknowledgement arrives.
        let is_logged = self.is_owed(&self.messages[id as usize], &self.group_of[identity]);
        if count > copies_max as usize && qos != QoS::AtLeastOnce && is_logged {
            let group = &self.group_of[identity];
            self.fail(format!("{what} reached {count} members of {group}"));
        }
    }

    /// QoS 1 copies that groups received beyond the published ones.
    fn surplus_copies(&self) -> u64 {
        let extra = |(&(id, _), receivers): (&(u32, String), &Vec<usize>)| {
            let write_count = self.messages[id as usize].write_count as usize;
            receivers.len().saturating_sub(write_count) as u64
        };
        self.group_copies.iter().map(extra).sum()
    }

    /// Checks that every required delivery arrived.
    pub(crate) fn check_required(&mut self, counted: Counted) {
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
                    // QoS 1 messages of a departing member are reassigned, so none may be missing.
                    QoS::AtLeastOnce => {
                        let missing = missing.filter(|group| self.is_owed(message, group));
                        missing_in_groups.extend(missing.map(|group| (id, group.clone())));
                    }
                    // One that was sent to a member ends with its session.
                    QoS::ExactlyOnce => {
                        let missing = missing.filter(|group| self.is_owed(message, group));
                        missing_exactly_once += missing.count() as u64;
                    }
                }
                continue;
            }
            for (identity, session) in self.sessions.iter().enumerate() {
                let required = session
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
                let is_live = session.received.get(&id).is_some_and(|received| received.is_live);
                match required {
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
            let missing_for: Vec<_> = self.sessions[identity]
                .intervals
                .iter()
                .filter(|interval| !interval.waived && interval.matches(&message.topic))
                .cloned()
                .collect();
            self.fail(format!(
                "client {identity} never received message {id} ({count} are missing): {message:?} for {missing_for:?}"
            ));
        }
        if missing_qos0 > dropped_count {
            self.fail(format!("{missing_qos0} QoS 0 deliveries are missing, {dropped_count} were counted"));
        }
        let memberless: u64 = self.messages.iter().map(|message| self.memberless_groups(message)).sum();
        // A crash may repeat what is counted.
        if without_member > memberless && self.crashed_at == 0 {
            self.fail(format!(
                "groups had no member for {without_member} messages, but at most {memberless} are allowed"
            ));
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
        let surplus_copies = self.surplus_copies();
        if surplus_copies > moved_count && self.crashed_at == 0 {
            self.fail(format!("groups received {surplus_copies} copies too many, {moved_count} moved"));
        }
    }

    /// The number of deliveries of a message for which a group may have had no member.
    fn memberless_groups(&self, message: &Message) -> u64 {
        let matching = self.groups.iter().filter(|group| crate::session::matches(group, &message.topic));
        let memberless = matching.filter(|group| {
            !self.sessions.iter().any(|session| {
                // QoS 0 is not stored for an offline member.
                let is_there = message.qos > QoS::AtMostOnce || session.unbroken_since < message.written_at;
                is_there
                    && session
                        .intervals
                        .iter()
                        .any(|interval| interval.is_member_of(group, message.written_at))
            })
        });
        memberless.count() as u64 * u64::from(message.write_count)
    }

    /// Groups that had a member all the time but did not receive the message.
    fn missing_groups<'a>(&'a self, id: u32, message: &'a Message) -> impl Iterator<Item = &'a String> {
        self.groups.iter().filter(move |group| {
            let mut intervals = self.sessions.iter().flat_map(|session| &session.intervals);
            crate::session::matches(group, &message.topic)
                && intervals.any(|interval| interval.is_member_of(group, message.written_at))
                && !self.group_received.contains(&(id, (*group).clone()))
        })
    }

    /// Whether a crash leaves a message for a group: it came after the last one, or a member's session outlives its connection.
    fn is_owed(&self, message: &Message, group: &str) -> bool {
        message.written_at > self.crashed_at || self.has_lasting_member(group, message.written_at)
    }

    /// Whether a session that outlives its connection has been a member of a group since before `at`.
    fn has_lasting_member(&self, group: &str, at: u64) -> bool {
        let mut lasting =
            self.sessions.iter().zip(&self.is_volatile).filter(|(_, is_volatile)| !**is_volatile);
        lasting.any(|(session, _)| session.intervals.iter().any(|interval| interval.is_member_of(group, at)))
    }

    /// Whether a crash took a message that was retained after this one, for all that anybody knows.
    fn was_replaced(&self, of: &Message) -> bool {
        let mut later = self.messages.iter().filter(|later| later.topic == of.topic && later.retain);
        later.any(|later| later.sequence > of.sequence && later.written_at < self.crashed_at)
    }

    /// Checks that every subscription that requires the message retained on `topic` received it: message `id`. Returns
    /// the number of missing QoS 0 deliveries.
    pub(crate) fn check_retained(&mut self, id: u32) -> u64 {
        let message = self.messages[id as usize].clone();
        let mut missing_qos0 = 0;
        // A crash may cut the fan-out of one that was not acknowledged, and no log has the rest of it.
        let was_cut = message.taken_at == NEVER && message.written_at < self.crashed_at;
        if was_cut || self.was_replaced(&message) {
            return 0;
        }
        for identity in 0..self.sessions.len() {
            let session = &self.sessions[identity];
            // A newer live message makes up for it, because the retained one may not follow it.
            let newer = session.received.iter().filter(|&(&other, received)| {
                let other = &self.messages[other as usize];
                // A message that its publisher repeated is newer to the broker.
                let is_newer = other.sequence > message.sequence || other.write_count > 1;
                other.topic == message.topic && is_newer && received.is_live
            });
            let this = session.received.get(&id).map_or(0, |received| received.last_at);
            let last_at = newer.map(|(_, received)| received.last_at).fold(this, u64::max);
            let missed = session.intervals.iter().find(|interval| {
                let certain = interval.until == NEVER && interval.wants_retained && !interval.is_shared();
                certain && interval.matches(&message.topic) && last_at < interval.requested_at
            });
            let Some(missed) = missed else { continue };
            // A newer live QoS 0 message that was lost with its connection makes up for it as well.
            let newer_qos0 = self.messages.iter().any(|other| {
                let is_newer = other.sequence > message.sequence && other.topic == message.topic;
                is_newer && other.qos.min(missed.qos) == QoS::AtMostOnce
            });
            if newer_qos0 && session.unbroken_since > missed.requested_at {
                continue;
            }
            if missed.qos.min(message.qos) == QoS::AtMostOnce {
                missing_qos0 += u64::from(session.unbroken_since < missed.requested_at);
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

    /// Checks that the message retained on a topic is no older than the newest one that the broker has certainly
    /// accepted.
    pub(crate) fn check_newest(&mut self, found: &BTreeMap<String, u32>) {
        let mut newest: BTreeMap<String, (u64, u32)> = BTreeMap::new();
        for (id, message) in (0u32..).zip(&self.messages) {
            // PINGRESP promises nothing for longer than until the next crash.
            let is_promised = message.qos > QoS::AtMostOnce
                || message.kind == Kind::Will
                || message.written_at > self.crashed_at;
            if message.retain && message.taken_at != NEVER && is_promised {
                let entry = newest.entry(message.topic.clone()).or_default();
                *entry = (*entry).max((message.sequence, id));
            }
        }
        newest.retain(|topic, _| !self.blurred.contains(topic));
        for (topic, (sequence, id)) in newest {
            let kept = found.get(&topic).map(|&id| self.messages[id as usize].sequence);
            // Later ones may have been accepted without the publisher knowing: QoS 0, and removals.
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

/// The payload of message `id`: its number, then bytes that reveal a loss.
pub(crate) fn payload(id: u32, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes);
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend((payload.len()..bytes).map(|at| at.to_le_bytes()[0] ^ id.to_le_bytes()[0]));
    payload.truncate(bytes);
    payload
}

/// Size of the shortest payload that identifies its message.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 4;

fn read_payload(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<PAYLOAD_BYTES_MIN>().map(|id| u32::from_le_bytes(*id))
}
