//! The tokens of operators for `/v1`: data/tokens.json, which `mqtt-broker token` writes and the running broker reads.
//!
//! Invariant: the file has the hash of a token alone, so nobody who reads it can use one. A token has 160 random bits, so one fast hash
//! keeps it.

pub(crate) mod command;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::auth::token_hash;
#[cfg(unix)]
use crate::auth::{OperatorToken, Operators};
use crate::process::atomic_file::{self, Readers};

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// The actions that a token permits. Each scope has those of the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// See everything but payloads
    Read,
    /// Read payloads, publish, disconnect clients and ban them
    Operate,
    /// Everything
    Admin,
}

impl Scope {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// A token as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// The name under which its changes are logged.
    pub(crate) name: String,
    /// The actions that it permits.
    pub(crate) scope: Scope,
    /// When it was made, in seconds since 1970.
    pub(crate) created_s: u64,
    /// SHA-256 of its text, in hexadecimal digits.
    sha256: String,
}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    tokens: Vec<Token>,
}

/// The file of tokens of a data directory.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("tokens.json")
}

/// The tokens of a data directory; none without a file.
///
/// # Errors
/// If the file cannot be read, or is not in its form.
pub(crate) fn load(data_dir: &Path) -> io::Result<Vec<Token>> {
    let path = path(data_dir);
    match fs::metadata(&path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let content: Content = serde_json::from_slice(&fs::read(path)?)?;
    Ok(content.tokens)
}

/// Writes the file, which only its owner can read.
fn store(data_dir: &Path, tokens: Vec<Token>) -> io::Result<()> {
    atomic_file::replace(&path(data_dir), Readers::Owner, |out| {
        serde_json::to_writer_pretty(&mut *out, &Content { tokens })?;
        out.write_all(b"\n")
    })
}

/// The token with this text.
pub(crate) fn find<'a>(tokens: &'a [Token], text: &str) -> Option<&'a Token> {
    let hash = hash(text);
    tokens.iter().find(|token| bool::from(token.sha256.as_bytes().ct_eq(hash.as_bytes())))
}

/// Has the page's clients judged by the tokens that the file has now. A file with a fault has none.
#[cfg(unix)]
pub(crate) fn offer(data_dir: &Path, operators: &Operators) {
    let tokens = load(data_dir).unwrap_or_default().into_iter().map(|token| OperatorToken {
        reads_payloads: token.scope >= Scope::Operate,
        name: token.name,
        sha256: token.sha256,
    });
    operators.replace(tokens.collect());
}

fn hash(text: &str) -> String {
    token_hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn a_token_is_found_by_its_text_alone_and_the_file_does_not_have_that() {
        let scratch = Scratch::new("tokens");
        let directory = scratch.path();
        assert_eq!(load(directory).unwrap(), []);
        let text = "a token";
        let token = Token { name: "board".to_owned(), scope: Scope::Read, created_s: 7, sha256: hash(text) };
        store(directory, vec![token.clone()]).unwrap();
        let tokens = load(directory).unwrap();
        assert_eq!(find(&tokens, text), Some(&token));
        assert_eq!(find(&tokens, "another token"), None);
        assert_eq!(find(&tokens, &token.sha256), None);
        assert!(!fs::read_to_string(path(directory)).unwrap().contains(text));
        fs::write(path(directory), "{}").unwrap();
        assert!(load(directory).is_err());
    }
}
