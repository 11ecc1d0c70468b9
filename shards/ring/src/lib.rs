//! Lanes between the shards of one process, and the protocol that wakes a shard only if it sleeps. Knows no MQTT, no
//! socket and no thread. The crate decides *that* a shard must be woken; its user owns the doorbell.
//!
//! [`mesh`] makes one [`Port`] for each shard, to be moved to that shard's thread. Each ordered pair of shards has two
//! lanes, [`Lane::Data`] and [`Lane::Control`]. A lane carries [`Item`]s in order. Most items are [`Block`]s: buffers
//! packed with many messages, which return to their producer when they are empty. The other items are values that are too
//! large for a block or are not bytes. Nothing is ordered between two lanes. A cumulative acknowledgement
//! ([`Port::acknowledge`], [`Port::acknowledged`]) is a counter: it needs no slot and is never refused.
//!
//! # A turn
//! 1. [`Port::unpark`].
//! 1. Call [`Port::unpark`].
//! 2. [`Port::pop`] every inbound lane until it is empty, whatever the state of the outbound lanes. Return each block with
//!    [`Port::give_back`] before the next pop. This rule lets two shards that are full towards each other make progress.
//! 3. Take a block with [`Port::empty_block`], fill it and [`Port::push`] it; call [`Port::acknowledge`]. If slots are missing,
//!    call [`Port::want_credit`].
//! 4. For each of [`Port::others`]: if [`Port::wake_needed`] returns true, ring that shard's doorbell.
//! 5. If no work is left, call [`Port::park`]. Sleep until the doorbell rings only if it returns [`Parked::Sleep`].
//!
//! ```
//! use ring::{Capacity, Item, Lane, Parked, mesh};
//!
//! let mut ports = mesh::<String>(2, Capacity::DEFAULT).into_iter();
//! let (mut first, mut second) = (ports.next().expect("two shards"), ports.next().expect("two shards"));
//! second.unpark();
//! assert_eq!(second.park(), Parked::Sleep);
//!
//! let mut block = first.empty_block(1, Lane::Data);
//! block.as_mut().extend_from_slice(b"many messages");
//! assert!(first.push(1, Lane::Data, Item::Block(block)).is_ok());
//! assert!(first.push(1, Lane::Data, Item::Other("a large one".into())).is_ok());
//! assert!(first.wake_needed(1), "the second shard sleeps");
//! assert!(!first.wake_needed(1), "one ring is enough");
//!
//! second.unpark();
//! let Some(Item::Block(block)) = second.pop(0, Lane::Data) else { panic!("the block was pushed first") };
//! assert_eq!(&block[..], b"many messages");
//! second.give_back(0, Lane::Data, block);
//! assert_eq!(second.pop(0, Lane::Data), Some(Item::Other("a large one".into())));
//! second.acknowledge(0, 2);
//! assert!(!second.wake_needed(0), "the first shard never slept");
//! assert_eq!(first.acknowledged(1), 2);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod block;
mod capacity;
mod lane;
mod park;
mod port;
mod sync;

pub use block::Block;
pub use capacity::Capacity;
pub use lane::{Item, Lane};
pub use port::{Parked, Port, mesh};
