//! The way of a late answer to the shard that asked: a channel that loses nothing, and the doorbell of the shard.
//!
//! The channel has no bound of its own. A connection has at most one step that waits for an answer, so there are no more answers
//! than connections, and than questions that methods keep of connections that have ended meanwhile.

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::question::{Answer, Asked};
use crate::backend::Doorbells;

/// The sending end. **Lives on:** any thread.
#[derive(Clone)]
pub(crate) struct Answers {
    /// By shard.
    shards: Vec<Sender<(Asked, Answer)>>,
    doorbells: Doorbells,
}

/// The receiving end. **Lives on:** its shard.
pub(crate) struct LateAnswers(Receiver<(Asked, Answer)>);

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
        let _ = self.shards[shard].send((asked, answer));
        self.doorbells.ring(shard);
    }
}

impl LateAnswers {
    /// The answers that have come. Answers that come meanwhile belong to the next turn, so this ends.
    pub(crate) fn take(&self) -> impl Iterator<Item = (Asked, Answer)> {
        self.0.try_iter().take(self.0.len())
    }

    /// Whether none has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
