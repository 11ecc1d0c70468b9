//! Temporary directories for unit tests, removed when dropped. Compiled for tests only.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

/// An empty directory of this process.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Creates it; `name` distinguishes the tests of a process.
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("mqtt-broker-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
