//! Atomic replacement of a file: at any moment, and after a loss of power, the file holds either the complete old
//! content or the complete new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The users that can read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// All users that the umask of the process permits.
    All,
    /// Only the user that runs the broker.
    Owner,
}

/// Replaces the content of `file` by the output of `write`.
///
/// # Errors
/// Any error of the system or of `write`; `file` is then unchanged.
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

/// The new name is stored in the directory, so it is durable only after the directory is synchronised.
#[cfg(unix)]
fn sync_name(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// NTFS journals names by itself, and a directory cannot be synchronised.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems return errors")]
fn sync_name(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "a file inherits the access list of its directory"))]
fn create(file: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        // The mode applies only to a new file; one that a crash left behind keeps its own.
        let created = options.mode(0o600).open(file)?;
        created.set_permissions(fs::Permissions::from_mode(0o600))?;
        return Ok(created);
    }
    options.open(file)
}
