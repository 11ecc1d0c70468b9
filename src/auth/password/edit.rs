//! The change of a password file on disk. Two commands at once take turns, a reader sees the old file or the new one, and the
//! new one belongs to the user and group of the old.
//! The new file is written beside the old one and renamed over it; while it is written, it is also the lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

/// Bytes of a password file at most, so that a wrong path does not fill the memory: 500,000 users.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;

/// Replaces the text of `file` by what `change` makes of it; a file that is missing has no text. `change` may refuse.
/// A new file is readable by its owner, and by the group of `data_dir` if that exists: the broker's, also when root edits.
///
/// # Errors
/// The error of the system, or of `change`; `file` is then unchanged.
pub(crate) fn edit<E: From<io::Error>>(
    file: &Path,
    data_dir: &Path,
    change: impl FnOnce(&str) -> Result<String, E>,
) -> Result<(), E> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = file.with_file_name(name);
    let mut target = lock(&temporary)?;
    let written = write(file, data_dir, &mut target, change).and_then(|()| {
        // Windows refuses to rename over an open file, and a lock there keeps readers out.
        if cfg!(windows) {
            target.unlock()?;
        }
        Ok(fs::rename(&temporary, file)?)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The text of a password file.
///
/// # Errors
/// If it cannot be read, is too long, or is not UTF-8.
pub(crate) fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file has more than 64 MiB"));
    }
    Ok(text)
}

/// The temporary file, once no other command has it.
fn lock(temporary: &Path) -> io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let target = options.open(temporary)?;
        target.lock()?;
        // The command that held the lock has renamed its file; a later one may have made another of this name.
        if is_still(&target, temporary) {
            return Ok(target);
        }
    }
}

#[cfg(unix)]
fn is_still(target: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let own = target.metadata().map(place).ok();
    own.is_some() && own == fs::metadata(path).map(place).ok()
}

/// Other systems give files no number that could be compared: three commands at once are not told apart there.
#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}

fn write<E: From<io::Error>>(
    file: &Path,
    data_dir: &Path,
    target: &mut File,
    change: impl FnOnce(&str) -> Result<String, E>,
) -> Result<(), E> {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let text = change(&text)?;
    give(file, data_dir, target)?;
    target.set_len(0)?;
    target.rewind()?;
    target.write_all(text.as_bytes())?;
    target.sync_all()?;
    Ok(())
}

/// Gives the new file the owner, group and mode of the old one. If there is none, the group is that of the data directory.
#[cfg(unix)]
fn give(file: &Path, data_dir: &Path, target: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let own = target.metadata()?;
    match fs::metadata(file) {
        Ok(old) => {
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                fchown(target, Some(old.uid()), Some(old.gid()))?;
            }
            target.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))
        }
        Err(_) => match fs::metadata(data_dir) {
            Ok(data) if own.gid() != data.gid() && fchown(target, None, Some(data.gid())).is_ok() => {
                target.set_permissions(fs::Permissions::from_mode(0o640))
            }
            // The same group, a group that this user may not give, or no data directory yet.
            Ok(_) | Err(_) => Ok(()),
        },
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems return errors")]
fn give(_: &Path, _: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    fn append(file: &Path, line: &str) -> io::Result<()> {
        edit(file, Path::new("no data directory"), |text| Ok(format!("{text}{line}\n")))
    }

    #[test]
    fn commands_at_once_lose_nothing() {
        let scratch = Scratch::new("passwords_at_once");
        let file = scratch.path().join("passwords");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let file = &file;
                scope.spawn(move || {
                    for number in 0..25 {
                        append(file, &format!("{thread}-{number}")).unwrap();
                    }
                });
            }
        });
        let text = read(&file).unwrap();
        assert_eq!(text.lines().count(), 100, "{text}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_change_that_is_refused_leaves_the_file() {
        let scratch = Scratch::new("passwords_refused");
        let file = scratch.path().join("passwords");
        append(&file, "a").unwrap();
        let refused: io::Result<()> =
            edit(&file, scratch.path(), |_| Err(io::ErrorKind::InvalidInput.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read(&file).unwrap(), "a\n");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn the_mode_of_a_file_stays_and_a_new_one_is_not_public() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = Scratch::new("passwords_mode");
        let file = scratch.path().join("passwords");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        append(&file, "a").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        append(&file, "b").unwrap();
        assert_eq!(mode(), 0o640);
    }
}
