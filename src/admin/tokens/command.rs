//! `mqtt-broker token`: makes, lists and removes the tokens of operators. Only the user of the broker can write its data directory.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Subcommand;

use super::{Scope, Token, hash, load, path, store};
use crate::auth::password::device_key;
use crate::error::StartupError;
use crate::process::clock;

/// The longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A command on the tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it this once
    Add {
        /// Name under which its changes are logged
        name: String,
        /// Actions that it permits
        #[arg(long, value_enum, default_value = "read")]
        scope: Scope,
    },
    /// List the tokens, without their texts
    List,
    /// Remove a token, which is refused from then on
    Remove {
        /// Its name
        name: String,
    },
}

/// Runs the command on the tokens of a data directory.
///
/// # Errors
/// If the name is taken or unknown, or the file cannot be read or written.
pub(crate) fn run(command: &TokenCommand, data_dir: &Path) -> Result<(), StartupError> {
    let fault = |reason: String| StartupError::Tokens { file: path(data_dir), reason };
    let mut tokens = load(data_dir).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let write =
        |tokens| store(data_dir, tokens).map_err(|error| fault(format!("cannot be written: {error}")));
    match command {
        TokenCommand::Add { name, scope } => {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Err(fault(format!(
                    "takes names of 1 to {NAME_BYTES_MAX} bytes without control characters, not {name:?}"
                )));
            }
            if tokens.iter().any(|token| token.name == *name) {
                return Err(fault(format!(
                    "has a token {name:?} already; remove it first, or take another name"
                )));
            }
            fs::create_dir_all(data_dir).map_err(|error| fault(format!("cannot be written: {error}")))?;
            let text =
                device_key::generate().map_err(|error| fault(format!("cannot be written: {error}")))?;
            let (name, scope, created_s) = (name.clone(), *scope, clock::unix_s());
            tokens.push(Token { name, scope, created_s, sha256: hash(&text) });
            write(tokens)?;
            print(&text);
            Ok(())
        }
        TokenCommand::List => {
            for token in &tokens {
                print(&format!("name={:?} scope={}", token.name, token.scope.name()));
            }
            Ok(())
        }
        TokenCommand::Remove { name } => {
            let before = tokens.len();
            tokens.retain(|token| token.name != *name);
            if tokens.len() == before {
                return Err(fault(format!("has no token {name:?}")));
            }
            write(tokens)
        }
    }
}

/// Prints a line.
fn print(line: &str) {
    // A closed standard output leaves no reader for the line.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
