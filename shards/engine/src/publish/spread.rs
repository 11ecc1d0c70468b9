//! A fan-out that was cut, because it has more receivers than a step has time for, and goes on in later steps.
//!
//! Invariants worth naming:
//! - While one is under way, the shard adds and removes no subscription of its own and begins no other publish. So the numbers of
//!   filters, the positions in lists of members and the slots of sessions stay valid, and every member is offered the message once.
//! - It holds its message in the store. Its matches wait in [`Delivery`], where no other fan-out needs them.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Delivery;
use super::fan_out::FanOut;
use super::matches::Position;
use crate::base::ids::MessageKey;
use crate::message::borrowed::Message;
use crate::session::replays::LiveOrigin;
use crate::topic::tree::Tree;
use crate::turn::Turn;

/// The place where a fan-out goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Subscribers(Position),
    /// The filter and its group that are next.
    Groups(usize, usize),
}

#[derive(Debug)]
pub(crate) struct Spread {
    message: MessageKey,
    live: Option<LiveOrigin>,
    publisher: Option<u32>,
    /// Filters that have members or groups here: the others may be dropped meanwhile, and their numbers used again.
    filters: Vec<u32>,
    pub(crate) stage: Stage,
    must_persist: bool,
    offered_count: u32,
}

impl Spread {
    pub(crate) fn message(&self) -> MessageKey {
        self.message
    }

    pub(crate) fn filters(&self) -> &[u32] {
        &self.filters
    }

    pub(crate) fn offered_count(&self) -> u32 {
        self.offered_count
    }

    pub(crate) fn must_persist(&self) -> bool {
        self.must_persist
    }
}

impl Delivery {
    /// Keeps a fan-out for later steps. It takes the message's hold over.
    pub(crate) fn suspend(
        &mut self,
        turn: &mut Turn<'_>,
        mut fan_out: FanOut<'_>,
        topics: &Tree,
        filters: &[u32],
        stage: Stage,
    ) -> Spread {
        self.record_cut(turn, &fan_out);
        let is_used = |&filter: &u32| !topics.members(filter).is_empty() || !topics.groups(filter).is_empty();
        // Positions count the filters that are left.
        let renumber = |at: usize| filters[..at].iter().filter(|&filter| is_used(filter)).count();
        let stage = match stage {
            Stage::Subscribers(Position::Join(filter, member)) => {
                Stage::Subscribers(Position::Join(renumber(filter), member))
            }
            Stage::Subscribers(Position::Member(_) | Position::Matches) => stage,
            Stage::Groups(filter, group) => Stage::Groups(renumber(filter), group),
        };
        Spread {
            message: self.keep(&mut fan_out),
            live: fan_out.live(),
            publisher: fan_out.publisher(),
            filters: filters.iter().copied().filter(is_used).collect(),
            stage,
            must_persist: fan_out.must_persist(),
            offered_count: fan_out.offered_count(),
        }
    }

    /// Takes a fan-out up again, of which `message` and `shared` are a copy.
    pub(crate) fn take_up<'a>(
        &mut self,
        spread: &Spread,
        message: &'a Message<'a>,
        shared: Option<&Bytes>,
    ) -> FanOut<'a> {
        let fan_out = self.begin_stored(spread.message, message, shared);
        fan_out.gone_on(spread.live, spread.publisher, (spread.offered_count, spread.must_persist))
    }

    /// Puts a fan-out down until the next step.
    pub(crate) fn put_down(&mut self, turn: &mut Turn<'_>, spread: &mut Spread, fan_out: &FanOut<'_>) {
        assert!(fan_out.offered_count() >= spread.offered_count);
        spread.offered_count = fan_out.offered_count();
        spread.must_persist = fan_out.must_persist();
        self.record_cut(turn, fan_out);
        self.let_go(fan_out);
    }

    /// Records the part of a fan-out that was done.
    fn record_cut(&mut self, turn: &mut Turn<'_>, fan_out: &FanOut<'_>) {
        if let Some(recorder) = turn.recorder() {
            recorder.cut_message(self.publish_sequence, &fan_out.message().content());
            self.prolong_waits();
        }
    }
}
