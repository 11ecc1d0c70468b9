//! The reader of the password file. Any content gives users or faults with the numbers of their lines, and an edit changes one
//! user.

use crate::auth::file::{PasswordFile, is_name, with_user, without_user};
use crate::auth::hash::StoredHash;

/// # Panics
/// If the reader or an edit violates a guarantee.
pub fn check(input: &[u8]) {
    // The broker refuses a file that is not UTF-8 earlier.
    let Ok(text) = str::from_utf8(input) else { return };
    let file = match PasswordFile::parse(text) {
        Ok(file) => file,
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                let sentence = fault.to_string();
                assert!((1..=text.lines().count()).contains(&fault.line), "{sentence}");
                assert!(!sentence.contains(char::is_control), "{sentence:?}");
            }
            return;
        }
    };
    for (name, hash) in file.users() {
        assert!(is_name(name), "{name:?}");
        let line = hash.to_line();
        assert_eq!(StoredHash::parse(&line).as_ref(), Ok(hash), "{line}");
    }
    let written: String = file.users().map(|(name, hash)| format!("{name}:{}\n", hash.to_line())).collect();
    assert_eq!(PasswordFile::parse(&written).as_ref(), Ok(&file), "{written}");
    let Some((name, _)) = file.users().next() else { return };
    check_edit(text, &file, name);
    check_edit(text, &file, "another");
}

/// Sets and deletes one user. The others stay.
fn check_edit(text: &str, file: &PasswordFile, name: &str) {
    let hash = StoredHash::device_key(b"key");
    let parse =
        |text: &str| PasswordFile::parse(text).unwrap_or_else(|faults| panic!("{text}\n{}", faults[0]));
    let (with, without) = (parse(&with_user(text, name, &hash)), parse(&without_user(text, name)));
    assert_eq!(with.find(name), Some(&hash));
    assert_eq!(without.find(name), None);
    for edited in [&with, &without] {
        let others = |file: &PasswordFile| {
            let others = file.users().filter(|(other, _)| *other != name);
            others.map(|(name, hash)| (name.to_owned(), hash.to_line())).collect::<Vec<_>>()
        };
        assert_eq!(others(edited), others(file));
    }
}
