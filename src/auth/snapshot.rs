//! The users and keys that the methods judge by, read from files and services. A judgement takes one snapshot of them, and a change
//! replaces the whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use jsonwebtoken::Algorithm;
use tracing::{error, info, warn};

use super::answers::UserChanges;
use super::jwt::{KeySet, KeySetOrigin};
use super::password::{self, PasswordFile};
use super::shared::Shared;
use crate::process::held_bytes::{AUTHENTICATION, Hold};

/// The users and keys at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Users of `[auth.password]`.
    pub(super) users: Shared<PasswordFile>,
    /// Users of `[auth.scram]`.
    pub(super) scram_users: Shared<PasswordFile>,
    /// The key sets, in the order of the configuration; one that could not be read yet is empty.
    pub(super) key_sets: Vec<Shared<KeySet>>,
    /// Count the bytes of users and of the files that they are from.
    users_held: Option<Shared<Hold>>,
    scram_users_held: Option<Shared<Hold>>,
}

/// The current snapshot.
#[derive(Debug, Default)]
pub(super) struct Store {
    current: RwLock<Shared<Snapshot>>,
}

impl Store {
    /// The snapshot to judge by.
    pub(super) fn load(&self) -> Shared<Snapshot> {
        self.current.read().expect("no thread panics while it holds the lock").clone()
    }

    /// Looks at the snapshot while nothing changes it.
    pub(super) fn hold<R>(&self, look: impl FnOnce(&Snapshot) -> R) -> R {
        look(&self.current.read().expect("no thread panics while it holds the lock"))
    }

    /// Changes the snapshot. **Called on:** the main thread at start, then the side thread alone, so no change is lost.
    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.load());
        change(&mut snapshot);
        *self.current.write().expect("no thread panics while it holds the lock") = Shared::new(snapshot);
    }
}

/// A file that is read again when its content changes. Its content decides and not its time, because Kubernetes replaces files by
/// links to others.
#[derive(Debug)]
struct PolledFile {
    path: PathBuf,
    /// The content that was read last, sound or not.
    content: Option<Vec<u8>>,
}

impl PolledFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), content: None }
    }

    /// The content, if it has changed.
    fn changed(&mut self) -> io::Result<Option<&[u8]>> {
        if fs::metadata(&self.path)?.len() > password::FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let content = fs::read(&self.path)?;
        if self.content.as_ref() == Some(&content) {
            return Ok(None);
        }
        Ok(Some(self.content.insert(content)))
    }
}

/// Warns of secrets that every user of the machine can read.
#[cfg(unix)]
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        warn!(file = %path.display(), "every user of this machine can read the secrets in this file; `chmod o-r` corrects that");
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_: &Path) {}

/// The part of a snapshot that a file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Users,
    ScramUsers,
    /// Both, where the two methods name one file: it is read once.
    AllUsers,
    /// The key set of this number.
    Keys(usize),
}

/// The files of the methods.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<(Part, PolledFile)>,
    algorithms: Vec<Algorithm>,
}

impl Files {
    /// With these files; `key_files` have the numbers of their key sets.
    pub(super) fn new(
        users: Option<&Path>,
        scram_users: Option<&Path>,
        key_files: &[(usize, PathBuf)],
        algorithms: &[Algorithm],
    ) -> Self {
        let (users, scram_users) = match (users, scram_users) {
            (Some(all), Some(same)) if all == same => (Some((Part::AllUsers, PolledFile::new(all))), None),
            (users, scram_users) => (
                users.map(|path| (Part::Users, PolledFile::new(path))),
                scram_users.map(|path| (Part::ScramUsers, PolledFile::new(path))),
            ),
        };
        let keys = key_files.iter().map(|(number, path)| (Part::Keys(*number), PolledFile::new(path)));
        Self {
            files: users.into_iter().chain(scram_users).chain(keys).collect(),
            algorithms: algorithms.to_vec(),
        }
    }

    /// Reads every file that has changed into the store. A file with a fault changes nothing; the faults are returned, each as a
    /// file and a reason.
    pub(super) fn read(&mut self, store: &Store) -> Vec<(PathBuf, String)> {
        self.read_each(store, |file, count| {
            warn_of_readers(file);
            info!(file = %file.display(), count, "read the users or keys of authentication");
        })
    }

    /// As [`Files::read`], into a store that nobody judges by: nothing is logged.
    pub(super) fn check(&mut self, store: &Store) -> Vec<(PathBuf, String)> {
        self.read_each(store, |_, _| {})
    }

    fn read_each(&mut self, store: &Store, tell: impl Fn(&Path, usize)) -> Vec<(PathBuf, String)> {
        let mut faults = Vec::new();
        for (part, file) in &mut self.files {
            let path = file.path.clone();
            let read = match file.changed() {
                Ok(None) => continue,
                Ok(Some(content)) => put(*part, content, &self.algorithms, store),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(count) => tell(&path, count),
                Err(reason) => faults.push((path, reason)),
            }
        }
        faults
    }

    /// As [`Files::read`], while the broker runs: a fault is logged, and the last sound content stays in force.
    ///
    /// Returns the users that have changed.
    pub(super) fn poll(&mut self, store: &Store) -> UserChanges {
        let before = store.load();
        for (file, reason) in self.read(store) {
            error!(file = %file.display(), %reason, "the file is not taken over, and its last sound content stays in force");
        }
        changes(&before, &store.load())
    }
}

/// The users that are in no file any more, and those with another password in one: each once, in their order.
fn changes(before: &Snapshot, after: &Snapshot) -> UserChanges {
    let mut changes = UserChanges::default();
    let is_listed = |user: &str| after.users.find(user).is_some() || after.scram_users.find(user).is_some();
    for (before, after) in [(&before.users, &after.users), (&before.scram_users, &after.scram_users)] {
        for (user, hash) in before.users() {
            match after.find(user) {
                Some(same) if same == hash => {}
                None if !is_listed(user) => changes.gone.push(user.into()),
                Some(_) | None => changes.renewed.push(user.into()),
            }
        }
    }
    for users in [&mut changes.gone, &mut changes.renewed] {
        users.sort_unstable();
        users.dedup();
    }
    changes
}

/// The fault of a file that had users and has none.
const NO_USERS: &str =
    "the file has no users; to remove all of them, delete its table from the configuration and restart";

/// Puts the content of a file into the store, and returns the number of its users or keys.
fn put(part: Part, content: &[u8], algorithms: &[Algorithm], store: &Store) -> Result<usize, String> {
    if let Part::Keys(number) = part {
        let keys =
            KeySet::parse(content, KeySetOrigin::File, algorithms).map_err(|fault| fault.to_string())?;
        let count = keys.len();
        store.change(|snapshot| snapshot.key_sets[number] = Shared::new(keys));
        return Ok(count);
    }
    let text = str::from_utf8(content).map_err(|_| "the file is not UTF-8".to_owned())?;
    let users = PasswordFile::parse(text).map_err(|faults| password::sentence(&faults))?;
    let has_part = |own: Part| part == own || part == Part::AllUsers;
    let count = users.users().len();
    // An editor or a script that fails leaves an empty file, and sessions of users that are gone end for good.
    if count == 0
        && store.hold(|snapshot| {
            has_part(Part::Users) && snapshot.users.users().len() > 0
                || has_part(Part::ScramUsers) && snapshot.scram_users.users().len() > 0
        })
    {
        return Err(NO_USERS.to_owned());
    }
    if has_part(Part::Users) {
        warn_of_weak(&users);
    }
    let held = Shared::new(AUTHENTICATION.hold(content.len() + users.bytes()));
    let users = Shared::new(users);
    store.change(|snapshot| {
        if has_part(Part::Users) {
            (snapshot.users, snapshot.users_held) = (users.clone(), Some(held.clone()));
        }
        if has_part(Part::ScramUsers) {
            (snapshot.scram_users, snapshot.scram_users_held) = (users, Some(held));
        }
    });
    Ok(count)
}

/// Names users whose hashes are weak.
fn warn_of_weak(users: &PasswordFile) {
    const NAMED_MAX: usize = 5;
    let weak: Vec<&str> = users.users().filter(|(_, hash)| hash.is_weak()).map(|(name, _)| name).collect();
    if !weak.is_empty() {
        let named = &weak[..weak.len().min(NAMED_MAX)];
        warn!(count = weak.len(), users = ?named, "passwords have weak hashes; `mqtt-broker user passwd` replaces them");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    /// A line of the password file.
    fn line(user: &str, hash: char) -> String {
        let hash = std::iter::repeat_n(hash, 43).collect::<String>();
        format!("{user}:$device${hash}=\n")
    }

    #[test]
    fn a_file_that_two_methods_name_is_read_once_and_its_users_change_once() {
        let scratch = Scratch::new("one file of users");
        let path = scratch.path().join("passwords");
        let write = |content: &str| fs::write(&path, content).unwrap();
        write(&(line("bob", 'A') + &line("ann", 'A') + &line("eve", 'A')));
        let (store, mut files) = (Store::default(), Files::new(Some(&path), Some(&path), &[], &[]));
        assert_eq!(files.files.len(), 1);
        assert!(files.poll(&store).is_empty());
        assert!(
            store
                .hold(|snapshot| snapshot.users.users().len() == 3 && snapshot.scram_users == snapshot.users)
        );
        write(&line("eve", 'E'));
        let expected = UserChanges { gone: vec!["ann".into(), "bob".into()], renewed: vec!["eve".into()] };
        assert_eq!(files.poll(&store), expected);
    }

    #[test]
    fn users_that_leave_or_change_in_two_files_change_once() {
        let [before, after] = [
            [line("ann", 'A') + &line("bob", 'A'), line("bob", 'A') + &line("ann", 'A')],
            [line("bob", 'E'), line("bob", 'E')],
        ]
        .map(|files| {
            let [users, scram_users] =
                files.map(|text| Shared::new(PasswordFile::parse(&text).expect("the lines are sound")));
            Snapshot { users, scram_users, ..Snapshot::default() }
        });
        let expected = UserChanges { gone: vec!["ann".into()], renewed: vec!["bob".into()] };
        assert_eq!(changes(&before, &after), expected);
    }

    #[test]
    fn a_file_that_had_users_and_has_none_is_a_fault() {
        let scratch = Scratch::new("no users");
        let path = scratch.path().join("passwords");
        for (users, scram_users) in [(Some(&path), None), (None, Some(&path)), (Some(&path), Some(&path))] {
            let of = |file: Option<&PathBuf>| file.map(|file| file.as_path().to_owned());
            let (users, scram_users) = (of(users), of(scram_users));
            let store = Store::default();
            let mut files = Files::new(users.as_deref(), scram_users.as_deref(), &[], &[]);
            // At the start there may be none yet.
            fs::write(&path, "").unwrap();
            assert!(files.read(&store).is_empty());
            let one = line("ann", 'A');
            fs::write(&path, &one).unwrap();
            assert!(files.poll(&store).is_empty());
            for none in ["", "# nobody\n"] {
                fs::write(&path, none).unwrap();
                assert_eq!(files.read(&store), [(path.clone(), NO_USERS.to_owned())]);
                assert!(files.poll(&store).is_empty());
                let is_known = |users: &PasswordFile| users.find("ann").is_some();
                assert!(store.hold(|snapshot| is_known(&snapshot.users) || is_known(&snapshot.scram_users)));
            }
        }
    }
}
