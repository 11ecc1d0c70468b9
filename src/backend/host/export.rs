//! The export of persistent sessions to the thread that writes them: some slots in each turn, so that a million
//! sessions do not delay a turn.

use engine::{Engine, SessionRecord};

use super::{Endpoint, Host};

/// Session slots exported in one turn.
const EXPORT_SLOTS: u32 = 256;

/// Progress of the export.
#[derive(Default)]
pub(super) struct Export {
    /// Version of the records that the writer has.
    written_version: Option<u64>,
    /// Version, next slot and collected records of a running export.
    running: Option<(u64, u32, Vec<SessionRecord>)>,
}

impl<T: Endpoint> Host<T> {
    /// Runs the periodic request of the control plane: frees blocks and buffers that a burst allocated, logs how many lines were
    /// held back, and starts an export if the records have changed.
    pub(in crate::backend) fn begin_export(&self) {
        self.lanes.trim();
        self.engine.borrow_mut().trim();
        self.tell_suppressed();
        self.log_drops();
        if self.journal.is_some() {
            // The log has the sessions.
            return;
        }
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

    /// Exports some slots; the last part sends all records to the writer.
    pub(super) fn export_slice(&self) {
        self.with_export(|export| {
            let Some((version, from, mut records)) = export.running.take() else { return };
            match self.engine.borrow().export(self.clock.now(), from, EXPORT_SLOTS, &mut records) {
                Some(next) => export.running = Some((version, next, records)),
                None if self.feed.send(self.number.into(), records) => {
                    export.written_version = Some(version);
                }
                // The writer is behind. The next request starts again.
                None => {}
            }
        });
    }

    /// Exports all records for the last time.
    pub(super) fn export_last(&self, engine: &Engine) {
        let mut records = Vec::new();
        let mut from = 0;
        while let Some(next) = engine.export(self.clock.now(), from, EXPORT_SLOTS, &mut records) {
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
