//! The context of one step, passed down through the rooms: the moment, the bounds, and where effects are noted.

use alloc::vec::Vec;

use crate::action::Actions;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::timer::Timers;

/// Something that has to end, but not while a fan-out walks over it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Session(SessionId, Cause),
    Connection(ConnectionId, Cause),
}

/// **Lives:** as long as one step.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) limits: &'a Limits,
    pub(crate) actions: &'a mut Actions,
    pub(crate) counters: &'a mut Counters,
    pub(crate) timers: &'a mut Timers,
    /// Carried out after each packet. Bounded by the sessions and connections, since each ends once.
    pub(crate) endings: &'a mut Vec<Ending>,
}
