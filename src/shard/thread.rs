//! The threads of the shards: what each is given, how it starts, and when all of them serve.
//! Knows no connection.

use std::sync::atomic::AtomicU64;
use std::thread;

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Engine, Entropy, SessionRecord, Topology};
use tracing::{debug, error, info, warn};

use super::control::{CONTROLS_MAX, Control, Shards, Thread};
use super::cores::{self, ThreadId};
use super::gauges::Gauges;
use super::placement_key;
use crate::backend::{Backend, CAPACITY, Parts, Stands};
use crate::config::Config;
use crate::error::Trouble;
use crate::net::listen::{self, Dealer};
use crate::net::permits::Places;
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;

/// What a shard's thread says of itself once its runtime stands.
struct Started {
    id: ThreadId,
    stands: Stands,
}

/// Binds the listeners, starts a thread for each shard and waits until all of them serve. `key` deals the `sessions`
/// that are restored, and all clients after them.
///
/// # Errors
/// Whatever keeps one of them from serving.
///
/// # Panics
/// If a shard's thread ends without saying why, which a panic there does; that ends the process anyway.
pub(crate) fn start(
    config: &Config,
    shard_count: u16,
    key: Entropy,
    sessions: Vec<SessionRecord>,
    feed: &Feed,
) -> Result<Shards, Trouble> {
    let clock = Clock::start();
    let places = Places::new(config.max_connections);
    let listeners = listen::bind(config, shard_count)?;
    let addresses: Vec<_> = listeners[0].iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let (backends, bells) = Backend::prepare(config.io, shard_count)?;
    let cores = cores::deal(shard_count);
    let session_count = sessions.len();
    let mut sessions = deal(sessions, Topology { own: 0, shard_count, key });
    let (settled, settlements) = bounded(shard_count.into());

    let mut waiting = Vec::new();
    let belongings = ring::mesh(shard_count.into(), CAPACITY).into_iter().zip(listeners).zip(backends);
    for (own, ((port, listeners), backend)) in (0..shard_count).zip(belongings) {
        let limits = config.engine_limits(shard_count);
        let mut engine = Engine::new(limits, placement_key::draw()?, clock.now()).in_mesh(Topology {
            own,
            shard_count,
            key,
        });
        engine.reserve_connections(config.initial_pool_size / u32::from(shard_count));
        restore(&mut engine, clock, std::mem::take(&mut sessions[usize::from(own)]));
        let (control, asked) = bounded(CONTROLS_MAX);
        let gauges = Gauges::default();
        gauges.publish(&engine, 0);
        // The engine is made here and moved before it has seen anything.
        let parts = Parts {
            number: own,
            engine,
            clock,
            listeners,
            deals: own == 0 && Dealer::of(config.io) == Dealer::FirstShard,
            read_buffer_bytes: config.read_buffer_bytes as usize,
            port,
            bells: bells.clone(),
            places: places.clone(),
            gauges: gauges.clone(),
            control: asked,
            settled: settled.clone(),
            feed: feed.clone(),
        };
        let core = cores.get(usize::from(own)).copied();
        let (started, start) = bounded(1);
        let handle = thread::Builder::new()
            .name(format!("shard-{own}"))
            .spawn(move || serve(backend, parts, core, started))
            .map_err(|error| Trouble::system("start the thread of a shard", error))?;
        waiting.push((control, gauges, handle, start));
    }

    let mut threads = Vec::new();
    for (shard, (control, gauges, handle, start)) in waiting.into_iter().enumerate() {
        let started = wait_until_started(&start)?;
        tell_started(shard, shard_count, &started);
        threads.push(Thread { control, gauges, id: started.id, handle });
    }
    for _ in 0..shard_count {
        settlements.recv().expect("a shard settles, or ends the process");
    }
    let topology = Topology { own: 0, shard_count, key };
    let shards = Shards { threads, bells, places, topology, turn_asked: AtomicU64::new(0) };
    if session_count > 0 {
        let totals = shards.totals().shards;
        info!(sessions = totals.sessions, subscriptions = totals.subscriptions, "restored");
    }
    shards.ask(|| Control::Accept);
    for address in addresses {
        info!("listening on {address}");
    }
    Ok(shards)
}

/// The sessions of each shard, which may be other ones than before: their number may have changed.
fn deal(sessions: Vec<SessionRecord>, topology: Topology) -> Vec<Vec<SessionRecord>> {
    let mut dealt: Vec<Vec<SessionRecord>> = (0..topology.shard_count).map(|_| Vec::new()).collect();
    for session in sessions {
        dealt[usize::from(topology.home_of_client(&session.client_id))].push(session);
    }
    dealt
}

fn restore(engine: &mut Engine, clock: Clock, sessions: Vec<SessionRecord>) {
    for session in sessions {
        if let Err(reason) = engine.restore(clock.now(), &session) {
            // Peers' text belongs to debug, but this is the operator's file.
            warn!(client_id = session.client_id, reason, "session not restored");
        }
    }
}

fn wait_until_started(start: &Receiver<Result<Started, Trouble>>) -> Result<Started, Trouble> {
    start.recv().expect("a shard says whether it started before it ends")
}

fn tell_started(shard: usize, shard_count: u16, started: &Started) {
    let Stands { io, fallback } = &started.stands;
    match fallback {
        // All shards are alike, unless the system refuses io_uring to some of them.
        None if shard == 0 => info!(%io, shards = shard_count, "shards run"),
        Some(refused) if shard == 0 => info!(
            %io, shards = shard_count, reason = %refused, "shards run without io_uring, which this system refused"
        ),
        None => {}
        Some(refused) => debug!(shard, %io, reason = %refused, "shard runs without io_uring"),
    }
}

/// The thread of a shard.
fn serve(backend: Backend, parts: Parts, core: Option<CoreId>, started: Sender<Result<Started, Trouble>>) {
    let number = parts.number;
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        warn!(shard = number, core = core.id, "not pinned: the system refused");
    }
    let id = ThreadId::current();
    let stands = move |stands: Result<Stands, Trouble>| {
        let _ = started.send(stands.map(|stands| Started { id, stands }));
    };
    if let Err(trouble) = backend.run(parts, stands) {
        error!(shard = number, %trouble, "shard failed");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_dealt_to_their_homes_whatever_the_number_of_shards() {
        let session = |number| SessionRecord { client_id: format!("client-{number}"), subscriptions: vec![] };
        for shard_count in [1, 2, 5] {
            let topology = Topology { own: 0, shard_count, key: Entropy(7) };
            let dealt = deal((0..100).map(session).collect(), topology);
            assert_eq!(dealt.iter().map(Vec::len).sum::<usize>(), 100);
            for (home, sessions) in dealt.iter().enumerate() {
                assert!(!sessions.is_empty());
                let at_home = |session: &SessionRecord| {
                    usize::from(topology.home_of_client(&session.client_id)) == home
                };
                assert!(sessions.iter().all(at_home));
            }
        }
    }
}
