//! The log: events with fields to standard output and, if asked for, to a new file every day.
//! A slow terminal or disk must never hold up a shard, so lines are written by threads of their own; what
//! those cannot keep up with is dropped and counted.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogLevel};
use crate::error::StartupError;

/// Lines that wait for one output; the next one is dropped and counted.
const LINES_WAITING_MAX: usize = 8_192;

/// Log files kept, one a day.
const FILES_KEPT: usize = 14;

/// How long a panicking thread gives the log's own threads to write its last line.
const LAST_LINE_MS: u64 = 100;

/// The running log; dropping it writes what waits.
pub(crate) struct Logging {
    writers: Vec<WorkerGuard>,
    counters: Vec<ErrorCounter>,
    dropped_reported: usize,
}

/// Starts the log, and makes every panic end the process after telling it.
///
/// # Errors
/// If the log directory cannot be written.
///
/// # Panics
/// If called twice in one process.
pub(crate) fn start(config: &Config) -> Result<Logging, StartupError> {
    let mut logging = Logging { writers: Vec::new(), counters: Vec::new(), dropped_reported: 0 };
    let output = logging.writer("log-output", io::stdout());
    let output =
        fmt::layer().compact().with_target(false).with_ansi(io::stdout().is_terminal()).with_writer(output);
    let file = match &config.log_dir {
        Some(directory) => {
            let file = logging.writer("log-file", log_file(directory)?);
            Some(fmt::layer().compact().with_target(false).with_ansi(false).with_writer(file))
        }
        None => None,
    };
    tracing_subscriber::registry().with(level(config.log_level)).with(output).with(file).init();
    end_on_panic();
    Ok(logging)
}

impl Logging {
    /// Says how many lines were dropped, if more were since it was last said.
    pub(crate) fn report_dropped(&mut self) {
        let dropped = self.counters.iter().map(ErrorCounter::dropped_lines).sum();
        if dropped > self.dropped_reported {
            warn!(dropped, "log lines dropped since the start, because the terminal or disk is too slow");
            self.dropped_reported = dropped;
        }
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

fn log_file(directory: &Path) -> Result<RollingFileAppender, StartupError> {
    let unwritable =
        |reason: String| StartupError::LogDirUnwritable { directory: directory.to_owned(), reason };
    fs::create_dir_all(directory).map_err(|error| unwritable(error.to_string()))?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("mqtt-broker")
        .filename_suffix("log")
        .max_log_files(FILES_KEPT)
        .build(directory)
        .map_err(|error| {
            // The source is what the system says; the error itself only repeats what was tried.
            let source = std::error::Error::source(&error);
            unwritable(source.map_or_else(|| error.to_string(), ToString::to_string))
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

/// A shard that lost a thread would look alive and serve nobody: end, and let the service manager start anew.
fn end_on_panic() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        error!(thread = thread::current().name(), %panic, "the process ends because of a panic");
        thread::sleep(Duration::from_millis(LAST_LINE_MS));
        process::abort();
    }));
}
