//! Publication of wills: after their delay, or with the end of their session.

use super::Rooms;
use super::backlog::Unasked;
use crate::base::ids::SessionId;
use crate::session::user::UserId;
use crate::session::will::Will;
use crate::turn::Turn;

impl Rooms {
    /// Publishes the will of a session and forgets it [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let will = self.delivery.sessions.take_will(id);
        assert!(will.is_some());
        let Some(will) = will else { return };
        if self.may_publish_will(turn, id, &will) {
            let user = self.delivery.sessions.hold_source(turn, id);
            self.publish_message_of(turn, &will, user);
            self.delivery.sessions.users_mut().release(user);
        } else {
            will.record_end(turn);
        }
    }

    /// Whether the will that was taken from a session is published: the rules may have come to forbid it.
    pub(super) fn may_publish_will(&mut self, turn: &mut Turn<'_>, id: SessionId, will: &Will) -> bool {
        let session = self.delivery.sessions.of_connection(id);
        let is_allowed = session.may_publish(turn, 0, will.message_at(turn.now).topic);
        turn.counters.wills_forbidden += u64::from(!is_allowed);
        is_allowed
    }

    /// Publishes a will of this user.
    pub(super) fn publish_message_of(&mut self, turn: &mut Turn<'_>, will: &Will, user: Option<UserId>) {
        let unasked = Unasked::will_of(user, will.number());
        self.publish_unasked(turn, &will.message_at(turn.now), unasked);
    }
}
