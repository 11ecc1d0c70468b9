//! The binary under test, started on a free loopback port with its own data directory, or the broker named by `BROKER`.
//! Knows the broker's flags and its log line with the address, but no MQTT.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::machine;
use super::process::{Finished, Process};
use super::time::PATIENCE;

/// The flags of a broker without a log, which keeps the subscriptions of persistent sessions in a file.
pub(crate) const MEMORY: [&str; 2] = ["--durability", "memory"];

/// The limit for a stopping broker, which promises to end "within seconds".
const STOP_PATIENCE: Duration = Duration::from_secs(10);

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The backend or I/O driver that a broker is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    Auto,
    Uring,
    Epoll,
    Tokio,
    Blocking,
}

impl Io {
    /// All but `Auto`, which selects one of these.
    pub(crate) const EACH: [Self; 4] = [Self::Uring, Self::Epoll, Self::Tokio, Self::Blocking];

    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Tokio => "tokio",
            Self::Blocking => "blocking",
        }
    }

    /// The driver's name in the log.
    pub(crate) fn log_name(self) -> &'static str {
        match self {
            Self::Epoll if cfg!(target_os = "macos") => "kqueue",
            Self::Auto | Self::Uring | Self::Epoll | Self::Tokio | Self::Blocking => self.flag(),
        }
    }

    /// This driver, or epoll with a printed notice, on a machine that refuses `io_uring` to every process.
    pub(crate) fn possible(self) -> Self {
        if self == Self::Uring && machine::refuses_uring() {
            machine::print_notice("this machine refuses io_uring: what is named uring ran on epoll");
            return Self::Epoll;
        }
        self
    }
}

/// A test's directory, removed with its content unless the test fails.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the build's temporary directory is writable");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file below the directory, creates missing folders, and returns the file's path.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        let parent = path.parent().expect("a file has a directory");
        fs::create_dir_all(parent).expect("the test's directory is writable");
        fs::write(&path, content).expect("the test's directory is writable");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !thread::panicking() {
            // Files that cannot be removed are left to `cargo clean`.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The options of a broker to start.
pub(crate) struct Setup<'a> {
    pub(crate) io: Io,
    /// In addition to `--io`, `--port 0`, `--bind 127.0.0.1`, `--data-dir` and `--config`.
    pub(crate) flags: &'a [&'a str],
    /// Content of the configuration file.
    pub(crate) config: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { io: Io::Auto, flags: &[], config: "" }
    }
}

/// A running broker.
pub(crate) struct Broker {
    /// `None` for an external broker.
    process: Option<Process>,
    directory: Directory,
    addresses: Vec<SocketAddr>,
    /// Makes names of this broker's user unique, so that tests can share an external broker.
    scope: String,
}

/// The binary under test: the one of this build, or the one that `MQTT_BROKER_BINARY` names.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_mqtt-broker"));
        std::env::var_os("MQTT_BROKER_BINARY").map_or_else(built, PathBuf::from)
    })
}

/// The binary under test in `directory`, where it finds only the configuration of the test.
pub(crate) fn command_in(directory: &Directory) -> Command {
    let mut command = Command::new(binary());
    in_directory(&mut command, directory);
    command
}

/// Like `command_in`, started through `wrapper` (a command that executes its arguments).
pub(crate) fn wrapped_command_in(directory: &Directory, wrapper: &[String]) -> Command {
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(binary());
    in_directory(&mut command, directory);
    command
}

fn in_directory(command: &mut Command, directory: &Directory) {
    // A service manager around the test run must not receive notifications of the broker under test.
    command.current_dir(directory.path()).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
}

/// The broker given by `BROKER=host:port`, to test another broker than the binary under test.
pub(crate) fn external() -> Option<SocketAddr> {
    let value = std::env::var_os("BROKER")?;
    let text = value.to_str().expect("BROKER is text");
    Some(text.parse().expect("BROKER is ADDRESS:PORT with a numeric address"))
}

impl Broker {
    /// A broker with defaults on the given driver, or the external broker if there is one.
    pub(crate) fn start(io: Io) -> Self {
        match external() {
            Some(address) => Self {
                process: None,
                directory: Directory::new(),
                addresses: vec![address],
                scope: new_scope(),
            },
            None => Self::start_with(&Setup { io, ..Setup::default() }),
        }
    }

    /// The binary under test, even if `BROKER` is set.
    pub(crate) fn start_with(setup: &Setup<'_>) -> Self {
        Self::start_in(Directory::new(), setup)
    }

    /// Like `start_with`, with the data that an earlier broker left in `directory`.
    pub(crate) fn start_in(directory: Directory, setup: &Setup<'_>) -> Self {
        let mut command = command_in(&directory);
        configure(&mut command, &directory, setup);
        Self::spawn(directory, command, 1)
    }

    /// The binary under test with the listeners of `config`, in that order, each with one address.
    pub(crate) fn listen(io: Io, config: &str, flags: &[&str]) -> Self {
        let directory = Directory::new();
        let mut command = command_in(&directory);
        let file = directory.write("test.conf", &without_admin(config));
        command.arg("--config").arg(file).arg("--data-dir").arg(directory.path().join("data"));
        command.args(["--io", io.possible().flag()]).args(flags);
        Self::spawn(directory, command, config.matches("[[listener]]").count())
    }

    /// Waits until `command` serves on `listeners` addresses.
    pub(crate) fn spawn(directory: Directory, command: Command, listeners: usize) -> Self {
        let mut process = Process::spawn(command);
        let mut addresses = Vec::with_capacity(listeners);
        let mut mark = 0;
        for _ in 0..listeners {
            process.wait_for(mark, "`listening on ADDRESS:PORT`", |line| address_in(line).is_some());
            let lines = process.lines();
            let found = (mark..lines.len()).find_map(|at| Some((at, address_in(&lines[at].1)?)));
            let (at, address) = found.expect("the line was just found");
            addresses.push(address);
            mark = at + 1;
        }
        Self { process: Some(process), directory, addresses, scope: new_scope() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// False for an external broker, which may lack features that only ours promises.
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// A topic or client identifier that no other test uses.
    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.scope)
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("only the broker under test has a process")
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Asks the broker to stop, and asserts that it ends cleanly and in time. Returns its output, and its directory for
    /// the next one.
    pub(crate) fn stop(mut self) -> (Finished, Directory) {
        let mut process = self.process.take().expect("only the broker under test is stopped");
        process.signal(Signal::TERM);
        let status = process.wait_for_exit(STOP_PATIENCE);
        let output = process.output();
        assert!(status.success(), "SIGTERM must end it with exit code 0, not {status}:\n{output}");
        (Finished { status, output }, self.directory)
    }

    /// Kills the broker without a clean shutdown; returns its directory for the next one.
    pub(crate) fn kill(mut self) -> Directory {
        let mut process = self.process.take().expect("only the broker under test is killed");
        process.signal(Signal::KILL);
        process.wait_for_exit(PATIENCE);
        self.directory
    }
}

/// Adds the arguments that every broker of the suites is started with.
pub(crate) fn configure(command: &mut Command, directory: &Directory, setup: &Setup<'_>) {
    let config = directory.write("test.conf", &without_admin(setup.config));
    command.arg("--config").arg(config);
    command.arg("--data-dir").arg(directory.path().join("data"));
    command.args(["--bind", "127.0.0.1", "--port", "0", "--io", setup.io.possible().flag()]);
    command.args(setup.flags);
}

/// The configuration without the service on the usual port of operators, which brokers of tests that run at once would contend for.
pub(crate) fn without_admin(config: &str) -> String {
    if config.contains("[admin") { config.to_owned() } else { format!("{config}\n[admin]\nbind = \"off\"\n") }
}

/// The address in a log line.
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    // The address ends with the line, at a space, or at the quote of a JSON line.
    rest.split(|end: char| end.is_whitespace() || end == '"').next()?.parse().ok()
}

fn new_scope() -> String {
    let mut scope = String::new();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    write!(scope, "t{}-{number}-", std::process::id()).expect("text can be appended to a string");
    scope
}
