//! The bytes that connections take, from running counts and capacities.

use super::Connections;
use crate::base::heap;

impl Connections {
    /// Bytes of slots, of acknowledgements at the gate and of CONNECTs that are handed over.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let starved =
            self.starved.bytes_held() + self.starved_subscribes.bytes_held() + self.delayed.bytes_held();
        let handed_over = self.hand_overs.iter().map(|(_, bytes)| heap::block(bytes.capacity())).sum::<u64>();
        let grants = self.grant_timers.memory_bytes() + self.meters.memory_bytes();
        self.slab.bytes_held()
            + self.gate.memory_bytes()
            + starved
            + handed_over
            + grants
            + self.identities.memory_bytes()
    }

    pub(crate) fn authentication_bytes(&self) -> u64 {
        self.authentication_bytes
    }

    pub(crate) fn partial_packet_bytes(&self) -> u64 {
        self.partial_packet_bytes
    }
}
