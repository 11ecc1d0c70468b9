//! Errors that keep the broker from starting or running, or a subcommand from succeeding. Each is one sentence with
//! its cause and its remedy, for the operator.
//! Errors of clients are not here: they are answered in the protocol and counted.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::io::Errno;

use crate::config::ConfigError;
use crate::process::open_files;

/// The error of a command on users without a password file.
const NO_PASSWORD_FILE: &str = "there is no configuration file beside which the password file would be; name the password file with --file FILE";

/// An error that only the operator can remove.
#[derive(Debug)]
pub(crate) enum StartupError {
    /// Flags or configuration file are wrong.
    Configuration(Vec<ConfigError>),
    /// A flag of mosquitto that this broker does not have.
    ForeignFlag {
        /// The flag with its dashes.
        flag: String,
        /// The equivalent, as a sentence.
        hint: &'static str,
    },
    /// A file of the replaced product could not be converted.
    Import {
        /// The file that cannot be read or written.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A command on the password file failed.
    PasswordFile {
        /// The file.
        file: PathBuf,
        /// The reason, which follows the name of the file.
        reason: String,
    },
    /// A command on the tokens of operators failed.
    #[cfg(feature = "admin")]
    Tokens {
        /// The file.
        file: PathBuf,
        /// The reason, which follows the name of the file.
        reason: String,
    },
    /// No password file is named, and there is no configuration file beside which it would be.
    NoPasswordFile,
    /// A listener cannot serve as it is configured.
    Listener {
        /// Its name.
        listener: String,
        /// The reason, with its remedy; it follows the name.
        reason: String,
    },
    /// An argument of a subcommand is not what it must be.
    Argument {
        /// The argument.
        text: String,
        /// The thing that it must be.
        kind: &'static str,
    },
    /// A question was answered with a refusal, which was printed.
    Refused,
    /// Another process listens on this address.
    AddressInUse(SocketAddr),
    /// No network interface has this address.
    AddressUnavailable(SocketAddr),
    /// This machine has no network interface of the name in a link-local address.
    InterfaceMissing {
        /// The address with its interface.
        address: String,
        /// The error of the operating system.
        error: io::Error,
    },
    /// This user must not bind a port below 1024.
    PortForbidden(SocketAddr),
    /// The process cannot open another file or socket.
    TooManyOpenFiles {
        /// The attempted operation, as an infinitive.
        what: String,
    },
    /// The data directory cannot be created or written.
    DataDirUnwritable {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Another broker uses the data directory.
    DataDirInUse {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, if it left its process number.
        process: Option<u32>,
    },
    /// The log directory cannot be created or written.
    LogDirUnwritable {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The key that assigns sessions to shards cannot be read or created.
    PlacementKey {
        /// The file of the key.
        file: PathBuf,
        /// The reason, which follows the name of the file.
        reason: String,
    },
    /// The file of persistent subscriptions is damaged. It is not changed.
    SubscriptionsDamaged {
        /// The file.
        file: PathBuf,
        /// The reason, with line and column; it follows the name of the file.
        reason: String,
    },
    /// The file of persistent subscriptions could not be written.
    SubscriptionsUnwritten {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A file of a shard's log is not as it was written. It is not changed.
    JournalDamaged {
        /// The file.
        file: PathBuf,
        /// The reason, with the offset; it follows the name of the file.
        reason: String,
    },
    /// The broker answers, and its journal is not well.
    JournalUnwell {
        /// The state, with the remedy.
        state: &'static str,
    },
    /// `io_uring` was requested and is not available.
    IoUringMissing(io::Error),
    /// The broker has nothing of that name.
    NotFound {
        /// The absence as a sentence.
        sentence: String,
    },
    /// No broker listens for operators in a data directory.
    NoBroker {
        /// The directory.
        directory: PathBuf,
    },
    /// The broker cannot be reached by an operator, or gave no answer.
    BrokerUnreachable {
        /// Path of the socket or pipe.
        path: PathBuf,
        /// The error of the connection.
        error: io::Error,
    },
    /// An error of the system without a remedy of its own.
    System {
        /// The attempted operation, as an infinitive.
        what: String,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl StartupError {
    /// The error of listening on `address`.
    pub(crate) fn listen(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::AddressUnavailable(address),
            io::ErrorKind::PermissionDenied if address.port() < 1024 => Self::PortForbidden(address),
            _ => Self::system(format!("listen on {address}"), error),
        }
    }

    /// The fault of a listener's configuration, as a sentence that begins with the listener.
    pub(crate) fn listener(name: &str, reason: impl fmt::Display) -> Self {
        Self::Listener { listener: name.to_owned(), reason: reason.to_string() }
    }

    /// The error of setting up the `io_uring` that `--io uring` requests.
    pub(crate) fn io_uring(error: io::Error) -> Self {
        if out_of_files(&error) {
            Self::system("set up io_uring", error)
        } else {
            Self::IoUringMissing(error)
        }
    }

    /// The error of using the data directory.
    pub(crate) fn data_dir(directory: &Path, error: io::Error) -> Self {
        if out_of_files(&error) {
            return Self::system(format!("use the data directory {}", directory.display()), error);
        }
        Self::DataDirUnwritable { directory: directory.to_owned(), error }
    }

    /// The error of the attempt to `what`, an infinitive such as "start a thread".
    pub(crate) fn system(what: impl Into<String>, error: io::Error) -> Self {
        let what = what.into();
        if out_of_files(&error) { Self::TooManyOpenFiles { what } } else { Self::System { what, error } }
    }

    /// Prints it on standard error, one line for each error.
    pub(crate) fn print(&self) {
        // A closed standard error leaves nobody to report to.
        let _ = io::stderr().lock().write_all(self.lines().as_bytes());
    }

    /// 2 if flags or files of the operator are wrong, so that another attempt cannot succeed; 1 otherwise.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_)
            | Self::ForeignFlag { .. }
            | Self::Import { .. }
            | Self::Listener { .. }
            | Self::Argument { .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    fn lines(&self) -> String {
        let sentences = match self {
            Self::Configuration(errors) => errors.iter().map(ConfigError::to_string).collect(),
            Self::Refused => Vec::new(),
            other => vec![other.to_string()],
        };
        sentences.iter().flat_map(|sentence| ["mqtt-broker: error: ", sentence, "\n"]).collect()
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(errors) => {
                let sentences: Vec<String> = errors.iter().map(ConfigError::to_string).collect();
                write!(f, "{}", sentences.join("; "))
            }
            Self::ForeignFlag { flag, hint } => {
                write!(f, "{flag} is a flag of mosquitto and not of this broker: {hint}")
            }
            Self::Import { file, reason } | Self::PasswordFile { file, reason } => of_file(f, file, reason),
            #[cfg(feature = "admin")]
            Self::Tokens { file, reason } => write!(f, "the file {} {reason}", file.display()),
            Self::NoPasswordFile => f.write_str(NO_PASSWORD_FILE),
            Self::Listener { listener, reason } => write!(f, "the listener {listener} {reason}"),
            Self::Argument { text, kind } => write!(f, "{text:?} is no {kind} of MQTT"),
            Self::Refused => f.write_str("refused"),
            Self::AddressInUse(address) => address_in_use(f, *address),
            Self::AddressUnavailable(address) => address_unavailable(f, *address),
            Self::InterfaceMissing { address, error } => write!(
                f,
                "cannot listen on {address}: the network interface behind the % is not found: {error}; `ip link` lists the \
                 interfaces there are"
            ),
            Self::PortForbidden(address) => port_forbidden(f, *address),
            Self::TooManyOpenFiles { what } => write!(
                f,
                "cannot {what}: too many open files, the limit of this process is {}; raise it with \
                 `ulimit -n 100000`, with /etc/security/limits.d, or with LimitNOFILE= in the systemd unit",
                open_files::limit()
            ),
            Self::DataDirUnwritable { directory, error } => unwritable(f, "data", directory, error),
            Self::DataDirInUse { directory, process } => data_dir_in_use(f, directory, *process),
            Self::LogDirUnwritable { directory, error } => unwritable(f, "log", directory, error),
            Self::PlacementKey { file, reason } => write!(
                f,
                "{} {reason}; the file holds the key that assigns sessions to shards: put back a copy, let the user \
                 that runs the broker read and write it, or remove it so that the broker makes a new one",
                file.display()
            ),
            Self::SubscriptionsDamaged { file, reason } => write!(
                f,
                "{} {reason}; nothing was changed: repair the file, put back a copy, or move it away to \
                 start without the subscriptions it holds",
                file.display()
            ),
            Self::SubscriptionsUnwritten { file, error } => write!(
                f,
                "{} could not be written: {error}; the file holds an earlier state of the persistent subscriptions",
                file.display()
            ),
            Self::JournalDamaged { .. } | Self::JournalUnwell { .. } => of_journal(f, self),
            Self::IoUringMissing(error) => io_uring_missing(f, error),
            Self::NotFound { sentence } => f.write_str(sentence),
            Self::NoBroker { directory } => write!(
                f,
                "no broker runs with the data directory {}; pass the --data-dir or --config of the running broker",
                directory.display()
            ),
            Self::BrokerUnreachable { path, error } => write!(
                f,
                "the broker cannot be reached through {}: {error}; only the user that runs the broker may connect, and the \
                 broker's log shows whether it listens there",
                path.display()
            ),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

/// The sentences about the journal.
fn of_journal(f: &mut fmt::Formatter<'_>, error: &StartupError) -> fmt::Result {
    match error {
        StartupError::JournalDamaged { file, reason } => write!(
            f,
            "{}: {reason}; nothing was changed: put back a copy of the whole data directory, start the version that wrote it if that \
             is a later one, or move its directory `journal` away to start without the sessions and messages in it",
            file.display()
        ),
        StartupError::JournalUnwell { state } => {
            write!(f, "the journal is {state}; the log of the broker names the file")
        }
        _ => unreachable!("the caller passes errors of the journal"),
    }
}

fn of_file(f: &mut fmt::Formatter<'_>, file: &Path, reason: &str) -> fmt::Result {
    write!(f, "{}: {reason}", file.display())
}

fn address_in_use(f: &mut fmt::Formatter<'_>, address: SocketAddr) -> fmt::Result {
    let port = address.port();
    write!(
        f,
        "cannot listen on {address}: the port is already in use by another process; \
         `ss -ltnp 'sport = :{port}'` or `lsof -i :{port}` shows which one: stop it, or choose \
         another port with --port N"
    )
}

fn address_unavailable(f: &mut fmt::Formatter<'_>, address: SocketAddr) -> fmt::Result {
    write!(
        f,
        "cannot listen on {address}: no network interface of this machine has the address {}; \
         `ip address` lists the addresses there are: choose one of them with --bind ADDRESS",
        address.ip()
    )
}

fn port_forbidden(f: &mut fmt::Formatter<'_>, address: SocketAddr) -> fmt::Result {
    write!(
        f,
        "cannot listen on {address}: permission denied, because this user may not bind a port below \
         1024; choose a higher port with --port N, or allow it once with \
         `setcap cap_net_bind_service=+ep mqtt-broker`"
    )
}

/// The error of using the data or log directory, as `purpose` says.
fn unwritable(f: &mut fmt::Formatter<'_>, purpose: &str, directory: &Path, error: &io::Error) -> fmt::Result {
    let directory = directory.display();
    write!(f, "the {purpose} directory {directory} cannot be written: ")?;
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            write!(f, "a file is in its place; move the file away")?;
        }
        io::ErrorKind::PermissionDenied => {
            write!(f, "{error}; give it to the user that runs the broker (`chown -R mqtt {directory}`)")?;
        }
        io::ErrorKind::ReadOnlyFilesystem => write!(f, "{error}; mount its file system writable")?,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => write!(f, "{error}; make room there")?,
        _ => write!(f, "{error}; correct that")?,
    }
    write!(f, ", or choose another with --{purpose}-dir DIR")
}

fn data_dir_in_use(f: &mut fmt::Formatter<'_>, directory: &Path, process: Option<u32>) -> fmt::Result {
    write!(f, "the data directory {} is in use by another mqtt-broker", directory.display())?;
    if let Some(process) = process {
        write!(f, " (process {process})")?;
    }
    write!(f, "; stop that broker, or choose another directory with --data-dir DIR")
}

fn io_uring_missing(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    write!(
        f,
        "io_uring is not available: {error}; it needs Linux 5.13 or later (5.19 recommended) and \
         must not be forbidden by a container's seccomp profile, by sysctl kernel.io_uring_disabled or \
         by the limit of locked memory: start with --io auto or --io epoll to run without it"
    )
}

fn out_of_files(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => true,
        // Windows has no table of open files that can be full.
        #[cfg(unix)]
        Some(Errno::NFILE) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn check(error: &StartupError, parts: &[&str]) {
        let sentence = error.to_string();
        assert!(!sentence.contains('\n'), "one sentence is one line: {sentence}");
        for part in parts {
            assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
        }
    }

    #[test]
    fn a_port_in_use_names_the_command_that_finds_the_process_and_another_port() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        check(
            &StartupError::listen(address(1883), error),
            &["127.0.0.1:1883", "in use", "ss -ltnp", "lsof -i :1883", "--port"],
        );
    }

    #[test]
    fn a_low_port_names_the_capability_and_a_higher_port() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        check(
            &StartupError::listen(address(80), error),
            &["127.0.0.1:80", "permission denied", "1024", "cap_net_bind_service"],
        );
    }

    #[test]
    fn permission_denied_on_a_high_port_does_not_mention_low_ones() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = StartupError::listen(address(1883), error);
        assert!(matches!(error, StartupError::System { .. }), "{error}");
    }

    #[test]
    fn too_many_open_files_is_recognised_wherever_it_happens() {
        let exhausted = || io::Error::from(Errno::MFILE);
        let cures = &["too many open files", "ulimit -n", "limits.d", "LimitNOFILE"];
        check(&StartupError::listen(address(1883), exhausted()), cures);
        check(&StartupError::io_uring(exhausted()), cures);
        check(&StartupError::data_dir(Path::new("data"), exhausted()), cures);
        check(&StartupError::system("start a thread", exhausted()), cures);
    }

    #[test]
    fn io_uring_that_is_missing_names_the_kernel_and_the_way_around() {
        check(
            &StartupError::io_uring(io::ErrorKind::Unsupported.into()),
            &["5.13", "5.19", "seccomp", "--io epoll"],
        );
    }

    #[test]
    fn a_data_directory_names_itself_and_its_flag() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        check(&StartupError::data_dir(Path::new("some/data"), error), &["some/data", "chown", "--data-dir"]);
        let held = StartupError::DataDirInUse { directory: PathBuf::from("some/data"), process: Some(7) };
        check(&held, &["some/data", "in use", "process 7", "--data-dir"]);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_cured_by_its_cause() {
        let check = |error: io::Error, parts: &[&str], absent: &str| {
            for error in [
                StartupError::data_dir(Path::new("d"), io::Error::from(error.kind())),
                StartupError::LogDirUnwritable { directory: PathBuf::from("d"), error },
            ] {
                check(&error, parts);
                assert!(!error.to_string().contains(absent), "{error}");
            }
        };
        check(Errno::EXIST.into(), &["a file is in its place", "-dir DIR"], "chown");
        check(Errno::NOTDIR.into(), &["a file is in its place"], "chown");
        check(Errno::ACCESS.into(), &["chown -R mqtt d"], "a file");
        check(Errno::ROFS.into(), &["writable"], "chown");
        check(Errno::NOSPC.into(), &["make room"], "chown");
    }

    #[test]
    fn both_manuals_list_the_errors_by_the_words_of_their_sentences() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let listen = |kind: io::ErrorKind| StartupError::listen(address(80), kind.into());
        let file = PathBuf::new;
        let log_dir = StartupError::LogDirUnwritable { directory: file(), error: denied() };
        let subscriptions = StartupError::SubscriptionsDamaged {
            file: "subscriptions.json".into(),
            reason: "is damaged".to_owned(),
        };
        let key =
            StartupError::PlacementKey { file: "placement.key".into(), reason: "is damaged".to_owned() };
        let rows = [
            ("the port is already in use", listen(io::ErrorKind::AddrInUse)),
            ("too many open files", StartupError::io_uring(Errno::MFILE.into())),
            ("the listener … cannot use", StartupError::listener("x", "cannot use a.pem: the file is empty")),
            ("permission denied", listen(io::ErrorKind::PermissionDenied)),
            ("no network interface of this machine has the address", listen(io::ErrorKind::AddrNotAvailable)),
            (
                "the network interface behind the % is not found",
                StartupError::InterfaceMissing { address: "fe80::1%x".to_owned(), error: denied() },
            ),
            (
                "is a flag of mosquitto",
                StartupError::ForeignFlag { flag: "-c".to_owned(), hint: "write --config FILE" },
            ),
            ("io_uring is not available", StartupError::IoUringMissing(denied())),
            ("the data directory … cannot be written", StartupError::data_dir(&file(), denied())),
            (
                "the data directory … is in use",
                StartupError::DataDirInUse { directory: file(), process: None },
            ),
            ("the log directory … cannot be written", log_dir),
            ("subscriptions.json … damaged", subscriptions),
            ("placement.key … damaged", key),
            (
                "put back a copy of the whole data directory",
                StartupError::JournalDamaged { file: file(), reason: "offset 0: torn".to_owned() },
            ),
            ("the journal is", StartupError::JournalUnwell { state: "degraded" }),
            ("no broker runs with the data directory", StartupError::NoBroker { directory: file() }),
            (
                "the broker cannot be reached through",
                StartupError::BrokerUnreachable { path: file(), error: denied() },
            ),
        ];
        for (words, error) in rows {
            let parts: Vec<&str> = words.split(" … ").collect();
            check(&error, &parts);
            for manual in [include_str!("../deploy/README.md"), include_str!("../deploy/README.zh-CN.md")] {
                let is_listed =
                    manual.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{words}`")));
                assert!(is_listed, "a manual does not list `{words}`");
            }
        }
    }
}
