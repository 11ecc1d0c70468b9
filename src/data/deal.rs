//! The change of the number of shards: the state of all logs, dealt anew into the logs of the next generation.
//!
//! Invariant: the logs that there are stay as they are until those of the next generation are durable, and then its identity. A crash
//! anywhere begins again.

use engine::{Actions, Dealing, Engine, SharedRules, Topology};
use journal::Recovered;
use tracing::info;

use super::{offline, refuse};
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::Opened;
use crate::shard::thread::journal_settings;
use crate::shard::{engines, rest};

/// Deals the state of these logs among another number of shards.
///
/// # Errors
/// If a log is damaged, or the disk fails or has no room.
pub(crate) fn deal(
    config: &Config,
    found: Opened,
    shard_count: u16,
    rules: Option<&SharedRules>,
) -> Result<(), StartupError> {
    let (from, start, key) = (found.shard_count(), found.start(), found.key());
    info!(from, to = shard_count, "the number of shards has changed: the journal is dealt anew");
    let source = found.ahead()?;
    let (clock, begun) = engines::start(config, (from, key), rules, Some(&source))?;
    let mut former: Vec<Engine> = begun.into_iter().map(|begun| begun.engine).collect();
    rest::come_to_rest(clock, &mut former, rest::give_up)?;
    let next = source.begin_next(shard_count)?;
    let begun = engines::make(config, (shard_count, key), rules, Some(&next), clock)?;
    let mut engines: Vec<Engine> = begun.into_iter().map(|begun| begun.engine).collect();
    let mut dealing = Dealing::new(Topology { own: 0, shard_count, key }, start);
    for engine in former {
        let dealt = engine.deal(clock.now(), &mut dealing, &mut |shard, kind, body| {
            engines[usize::from(shard)].recover_object(0, kind, body)
        });
        dealt.map_err(|fault| refuse("deal anew what is in", next.path(), &fault.to_string()))?;
    }
    for engine in &mut engines {
        // There is no connection that an action could be about.
        engine.recovered(clock.now(), &mut Actions::new());
    }
    let targets = (0..shard_count).map(|shard| {
        (next.directory(shard), Recovered::nothing(next.log_identity(shard)), next.start().get())
    });
    offline::write(engines, targets.collect(), (clock, journal_settings(config)), |_, _, _| {})?;
    next.found()?;
    info!(from, to = shard_count, "the journal is dealt anew");
    Ok(())
}
