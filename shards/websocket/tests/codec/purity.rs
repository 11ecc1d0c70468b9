//! The crate stays without std, so that it can read no clock and open no socket.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn no_source_file_uses_std() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 5, "the source was not found at {}", source.display());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for forbidden in ["extern crate std", "use std::", "cfg_attr(not(test), no_std)"] {
            assert!(!text.contains(forbidden), "{} has `{forbidden}`", file.display());
        }
    }
    let root = fs::read_to_string(source.join("lib.rs")).unwrap();
    assert!(root.contains("#![no_std]") && root.contains("#![forbid(unsafe_code)]"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
