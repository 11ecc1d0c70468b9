//! The doorbell of a shard on tokio: a Notify, which wakes the runtime.

use std::io;

use tokio::sync::Notify;

use crate::backend::tasks;

#[expect(clippy::disallowed_types, reason = "the shard and the ringing threads share it")]
type Shared<T> = std::sync::Arc<T>;

/// **Lives on:** the shard that is woken.
pub(crate) struct DoorbellReceiver(Shared<Notify>);

/// The ringing end. **Lives on:** any thread.
#[derive(Debug)]
pub(in crate::backend) struct Doorbell(Shared<Notify>);

impl DoorbellReceiver {
    /// Creates both ends.
    pub(in crate::backend) fn new() -> (Self, Doorbell) {
        let notify = Shared::new(Notify::new());
        (Self(Shared::clone(&notify)), Doorbell(notify))
    }
}

impl Doorbell {
    pub(in crate::backend) fn ring(&self) {
        // A ring without a waiting task is stored, at most once.
        self.0.notify_one();
    }
}

impl tasks::DoorbellReceiver for DoorbellReceiver {
    async fn rung(&self) -> io::Result<()> {
        self.0.notified().await;
        Ok(())
    }
}
