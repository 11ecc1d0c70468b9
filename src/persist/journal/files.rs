//! The files of one log: their names, and the I/O on them.

use std::collections::BTreeMap;
use std::fs::{self, File as OpenFile, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use journal::{Block, Fault, File, Io, IoId};

/// Files that stay open: the segment that is written, and the next one.
const OPEN_MAX: usize = 2;

/// Bytes of zeros that are written at a time.
const ZEROS_BYTES: usize = 1024 * 1024;

/// The directory of one log.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

/// The result of a request.
pub(crate) struct Done {
    pub(crate) id: IoId,
    pub(crate) result: Result<usize, Fault>,
    pub(crate) block: Option<Block>,
    /// The operation and the file, if it failed.
    pub(crate) failure: Option<Failure>,
}

/// A failed call, for the log.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl Directory {
    /// The directory of a shard's log.
    pub(super) fn of(journal: &Path, generation: u64, shard: u16) -> Self {
        Self(journal.join(generation.to_string()).join(shard.to_string()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file.
    pub(crate) fn path_of(&self, file: File) -> PathBuf {
        self.0.join(match file {
            File::Segment(number) => format!("{number:016}.log"),
            File::Checkpoint(position) => format!("{position:016}.checkpoint"),
            File::Draft => "checkpoint.new".to_owned(),
        })
    }

    /// Gives back the part of each segment that is not used: a start begins another one, and this one is not written again.
    ///
    /// # Errors
    /// If the system refuses it. The log is whole all the same.
    pub(crate) fn shrink(&self, segments: &[(u64, u64)]) -> io::Result<()> {
        for &(segment, used_bytes) in segments {
            let file = OpenOptions::new().write(true).open(self.path_of(File::Segment(segment)))?;
            if file.metadata()?.len() > used_bytes {
                file.set_len(used_bytes)?;
            }
        }
        Ok(())
    }

    /// The files of the log, in order. Others are none of its business.
    pub(crate) fn files(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            files.extend(name.to_str().and_then(parse));
        }
        files.sort_unstable();
        Ok(files)
    }
}

fn parse(name: &str) -> Option<File> {
    let number = |digits: &str| {
        let is_number = digits.len() >= 16 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    };
    if name == "checkpoint.new" {
        Some(File::Draft)
    } else if let Some(digits) = name.strip_suffix(".log") {
        number(digits).map(File::Segment)
    } else {
        name.strip_suffix(".checkpoint").and_then(number).map(File::Checkpoint)
    }
}

/// Makes names in a directory durable.
#[cfg(unix)]
pub(crate) fn sync_names(directory: &Path) -> io::Result<()> {
    OpenFile::open(directory)?.sync_all()
}

/// NTFS journals names by itself, and a directory cannot be synchronised.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems return errors")]
pub(crate) fn sync_names(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The files that one thread works on. **Lives on:** that thread.
#[derive(Debug)]
pub(super) struct Files {
    directory: Directory,
    /// The place that the name of the directory led to at the start.
    place: Option<DirectoryId>,
    open: BTreeMap<File, OpenFile>,
    /// The file that was written last, unless it was synchronised since.
    written: Option<File>,
    /// A file that was synchronised after its last write, before anybody asked for it.
    ahead: Option<File>,
    /// The error of a sync. A system may have dropped what it could not write, so the next one would lie.
    failed: Option<i32>,
}

impl Files {
    pub(super) fn new(directory: Directory) -> Self {
        let place = DirectoryId::of(directory.path()).ok();
        Self { directory, place, open: BTreeMap::new(), written: None, ahead: None, failed: None }
    }

    /// Does a request.
    pub(super) fn perform(&mut self, io: Io) -> Done {
        match io {
            Io::Create { id, file, bytes } => {
                let done = self.create(file, bytes);
                self.done(id, "create", file, done.map(|()| 0), None)
            }
            Io::Write { id, file, offset, block } => {
                self.ahead = None;
                self.written = Some(file);
                let done = self.open(file).and_then(|target| write_at(target, block.bytes(), offset));
                self.done(id, "write", file, done, Some(block))
            }
            Io::Sync { id, file } => {
                let done = if self.ahead == Some(file) { Ok(()) } else { self.sync(file) };
                self.done(id, "synchronise", file, done.map(|()| 0), None)
            }
            Io::SyncDirectory { id } => {
                let done = sync_names(&self.directory.0).map(|()| 0);
                self.done(id, "synchronise the directory of", File::Segment(0), done, None)
            }
            Io::Rename { id, from, to } => {
                self.open.remove(&from);
                let names = [from, to].map(|file| self.directory.path_of(file));
                let done = self.check_place().and_then(|()| fs::rename(&names[0], &names[1]));
                self.done(id, "rename", from, done.map(|()| 0), None)
            }
            Io::Delete { id, file } => {
                self.open.remove(&file);
                let path = self.directory.path_of(file);
                let done = match self.check_place().and_then(|()| fs::remove_file(path)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                    done => done.map(|()| 0),
                };
                self.done(id, "delete", file, done, None)
            }
        }
    }

    /// Synchronises the file that was written last, because that is asked for next: the shard hears of the write meanwhile. If it
    /// fails, the request that follows is told.
    pub(super) fn sync_ahead(&mut self) {
        if let Some(file) = self.written.take()
            && self.sync(file).is_ok()
        {
            self.ahead = Some(file);
        }
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(io::Error::from_raw_os_error(error));
        }
        let done = self.open(file).and_then(OpenFile::sync_data);
        if let Err(error) = &done {
            self.failed = Some(error.raw_os_error().unwrap_or(0));
        }
        done
    }

    /// Refuses to touch a file by its name in a directory that is not the log's own: it may have been replaced, and hold another
    /// broker's log with the same names.
    fn check_place(&self) -> io::Result<()> {
        if self.place == Some(DirectoryId::of(self.directory.path())?) {
            return Ok(());
        }
        Err(io::Error::other("the directory was replaced while the broker runs"))
    }

    fn done(
        &self,
        id: IoId,
        operation: &'static str,
        file: File,
        result: io::Result<usize>,
        block: Option<Block>,
    ) -> Done {
        match result {
            Ok(bytes) => Done { id, result: Ok(bytes), block, failure: None },
            Err(error) => {
                let fault = fault_of(&error);
                let failure = Failure { operation, path: self.directory.path_of(file), error };
                Done { id, result: Err(fault), block, failure: Some(failure) }
            }
        }
    }

    fn create(&mut self, file: File, bytes: u64) -> io::Result<()> {
        self.open.remove(&file);
        self.check_place()?;
        let mut target = create(&self.directory.path_of(file))?;
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES))];
        let mut rest = bytes;
        while rest > 0 {
            let length = zeros.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            target.write_all(&zeros[..length])?;
            rest -= length as u64;
        }
        target.sync_all()
    }

    fn open(&mut self, file: File) -> io::Result<&OpenFile> {
        if !self.open.contains_key(&file) {
            // A segment that is done is not needed again, and the lowest number is the oldest.
            while self.open.len() >= OPEN_MAX {
                self.open.pop_first();
            }
            self.check_place()?;
            let opened = OpenOptions::new().write(true).open(self.directory.path_of(file))?;
            self.open.insert(file, opened);
        }
        self.open.get(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The directory that a name leads to, whatever its name.
#[cfg(unix)]
#[derive(Debug, PartialEq, Eq)]
struct DirectoryId(u64, u64);

#[cfg(unix)]
impl DirectoryId {
    fn of(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(directory).map(|found| Self(found.dev(), found.ino()))
    }
}

/// Windows refuses to replace a directory with an open file in it.
#[cfg(not(unix))]
#[derive(Debug, PartialEq, Eq)]
struct DirectoryId;

#[cfg(not(unix))]
impl DirectoryId {
    #[expect(clippy::unnecessary_wraps, reason = "the other systems return errors")]
    fn of(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }
}

/// A new or emptied file, for its owner alone: it has what clients sent.
fn create(path: &Path) -> io::Result<OpenFile> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Bytes written, by one call that was not interrupted.
fn write_at(file: &OpenFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_at(file, bytes, offset);
        #[cfg(windows)]
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset);
        match written {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::NoSpace,
        _ => Fault::Failed(error.raw_os_error().unwrap_or(0)),
    }
}
