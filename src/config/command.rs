//! The subcommands of `mqtt-broker config`: check, show, default and import.
//! They start no broker and open no socket.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::class::Class;
use super::from_mosquitto::Imported;
use super::{Config, Effective, GivenFlag, Origin, default_file, from_mosquitto, import};
use crate::error::StartupError;

/// Subcommands of `mqtt-broker config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report every error in a configuration file, with its line
    Check {
        /// The file to check [default: the one that the broker would read]
        file: Option<PathBuf>,
    },
    /// Print the configuration in force and the origin of each value
    Show,
    /// Print what differs between the running broker of this data directory and its configuration now, and what a restart needs
    Diff {
        /// Print JSON, one object a line, instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every key, its meaning and its default
    Default,
    /// Convert mosquitto.conf, mosquitto's dynamic-security.json, or a data/config.json of the replaced product into a broker.conf
    ///
    /// Standard error tells line by line what was taken over, and what could not be.
    Import {
        /// The file to read
        file: PathBuf,
        /// The file to write, which must not exist yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Runs the subcommand. `file` and `flags` are those that the broker would start with. `diff` asks the running broker what a reload would
/// change, and prints it as JSON or as a table.
///
/// # Errors
/// The errors of the configuration, or of a file that cannot be read or written.
pub(crate) fn run(
    command: &ConfigCommand,
    file: Option<&Path>,
    flags: &[GivenFlag],
    diff: impl FnOnce(&Config, bool) -> Result<(), StartupError>,
) -> Result<(), StartupError> {
    let text = match command {
        ConfigCommand::Check { file: named } => check(named.as_deref().or(file), flags)?,
        ConfigCommand::Show => show(&load(file, flags)?),
        ConfigCommand::Diff { json } => return diff(&load(file, flags)?.config, *json),
        ConfigCommand::Default => default_file(),
        ConfigCommand::Import { file, output } => import_file(file, output.as_deref())?,
    };
    // A reader that closes early, such as `head`, has read enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn check(file: Option<&Path>, flags: &[GivenFlag]) -> Result<String, StartupError> {
    let effective = load(file, flags)?;
    let count = |is_it: fn(&Origin) -> bool| effective.rows().filter(|(_, _, origin)| is_it(origin)).count();
    let in_file = count(|origin| matches!(origin, Origin::File { .. }));
    let elsewhere = count(|origin| matches!(origin, Origin::Variable(_) | Origin::Flag(_)));
    let mut text = match &effective.file {
        Some(file) => {
            let tables = match effective.tables().len() {
                0 => String::new(),
                1 => ", 1 table".to_owned(),
                tables => format!(", {tables} tables"),
            };
            format!("{}: ok, {in_file} of {} keys set{tables}", file.display(), effective.rows().count())
        }
        None if elsewhere > 0 => "no configuration file found: ok".to_owned(),
        None => "no configuration file found: the defaults are in force".to_owned(),
    };
    if elsewhere > 0 {
        let _ = write!(text, "; {elsewhere} set by environment and flags");
    }
    Ok(text + "\n")
}

/// The configuration; notices about the environment go to standard error.
fn load(file: Option<&Path>, flags: &[GivenFlag]) -> Result<Effective, StartupError> {
    let effective = Effective::load(file, flags).map_err(StartupError::Configuration)?;
    let mut errors = io::stderr().lock();
    for notice in &effective.notices {
        // A closed standard error leaves nobody to report to.
        let kind = if notice.is_warning() { "warning" } else { "note" };
        let _ = writeln!(errors, "mqtt-broker: {kind}: {notice}");
    }
    Ok(effective)
}

fn show(effective: &Effective) -> String {
    let comment = |path: &str, origin: &Origin| format!("{origin}; change: {}", Class::of(path));
    let flat = effective
        .rows()
        .map(|(setting, value, origin)| (format!("{} = {value}", setting.key), comment(setting.key, origin)));
    let mut text = aligned(&flat.collect::<Vec<_>>());
    for table in effective.tables() {
        let path = table.header.trim_matches(['[', ']']);
        let keys = table.rows.iter().map(|(key, value, origin)| {
            (format!("{key} = {value}"), comment(&format!("{path}.{key}"), origin))
        });
        let header = (table.header.clone(), table.origin.to_string());
        let rows: Vec<_> = [header].into_iter().chain(keys).collect();
        text.push('\n');
        text.push_str(&aligned(&rows));
    }
    text
}

/// Lines, each with a comment.
fn aligned(rows: &[(String, String)]) -> String {
    const WIDTH_MAX: usize = 60;
    let width =
        rows.iter().map(|(line, _)| line.len()).filter(|&width| width <= WIDTH_MAX).max().unwrap_or_default();
    let mut text = String::new();
    for (line, comment) in rows {
        let _ = writeln!(text, "{line:width$}  # {comment}");
    }
    text
}

fn import_file(file: &Path, output: Option<&Path>) -> Result<String, StartupError> {
    let refused = |file: &Path, reason: String| StartupError::Import { file: file.to_owned(), reason };
    let input = fs::read_to_string(file).map_err(|error| refused(file, super::reason(&error)))?;
    let imported = if input.trim_start().starts_with(['{', '[']) {
        match serde_json::from_str(&input) {
            Ok(json) if from_mosquitto::is_dynamic_security(&json) => {
                from_mosquitto::convert_dynamic_security(&json)
            }
            _ => {
                let config = import::convert(&input).map_err(|reason| refused(file, reason))?;
                Imported { config, ..Imported::default() }
            }
        }
    } else {
        from_mosquitto::convert(file, &input, &|path| fs::read_to_string(path))
    };
    let mut errors = io::stderr().lock();
    for line in &imported.report {
        // A closed standard error leaves nobody to report to.
        let _ = writeln!(errors, "{line}");
    }
    let text = format!("# Imported from {}\n{}", file.display(), imported.config);
    let Some(output) = output else {
        if !imported.passwords.is_empty() {
            let _ = writeln!(
                errors,
                "passwords are written beside the file that --output names; without it they are left out"
            );
        }
        return Ok(text);
    };
    let mut written = String::new();
    if !imported.passwords.is_empty() {
        let passwords = output.with_file_name(from_mosquitto::PASSWORDS);
        create(&passwords, &imported.passwords, true).map_err(|reason| refused(&passwords, reason))?;
        let _ = writeln!(written, "{} written", passwords.display());
    }
    create(output, &text, false).map_err(|reason| refused(output, reason))?;
    let path = output.display();
    let _ = writeln!(written, "{path} written; `mqtt-broker config check {path}` checks it");
    Ok(written)
}

/// Writes a file that must not exist yet; a secret one is for this user alone.
fn create(file: &Path, text: &str, is_secret: bool) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = is_secret;
    options.open(file).and_then(|mut target| target.write_all(text.as_bytes())).map_err(|error| {
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "the file exists already; remove it, or name another with --output".to_owned()
            }
            _ => format!("the file cannot be written: {error}"),
        }
    })
}
