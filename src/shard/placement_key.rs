//! The key of the hash that assigns client identifiers and topics to shards, kept in the data directory.
//! The key must persist: with a new one after each start, restored sessions would belong to other shards than their
//! clients. It must be secret: with a known key, a peer could choose its shard and overload it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use engine::Entropy;

use crate::error::StartupError;
use crate::process::atomic_file::{self, Readers};

const FILE: &str = "placement.key";

/// 128 bits, four bits for each digit.
const HEX_DIGITS: usize = 32;

/// The key of `data_dir`. The first start draws it and writes the file.
///
/// # Errors
/// If the file contains anything but a key, or cannot be read or created. It is not changed.
pub(crate) fn key(data_dir: &Path) -> Result<Entropy, StartupError> {
    let file = data_dir.join(FILE);
    let unusable = |reason: String| StartupError::PlacementKey { file: file.clone(), reason };
    match fs::read_to_string(&file) {
        Ok(text) => parse(&text).ok_or_else(|| {
            unusable(format!("is damaged: it must hold {HEX_DIGITS} hexadecimal digits on one line"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = draw()?;
            atomic_file::replace(&file, Readers::Owner, |target| writeln!(target, "{:032x}", key.0))
                .map_err(|error| unusable(format!("cannot be written: {error}")))?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(unusable("is damaged: it is not text".to_owned()))
        }
        Err(error) => Err(unusable(format!("cannot be read: {error}"))),
    }
}

/// 128 unpredictable bits.
///
/// # Errors
/// If the system provides no random bytes.
pub(crate) fn draw() -> Result<Entropy, StartupError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StartupError::system("draw random bytes", io::Error::other(error)))?;
    Ok(Entropy(u128::from_ne_bytes(bytes)))
}

fn parse(text: &str) -> Option<Entropy> {
    let digits = text.trim_end();
    let is_key = digits.len() == HEX_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_key { u128::from_str_radix(digits, 16).ok().map(Entropy) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn the_key_is_made_once_for_the_owner_alone_and_found_again() {
        let scratch = Scratch::new("placement_made");
        let first = key(scratch.path()).unwrap();
        assert_eq!(key(scratch.path()).unwrap().0, first.0);
        let other = Scratch::new("placement_other");
        assert_ne!(key(other.path()).unwrap().0, first.0);
        let names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "no temporary file stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(scratch.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_key_is_reported_and_left_alone() {
        let scratch = Scratch::new("placement_damaged");
        let file = scratch.path().join(FILE);
        let short = "0".repeat(HEX_DIGITS - 1);
        for content in ["", "\n", &short, &format!("+{short}"), &format!("{short}00"), &format!("{short}g")] {
            fs::write(&file, content).unwrap();
            let sentence = key(scratch.path()).unwrap_err().to_string();
            for part in [FILE, "damaged", "hexadecimal", "put back a copy", "remove it"] {
                assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
        fs::write(&file, [0xFF; HEX_DIGITS]).unwrap();
        assert!(key(scratch.path()).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_key_that_cannot_be_read_or_made_is_reported() {
        let scratch = Scratch::new("placement_unreadable");
        fs::create_dir(scratch.path().join(FILE)).unwrap();
        assert!(key(scratch.path()).unwrap_err().to_string().contains("cannot be read"));
        let gone = scratch.path().join("gone");
        assert!(key(&gone).unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn every_key_survives_its_file() {
        for number in [0, 1, u128::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(parse(&format!("{number:032x}\n")).map(|key| key.0), Some(number));
        }
    }
}
