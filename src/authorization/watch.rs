//! The files of the rules, which are looked at each minute by their content: an orchestrator that replaces them exchanges links.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Time between two looks at the files.
const SECONDS_BETWEEN_LOOKS: u32 = 60;

/// **Lives on:** the control plane.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    files: Vec<PathBuf>,
    fingerprint: u64,
    seconds: u32,
}

impl Watch {
    /// Takes the files as they are.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let fingerprint = fingerprint(&files);
        Self { files, fingerprint, seconds: 0 }
    }

    /// A second has passed. Once a minute it returns whether the content of a file is another one than at the last look.
    pub(crate) fn second(&mut self) -> bool {
        self.seconds += 1;
        self.seconds.is_multiple_of(SECONDS_BETWEEN_LOOKS) && self.look()
    }

    /// Whether the content of a file is another one than at the last look.
    pub(crate) fn look(&mut self) -> bool {
        let before = std::mem::replace(&mut self.fingerprint, fingerprint(&self.files));
        before != self.fingerprint
    }

    /// The rules have other files now.
    pub(crate) fn replace(&mut self, files: Vec<PathBuf>) {
        if files != self.files {
            *self = Self::new(files);
        }
    }
}

fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        (file, fs::read(file).ok()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn another_content_is_noticed_once_a_minute_and_once() {
        let scratch = Scratch::new("rules_watch");
        let file = scratch.path().join("acl");
        let mut watch = Watch::new(vec![file.clone()]);
        let mut minute = || (0..60).map(|_| watch.second()).filter(|changed| *changed).count();
        assert_eq!(minute(), 0, "a file that is not there stays so");
        fs::write(&file, "topic read a").unwrap();
        assert_eq!((minute(), minute()), (1, 0));
        fs::write(&file, "topic read b").unwrap();
        assert_eq!(minute(), 1);
        // The same content in another file, by another link.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "topic read b").unwrap();
        assert_eq!(minute(), 0);
    }
}
