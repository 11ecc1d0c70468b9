//! The log: events with fields to standard output and, if configured, to a new file every day.
//! Invariant: a slow terminal or disk never blocks a shard. Threads of the log write the lines; lines above their
//! bound are dropped and counted.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::panic;
use std::path::Path;
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Config, LogFormat, LogLevel};
use crate::error::StartupError;
use crate::observe::lasting::{Lasting, Told};
use crate::observe::log_tail::{LogTail, Tee};
use crate::process::clock::Clock;

/// Lines that wait for one output. The next line is dropped and counted.
const LINES_WAITING_MAX: usize = 8_192;

/// Number of log files kept, one for each day.
const FILES_KEPT: usize = 14;

/// Time that a panicking thread leaves the threads of the log to write the last line.
const LAST_LINE_MS: u64 = 100;

/// Time that the end of the process leaves the threads of the log to write the waiting lines.
const WAITING_LINES_MS: u64 = 2_000;

/// The running log. Dropping it writes the waiting lines, as far as their reader takes them within `WAITING_LINES_MS`.
pub(crate) struct Logging {
    writers: Vec<WorkerGuard>,
    counters: Vec<ErrorCounter>,
    dropped_seen: usize,
    dropping: Lasting,
    clock: Clock,
    /// Standard output, for the statistics block.
    output: Option<NonBlocking>,
    level: LogLevel,
    /// The last lines of standard output.
    tail: LogTail,
    /// Changes the level; `None` once the log has ended.
    filter: Option<reload::Handle<LevelFilter, Registry>>,
}

/// The levels, as the configuration names them.
const LEVELS: [(&str, LogLevel); 5] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("off", LogLevel::Off),
];

/// The target of the line with the statistics.
pub(crate) const STATISTICS: &str = "statistics";

/// Starts the log, and makes every panic end the process after it is logged.
///
/// # Errors
/// If the log directory cannot be written.
///
/// # Panics
/// If called twice in one process.
pub(crate) fn start(config: &Config) -> Result<Logging, StartupError> {
    let mut logging = Logging {
        writers: Vec::new(),
        counters: Vec::new(),
        dropped_seen: 0,
        dropping: Lasting::default(),
        clock: Clock::start(),
        output: None,
        level: config.log_level,
        tail: LogTail::default(),
        filter: None,
    };
    let format = config.log_format;
    let tee = Tee { output: io::stdout(), tail: logging.tail.clone() };
    let output = logging.writer("log-output", tee);
    let is_block = format == LogFormat::Text;
    logging.output = is_block.then(|| output.clone());
    // Standard output has the statistics as a block that scripts read, so it needs no line about them.
    let is_wanted = filter_fn(move |event| !is_block || event.target() != STATISTICS);
    let output = layer(format, output, io::stdout().is_terminal()).with_filter(is_wanted);
    let file = match &config.log_dir {
        Some(directory) => Some(layer(format, logging.writer("log-file", log_file(directory)?), false)),
        None => None,
    };
    let (filter, handle) = reload::Layer::new(level(config.log_level));
    logging.filter = Some(handle);
    tracing_subscriber::registry().with(filter).with(output).with(file).init();
    end_on_panic();
    Ok(logging)
}

impl Drop for Logging {
    fn drop(&mut self) {
        let writers = mem::take(&mut self.writers);
        let (done, is_done) = mpsc::channel::<()>();
        // A guard waits for its thread a bounded time, and then prints that it did: to standard output, which blocks for ever
        // while nobody reads it. The process ends without this thread then.
        let ender = thread::Builder::new().name("log-end".to_owned()).spawn(move || {
            drop(writers);
            drop(done);
        });
        if ender.is_ok() {
            // It never receives: the sender is dropped at the end, or the time is up.
            let _ = is_done.recv_timeout(Duration::from_millis(WAITING_LINES_MS));
        }
    }
}

impl Logging {
    /// The writer of the statistics block: standard output, in order with the log lines and as little waited for. `None` if
    /// the statistics are log lines.
    pub(crate) fn block_output(&self) -> Option<NonBlocking> {
        self.output.clone()
    }

    /// Logs that lines are dropped, where a line about it is due. To be called once a second.
    pub(crate) fn report_dropped(&mut self) {
        let dropped = self.counters.iter().map(ErrorCounter::dropped_lines).sum();
        let is_on = dropped > self.dropped_seen;
        self.dropped_seen = dropped;
        match self.dropping.observe(self.clock.now().as_ms(), is_on) {
            Some(Told::Begins | Told::Lasts) => {
                warn!(dropped, "log lines dropped since the start, because the terminal or disk is too slow");
            }
            Some(Told::Ends { lasted_s }) => warn!(dropped, lasted_s, "no more log lines dropped"),
            None => {}
        }
    }

    /// Changes the least severe level that is logged. Returns the level before; `None` if there is no level of this name.
    pub(crate) fn change_level(&mut self, name: &str) -> Option<&'static str> {
        let (_, chosen) = LEVELS.into_iter().find(|(known, _)| *known == name)?;
        let before = self.level();
        self.set_level(chosen);
        Some(before)
    }

    /// Changes the least severe level that is logged.
    pub(crate) fn set_level(&mut self, chosen: LogLevel) {
        let changed = self.filter.as_ref().map(|filter| filter.modify(|filter| *filter = level(chosen)));
        if matches!(changed, Some(Ok(()))) {
            self.level = chosen;
        }
    }

    /// The name of the least severe level that is logged.
    pub(crate) fn level(&self) -> &'static str {
        LEVELS.into_iter().find(|(_, level)| *level == self.level).map_or("", |(name, _)| name)
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> &LogTail {
        &self.tail
    }

    /// Seconds since the start of the log, which is that of the broker.
    pub(crate) fn uptime_s(&self) -> u64 {
        self.clock.now().as_ms() / 1_000
    }

    fn writer(&mut self, thread: &str, target: impl Write + Send + 'static) -> NonBlocking {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING_MAX)
            .lossy(true)
            .thread_name(thread)
            .finish(target);
        self.writers.push(guard);
        self.counters.push(writer.error_counter());
        writer
    }
}

/// The lines of one output in the given format.
fn layer<S>(format: LogFormat, writer: NonBlocking, is_coloured: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_target(false).with_writer(writer);
    match format {
        LogFormat::Text => layer.compact().with_ansi(is_coloured).boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    }
}

fn log_file(directory: &Path) -> Result<RollingFileAppender, StartupError> {
    let unwritable =
        |error: io::Error| StartupError::LogDirUnwritable { directory: directory.to_owned(), error };
    fs::create_dir_all(directory).map_err(unwritable)?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("mqtt-broker")
        .filename_suffix("log")
        .max_log_files(FILES_KEPT)
        .build(directory)
        .map_err(|error| {
            // The source is the error of the system; the outer error only repeats the attempt.
            let source =
                std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
            let kind = source.map_or(io::ErrorKind::Other, io::Error::kind);
            unwritable(io::Error::new(kind, source.map_or_else(|| error.to_string(), ToString::to_string)))
        })
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

/// A process without one of its shards would seem alive and not serve its clients. Ending it lets the service manager
/// start a new one.
fn end_on_panic() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        error!(thread = thread::current().name(), %panic, "the process ends because of a panic");
        thread::sleep(Duration::from_millis(LAST_LINE_MS));
        process::abort();
    }));
}
