//! The rest of engines that no thread runs: everything on its way between them arrives, and everything that recovery began ends.
//!
//! Invariant: an engine is told that records are durable by the one who keeps them, so what waits for that waits here as well.

use std::io;

use engine::{Actions, Batch, Engine, Event, InboundItem, LaneKind, OutboundItem, Records};

use crate::error::StartupError;
use crate::process::clock::Clock;

/// Rounds in which the engines end what recovery has begun, at most.
const ROUNDS_MAX: u32 = 10_000_000;

/// Passes items, acknowledgements and news of the logs between the engines of all shards, until nothing is open. `keep` keeps records
/// of a shard, and returns what is durable of them.
///
/// # Errors
/// Those of `keep`, and if the engines do not come to rest.
pub(crate) fn come_to_rest(
    clock: Clock,
    engines: &mut [Engine],
    mut keep: impl FnMut(u16, Records<'_>) -> Result<Batch, StartupError>,
) -> Result<(), StartupError> {
    for _ in 0..ROUNDS_MAX {
        let mut is_quiet = true;
        for (shard, engine) in engines.iter_mut().enumerate() {
            if let Some(records) = engine.records() {
                is_quiet = false;
                let durable = keep(number(shard), records)?;
                step(engine, clock, Event::durable(durable));
            }
            step(engine, clock, Event::Tick);
        }
        is_quiet &= !pass(clock, engines);
        if is_quiet && engines.iter().all(is_at_rest) {
            return Ok(());
        }
    }
    let error = io::Error::other("the recovered state does not come to rest");
    Err(StartupError::system("end what was on its way between shards", error))
}

/// Gives up records, whose effect is taken from the engines.
#[expect(clippy::unnecessary_wraps, reason = "other ways to keep records fail")]
pub(crate) fn give_up(_shard: u16, records: Records<'_>) -> Result<Batch, StartupError> {
    Ok(records.batch)
}

fn is_at_rest(engine: &Engine) -> bool {
    engine.is_settled()
        && engine.is_outbound_empty()
        && engine.open_transfer_count() == 0
        && engine.may_checkpoint()
}

/// The number of a shard in the type that engines use.
fn number(shard: usize) -> u16 {
    u16::try_from(shard).expect("there are at most 64 shards")
}

/// There is no connection that an action could be about.
fn step(engine: &mut Engine, clock: Clock, event: Event<'_>) {
    let _nothing = engine.step(clock.now(), event, &mut Actions::new());
}

/// Moves everything that waits to the shard that it is for. Returns whether there was anything.
fn pass(clock: Clock, engines: &mut [Engine]) -> bool {
    let mut has_passed = false;
    for source in 0..engines.len() {
        for target in (0..engines.len()).filter(|&target| target != source) {
            for lane in [LaneKind::Control, LaneKind::Data] {
                while let Some(item) =
                    engines[source].take_outbound(clock.now(), number(target), lane, &mut Actions::new())
                {
                    has_passed = true;
                    let inbound = match &item {
                        OutboundItem::Block(block) => InboundItem::Block(block),
                        OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                    };
                    let event = Event::Inbox { source: number(source), item: inbound };
                    step(&mut engines[target], clock, event);
                    if let OutboundItem::Block(block) = item {
                        engines[source].recycle(block);
                    }
                }
            }
            let count = engines[target].announcements_seen(number(source));
            step(&mut engines[source], clock, Event::Announced { target: number(target), count });
        }
    }
    has_passed
}
