//! Publication of wills: after their delay, or with the end of their session.

use super::Rooms;
use crate::base::ids::SessionId;
use crate::session::user::UserId;
use crate::session::will::Will;
use crate::turn::Turn;

impl Rooms {
    /// Publishes the will of a session and forgets it [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let will = self.delivery.sessions.take_will(id);
        assert!(will.is_some());
        if let Some(will) = will {
            let user = self.delivery.sessions.user_of(id);
            self.publish_message_of(turn, &will, user);
        }
    }

    /// Publishes a will of this user.
    pub(super) fn publish_message_of(&mut self, turn: &mut Turn<'_>, will: &Will, user: Option<UserId>) {
        self.publish_unasked(turn, &will.message_at(turn.now), user);
    }
}
