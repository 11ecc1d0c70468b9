//! Replaces a file as a whole: at any moment, and after a loss of power, it holds either all of the old or all of the new.
//! Knows nothing of what is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Who may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Whoever the process's own mask lets.
    All,
    /// The user that runs the broker alone.
    Owner,
}

/// Puts what `write` writes in the place of `file`.
///
/// # Errors
/// Whatever the system or `write` refuses; `file` is then as it was.
pub(crate) fn replace(
    file: &Path,
    readers: Readers,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = file.with_file_name(name);
    let mut target = BufWriter::new(create(&temporary, readers)?);
    write(&mut target)?;
    target.flush()?;
    target.get_ref().sync_all()?;
    fs::rename(&temporary, file)?;
    match file.parent() {
        Some(directory) => sync_name(directory),
        None => Ok(()),
    }
}

/// The new name is in the directory, and so is durable only with it.
#[cfg(unix)]
fn sync_name(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// NTFS keeps names in a journal of its own, and a directory cannot be flushed.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems can refuse")]
fn sync_name(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg_attr(
    not(unix),
    expect(unused_variables, reason = "a file has the access list of its directory, the owner's to set")
)]
fn create(file: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        // The mode counts for a file that is made; one that a crash left behind keeps its own.
        let created = options.mode(0o600).open(file)?;
        created.set_permissions(fs::Permissions::from_mode(0o600))?;
        return Ok(created);
    }
    options.open(file)
}
