//! The content of the files that a listener's TLS is made of. They are compared by content, because an orchestrator that rotates
//! them exchanges links.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::server::FileFault;
use crate::config::listener::TlsConfig;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Everything that a configuration names, as it was at one time.
pub(crate) struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub(crate) fn read(config: &TlsConfig) -> Result<Self, FileFault> {
        let pairs = config.certificates.iter().flat_map(|pair| [&pair.chain, &pair.key]);
        let all = pairs.chain(&config.client_ca).chain(&config.crl);
        all.map(|file| Ok((file.to_path_buf(), read(file)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The content of one of them.
    ///
    /// # Panics
    /// If the configuration does not name it.
    pub(crate) fn content(&self, file: &Path) -> &[u8] {
        let found = self.0.iter().find(|(path, _)| path == file);
        &found.expect("every file of the configuration was read").1
    }

    /// A number that is another one if a file has changed.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, FileFault> {
    let fault = |reason: String| FileFault { file: file.to_owned(), reason };
    let refused = |error| fault(format!("cannot be read: {error}"));
    let about = fs::metadata(file).map_err(refused)?;
    if about.len() > FILE_BYTES_MAX {
        return Err(fault(format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(file).map_err(refused)
}

/// Warns of private keys that every user of the machine can read.
pub(crate) fn warn_of_open_keys(config: &TlsConfig) {
    for pair in &config.certificates {
        if is_open(&pair.key) {
            warn!(file = %pair.key.display(), "every user of this machine can read this private key; chmod 600 it");
        }
    }
}

#[cfg(unix)]
fn is_open(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> bool {
    false
}
