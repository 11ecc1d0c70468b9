//! The state of the process as probes and metrics tell it: whether it serves, and which configuration is in force.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

#[expect(clippy::disallowed_types, reason = "the control plane writes it and the admin thread reads it")]
type Shared<T> = std::sync::Arc<T>;

/// A handle on the state. **Lives on:** the control plane, and the admin thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceState(Shared<Values>);

#[derive(Debug, Default)]
struct Values {
    /// A [`Phase`].
    phase: AtomicU8,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does not accept clients yet.
    Starting,
    /// It accepts clients.
    Serving,
    /// It accepts no more clients, and sends those that it has elsewhere.
    Draining,
    /// It disconnects its clients.
    Stopping,
}

impl ServiceState {
    /// The process has come so far.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Relaxed);
    }

    /// How far the process has come.
    pub(crate) fn phase(&self) -> Phase {
        use Phase::{Draining, Serving, Starting, Stopping};
        let phase = self.0.phase.load(Relaxed);
        [Serving, Draining, Stopping].into_iter().find(|known| *known as u8 == phase).unwrap_or(Starting)
    }

    /// The configuration was read again, and put into force if it had no error.
    pub(crate) fn count_reload(&self, is_in_force: bool) {
        if is_in_force { &self.0.reloads } else { &self.0.reloads_failed }.fetch_add(1, Relaxed);
    }

    /// The number of the configuration in force; that of the start is 1.
    pub(crate) fn config_generation(&self) -> u64 {
        1 + self.0.reloads.load(Relaxed)
    }

    /// Reloads that were put into force, and those that had an error.
    pub(crate) fn reloads(&self) -> [u64; 2] {
        [self.0.reloads.load(Relaxed), self.0.reloads_failed.load(Relaxed)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_with_an_error_is_no_new_generation() {
        let state = ServiceState::default();
        assert_eq!((state.phase(), state.config_generation()), (Phase::Starting, 1));
        for phase in [Phase::Serving, Phase::Draining, Phase::Stopping, Phase::Starting] {
            state.set_phase(phase);
            assert_eq!(state.phase(), phase);
        }
        state.count_reload(true);
        state.count_reload(false);
        assert_eq!((state.config_generation(), state.reloads()), (2, [1, 1]));
    }
}
