//! The process and its operating system: clock, memory, open files, signals, terminal, service manager, data directory, atomic file
//! replacement and the log. Each module wraps one service of the system; the other rooms use that service only through
//! it.

pub(crate) mod atomic_file;
pub(crate) mod available_memory;
pub(crate) mod clock;
pub(crate) mod core_dumps;
pub(crate) mod data_dir;
pub(crate) mod held_bytes;
pub(crate) mod logging;
pub(crate) mod open_files;
#[cfg(test)]
pub(crate) mod scratch;
pub(crate) mod signals;
pub(crate) mod systemd;
pub(crate) mod terminal;
