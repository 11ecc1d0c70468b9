//! The records of persistent sessions, handed over to the thread that writes them: a few in each turn.
//! Knows no file.

use engine::{Engine, SessionRecord};

use super::{Endpoint, Host};

/// Session slots exported in one turn.
const EXPORT_SLOTS: u32 = 256;

/// How far the records of persistent sessions were handed over.
#[derive(Default)]
pub(super) struct Export {
    /// Of the engine's records, the version that the writer has.
    written_version: Option<u64>,
    /// The version, the next slot and the records of an export that is under way.
    running: Option<(u64, u32, Vec<SessionRecord>)>,
}

impl<T: Endpoint> Host<T> {
    /// What the control plane asks for once in a while: frees blocks that a burst made, and starts to hand the records
    /// over, if they changed since the last time.
    pub(in crate::backend) fn begin_export(&self) {
        self.lanes.trim();
        let version = self.engine.borrow().records_version();
        self.with_export(|export| {
            if export.running.is_none() && export.written_version != Some(version) {
                export.running = Some((version, 0, Vec::new()));
            }
        });
        self.turn.wake_flusher();
    }

    pub(super) fn is_exporting(&self) -> bool {
        self.with_export(|export| export.running.is_some())
    }

    /// Exports a few sessions; the last slice hands all of them over.
    pub(super) fn export_slice(&self) {
        self.with_export(|export| {
            let Some((version, from, mut records)) = export.running.take() else { return };
            match self.engine.borrow().export(from, EXPORT_SLOTS, &mut records) {
                Some(next) => export.running = Some((version, next, records)),
                None if self.feed.send(self.number.into(), records) => {
                    export.written_version = Some(version);
                }
                // The writer is behind: the next request starts anew.
                None => {}
            }
        });
    }

    /// Hands all of them over, for good.
    pub(super) fn export_last(&self, engine: &Engine) {
        let mut records = Vec::new();
        let mut from = 0;
        while let Some(next) = engine.export(from, EXPORT_SLOTS, &mut records) {
            from = next;
        }
        self.feed.send_last(self.number.into(), records);
    }

    fn with_export<R>(&self, look: impl FnOnce(&mut Export) -> R) -> R {
        let mut export = self.export.take();
        let result = look(&mut export);
        self.export.set(export);
        result
    }
}
