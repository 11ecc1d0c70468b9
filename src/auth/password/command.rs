//! The subcommands of `mqtt-broker user`: add, passwd, delete, list and import. They edit the password file and need no running
//! broker. A password is typed, or read from standard input; it is never an argument, which other users of the machine could see.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::device_key;
use super::edit::{edit, read};
use super::file::{NAME_RULE, PasswordFile, is_name, sentence, with_user, without_user};
use super::hash::{HashMemory, StoredHash};
use super::prepared::prepare_name;
use crate::error::StartupError;

/// The reason why a name cannot be proved by SCRAM.
const SCRAM_NAME_RULE: &str = "SCRAM compares names in the form of SASLprep, which this one does not have: write it without \
    invisible and control characters, and with plain letters in place of wide ones and ligatures";

/// Bytes of a password at most: what MQTT can carry [MQTT-3.1.3-12].
const PASSWORD_BYTES_MAX: usize = 65_535;

/// The password file if none is named, beside the configuration file.
const DEFAULT_NAME: &str = "passwords";

/// The end of a deletion that leaves no user: a broker that runs takes a file that becomes empty for a fault.
const LAST_DELETED: &str =
    "the file has no users now; a running broker keeps the last ones until it is restarted\n";

/// Arguments of `mqtt-broker user`.
#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    /// The password file [default: `file` of [auth.password], or `passwords` beside the configuration file]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: UserCommand,
}

/// Subcommands of `mqtt-broker user`.
#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user; the password is typed, or is the first line of standard input
    Add {
        /// Name of the user
        name: String,
        /// Invent a key for a machine and print it: 160 random bits, which need no slow hash
        #[arg(long, conflicts_with = "scram")]
        device: bool,
        /// Store a SCRAM-SHA-256 verifier, with which a client can prove its password without sending it
        #[arg(long)]
        scram: bool,
    },
    /// Change a user's password, or invent a new key if the user is a device
    Passwd {
        /// Name of the user
        name: String,
        /// Store a SCRAM-SHA-256 verifier
        #[arg(long)]
        scram: bool,
    },
    /// Delete a user
    Delete {
        /// Name of the user
        name: String,
    },
    /// List the users with the kinds of their hashes
    List,
    /// Add the users of another password file, such as mosquitto's, with their hashes as they are
    Import {
        /// The file to read
        from: PathBuf,
    },
}

/// A refusal of a command: the reason, as a sentence that follows the name of the file.
struct Refusal(String);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<getrandom::Error> for Refusal {
    fn from(error: getrandom::Error) -> Self {
        Self(format!("the system gives no random bytes: {error}"))
    }
}

/// The form in which a password is stored.
#[derive(Clone, Copy)]
enum Form {
    Argon2id,
    Scram,
    DeviceKey,
}

impl Form {
    fn scram(is_scram: bool) -> Self {
        if is_scram { Self::Scram } else { Self::Argon2id }
    }
}

/// Runs the subcommand. `configured` is the password file that the configuration names, and `configuration` the file that the broker
/// would read, if there is one.
///
/// # Errors
/// If the password file cannot be found, read or written, or the command does not fit its users.
pub(crate) fn run(
    arguments: &UserArguments,
    configured: Option<&Path>,
    configuration: Option<&Path>,
    data_dir: &Path,
) -> Result<(), StartupError> {
    let beside = configuration.map(|configuration| configuration.with_file_name(DEFAULT_NAME));
    let named = arguments.file.as_deref().or(configured).map(Path::to_path_buf);
    let file = named.or(beside).ok_or(StartupError::NoPasswordFile)?;
    let users = Users { file: &file, data_dir };
    let text = users
        .run(&arguments.command)
        .map_err(|Refusal(reason)| StartupError::PasswordFile { file: file.clone(), reason })?;
    // A reader that closes early has read enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// The password file that a command works on.
struct Users<'a> {
    file: &'a Path,
    data_dir: &'a Path,
}

impl Users<'_> {
    /// Runs a command, and returns the text to print.
    fn run(&self, command: &UserCommand) -> Result<Zeroizing<String>, Refusal> {
        match command {
            UserCommand::Add { name, device: true, .. } => self.set(name, Form::DeviceKey, false),
            UserCommand::Add { name, device: false, scram } => self.set(name, Form::scram(*scram), false),
            UserCommand::Passwd { name, scram } => {
                let is_device = matches!(self.parse()?.find(name), Some(StoredHash::DeviceKey(_)));
                let form = if is_device { Form::DeviceKey } else { Form::scram(*scram) };
                self.set(name, form, true)
            }
            UserCommand::Delete { name } => self.delete(name),
            UserCommand::List => self.list(),
            UserCommand::Import { from } => self.import(from),
        }
    }

    fn parse(&self) -> Result<PasswordFile, Refusal> {
        parse(&read(self.file)?)
    }

    /// Sets the password of `name`, who must exist or must not.
    fn set(&self, name: &str, form: Form, exists: bool) -> Result<Zeroizing<String>, Refusal> {
        if !is_name(name) {
            return Err(Refusal(NAME_RULE.to_owned()));
        }
        if matches!(form, Form::Scram) && prepare_name(name).as_deref() != Some(name) {
            return Err(Refusal(SCRAM_NAME_RULE.to_owned()));
        }
        let (hash, told) = match form {
            Form::DeviceKey => {
                let key = device_key::generate()?;
                let told = Zeroizing::new(format!("{}\n", *key));
                (StoredHash::device_key(key.as_bytes()), told)
            }
            Form::Argon2id => {
                let password = ask()?;
                let hash = StoredHash::argon2id(password.as_bytes(), &mut HashMemory::default())?;
                (hash, Zeroizing::default())
            }
            Form::Scram => (StoredHash::scram(ask()?.as_bytes())?, Zeroizing::default()),
        };
        edit(self.file, self.data_dir, |text| match (parse(text)?.find(name), exists) {
            (Some(_), false) => {
                Err(Refusal(format!("the user {name:?} exists; `mqtt-broker user passwd` changes it")))
            }
            (None, true) => Err(unknown(name)),
            (Some(_), true) | (None, false) => Ok(with_user(text, name, &hash)),
        })?;
        Ok(told)
    }

    fn delete(&self, name: &str) -> Result<Zeroizing<String>, Refusal> {
        // A file that is missing is not made in order to find nobody in it.
        self.parse()?;
        edit(self.file, self.data_dir, |text| match parse(text)?.find(name) {
            Some(_) => Ok(without_user(text, name)),
            None => Err(unknown(name)),
        })?;
        let is_last = self.parse()?.users().len() == 0;
        Ok(Zeroizing::new(if is_last { LAST_DELETED.to_owned() } else { String::new() }))
    }

    fn list(&self) -> Result<Zeroizing<String>, Refusal> {
        let file = self.parse()?;
        let width = file.users().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let mut text = Zeroizing::new(String::new());
        for (name, hash) in file.users() {
            let weak = if hash.is_weak() { ", weak: set the password again" } else { "" };
            let _ = writeln!(text, "{name:width$}  {}{weak}", hash.kind());
        }
        Ok(text)
    }

    /// Adds the users of `from`. One that exists with another hash is left as it is, and told.
    fn import(&self, from: &Path) -> Result<Zeroizing<String>, Refusal> {
        let of_source = |reason: &str| Refusal(format!("{} cannot be imported: {reason}", from.display()));
        let source = read(from).map_err(|error| of_source(&error.to_string()))?;
        let source = PasswordFile::parse(&source).map_err(|faults| of_source(&sentence(&faults)))?;
        let mut told = Zeroizing::new(String::new());
        edit(self.file, self.data_dir, |text| {
            let own = parse(text)?;
            let mut edited = text.to_owned();
            let mut added = 0;
            for (name, hash) in source.users() {
                match own.find(name) {
                    None => {
                        edited = with_user(&edited, name, hash);
                        added += 1;
                    }
                    Some(found) if found == hash => {}
                    Some(_) => {
                        let _ = writeln!(told, "{name}: left as it is, because its hash differs");
                    }
                }
            }
            let weak = source.users().filter(|(_, hash)| hash.is_weak()).count();
            let _ = writeln!(told, "{added} of {} users added", source.users().len());
            if weak > 0 {
                let _ = writeln!(told, "{weak} have weak hashes, which `mqtt-broker user list` names");
            }
            Ok::<_, Refusal>(edited)
        })?;
        Ok(told)
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal(format!("there is no user {name:?}; `mqtt-broker user list` shows the users"))
}

fn parse(text: &str) -> Result<PasswordFile, Refusal> {
    PasswordFile::parse(text).map_err(|faults| Refusal(sentence(&faults)))
}

/// The password: typed twice at a terminal, or the first line of standard input.
fn ask() -> Result<Zeroizing<String>, Refusal> {
    let password = if io::stdin().is_terminal() { ask_terminal()? } else { read_line(io::stdin().lock())? };
    if password.is_empty() {
        return Err(Refusal("a password must not be empty".to_owned()));
    }
    Ok(password)
}

fn ask_terminal() -> Result<Zeroizing<String>, Refusal> {
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let second = Zeroizing::new(rpassword::prompt_password("Once more: ")?);
    if first == second { Ok(first) } else { Err(Refusal("the two passwords differ".to_owned())) }
}

/// The first line, without its end.
fn read_line(input: impl io::BufRead) -> Result<Zeroizing<String>, Refusal> {
    // Room for everything, so that no copy of a part is left behind.
    let mut line = Zeroizing::new(String::with_capacity(PASSWORD_BYTES_MAX + 2));
    input.take(PASSWORD_BYTES_MAX as u64 + 2).read_line(&mut line)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    if length > PASSWORD_BYTES_MAX {
        return Err(Refusal(format!("a password of MQTT has at most {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_standard_input_is_the_password() {
        let line = |input: &str| {
            read_line(input.as_bytes()).map(|line| line.to_string()).map_err(|Refusal(reason)| reason)
        };
        assert_eq!(line("secret\nmore\n"), Ok("secret".to_owned()));
        assert_eq!(line(" se cret \r\n"), Ok(" se cret ".to_owned()));
        assert_eq!(line("secret"), Ok("secret".to_owned()));
        assert_eq!(line(&"x".repeat(PASSWORD_BYTES_MAX)).map(|line| line.len()), Ok(PASSWORD_BYTES_MAX));
        assert!(line(&"x".repeat(PASSWORD_BYTES_MAX + 1)).unwrap_err().contains("at most"));
    }
}
