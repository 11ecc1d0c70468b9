//! Lanes between the shards of one process, and the protocol that wakes only who sleeps.
//! Knows no MQTT, no socket, no thread and no doorbell: it says *that* a shard must be woken, the edge knows how.
//!
//! [`mesh`] makes one [`Port`] for each shard, to be moved to that shard's thread. Between each ordered pair of shards
//! lie two lanes, [`Lane::Data`] and [`Lane::Control`]. A lane carries [`Item`]s in order: mostly [`Block`]s, which are
//! packed full of many messages and whose empties return to their producer, and, in their place in that order, values
//! too large for a block or that are not bytes. Nothing is ordered between two lanes. A cumulative acknowledgement
//! ([`Port::acknowledge`], [`Port::acknowledged`]) is a counter: it needs no slot and is never refused.
//!
//! # A turn
//! 1. [`Port::unpark`].
//! 2. [`Port::pop`] every inbound lane until it is empty, whatever the state of one's own outbound lanes; return each
//!    block with [`Port::give_back`] before the next is popped. That is what lets two shards that are full towards each
//!    other make progress.
//! 3. [`Port::empty_block`], fill, [`Port::push`]; [`Port::acknowledge`]. Who lacks slots says so with [`Port::want_credit`].
//! 4. For each of [`Port::others`]: if [`Port::wake_needed`], ring that shard's doorbell.
//! 5. With nothing left to do, [`Port::park`]: sleep until the doorbell rings only if it says [`Parked::Sleep`].
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
//! assert!(!first.wake_needed(1), "once is enough");
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
