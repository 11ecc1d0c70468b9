//! A PUBLISH of QoS 0 from a publisher to a subscriber allocates nothing in the steady state, with a hundred thousand other filters in
//! the tree. The test counts every call of the allocator of its process, in which it is alone.

#![expect(unsafe_code, reason = "an allocator that counts is a `GlobalAlloc`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{
    Action, Actions, Admission, Arrival, ConnectionId, Engine, Entropy, Event, Instant, Lend, Limits,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of a caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the freed memory came from `alloc` above, so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FILTERS: u32 = 100_000;
const FILTERS_PER_SESSION: u32 = 5_000;

fn text(value: &str, out: &mut Vec<u8>) {
    out.extend(u16::try_from(value.len()).expect("a short text").to_be_bytes());
    out.extend(value.as_bytes());
}

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    let mut length = body.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("seven bits"));
    out.extend(body);
    out
}

struct Shard {
    engine: Engine,
    actions: Actions,
    flushes: Vec<ConnectionId>,
    sent_bytes: usize,
}

impl Shard {
    fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let now = Instant::from_ms(1);
        let mut consumed = 0;
        // A step does its share of work, and the next one goes on.
        while consumed < bytes.len() {
            let event = Event::Received { connection, bytes: &bytes[consumed..] };
            consumed += self.engine.step(now, event, &mut self.actions).bytes;
        }
        while !self.actions.is_empty() {
            let mut durable = None;
            for action in self.actions.drain() {
                match action {
                    Action::Flush(id) => self.flushes.push(id),
                    Action::Persist(batch) => durable = Some(batch),
                    Action::Resume(id) => assert_eq!(id, connection),
                    other => unreachable!("{other:?}"),
                }
            }
            if let Some(batch) = durable {
                let _ = self.engine.step(now, Event::durable(batch), &mut self.actions);
            }
        }
        while let Some(id) = self.flushes.pop() {
            while let Lend::Chunk(chunk) = self.engine.lend(id) {
                let length = chunk.as_bytes().len();
                self.sent_bytes += length;
                self.engine.give_back(now, id, chunk, length, &mut self.actions);
            }
        }
    }

    fn connect(&mut self, name: &str) -> ConnectionId {
        let ordinal = self.engine.counters().connections_accepted;
        let id = self.engine.accept(Instant::from_ms(1), Admission::Serve, Arrival::new(ordinal), 0);
        let mut body = Vec::new();
        text("MQTT", &mut body);
        body.extend([4, 2, 0, 0]);
        text(name, &mut body);
        self.receive(id, &packet(0x10, &body));
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filters: &[String]) {
        let mut body = vec![0, 1];
        for filter in filters {
            text(filter, &mut body);
            body.push(0);
        }
        self.receive(id, &packet(0x82, &body));
    }
}

#[test]
fn a_publish_of_qos_0_allocates_nothing_in_the_steady_state() {
    let engine = Engine::new(Limits::default(), Entropy(7), Instant::from_ms(1));
    let mut shard = Shard { engine, actions: Actions::new(), flushes: Vec::new(), sent_bytes: 0 };
    for first in (0..FILTERS).step_by(FILTERS_PER_SESSION as usize) {
        let filters: Vec<String> = (first..first + FILTERS_PER_SESSION)
            .map(|number| match number % 3 {
                0 => format!("site/{}/device/{number}/state", number % 100),
                1 => format!("site/{}/+/{number}/state", number % 100),
                _ => format!("site/{}/{number}/#", number % 100),
            })
            .collect();
        let id = shard.connect(&format!("filler-{first}"));
        shard.subscribe(id, &filters);
    }
    let subscriber = shard.connect("subscriber");
    shard.subscribe(subscriber, &["site/+/device/+/cold".to_owned(), "site/7/device/hot".to_owned()]);
    let publisher = shard.connect("publisher");

    // One topic comes again and again, the others once. A burst is the bytes of one receive.
    let (mut burst, mut topic, mut body, mut number) = (Vec::new(), String::new(), Vec::new(), 0_u32);
    let mut round = |shard: &mut Shard| {
        burst.clear();
        for _ in 0..20 {
            number += 1;
            topic.clear();
            match number % 2 {
                0 => topic.push_str("site/7/device/hot"),
                _ => write!(topic, "site/{:02}/device/{number:07}/cold", number % 100).unwrap(),
            }
            body.clear();
            text(&topic, &mut body);
            body.extend([b'x'; 64]);
            burst.push(0x30);
            burst.push(u8::try_from(body.len()).unwrap());
            burst.extend(&body);
        }
        let before = shard.sent_bytes;
        shard.receive(publisher, &burst);
        assert_eq!(shard.sent_bytes - before, burst.len(), "each message goes to the one subscriber");
    };
    // Until every slot of the match cache has been written.
    for _ in 0..2_000 {
        round(&mut shard);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..500 {
        round(&mut shard);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in 10,000 messages");
    topics_that_match_many_filters_are_not_cached(&mut shard, publisher);
    buffers_of_many_outboxes_are_used_again(&mut shard, publisher);
}

fn publish_burst(topics: impl Iterator<Item = String>) -> Vec<u8> {
    let mut burst = Vec::new();
    for topic in topics {
        let mut body = Vec::new();
        text(&topic, &mut body);
        body.extend([b'x'; 64]);
        burst.extend(packet(0x30, &body));
    }
    burst
}

/// Each of these topics comes once and matches 64 filters: the match cache must not grow by their lists.
fn topics_that_match_many_filters_are_not_cached(shard: &mut Shard, publisher: ConnectionId) {
    let levels = |bits: u32| {
        let level = |at: u32| if bits >> at & 1 == 0 { "l" } else { "+" };
        (0..6).map(level).collect::<Vec<_>>().join("/")
    };
    let filters: Vec<String> = (0..64).map(|bits| format!("many/{}/#", levels(bits))).collect();
    let subscriber = shard.connect("many");
    shard.subscribe(subscriber, &filters);
    let topics = |from: u32| (from..from + 100).map(|number| format!("many/l/l/l/l/l/l/{number:04}"));
    let (first, second) = (publish_burst(topics(0)), publish_burst(topics(100)));
    shard.receive(publisher, &first);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    shard.receive(publisher, &second);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in 100 topics");
}

/// A burst fills 64 outboxes with more than 2 MiB in all: the next one takes the same buffers.
fn buffers_of_many_outboxes_are_used_again(shard: &mut Shard, publisher: ConnectionId) {
    for number in 0..64 {
        let subscriber = shard.connect(&format!("fan-{number}"));
        shard.subscribe(subscriber, &["fan".to_owned()]);
    }
    let burst = publish_burst((0..600).map(|_| "fan".to_owned()));
    assert!(burst.len() * 64 > 2 * 1024 * 1024);
    for _ in 0..2 {
        shard.receive(publisher, &burst);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    shard.receive(publisher, &burst);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in 38,400 deliveries");
}
