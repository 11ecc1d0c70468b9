//! The way of a late answer to the shard that asked, and of changes of users to all: a channel that loses nothing, and the doorbell of the
//! shard. A change comes behind every answer by the users before it.
//!
//! The channel has no bound of its own. A connection has at most one step that waits for an answer, so there are no more answers
//! than connections, and than questions that methods keep of connections that have ended meanwhile. Changes come once for each look
//! at the files.

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::question::{Answer, Asked};
use super::shared::Shared;
use crate::backend::Doorbells;

/// Users of files that have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UserChanges {
    /// Users that are in no file any more.
    pub(crate) gone: Vec<Box<str>>,
    /// Users with another password.
    pub(crate) renewed: Vec<Box<str>>,
}

impl UserChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.renewed.is_empty()
    }
}

/// Something that comes late.
pub(crate) enum Late {
    /// The answer to a question.
    Answer(Asked, Answer),
    /// Users have changed.
    Users(Shared<UserChanges>),
}

/// The sending end. **Lives on:** any thread.
#[derive(Clone)]
pub(crate) struct Answers {
    /// By shard.
    shards: Vec<Sender<Late>>,
    doorbells: Doorbells,
}

/// The receiving end. **Lives on:** its shard.
pub(crate) struct LateAnswers(Receiver<Late>);

impl Answers {
    /// The sending end, and the receiving end of each shard.
    pub(crate) fn new(shard_count: u16, doorbells: Doorbells) -> (Self, Vec<LateAnswers>) {
        let (shards, receivers) = (0..shard_count).map(|_| unbounded()).unzip::<_, _, Vec<_>, Vec<_>>();
        (Self { shards, doorbells }, receivers.into_iter().map(LateAnswers).collect())
    }

    /// Answers a question, and wakes the shard that asked. The engine ignores an answer to a step that is over.
    ///
    /// # Panics
    /// If there is no such shard.
    pub(crate) fn send(&self, asked: Asked, answer: Answer) {
        let shard = usize::from(asked.shard);
        // A shard that has ended needs no answers.
        let _ = self.shards[shard].send(Late::Answer(asked, answer));
        self.doorbells.ring(shard);
    }

    /// Tells all shards which users have changed.
    pub(super) fn tell_all(&self, changes: UserChanges) {
        let changes = Shared::new(changes);
        for (shard, sender) in self.shards.iter().enumerate() {
            let _ = sender.send(Late::Users(changes.clone()));
            self.doorbells.ring(shard);
        }
    }
}

impl LateAnswers {
    /// The answers that have come. Answers that come meanwhile belong to the next turn, so this ends.
    pub(crate) fn take(&self) -> impl Iterator<Item = Late> {
        self.0.try_iter().take(self.0.len())
    }

    /// Whether none has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
