//! The process of the broker from start to end: arguments, configuration, shards, and the loop of the control plane
//! until a signal stops it.
//! It handles no packet, session or connection; each of those belongs to a shard.

mod admin;
mod auth;
mod authorization;
mod backend;
mod cli;
mod config;
mod data;
mod drain;
mod error;
mod generate;
mod net;
mod observe;
mod persist;
mod process;
mod reloads;
mod shard;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, at, never, select, tick};
use engine::{Entropy, SessionRecord, SharedRules};
use tracing::{info, warn};

use admin::operator::{self, CommandListener, OperatorCommand};
#[cfg(feature = "admin")]
use admin::tokens;
use admin::{health, http, main_thread};
use auth::password;
use authorization::Loaded;
use cli::{Arguments, CliCommand, Invocation};
use config::{Ceiling, Config, Durability, Effective, Notice, Origin};
use drain::Drain;
use error::StartupError;
use net::layers::ListenerLayers;
use net::listen;
use net::tls::Rotation;
use observe::memory_log::MemoryLog;
use observe::service_state::{Phase, ServiceState};
use observe::statistics::{Report, Trigger};
use observe::sys_topics::SysTopics;
use observe::tally::Tally;
use persist::journal::Opened;
use persist::subscriptions_file::{self, Writer};
use process::data_dir::DataDir;
use process::signals::{self, Signal};
use process::terminal::Terminal;
use process::{core_dumps, logging, open_files, systemd};
use reloads::{Read, Reloads};
use shard::control::Shards;
use shard::{cores, placement_key, thread};

/// glibc's allocator keeps what a burst took, and gives it back only by a call that holds up every shard for as long as it takes.
#[cfg(all(target_os = "linux", feature = "jemalloc"))]
#[global_allocator]
static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The name of the allocator, for the log.
const ALLOCATOR: &str =
    if cfg!(all(target_os = "linux", feature = "jemalloc")) { "jemalloc" } else { "the system's" };

/// Time within which a stopping broker delivers the messages in flight to its clients.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// The content of the data directory: the key of homes, the sessions of the file, and the logs.
type Data = (Entropy, Vec<SessionRecord>, Option<Opened>);

/// Interval at which the shards export subscriptions that changed, and the control plane looks for what the operator should know.
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let done = Invocation::of_process().and_then(|invocation| match invocation {
        Invocation::Run(arguments) => run(&arguments),
        Invocation::Generate(directory) => generate::write(&Arguments::documented_command(), &directory),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}

/// Runs the subcommand, or the broker if there is none.
fn run(arguments: &Arguments) -> Result<(), StartupError> {
    let (file, flags) = (arguments.config.as_deref(), arguments.flags());
    match &arguments.command {
        Some(CliCommand::Config(command)) => config::command::run(command, file, flags, |config, json| {
            operator::reload_broker(&config.data_dir, true, operator::Form { json })
        }),
        Some(CliCommand::Certificates { form }) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| operator::show_certificates(&effective.config, *form)),
        Some(CliCommand::Rules(command)) => authorization::command::run(command, file, flags),
        Some(CliCommand::Health) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| health::check(&effective.config.data_dir)),
        Some(CliCommand::Disconnect { client_id }) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| operator::disconnect(&effective.config.data_dir, client_id)),
        Some(CliCommand::Sessions(arguments)) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| operator::run_sessions(&effective.config.data_dir, arguments)),
        Some(CliCommand::Bans(arguments)) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| operator::run_bans(&effective.config.data_dir, arguments)),
        Some(CliCommand::Refusals { client_id }) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| operator::show_refusals(&effective.config.data_dir, client_id.as_deref())),
        Some(CliCommand::Operator(command)) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| command.run(&effective.config.data_dir)),
        #[cfg(feature = "admin")]
        Some(CliCommand::Token(command)) => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| tokens::command::run(command, &effective.config.data_dir)),
        Some(CliCommand::User(arguments)) => {
            Effective::load(file, flags).map_err(StartupError::Configuration).and_then(|effective| {
                let Effective { config, file, .. } = &effective;
                let configured = config.auth.password.as_ref().map(|password| &*password.file);
                password::command::run(arguments, configured, file.as_deref(), &config.data_dir)
            })
        }
        Some(CliCommand::Data(command)) => data::run(command, || {
            Effective::load(file, flags)
                .map(|effective| effective.config)
                .map_err(StartupError::Configuration)
        }),
        None => Effective::load(file, flags)
            .map_err(StartupError::Configuration)
            .and_then(|effective| serve(effective, || Effective::load(file, flags))),
    }
}

/// Serves until a signal says to stop. `read` reads the configuration again.
fn serve(effective: Effective, read: impl Fn() -> Read) -> Result<(), StartupError> {
    let rules = authorization::load(&effective).map_err(StartupError::Configuration)?.map(Loaded::share);
    let (shard_count, state) = (shard_count(&effective.config)?, ServiceState::default());
    let mut reloads = Reloads::new(&effective, rules.clone(), state.clone(), read);
    let memory_origin = effective.origin("memory_bytes_max").clone();
    let Effective { mut config, file, notices, .. } = effective;
    let mut log = logging::start(&config)?;
    log_start(&config, file.as_deref(), &notices, &memory_origin);
    open_files::raise_limit();
    let (mut rotation, layers) = check_listeners(&mut config)?;
    let tally = Tally::of(&config);
    let mut data_dir = DataDir::take(&config.data_dir)?;
    let permits = open_files::budget(&config, shard_count)?.permits(&config);
    let bound = http::bind(&config, &mut rotation)?;
    let bans = permits.bans().load(&config.data_dir);
    let (key, sessions, logs) = read_data(&config, shard_count, rules.as_ref())?;
    let (mut terminal, signals) = (Terminal::of_process(), signals::listen()?);
    let mut report = Report::start(log.block_output(), config.durability);
    let mut memory_log = MemoryLog::start(shard_count);
    let writer = Writer::start(&data_dir, shard_count.into())?;
    // The operator's socket exists before the log says `listening on`. A command that arrives earlier waits in the channel.
    let commands = operator::listen(&config.data_dir, bans.clone());
    let shared =
        thread::Shared { permits, layers, rules, tally: tally.clone(), operators: bound.operators() };
    let shards = thread::start(&config, shard_count, shared, (key, sessions), &writer.feed(), logs.as_ref())?;
    reloads.watch_listeners(rotation, &config, &shards);
    let mut is_imported = logs.is_some() && subscriptions_file::exists(&config.data_dir);
    let mut sys_topics = SysTopics::start(&config);
    let mut publish_statistics = |handshakes| {
        sys_topics.publish_changed((&shards.totals(), handshakes), &shards.each(), |it| shards.publish(it));
    };
    if config.sys_interval_s > 0 {
        publish_statistics(reloads.tls_handshakes());
    }
    let drain = announce_service(&config, &state);
    http::start(bound, shards.view(), tally, state.clone(), commands.asking(&bans, &config.data_dir))?;

    wait((&config, &drain), &signals, commands.receiver(), &mut terminal, |due| match due {
        Due::Statistics(trigger) => {
            report.print(&shards.totals());
            report.log_shards(&shards.each(), trigger);
        }
        Due::SysTopics => publish_statistics(reloads.tls_handshakes()),
        Due::Watchdog if shards.all_shards_turned() => systemd::watchdog(),
        Due::Watchdog => {}
        Due::Second => {
            shards.export_subscriptions();
            retire_subscriptions(&mut is_imported, &shards, &config.data_dir);
            data_dir.report_change();
            report.warn_of_credentials(&shards.totals());
            memory_log.observe(&shards.totals(), shards.memory_reports());
            log.report_dropped();
            reloads.second(&shards, &mut log);
            bans.second(&config.data_dir);
        }
        Due::Command(command) => main_thread::serve(command, &shards, &mut log, (&mut reloads, &drain)),
        Due::Drain => drain.step(&shards),
        Due::Reload => reloads.hang_up(&shards, &mut log),
    });

    announce_stop(&state, commands);
    let totals = shards.stop(STOP_DEADLINE);
    reloads.remove_sockets();
    bans.second(&config.data_dir);
    let written = writer.finish();
    Report::warn_of_lost_messages(&totals);
    report.print(&totals);
    written
}

/// Checks that every listener can serve, with its files.
fn check_listeners(config: &mut Config) -> Result<(Rotation, ListenerLayers), StartupError> {
    config.add_operators_listener();
    listen::check(config)?;
    let mut rotation = Rotation::default();
    let layers = ListenerLayers::load(config, &mut rotation)?;
    Ok((rotation, layers))
}

/// Tells the log, probes and the service manager that the broker serves, until it is drained.
fn announce_service(config: &Config, state: &ServiceState) -> Drain {
    state.set_phase(Phase::Serving);
    systemd::ready("serving");
    Drain::new(&config.server_reference, state)
}

/// Tells operators, the log, probes and the service manager that the broker stops.
fn announce_stop(state: &ServiceState, commands: CommandListener) {
    drop(commands);
    info!("stopping: disconnecting clients after their messages in flight");
    state.set_phase(Phase::Stopping);
    systemd::stopping();
}

/// The number of shards: an automatic one is that of the logs, if there are any, so a machine may get or lose cores.
fn shard_count(config: &Config) -> Result<u16, StartupError> {
    let of_cores = cores::shard_count(config.shards);
    if config.shards != 0 || config.durability == Durability::Memory {
        return Ok(of_cores);
    }
    Ok(Opened::look(&config.data_dir)?.map_or(of_cores, |logs| logs.shard_count()))
}

/// The key of homes, the sessions of the file, and the logs if acknowledgements are to survive something; of so many shards.
fn read_data(config: &Config, shard_count: u16, rules: Option<&SharedRules>) -> Result<Data, StartupError> {
    let sessions = subscriptions_file::load(&config.data_dir)?;
    let key = placement_key::key(&config.data_dir)?;
    if config.durability == Durability::Memory {
        if !matches!(Opened::look(&config.data_dir), Ok(None)) {
            warn!(
                "the data directory has a journal, which durability = \"memory\" neither reads nor writes: its sessions and messages \
                 come back with \"power\" or \"process\", as they were"
            );
        }
        return Ok((key, sessions, None));
    }
    let cores = cores::shard_count(config.shards);
    if shard_count != cores {
        info!(shards = shard_count, cores, "the number of shards is that of the journal, not of the cores");
    }
    if let Some(found) = Opened::look(&config.data_dir)?
        && found.shard_count() != shard_count
    {
        data::deal(config, found, shard_count, rules)?;
    }
    let opened = Opened::open(&config.data_dir, shard_count, key)?;
    info!(start = opened.start(), is_new = opened.is_new(), "the journal is open");
    Ok((opened.key(), sessions, Some(opened)))
}

/// Renames the file of subscriptions, if it is imported, once the logs have them.
fn retire_subscriptions(is_imported: &mut bool, shards: &Shards, data_dir: &Path) {
    if !*is_imported || !shards.have_journals_begun() {
        return;
    }
    *is_imported = false;
    match subscriptions_file::retire(data_dir) {
        Ok(file) => {
            info!(file = %file.display(), "the journal has the subscriptions of the file, which is renamed");
        }
        Err(error) => {
            warn!(%error, "the journal has the subscriptions of subscriptions.json, which cannot be renamed");
        }
    }
}

/// Logs where the configuration comes from, and what of it the operator should know.
fn log_start(config: &Config, file: Option<&Path>, notices: &[Notice], memory_origin: &Origin) {
    let configuration = file.unwrap_or(Path::new("defaults, environment and flags")).display();
    info!(version = env!("CARGO_PKG_VERSION"), allocator = ALLOCATOR, %configuration, data_dir = %config.data_dir.display(), "starting");
    for notice in notices {
        if notice.is_warning() { warn!("{notice}") } else { info!("{notice}") }
    }
    info!(durability = config.durability.name(), "{}", config.durability.promise());
    for (listener, durability) in config.listeners.iter().filter_map(|it| Some((&it.name, it.durability?))) {
        info!(listener, durability = durability.name(), "on this listener, {}", durability.promise());
    }
    core_dumps::forbid(config);
    if config.test_authentication {
        warn!(
            "test_authentication is on: any client that echoes a challenge is let in; use it for tests only"
        );
    }
    log_memory_limit(config.memory_bytes_max, memory_origin);
}

/// Work of the control plane that is due.
enum Due {
    /// Print the statistics.
    Statistics(Trigger),
    /// Publish the statistics below `$SYS`.
    SysTopics,
    /// Tell the service manager that the shards turn.
    Watchdog,
    /// The work of each second.
    Second,
    /// A command of the operator.
    Command(OperatorCommand),
    /// Read the configuration again.
    Reload,
    /// Send some clients elsewhere.
    Drain,
}

/// Logs how much memory the broker may account for, and why.
fn log_memory_limit(limit: Ceiling, origin: &Origin) {
    match limit {
        Ceiling::Auto => warn!(
            "memory has no limit: this system does not say how much there is; set memory_bytes_max, or 0 for none"
        ),
        Ceiling::Bytes(0) => info!(%origin, "memory has no limit: memory_bytes_max is 0"),
        Ceiling::Bytes(memory_bytes_max) => info!(memory_bytes_max, %origin, "memory has a limit"),
    }
}

/// Runs the timers of the control plane until a signal or the end of a drain says to stop, and passes whatever is due to `work`.
fn wait(
    (config, drain): (&Config, &Drain),
    signals: &Receiver<Signal>,
    commands: &Receiver<OperatorCommand>,
    terminal: &mut Terminal,
    mut work: impl FnMut(Due),
) {
    let every = |interval: Option<Duration>| interval.map_or_else(never, tick);
    let seconds =
        |seconds: u32| Some(Duration::from_secs(seconds.into())).filter(|interval| !interval.is_zero());
    let statistics_due = every(seconds(config.stats_interval_s));
    let sys_topics_due = every(seconds(config.sys_interval_s));
    let watchdog_due = every(systemd::watchdog_interval());
    let second_due = tick(SECOND);
    while !drain.is_over() {
        let drain_due = drain.next_step().map_or_else(never, at);
        select! {
            recv(signals) -> signal => match signal {
                Ok(Signal::Statistics) => work(Due::Statistics(Trigger::Signal)),
                Ok(Signal::HangUp) if terminal.has_closed() => {
                    info!("the terminal was closed, so the broker stops; a service or `nohup` survives that");
                    return;
                }
                Ok(Signal::HangUp) => work(Due::Reload),
                Ok(Signal::Stop) | Err(_) => return,
            },
            recv(commands) -> command => if let Ok(command) = command { work(Due::Command(command)) },
            recv(statistics_due) -> _ => work(Due::Statistics(Trigger::Interval)),
            recv(sys_topics_due) -> _ => work(Due::SysTopics),
            recv(watchdog_due) -> _ => work(Due::Watchdog),
            recv(drain_due) -> _ => work(Due::Drain),
            recv(second_due) -> _ => {
                terminal.look();
                work(Due::Second);
            }
        }
    }
}
