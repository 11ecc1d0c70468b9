//! A disk that loses its power: from the record of `recorder.c` it builds the directory that a cut at any moment could have left.
//!
//! - Bytes that a sync covers are there: of writes that had ended when it began, once it has ended.
//! - Of all others each sector of 512 bytes is there or not, in any mixture, and the length of a file may be the old one.
//! - Names are there once their directory is synchronised. Of the changes after that there is a prefix, or any subset.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SECTOR_BYTES: usize = 512;
const HEAD_BYTES: usize = 40;
/// The flags of a file that is opened.
const CREATED: u64 = 1;
const EMPTIED: u64 = 2;

/// Numbers that look random and are the same in every run.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// True so often in a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A call that the recorder saw.
#[derive(Clone, Debug)]
struct Call {
    begun_ns: u64,
    ended_ns: u64,
    path: String,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Open { flags: u64 },
    Write { offset: usize, data: Vec<u8> },
    Sync,
    Truncate { bytes: usize },
    Rename { to: String },
    Remove,
    MakeDirectory,
}

/// Everything that a broker did to its data directory, from nothing on.
pub(crate) struct Recording(Vec<Call>);

/// A file, whatever its name.
#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    /// Changes that no sync covers: when each had ended, and what it was.
    changes: Vec<(u64, Change)>,
    is_directory: bool,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A change of names: the name that is gone, and the one that leads to a file now.
type Naming = (u64, Option<String>, Option<(String, usize)>);

/// The disk amid a recording.
#[derive(Default)]
struct Disk {
    contents: Vec<Content>,
    /// As the broker sees them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// By directory.
    namings: BTreeMap<String, Vec<Naming>>,
}

/// The part of a cut that was lost or kept by chance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chance {
    pub(crate) sectors_kept: u64,
    pub(crate) sectors_lost: u64,
    pub(crate) names_kept: u64,
    pub(crate) names_lost: u64,
}

impl Chance {
    pub(crate) fn add(&mut self, other: Self) {
        self.sectors_kept += other.sectors_kept;
        self.sectors_lost += other.sectors_lost;
        self.names_kept += other.names_kept;
        self.names_lost += other.names_lost;
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').expect("paths are whole").0.to_owned()
}

impl Recording {
    /// Reads a record, in the order in which the calls ended.
    pub(crate) fn read(file: &Path) -> Self {
        let bytes = fs::read(file).expect("the recorder wrote it: a C library that programs load is needed");
        let (mut rest, mut calls) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (head, behind) = rest.split_at(HEAD_BYTES);
            let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
            let word =
                |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize;
            let (path, behind) = behind.split_at(word(28));
            let (data, behind) = behind.split_at(word(32));
            rest = behind;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("paths of the tests are text");
            let offset = usize::try_from(long(16)).expect("files are small");
            let action = match word(24) {
                1 => Action::Open { flags: long(16) },
                2 => Action::Write { offset, data: data.to_vec() },
                3 => Action::Sync,
                4 => Action::Truncate { bytes: offset },
                5 => Action::Rename { to: text(data) },
                6 => Action::Remove,
                7 => Action::MakeDirectory,
                other => panic!("the recorder knows no call {other}"),
            };
            calls.push(Call { begun_ns: long(0), ended_ns: long(8), path: text(path), action });
        }
        calls.sort_by_key(|call| call.ended_ns);
        Self(calls)
    }

    /// Moments just before, amid and behind calls, from `after_ns` on.
    pub(crate) fn moments(&self, after_ns: u64) -> Vec<u64> {
        let calls = self.0.iter().filter(|call| call.begun_ns > after_ns);
        calls.flat_map(|call| [call.begun_ns + 1, call.ended_ns - 1, call.ended_ns]).collect()
    }

    /// Asserts that the record is all that happened: replayed to its end it is the directory as it is. Then counts calls by their kinds.
    pub(crate) fn check(&self, root: &Path) -> BTreeMap<&'static str, usize> {
        let disk = self.replay(u64::MAX);
        let found = files_below(root);
        let expected: BTreeSet<PathBuf> = disk
            .names
            .iter()
            .filter(|(_, content)| !disk.contents[**content].is_directory)
            .map(|(name, _)| PathBuf::from(name))
            .collect();
        assert_eq!(expected, found, "the recorder saw other files");
        for (name, content) in &disk.names {
            let mut content = disk.contents[*content].clone();
            if !content.is_directory {
                content.settle(u64::MAX);
                let bytes = fs::read(name).expect("it is there");
                assert!(content.durable == bytes, "the recorder saw another {name}");
            }
        }
        let mut counts = BTreeMap::new();
        for call in &self.0 {
            let kind = match call.action {
                Action::Open { .. } => "opened",
                Action::Write { .. } => "written",
                Action::Sync => "synchronised",
                Action::Truncate { .. } => "cut short",
                Action::Rename { .. } => "renamed",
                Action::Remove => "removed",
                Action::MakeDirectory => "directories made",
            };
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }

    /// Builds the directory that a cut of the power at that moment could have left, by these draws, below `into` instead of `root`.
    pub(crate) fn cut(&self, cut_ns: u64, draws: &mut Draws, (root, into): (&Path, &Path)) -> Chance {
        let mut disk = self.replay(cut_ns);
        let mut chance = Chance::default();
        // Sometimes a disk has kept all, or nothing.
        let kept_percent = [0, 10, 50, 90, 100][usize::try_from(draws.below(5)).expect("it is small")];
        let is_prefix = draws.percent(50);
        for changes in disk.namings.values() {
            let mut is_lost = false;
            for (_, gone, new) in changes {
                is_lost = !draws.percent(kept_percent) || (is_prefix && is_lost);
                if is_lost {
                    chance.names_lost += 1;
                    continue;
                }
                chance.names_kept += 1;
                disk.durable_names.retain(|name, _| Some(name) != gone.as_ref());
                disk.durable_names.extend(new.clone());
            }
        }
        let (root, into) = (root.to_str().expect("it is text"), into.to_str().expect("it is text"));
        fs::create_dir_all(into).expect("the test's directory is writable");
        // Parents come before what is in them.
        for (name, &content) in &disk.durable_names {
            let place = name.replacen(root, into, 1);
            if !Path::new(&parent(&place)).is_dir() {
                continue;
            }
            let content = &mut disk.contents[content];
            if content.is_directory {
                fs::create_dir_all(&place).expect("its parent is there");
            } else {
                fs::write(&place, content.after_cut(draws, kept_percent, &mut chance))
                    .expect("its parent is there");
            }
        }
        chance
    }

    fn replay(&self, cut_ns: u64) -> Disk {
        let mut disk = Disk::default();
        for call in &self.0 {
            if call.ended_ns <= cut_ns {
                disk.perform(call);
            } else if call.begun_ns < cut_ns && !matches!(call.action, Action::Sync) {
                // It may have happened, in part: no sync covers it.
                disk.perform(call);
            }
        }
        disk
    }
}

impl Disk {
    fn perform(&mut self, call: &Call) {
        let (path, ended_ns) = (&call.path, call.ended_ns);
        match &call.action {
            Action::MakeDirectory => self.create(path, ended_ns, true),
            Action::Open { flags } if flags & CREATED != 0 => self.create(path, ended_ns, false),
            Action::Open { flags } => {
                assert!(flags & EMPTIED != 0, "an open that changes nothing is not recorded");
                self.change(path, ended_ns, Change::Length(0));
            }
            Action::Write { offset, data } => {
                self.change(path, ended_ns, Change::Write(*offset, data.clone()));
            }
            Action::Truncate { bytes } => self.change(path, ended_ns, Change::Length(*bytes)),
            Action::Rename { to } => {
                let content = self.names.remove(path).expect("what is renamed exists");
                self.names.insert(to.clone(), content);
                assert_eq!(parent(path), parent(to), "one directory makes it durable");
                self.name(path, (ended_ns, Some(path.clone()), Some((to.clone(), content))));
            }
            Action::Remove => {
                if self.names.remove(path).is_some() {
                    self.name(path, (ended_ns, Some(path.clone()), None));
                }
            }
            Action::Sync => self.sync(call),
        }
    }

    fn create(&mut self, path: &str, ended_ns: u64, is_directory: bool) {
        let content = self.contents.len();
        self.contents.push(Content { is_directory, ..Content::default() });
        self.names.insert(path.to_owned(), content);
        self.name(path, (ended_ns, None, Some((path.to_owned(), content))));
    }

    fn name(&mut self, path: &str, naming: Naming) {
        self.namings.entry(parent(path)).or_default().push(naming);
    }

    /// A file that has no name any more is of no use after a cut.
    fn change(&mut self, path: &str, ended_ns: u64, change: Change) {
        if let Some(&content) = self.names.get(path) {
            self.contents[content].changes.push((ended_ns, change));
        }
    }

    fn sync(&mut self, call: &Call) {
        if let Some(&content) = self.names.get(&call.path) {
            self.contents[content].settle(call.begun_ns);
        }
        for (ended_ns, gone, new) in self.namings.remove(&call.path).unwrap_or_default() {
            if ended_ns > call.begun_ns {
                self.namings.entry(call.path.clone()).or_default().push((ended_ns, gone, new));
                continue;
            }
            if let Some(gone) = gone {
                self.durable_names.remove(&gone);
            }
            self.durable_names.extend(new);
        }
    }
}

impl Content {
    /// What had ended until then is durable.
    fn settle(&mut self, until_ns: u64) {
        for (ended_ns, change) in std::mem::take(&mut self.changes) {
            if ended_ns > until_ns {
                self.changes.push((ended_ns, change));
                continue;
            }
            match change {
                Change::Write(offset, data) => put(&mut self.durable, offset, &data),
                Change::Length(bytes) => self.durable.resize(bytes, 0),
            }
        }
    }

    /// The bytes that a cut leaves.
    fn after_cut(&self, draws: &mut Draws, kept_percent: u64, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (_, change) in &self.changes {
            match change {
                Change::Write(offset, data) => {
                    let mut at = 0;
                    while at < data.len() {
                        // Sectors are those of the file, not of the write.
                        let length = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(data.len() - at);
                        if draws.percent(kept_percent) {
                            put(&mut bytes, offset + at, &data[at..at + length]);
                            chance.sectors_kept += 1;
                        } else {
                            chance.sectors_lost += 1;
                        }
                        at += length;
                    }
                }
                Change::Length(length) if draws.percent(kept_percent) => bytes.resize(*length, 0),
                Change::Length(_) => {}
            }
        }
        if bytes.len() > self.durable.len() && !draws.percent(kept_percent) {
            bytes.truncate(self.durable.len());
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

/// The regular files below a directory.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("it is a directory") {
        let path = entry.expect("it can be listed").path();
        let kind = fs::symlink_metadata(&path).expect("nobody removes it").file_type();
        if kind.is_dir() {
            found.extend(files_below(&path));
        } else if kind.is_file() {
            found.insert(path);
        }
    }
    found
}
