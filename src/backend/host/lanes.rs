//! The shard's end of the lanes: passes arrived items to the engine, fills the lanes with waiting messages, and wakes
//! sleeping shards. The content of a block is defined by the engines.
//! Invariant: inbound lanes are drained in every turn, however full the outbound lanes are. Therefore two shards that
//! are full towards each other still make progress. A data lane waits while the engine has a long fan-out under way, which
//! needs no lane to end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;

use engine::{Event, InboundItem, OutboundItem, OversizedItem};
use ring::{Capacity, Item, Lane, Parked, Port};
use socket2::Socket;
use zeroize::Zeroizing;

use super::{Endpoint, Host};
use crate::backend::Doorbells;
use crate::net::layers::Layers;
use crate::net::listen::ListenerNumber;
use crate::net::permits::Permit;
use crate::process::held_bytes::{Hold, LANES};

/// The bounds of every lane.
pub(crate) const CAPACITY: Capacity = Capacity { block_bytes: engine::BLOCK_BYTES, ..Capacity::DEFAULT };

const _: () = assert!(CAPACITY.is_valid());

/// An item of a lane other than a block. The variants are boxed, because every slot of a lane has the size of the
/// largest one.
pub(crate) enum LaneItem {
    /// A message that is too large for a block.
    Oversized(Box<Counted<OversizedItem>>),
    /// A connection that moves to the target.
    HandOver(Box<Counted<HandOver>>),
}

/// Something on its way to another shard, whose bytes count until it arrives.
pub(crate) struct Counted<T> {
    item: T,
    _held: Hold,
}

impl<T> Counted<T> {
    /// With `bytes` that it takes beside its own struct.
    fn new(item: T, bytes: usize) -> Self {
        Self { item, _held: LANES.hold(size_of::<Self>() + bytes) }
    }
}

/// The transport of a connection that moves between two shards: its socket, of TCP or of the system's own kind, and its layers.
pub(in crate::backend) struct Transport {
    pub(in crate::backend) socket: Socket,
    /// `None` for a plain connection, and for one that has only been accepted.
    pub(in crate::backend) layers: Option<Box<Layers>>,
}

impl Transport {
    /// A socket without layers.
    pub(in crate::backend) fn plain(socket: Socket) -> Self {
        Self { socket, layers: None }
    }

    /// The socket, for a backend without layers.
    ///
    /// # Panics
    /// If it has layers.
    pub(in crate::backend) fn into_plain(self) -> Socket {
        assert!(self.layers.is_none(), "all shards have the same backend");
        self.socket
    }
}

/// A connection that moves between two shards. The engine has sent nothing on it, and no operation is outstanding. Answers of its
/// layers may wait in them.
pub(crate) struct HandOver {
    pub(in crate::backend) transport: Transport,
    /// The listener that accepted it. Its limits and rules continue to apply.
    pub(in crate::backend) listener: ListenerNumber,
    /// CONNECT and the bytes received after it. Empty for a connection that was only distributed. Wiped with
    /// it, because CONNECT may have a password.
    pub(in crate::backend) bytes: Zeroizing<Vec<u8>>,
    /// The permit of the connection, which moves with it.
    pub(in crate::backend) permit: Permit,
    /// `None` if it has no address.
    pub(in crate::backend) peer: Option<SocketAddr>,
    /// The name that a proxy gave to the client.
    pub(in crate::backend) name: Option<Box<str>>,
}

/// **Lives on:** the shard. **Sees:** its lanes to and from every other shard.
pub(super) struct Lanes {
    port: RefCell<Port<LaneItem>>,
    doorbells: Doorbells,
    /// By target: connections that wait for room in its control lane. Each holds its permit, so their number is
    /// bounded by the number of permits.
    departing: RefCell<Vec<VecDeque<Box<Counted<HandOver>>>>>,
    /// By target: number of our announcements that the target has acknowledged to the engine.
    announced: RefCell<Vec<u64>>,
    /// Whether the last turn has ended, or there was none, and no other has begun.
    ended: Cell<bool>,
}

impl Lanes {
    pub(super) fn new(port: Port<LaneItem>, doorbells: Doorbells) -> Self {
        let shard_count = port.shard_count();
        let mut departing = Vec::new();
        departing.resize_with(shard_count, VecDeque::new);
        Self {
            port: RefCell::new(port),
            doorbells,
            departing: RefCell::new(departing),
            announced: RefCell::new(vec![0; shard_count]),
            ended: Cell::new(true),
        }
    }

    /// The first action of every turn, whichever task begins it: from here on no ring is necessary. Returns whether a
    /// turn begins.
    pub(super) fn unpark(&self) -> bool {
        let begins = self.ended.take();
        if begins {
            self.port.borrow_mut().unpark();
        }
        begins
    }

    fn park(&self) -> Parked {
        let parked = self.port.borrow_mut().park();
        // Also after `Work`: each turn begins with `unpark`, which discards the credit that the last turn waited for.
        self.ended.set(true);
        parked
    }

    pub(super) fn shard_count(&self) -> u16 {
        number(self.port.borrow().shard_count())
    }

    /// Whether every arrived item was processed, and no connection waits to leave.
    pub(super) fn is_idle(&self) -> bool {
        self.port.borrow().is_idle() && self.departing.borrow().iter().all(VecDeque::is_empty)
    }

    /// Bytes of its slots and blocks. Bytes of other items count where they are sent.
    pub(super) fn memory_bytes(&self) -> u64 {
        let port = self.port.borrow();
        (port.slot_bytes() + port.blocks_alive_in_all() * CAPACITY.block_bytes) as u64
    }

    /// Frees blocks that a burst allocated, unless the lanes are in use.
    pub(super) fn trim(&self) {
        let mut port = self.port.borrow_mut();
        if port.is_idle() {
            port.trim();
        }
    }
}

impl<T: Endpoint> Host<T> {
    /// Moves a connection to another shard as soon as the lane has room.
    pub(in crate::backend) fn send_over(&self, target: u16, hand_over: HandOver) {
        let bytes = hand_over.bytes.capacity();
        let hand_over = Box::new(Counted::new(hand_over, bytes));
        self.lanes.departing.borrow_mut()[usize::from(target)].push_back(hand_over);
        self.turn.wake_flusher();
    }

    /// The last action of a turn. Returns whether the shard can sleep until its doorbell rings.
    pub(in crate::backend) fn may_sleep(&self) -> bool {
        self.lanes.park() == Parked::Sleep && !self.turn.is_dirty()
    }

    /// Processes the items that other shards sent, at most as many as full lanes hold; items that arrive meanwhile
    /// belong to the next turn. Connections go to `arrive`, with the shard that sent them.
    pub(in crate::backend) fn drain_lanes(&self, mut arrive: impl FnMut(u16, HandOver)) {
        self.begin_turn();
        let others = self.lanes.port.borrow().others();
        for other in others {
            for (lane, items_max) in
                [(Lane::Control, CAPACITY.control_items), (Lane::Data, CAPACITY.data_items)]
            {
                for _ in 0..items_max {
                    if lane == Lane::Data && !self.engine.borrow().takes_data() {
                        break;
                    }
                    let popped = self.lanes.port.borrow_mut().pop(other, lane);
                    let Some(item) = popped else { break };
                    self.receive(other, lane, item, &mut arrive);
                }
            }
            self.acknowledge(other);
        }
    }

    fn receive(
        &self,
        other: usize,
        lane: Lane,
        item: Item<LaneItem>,
        arrive: &mut impl FnMut(u16, HandOver),
    ) {
        let source = number(other);
        match item {
            Item::Block(block) => {
                let _nothing = self.step(Event::Inbox { source, item: InboundItem::Block(&block) });
                self.lanes.port.borrow_mut().give_back(other, lane, block);
            }
            Item::Other(LaneItem::Oversized(large)) => {
                let _nothing = self.step(Event::Inbox { source, item: InboundItem::Oversized(&large.item) });
            }
            Item::Other(LaneItem::HandOver(hand_over)) => arrive(source, hand_over.item),
        }
    }

    /// Exchanges acknowledgements of announcements with another shard.
    fn acknowledge(&self, other: usize) {
        let seen = self.engine.borrow().announcements_seen(number(other));
        let acknowledged = {
            let mut port = self.lanes.port.borrow_mut();
            port.acknowledge(other, seen);
            port.acknowledged(other)
        };
        let before = std::mem::replace(&mut self.lanes.announced.borrow_mut()[other], acknowledged);
        if acknowledged != before {
            let _nothing = self.step(Event::Announced { target: number(other), count: acknowledged });
        }
    }

    /// Fills each lane while it has room, and rings the doorbell of each sleeping shard that has new items.
    pub(in crate::backend) fn fill_lanes(&self) {
        let now = self.clock.now();
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let mut port = self.lanes.port.borrow_mut();
        for target in port.others() {
            for (lane, of_engine) in
                [(Lane::Control, engine::LaneKind::Control), (Lane::Data, engine::LaneKind::Data)]
            {
                // Only pushes of this port use up room, and each of them is counted here.
                let mut free = port.free(target, lane);
                while free > 0
                    && let Some(item) = engine.take_outbound(now, number(target), of_engine, &mut actions)
                {
                    let item = match item {
                        OutboundItem::Block(mut bytes) => {
                            // The full vector moves into the block, and the empty vector of the block is filled next.
                            let mut block = port.empty_block(target, lane);
                            std::mem::swap(block.as_mut(), &mut bytes);
                            engine.recycle(bytes);
                            Item::Block(block)
                        }
                        OutboundItem::Oversized(large) => {
                            let bytes = large.bytes_held();
                            Item::Other(LaneItem::Oversized(Box::new(Counted::new(large, bytes))))
                        }
                    };
                    assert!(port.push(target, lane, item).is_ok(), "the lane had room");
                    free -= 1;
                }
                if lane == Lane::Control {
                    let mut departing = self.lanes.departing.borrow_mut();
                    while free > 0
                        && let Some(hand_over) = departing[target].pop_front()
                    {
                        let item = Item::Other(LaneItem::HandOver(hand_over));
                        assert!(port.push(target, lane, item).is_ok(), "the lane had room");
                        free -= 1;
                    }
                }
                if free == 0 {
                    port.want_credit(target, lane, 1);
                }
            }
            if port.wake_needed(target) {
                self.lanes.doorbells.ring(target);
            }
        }
        drop(port);
        self.carry_out(&mut engine, &mut actions);
    }
}

/// The number of a shard in the type that engines use.
pub(in crate::backend) fn number(shard: usize) -> u16 {
    u16::try_from(shard).expect("there are at most 64 shards")
}
