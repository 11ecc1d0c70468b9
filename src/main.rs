//! The broker's process, told once from start to end: arguments, configuration, shards, signal.
//! Knows no packet, no session and no socket's bytes: those live in the shards.

mod admin;
mod auth;
mod backend;
mod cli;
mod config;
mod error;
mod net;
mod observe;
mod persist;
mod process;
mod shard;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crossbeam_channel::{Receiver, never, select, tick};
use tracing::{info, warn};

use admin::health;
use admin::operator::{self, Order};
use cli::{Arguments, Subject};
use config::{Config, Effective, Place};
use error::Trouble;
use net::listen;
use observe::statistics::{Asked, Report};
use observe::sys_topics::SysTopics;
use persist::subscriptions_file::{self, Writer};
use process::data_dir::DataDir;
use process::signals::{self, Signal};
use process::{logging, open_files, systemd};
use shard::control::Shards;
use shard::{cores, placement_key, thread};

/// How long clients may take to accept what is on its way to them when the broker stops.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// How often the shards hand over subscriptions that changed.
const SUBSCRIPTIONS_INTERVAL: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (file, flags) = (arguments.config.as_deref(), arguments.flags());
    let done = match &arguments.command {
        Some(Subject::Config(command)) => config::command::run(command, file, flags),
        Some(Subject::Health) => Effective::load(file, flags)
            .map_err(Trouble::Configuration)
            .and_then(|effective| health::ask(&effective.config)),
        Some(Subject::Disconnect { client_id }) => Effective::load(file, flags)
            .map_err(Trouble::Configuration)
            .and_then(|effective| operator::disconnect(&effective.config.data_dir, client_id)),
        None => Effective::load(file, flags).map_err(Trouble::Configuration).and_then(serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            trouble.tell();
            trouble.exit_code()
        }
    }
}

/// Serves until a signal says to stop.
fn serve(effective: Effective) -> Result<(), Trouble> {
    let bind_explicit = *effective.place("bind") != Place::Default;
    let Effective { mut config, file, .. } = effective;
    let mut telemetry = logging::start(&config)?;
    let configuration = file.as_deref().unwrap_or(Path::new("defaults and flags")).display();
    info!(version = env!("CARGO_PKG_VERSION"), %configuration, data_dir = %config.data_dir.display(), "starting");
    open_files::raise_open_files();
    let shard_count = cores::shard_count(config.shards);
    open_files::compare_open_files(config.max_connections, shard_count);

    if config.test_authentication {
        warn!(
            "test_authentication is on: whoever echoes a challenge passes, which is for tests and proves nothing"
        );
    }
    listen::check(&mut config, bind_explicit)?;
    let _data_dir = DataDir::take(&config.data_dir)?;
    let sessions = subscriptions_file::load(&config.data_dir)?;
    let key = placement_key::key(&config.data_dir)?;
    let signals = signals::listen()?;
    let mut report = Report::start();
    let writer = Writer::start(&config.data_dir, shard_count.into())?;
    // Whoever has seen that it listens for clients may ask; what is asked before waits until it serves.
    let orders = operator::listen(&config.data_dir);
    let shards = thread::start(&config, shard_count, key, sessions, &writer.feed())?;
    let mut sys_topics = SysTopics::start();
    let mut tell_clients = || {
        sys_topics.tell(&shards.totals(), &shards.each(), |messages| shards.publish(messages));
    };
    if config.sys_interval_s > 0 {
        tell_clients();
    }
    systemd::ready("serving");

    let tell_operator = |asked| {
        report.tell(&shards.totals());
        report.tell_shards(&shards.each(), asked);
        telemetry.tell_dropped();
    };
    wait(&config, &shards, &signals, orders.receiver(), tell_operator, tell_clients);

    drop(orders);
    info!("stopping: clients are told, and have what is on its way to them");
    systemd::stopping();
    let totals = shards.stop(STOP_DEADLINE);
    let written = writer.finish();
    report.tell(&totals);
    written
}

/// Keeps the clocks of the control plane until a signal says to stop; `report` tells the operator the statistics, and
/// `tell_clients` publishes them.
fn wait(
    config: &Config,
    shards: &Shards,
    signals: &Receiver<Signal>,
    orders: &Receiver<Order>,
    mut report: impl FnMut(Asked),
    mut tell_clients: impl FnMut(),
) {
    let every = |interval: Option<Duration>| interval.map_or_else(never, tick);
    let seconds =
        |seconds: u32| Some(Duration::from_secs(seconds.into())).filter(|interval| !interval.is_zero());
    let report_due = every(seconds(config.stats_interval_s));
    let clients_due = every(seconds(config.sys_interval_s));
    let alive_due = every(systemd::alive_interval());
    let subscriptions_due = tick(SUBSCRIPTIONS_INTERVAL);
    loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(Signal::Statistics) => report(Asked::BySignal),
                Ok(Signal::Stop) | Err(_) => return,
            },
            recv(orders) -> order => if let Ok(order) = order { shards.disconnect(order) },
            recv(report_due) -> _ => report(Asked::ByInterval),
            recv(clients_due) -> _ => tell_clients(),
            recv(alive_due) -> _ => if shards.all_turned() { systemd::alive() },
            recv(subscriptions_due) -> _ => shards.hand_over_subscriptions(),
        }
    }
}
