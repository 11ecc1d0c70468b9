//! The lines of `mosquitto.conf`: a key, and its value after a space.

use std::fs;
use std::path::Path;

/// A line with a key.
#[derive(Debug)]
pub(super) struct Line {
    /// Its file and number.
    pub(super) place: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// Number of files that an `include_dir` may have.
const FILES_MAX: usize = 1_000;

/// The lines of `text`, with those of the files of an `include_dir` in its place, in the order of their names.
pub(super) fn of(file: &Path, text: &str, report: &mut Vec<String>) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in plain(file, text) {
        if line.key != "include_dir" {
            lines.push(line);
            continue;
        }
        let directory = Path::new(&line.value);
        match included(directory) {
            Ok(files) => {
                report.push(format!("{}: include_dir {}: {} files", line.place, line.value, files.len()));
                for (file, text) in files {
                    lines.extend(plain(&file, &text));
                }
            }
            Err(error) => {
                report.push(format!("{}: NOT TAKEN OVER: include_dir {}: {error}", line.place, line.value));
            }
        }
    }
    lines
}

fn included(directory: &Path) -> std::io::Result<Vec<(std::path::PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)?.take(FILES_MAX) {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            let text = fs::read_to_string(&path)?;
            files.push((path, text));
        }
    }
    files.sort();
    Ok(files)
}

fn plain(file: &Path, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let place = format!("{}, line {}", file.display(), at + 1);
        lines.push(Line { place, key: key.to_owned(), value: value.trim().to_owned() });
    }
    lines
}
