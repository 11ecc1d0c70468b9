//! Directories for unit tests, each gone with its value. Compiled for tests alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

/// An empty directory of this process's own.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it; `name` tells tests apart.
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("mqtt-broker-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
