//! The end of a grant: a client that was authenticated for a time has to authenticate again before it is over.

use super::Connections;
use crate::base::ids::ConnectionId;
use crate::base::time::Instant;
use crate::timer::Timer;
use crate::turn::Turn;

impl Connections {
    /// The grant of a connection ends at this moment, whatever was said before; `None`: never.
    pub(crate) fn set_grant_end(&mut self, turn: &mut Turn<'_>, id: ConnectionId, ends_at: Option<Instant>) {
        self.forget_grant_end(turn, id);
        if let Some(ends_at) = ends_at {
            assert!(self.get(id).is_some_and(|connection| connection.session().is_some()));
            let timer = turn.timers.insert(ends_at, Timer::Grant(id));
            let before = self.grant_timers.insert(id.slot(), timer);
            assert!(before.is_none());
        }
    }

    /// A connection begins to close: its grant needs no end.
    pub(super) fn forget_grant_end(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        if self.grant_timers.is_empty() || self.get(id).is_none() {
            return;
        }
        if let Some(timer) = self.grant_timers.remove(id.slot()) {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
    }

    /// The timer of a grant was due.
    pub(crate) fn grant_ended(&mut self, id: ConnectionId) {
        let timer = self.grant_timers.remove(id.slot());
        assert!(timer.is_some() && self.get(id).is_some());
    }
}
