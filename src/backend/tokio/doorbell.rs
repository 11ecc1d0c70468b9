//! Wakes a shard on tokio from another thread, through the runtime's own waker.
//! Knows nothing of what was put where the shard will look.

use std::io;

use tokio::sync::Notify;

use crate::backend::tasks;

#[expect(clippy::disallowed_types, reason = "the end of the shard and the end of those who ring")]
type Shared<T> = std::sync::Arc<T>;

/// **Lives on:** the shard that is woken.
pub(crate) struct DoorbellReceiver(Shared<Notify>);

/// The other end. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Doorbell(Shared<Notify>);

impl DoorbellReceiver {
    /// Both ends.
    pub(in crate::backend) fn new() -> (Self, Doorbell) {
        let notify = Shared::new(Notify::new());
        (Self(Shared::clone(&notify)), Doorbell(notify))
    }
}

impl Doorbell {
    pub(in crate::backend) fn ring(&self) {
        // What is rung while nobody waits is kept, once.
        self.0.notify_one();
    }
}

impl tasks::DoorbellReceiver for DoorbellReceiver {
    async fn rung(&self) -> io::Result<()> {
        self.0.notified().await;
        Ok(())
    }
}
