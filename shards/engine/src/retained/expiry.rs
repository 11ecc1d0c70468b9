//! Expiry of retained messages: the Message Expiry Interval ends by a timer, or is seen to have ended by a replay.

use alloc::boxed::Box;

use super::store::RetainedStore;
use crate::base::ids::MessageKey;
use crate::message::stored::MessageStore;
use crate::record::Body;
use crate::session::user::Users;
use crate::topic::sys::is_sys;
use crate::turn::Turn;

impl RetainedStore {
    /// Removes an expired message: it is no longer there for anyone [MQTT-3.3.2-5]. Returns whether it was expired.
    pub(crate) fn remove_if_expired(
        &mut self,
        turn: &mut Turn<'_>,
        (messages, users): (&mut MessageStore, &mut Users),
        message: MessageKey,
    ) -> bool {
        let view = messages.view(message);
        if !view.is_expired(turn.now) {
            return false;
        }
        let topic: Box<str> = view.topic.into();
        assert!(self.get(&topic).is_some_and(|known| known.message() == message));
        if let Some(recorder) = turn.recorder()
            && !is_sys(&topic)
        {
            recorder.write(&Body::Expired { topic: &topic });
        }
        if self.remove(turn, (messages, users), &topic) {
            turn.counters.retained_expired += 1;
        }
        true
    }
}
