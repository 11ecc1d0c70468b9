//! The requests of operators that the main thread answers itself, such as the counters of all shards, the level of the log and the drain.

use std::collections::BTreeMap;

use crossbeam_channel::bounded;
use engine::{CauseGroup, DropReason, MemoryKind};
use tracing::warn;

use super::operator::{Answer, OperatorCommand, Request, ShardRow, StatisticsRow};
use crate::drain::Drain;
use crate::observe::histogram::{Stage, bounds_us};
use crate::observe::statistics::{ShardReport, ShardTotals};
use crate::process::clock;
use crate::process::logging::Logging;
use crate::reloads::{Read, Reloaded, Reloads, log_differences};
use crate::shard::control::Shards;

/// Executes the command of an operator, or passes it on to the shards that it concerns.
pub(crate) fn serve<F: Fn() -> Read>(
    command: OperatorCommand,
    shards: &Shards,
    log: &mut Logging,
    (reloads, drain): (&mut Reloads<F>, &Drain),
) {
    let answer = match &command.request {
        Request::Statistics {} => Answer::Statistics(Box::new(statistics(shards, log))),
        Request::Shards {} => shards_inside(shards),
        Request::Configuration { after } => reloads.configuration(after.as_deref()),
        Request::Certificates {} => Answer::Certificates(reloads.certificates()),
        Request::LastLines { from } => {
            let (rows, next) = log.tail().from(*from);
            Answer::LastLines { rows, next }
        }
        Request::LogLevel { level } => match log.change_level(level) {
            Some(before) => {
                // As a warning, so that it is told at most levels.
                warn!(before, now = %level, "the level of the log was changed by the operator, until the next start");
                Answer::Done
            }
            None => Answer::NotUnderstood,
        },
        Request::Reload { is_dry } => {
            let reloaded = reloads.reload(*is_dry, shards, log);
            if let (false, Ok(reloaded)) = (is_dry, &reloaded) {
                log_differences("the operator's reload", reloaded);
            }
            answer_of(reloaded)
        }
        Request::RollBack {} => {
            let reloaded = reloads.roll_back(shards, log);
            if let Ok(reloaded) = &reloaded {
                log_differences("the operator's rollback", reloaded);
            }
            answer_of(reloaded)
        }
        Request::Drain(terms) => drain.begin(terms, shards).map_or(Answer::NotUnderstood, Answer::Drain),
        Request::DrainState {} => Answer::Drain(drain.row(shards)),
        Request::CancelDrain {} => Answer::Drain(drain.cancel(shards)),
        _ => return shards.execute(command),
    };
    let (sender, to_come) = bounded(1);
    // Both ends are here, or the operator has stopped waiting.
    let _ = sender.send(answer);
    let _ = command.answers.send((to_come, 1));
}

fn answer_of(reloaded: Result<Reloaded, Vec<String>>) -> Answer {
    match reloaded {
        Ok(Reloaded { generation, differences, listeners }) => {
            Answer::Reloaded { generation, differences, listeners }
        }
        Err(faults) => Answer::Faults(faults),
    }
}

fn statistics(shards: &Shards, log: &Logging) -> StatisticsRow {
    let totals = shards.totals();
    let sums = &totals.shards;
    StatisticsRow {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at_us: clock::unix_us(),
        uptime_s: log.uptime_s(),
        connections: totals.connections,
        connections_max: totals.connections_max,
        memory_bytes_max: totals.memory_bytes_max,
        journal: totals.journal.name().to_owned(),
        log_level: log.level().to_owned(),
        totals: numbers(sums),
        dropped: named(DropReason::ALL.map(DropReason::name), &sums.dropped),
        closed: named(CauseGroup::ALL.iter().map(|group| group.name()), &sums.closed),
        refused: named(CauseGroup::ALL.iter().map(|group| group.name()), &sums.refused),
        memory: named(MemoryKind::ALL.map(MemoryKind::name), &sums.memory),
        shards: shards.each().iter().map(shard).collect(),
    }
}

fn shard(report: &ShardReport) -> BTreeMap<String, u64> {
    let mut named = numbers(&report.totals);
    named.insert("dropped".to_owned(), report.totals.dropped_total());
    named.insert("memory".to_owned(), report.totals.memory_total());
    if let Some(times) = report.times {
        let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        named.insert("lived_us".to_owned(), us(times.lived));
        named.insert("worked_us".to_owned(), us(times.worked));
    }
    named
}

/// Each shard from within.
fn shards_inside(shards: &Shards) -> Answer {
    let view = shards.view();
    let rows = view.each().into_iter().map(|report| ShardRow {
        memory: named(MemoryKind::ALL.map(MemoryKind::name), &report.totals.memory),
        dropped: named(DropReason::ALL.map(DropReason::name), &report.totals.dropped),
        stages: BTreeMap::new(),
    });
    let mut rows: Vec<_> = rows.collect();
    for stage in Stage::ALL {
        for (row, counts) in rows.iter_mut().zip(view.stage(stage)) {
            if counts.iter().any(|count| *count > 0) {
                row.stages.insert(stage.name().to_owned(), counts.to_vec());
            }
        }
    }
    Answer::Shards { bounds_us: bounds_us().collect(), shards: rows }
}

fn numbers(totals: &ShardTotals) -> BTreeMap<String, u64> {
    named(ShardTotals::NAMES, &totals.numbers())
}

fn named<'a>(names: impl IntoIterator<Item = &'a str>, counts: &[u64]) -> BTreeMap<String, u64> {
    names.into_iter().map(str::to_owned).zip(counts.iter().copied()).collect()
}
