//! Hand-over of a connection to the shard of its session, before anything was answered.

use alloc::vec::Vec;
use core::mem;

use wire::Frame;
use zeroize::Zeroizing;

use super::{Connections, Phase};
use crate::action::Action;
use crate::base::ids::ConnectionId;
use crate::turn::Turn;

impl Connections {
    /// Asks the host to hand a connection over to shard `home`. Nothing was sent and nothing promised, so the other shard
    /// may begin from the bytes of the same CONNECT.
    pub(crate) fn begin_hand_over(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        home: u16,
        frame: Frame<'_>,
    ) {
        let mut bytes = Zeroizing::new(Vec::with_capacity(frame.packet_bytes()));
        frame.write_to(&mut bytes);
        let found = self.change_unjudged(id, |connection| {
            assert!(matches!(connection.phase(), Phase::Fresh(_)));
            assert!(connection.outbox.bytes() == 0);
            connection.phase = Phase::HandingOver;
        });
        assert!(found.is_some());
        self.identities.forget(id);
        self.forget_address(id);
        self.hand_overs.push((id, bytes));
        turn.actions.push(Action::HandOver { connection: id, home });
    }

    /// Gives up a connection whose hand-over was asked for and returns the bytes of its CONNECT, which may have a password. `None` if it has ended
    /// or begun to close meanwhile.
    pub(crate) fn complete_hand_over(&mut self, turn: &mut Turn<'_>, id: ConnectionId) -> Option<Vec<u8>> {
        let at = self.hand_overs.iter().position(|(handing_over, _)| *handing_over == id)?;
        let (_, mut bytes) = self.hand_overs.swap_remove(at);
        // The operator, a time-out or the stop may have closed it: then its host closes it here.
        self.get(id).filter(|connection| connection.phase() == Phase::HandingOver)?;
        let connection = self.slab.remove(id.key())?;
        assert!(connection.outbox.bytes() == 0);
        assert!(connection.partial_packet_bytes == 0 && connection.authentication.is_none());
        if let Some(timer) = connection.timer {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        turn.counters.handed_over += 1;
        // The other shard counts the connection and its CONNECT once more.
        turn.counters.connections_accepted -= 1;
        turn.counters.packets_received -= 1;
        turn.counters.bytes_received -= bytes.len() as u64;
        Some(mem::take(&mut *bytes))
    }
}
