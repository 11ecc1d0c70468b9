//! The tokens of operators for `/v1`: data/tokens.json, which `mqtt-broker token` writes and the running broker reads.
//!
//! Invariant: the file has the hash of a token alone, so nobody who reads it can use one. A token has 160 random bits, so one fast hash
//! keeps it.

pub(crate) mod command;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crypto::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

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

fn hash(text: &str) -> String {
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    digest(&SHA256, text.as_bytes()).as_ref().iter().flat_map(digits).collect()
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

    #[test]
    fn a_hash_is_sha_256_in_hexadecimal_digits() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
