//! The log of one shard: records to commits in segments, and back after a crash. Knows no MQTT, no clock, no thread and no
//! disk: [`Writer`] says which I/O is due, its host does it and reports the result, and [`Recovery`] is shown the bytes of files.
//!
//! A **record** is a kind and a body. The records of a log form one stream of bytes, and a **position** is a place in it. A
//! **commit** is a piece of that stream with a header and a checksum, padded to whole sectors; it is the unit that is written. A
//! record may be longer than a commit, and it counts once it is whole. A **segment** is a file of commits. Every start of the
//! process begins a new one. A **checkpoint** is a file with the state that the records before it led to, so that their segments can be
//! deleted.
//!
//! Invariants, each with a test in `shards/journal/tests/crashes`:
//! - Recovery yields a prefix of the records that were appended. It has every record that [`Progress::synced`] covered, whatever
//!   part of the rest the disk kept.
//! - A hole among commits that were once durable is damage: an error with file and offset, never a shorter log. Each commit says
//!   which ones were durable when it was made, and so a torn end can be told from damage.
//! - After a failed write or sync nothing more is acknowledged, and the call is never repeated: a disk that failed once may
//!   have dropped what it was given before.
//! - A segment is deleted only once a durable checkpoint began behind it, and a checkpoint counts only once the log is durable as far as
//!   its slices know it. A crash at any moment leaves the old one and its log, or the new one and its log.
//! - At most [`Settings::unsynced_bytes_max`] and one record wait for the disk, so long as the host asks [`Writer::has_room`] first.
//!
//! ```
//! use journal::{Batch, Io, LogIdentity, Recovered, Recovery, Settings, Writer, encode_record};
//!
//! let identity = LogIdentity { log: [7; 16], shard: 0, shard_count: 1, generation: 1 };
//! let mut writer = Writer::new(Settings::default(), Recovered::nothing(identity), 1);
//! writer.append(0, Batch(1), true, |out| encode_record(out, 8, b"a subscription"));
//!
//! // The disk of this example is the first segment.
//! let mut file = Vec::new();
//! while let Some(io) = writer.poll(0, true) {
//!     match io {
//!         Io::Create { id, bytes, .. } => {
//!             file = vec![0; bytes as usize];
//!             writer.complete(id, Ok(0), None);
//!         }
//!         Io::Write { id, offset, block, .. } => {
//!             let (at, length) = (offset as usize, block.bytes().len());
//!             file[at..at + length].copy_from_slice(block.bytes());
//!             writer.complete(id, Ok(length), Some(block));
//!         }
//!         Io::Sync { id, .. } | Io::SyncDirectory { id } | Io::Rename { id, .. } | Io::Delete { id, .. } => {
//!             writer.complete(id, Ok(0), None);
//!         }
//!     }
//! }
//! assert_eq!(writer.progress().synced, Batch(1));
//!
//! let mut recovery = Recovery::new(identity, None);
//! let mut found = Vec::new();
//! recovery.segment(1, &file, &mut |_position, kind, body| found.push((kind, body.to_vec())))?;
//! assert_eq!(found, [(8, b"a subscription".to_vec())]);
//! # Ok::<(), journal::Damage>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod checkpoint;
mod commit;
mod fields;
mod identity;
mod io;
mod record;
mod recover;
mod segment;
mod settings;
mod writer;

pub use checkpoint::{Checkpoint, CheckpointReader};
pub use identity::{Identity, IdentityFault};
pub use io::{Block, Fault, File, Io, IoId};
pub use record::encode_record;
pub use recover::{Damage, DamageKind, Recovered, Recovery};
pub use segment::LogIdentity;
pub use settings::{SECTOR_BYTES, Settings};
pub use writer::{Batch, Extent, Progress, Writer};

/// The version of every format of this crate. A newer one is refused.
pub const FORMAT: u16 = 1;
