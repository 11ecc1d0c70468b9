//! The password file: one user a line, `NAME:HASH`, with empty lines and lines that begin with `#` left alone.
//! Invariant: a name occurs once, so that no line hides another.

use std::collections::BTreeMap;
use std::fmt;

use super::hash::{HashFault, StoredHash};

/// Bytes of a user name at most: what MQTT can carry [MQTT-1.5.4-1].
const NAME_BYTES_MAX: usize = 65_535;

/// The users of a password file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PasswordFile {
    users: BTreeMap<String, StoredHash>,
    /// The hash that takes the most time.
    costliest: Option<StoredHash>,
}

/// A line that is not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineFault {
    /// Number of the line, from 1.
    pub(crate) line: usize,
    kind: LineFaultKind,
}

/// The reasons for which a line is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineFaultKind {
    /// No colon.
    NoColon,
    /// A name that is empty, too long, or holds a control character.
    Name,
    /// A name that an earlier line has.
    Repeated,
    /// A hash that is not read.
    Hash(HashFault),
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.kind {
            LineFaultKind::NoColon => f.write_str("a user is written NAME:HASH, and this line has no colon"),
            LineFaultKind::Name => f.write_str(NAME_RULE),
            LineFaultKind::Repeated => {
                f.write_str("an earlier line has the same user; delete one of the two")
            }
            LineFaultKind::Hash(fault) => write!(f, "{fault}"),
        }
    }
}

/// The first faults in one sentence.
pub(crate) fn sentence(faults: &[LineFault]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<String> = faults.iter().take(SHOWN_MAX).map(LineFault::to_string).collect();
    let more = match faults.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    shown.join("; ") + &more
}

/// The rule of names, as a sentence.
pub(crate) const NAME_RULE: &str = "a user name has 1 to 65535 bytes, no colon and no control character, begins with neither # nor a space, and does not end with one";

/// True if the file can hold a user of this name.
pub(crate) fn is_name(name: &str) -> bool {
    let is_long_enough = (1..=NAME_BYTES_MAX).contains(&name.len());
    let is_plain = !name.contains(|character: char| character == ':' || character.is_control());
    is_long_enough && is_plain && !name.starts_with('#') && name.trim() == name
}

impl PasswordFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every line that is not read.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<LineFault>> {
        let (mut file, mut faults) = (Self::default(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let added = match parse_line(line) {
                None => continue,
                Some(Ok((name, _))) if file.users.contains_key(name) => Err(LineFaultKind::Repeated),
                Some(Ok((name, hash))) => {
                    file.users.insert(name.to_owned(), hash);
                    Ok(())
                }
                Some(Err(kind)) => Err(kind),
            };
            faults.extend(added.err().map(|kind| LineFault { line: at + 1, kind }));
        }
        file.costliest = file.users.values().max_by_key(|hash| hash.cost()).cloned();
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// Bytes of the users, in a tree whose nodes are between half full and full.
    pub(crate) fn bytes(&self) -> usize {
        let entry = size_of::<(String, StoredHash)>() * 3 / 2 + 8;
        self.users.iter().map(|(name, hash)| entry + name.len() + hash.heap_bytes()).sum()
    }

    /// The hash of a user.
    pub(crate) fn find(&self, name: &str) -> Option<&StoredHash> {
        self.users.get(name)
    }

    /// The hash that takes the most time, unless there is no user: a wrong password and an unknown user take as much.
    pub(crate) fn costliest(&self) -> Option<&StoredHash> {
        self.costliest.as_ref()
    }

    /// The users by name.
    pub(crate) fn users(&self) -> impl ExactSizeIterator<Item = (&str, &StoredHash)> {
        self.users.iter().map(|(name, hash)| (name.as_str(), hash))
    }
}

/// The user of a line, unless the line is empty or a comment.
fn parse_line(line: &str) -> Option<Result<(&str, StoredHash), LineFaultKind>> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let Some((name, hash)) = line.split_once(':') else { return Some(Err(LineFaultKind::NoColon)) };
    if !is_name(name) {
        return Some(Err(LineFaultKind::Name));
    }
    Some(StoredHash::parse(hash).map(|hash| (name, hash)).map_err(LineFaultKind::Hash))
}

/// `text` with the line of `name` replaced by one with `hash`, or appended. Other lines stay as they are.
pub(crate) fn with_user(text: &str, name: &str, hash: &StoredHash) -> String {
    let line = format!("{name}:{}\n", hash.to_line());
    let mut is_placed = false;
    let mut edited: String = lines(text)
        .map(|old| {
            if is_line_of(old, name) {
                is_placed = true;
                line.clone()
            } else {
                ended(old)
            }
        })
        .collect();
    if !is_placed {
        edited.push_str(&line);
    }
    edited
}

/// `text` without the line of `name`.
pub(crate) fn without_user(text: &str, name: &str) -> String {
    lines(text).filter(|line| !is_line_of(line, name)).map(ended).collect()
}

/// The lines with their ends.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
}

fn ended(line: &str) -> String {
    if line.ends_with('\n') { line.to_owned() } else { format!("{line}\n") }
}

fn is_line_of(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> StoredHash {
        StoredHash::device_key(text.as_bytes())
    }

    #[test]
    fn comments_and_empty_lines_are_left_alone_and_ends_of_lines_are_of_either_kind() {
        let line = key("k").to_line();
        let file = PasswordFile::parse(&format!("# users\n\nalice:{line}\r\nöl lampe:{line} \n")).unwrap();
        let names: Vec<&str> = file.users().map(|(name, _)| name).collect();
        assert_eq!(names, ["alice", "öl lampe"]);
        assert_eq!(file.find("alice"), Some(&key("k")));
        assert_eq!(file.find("Alice"), None);
    }

    #[test]
    fn the_costliest_hash_is_known() {
        let costliest = |lines: &[&str]| {
            let text: String = lines
                .iter()
                .zip('a'..)
                .flat_map(|(line, name)| [name.to_string(), format!(":{line}\n")])
                .collect();
            PasswordFile::parse(&text).unwrap().costliest().map(StoredHash::to_line)
        };
        let output = "A".repeat(43);
        let device = key("k").to_line();
        let pbkdf2 = format!("$7$101$AAAA${output}=");
        let scram = format!("SCRAM-SHA-256$4096:AAAA${output}=:{output}=");
        let argon2id = format!("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ${output}");
        assert_eq!(costliest(&[]), None);
        assert_eq!(costliest(&[&device]), Some(device.clone()));
        assert_eq!(costliest(&[&pbkdf2, &device]), Some(pbkdf2.clone()));
        assert_eq!(costliest(&[&scram, &pbkdf2]), Some(scram.clone()));
        assert_eq!(costliest(&[&device, &argon2id, &scram]), Some(argon2id));
    }

    #[test]
    fn every_line_that_is_not_read_is_told() {
        let line = key("k").to_line();
        let text = format!("alice:{line}\nbob\n:{line}\nalice:{line}\ncarol:secret\n a:{line}\n");
        let faults = PasswordFile::parse(&text).unwrap_err();
        let found: Vec<(usize, LineFaultKind)> =
            faults.iter().map(|fault| (fault.line, fault.kind)).collect();
        let expected = [
            (2, LineFaultKind::NoColon),
            (3, LineFaultKind::Name),
            (4, LineFaultKind::Repeated),
            (5, LineFaultKind::Hash(HashFault::UnknownForm)),
            (6, LineFaultKind::Name),
        ];
        assert_eq!(found, expected);
        for fault in faults {
            let sentence = fault.to_string();
            assert!(sentence.starts_with("line ") && !sentence.contains("secret"), "{sentence}");
        }
    }

    #[test]
    fn an_edit_keeps_the_other_lines() {
        let (one, two) = (key("1"), key("2"));
        let text = format!("# fleet\nbob:{}\n", one.to_line());
        let added = with_user(&text, "bo", &two);
        assert_eq!(added, format!("{text}bo:{}\n", two.to_line()), "no prefix of a name is the name");
        let changed = with_user(&added, "bob", &two);
        assert_eq!(changed, format!("# fleet\nbob:{0}\nbo:{0}\n", two.to_line()));
        assert_eq!(without_user(&changed, "bob"), format!("# fleet\nbo:{}\n", two.to_line()));
        assert_eq!(with_user("# no end", "a", &one), format!("# no end\na:{}\n", one.to_line()));
    }

    #[test]
    fn names_that_a_line_cannot_hold_are_refused() {
        for name in ["", "a:b", "#a", " a", "a ", "a\nb", "a\u{7f}", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["a", "a b", "a#b", "ä", &"a".repeat(NAME_BYTES_MAX)] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
