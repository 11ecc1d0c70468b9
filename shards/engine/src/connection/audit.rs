//! The audit of the connections: every count is recomputed.

use super::facts::Fact;
use super::{Connections, Phase};
use crate::base::ids::SessionId;

impl Connections {
    /// Acknowledgements at the gate, for an audit.
    pub(crate) fn pending_ack_count(&self) -> usize {
        self.gate.len()
    }

    /// Timers that connections have set, for an audit.
    pub(crate) fn timer_count(&self) -> u32 {
        let timers = self.slab.iter().map(|(_, connection)| u32::from(connection.timer.is_some()));
        let others = self.grant_timers.count() + self.meters.timer_count();
        timers.sum::<u32>() + u32::try_from(others).unwrap_or(u32::MAX)
    }

    /// QoS 0 messages in each outbox, with the session they belong to: for an audit.
    pub(crate) fn outbox_qos0(&self) -> impl Iterator<Item = (SessionId, u32)> {
        let connections = self.slab.iter().map(|(_, connection)| connection);
        connections
            .filter_map(|connection| Some((connection.outbox.owner()?, connection.outbox.qos0_count())))
    }

    /// Recomputes every count, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self) {
        let (mut outboxes, mut authentications, mut partial_packets, mut starved) = (0, 0, 0, 0);
        let (mut pending_acks, mut handing_over, mut aliases) = (0, 0, (0, 0));
        let (mut outbox_memory, mut outbox_count) = (self.outboxes.pool.kept_bytes(), 0);
        for (id, connection) in self.iter() {
            connection.outbox.check();
            outboxes += connection.outbox.bytes();
            outbox_memory += connection.outbox.memory_bytes();
            outbox_count += u64::from(connection.outbox.is_taken());
            authentications += connection.authentication.as_ref().map_or(0, |known| known.bytes_held());
            let partial = connection.partial_packet.as_ref().map_or(0, |partial| partial.bytes_held());
            assert!(partial == connection.partial_packet_bytes as usize);
            partial_packets += u64::from(connection.partial_packet_bytes);
            aliases.0 += connection.alias_in_bytes();
            aliases.1 += connection.alias_out_bytes();
            starved += usize::from(connection.barriers.is_starved());
            let (pending, interest) = self.gate.counts_of(id, connection.arrival.ordinal);
            let counted = connection.pending_ack_count as usize;
            assert!(pending == counted || (self.gate.has_failed() && pending < counted));
            assert!(interest == connection.awaiting_interest_count as usize);
            pending_acks += pending;
            assert!(connection.send_quota <= connection.receive_maximum);
            assert!(connection.outbox.bytes() == 0 || connection.flush_asked);
            let has_qos0 = connection.outbox.qos0_count() > 0 && connection.session().is_some();
            assert!(!has_qos0 || connection.outbox.owner() == connection.session());
            let is_delayed = connection.facts.has(Fact::Delayed);
            let is_peeking = connection.facts.has(Fact::Peeking);
            let has_time = connection.silence_ms_max > 0 || connection.session().is_none() || is_delayed;
            assert!(
                has_time == (connection.timer.is_some() || is_peeking) || connection.facts.has(Fact::Aborted)
            );
            handing_over += usize::from(connection.phase() == Phase::HandingOver);
        }
        assert!(outboxes == self.outboxes.bytes_held);
        outbox_memory += self.outboxes.spare.check(outbox_count);
        self.outboxes.pool.check(outbox_memory);
        assert!(authentications == self.authentication_bytes);
        assert!(partial_packets == self.partial_packet_bytes);
        assert!(aliases == self.alias_bytes());
        assert!(starved == self.starved.len() + self.starved_subscribes.len() + self.delayed.len());
        assert!(self.hand_overs.iter().all(|(id, _)| self.get(*id).is_some()));
        assert!(self.opened.is_empty());
        assert!(handing_over <= self.hand_overs.len());
        assert!(pending_acks <= self.gate.len());
        self.slab.check();
        self.check_unjudged();
        self.check_meters();
        let known = |slot| self.id_at(slot).and_then(|id| self.get(id));
        assert!(self.grant_timers.slots().all(|slot| known(slot).is_some_and(|it| it.session().is_some())));
        let is_fresh =
            |id| self.get(id).is_some_and(|it| matches!(it.phase(), Phase::Fresh(_) | Phase::Closing));
        assert!(self.identities.check().all(is_fresh));
        self.gate.check();
    }
}
