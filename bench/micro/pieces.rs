//! The work of the micro benches for single pieces of the engine: its tree, its outbox, its timer wheel.

use std::hint::black_box;

use bytes::Bytes;
use wire::packet::{Publish, PublishParts};
use wire::{Assembler, QoS, TopicFilter};

use crate::base::hash::{Entropy, Keyed};
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerWheel;
use crate::host::{PACKET_BYTES_MAX, VERSION};
use crate::outbox::{BufferPool, Outbox};
use crate::parts::{BURST, filter_text, publish_bytes};
use crate::topic::subscriptions::{SubscriptionList, plain_options};
use crate::topic::tree::Tree;

/// Topics looked up in turn: far more than the tree caches.
const TOPICS: u32 = 1 << 15;
const TIMERS: usize = 100_000;
/// The time that a silent client with keep alive 60 is allowed.
const TIMER_MS: u64 = 90_000;

fn filled_tree(filter_count: u32) -> Tree {
    let mut tree = Tree::new(Keyed::new(Entropy(7)));
    for number in 0..filter_count {
        subscribe(&mut tree, number, &filter_text(number));
    }
    tree
}

fn subscribe(tree: &mut Tree, session: u32, filter: &str) {
    let filter = TopicFilter::parse(filter).expect("the bench's own filter");
    let options = plain_options(QoS::AtMostOnce);
    assert!(tree.subscribe(&mut SubscriptionList::EMPTY.clone(), (session, false), &filter, options, None));
}

/// Looks up topics of which each matches one filter of the form `form`: 0 without wildcards, 1 with +, 2 with #.
pub(crate) fn tree(filter_count: u32, form: u32) -> impl FnMut() {
    let mut tree = filled_tree(filter_count);
    let topics: Vec<String> = (0..TOPICS)
        .map(|at| {
            // Spread over all filters, so that their memory is walked as well.
            let number = u64::from(at) * u64::from(filter_count / 3) / u64::from(TOPICS);
            let number = u32::try_from(number).expect("one of the filters") * 3 + form;
            // The same length for every form.
            match form {
                0 => format!("site/{}/device/{number}/state", number % 100),
                1 => format!("site/{}/sensor/{number}/state", number % 100),
                _ => format!("site/{}/{number}/sensor/state", number % 100),
            }
        })
        .collect();
    // Consecutive topics would be neighbours in memory.
    let mut order = (0..TOPICS as usize).map(|at| at * 7_919 % TOPICS as usize).cycle();
    let mut matched = Vec::new();
    move || {
        for _ in 0..BURST {
            let topic = &topics[order.next().expect("it never ends")];
            matched.clear();
            tree.matches(black_box(topic), &mut matched);
            assert_eq!(matched.len(), 1);
        }
    }
}

/// Looks up one topic repeatedly.
pub(crate) fn tree_hot(filter_count: u32) -> impl FnMut() {
    let mut tree = filled_tree(filter_count);
    subscribe(&mut tree, filter_count, "device/+/state");
    let mut matched = Vec::new();
    move || {
        for _ in 0..BURST {
            matched.clear();
            tree.matches(black_box("device/7/state"), &mut matched);
            assert_eq!(matched.len(), 1);
        }
    }
}

/// Walks the trie where filters branch for `+` as often as `nodes_max` allows, with topics that visit the most nodes and match nothing.
pub(crate) fn tree_branches(nodes_max: u32) -> impl FnMut() {
    let mut tree = Tree::new(Keyed::new(Entropy(7)));
    let mut taken_count = 0;
    for number in 0..1 << 14 {
        let levels: Vec<&str> = (0..14).map(|bit| if number >> bit & 1 == 0 { "a" } else { "+" }).collect();
        let filter = format!("{}/{}x", levels.join("/"), "a/".repeat(20));
        if tree.fits(&TopicFilter::parse(&filter).expect("the bench's own filter"), nodes_max) {
            subscribe(&mut tree, number, &filter);
            taken_count += 1;
        }
    }
    assert!(taken_count > 0 && tree.cost() > nodes_max / 2);
    let mut matched = Vec::new();
    let mut number = 0;
    move || {
        for _ in 0..BURST {
            number += 1;
            let topic = format!("{}/{}{number}", ["a"; 14].join("/"), "a/".repeat(20));
            let found = tree.matches(black_box(&topic), &mut matched);
            assert!(matched.is_empty() && found.visited_count() > nodes_max / 2);
        }
    }
}

/// The path of a QoS 0 PUBLISH through codec and tree alone.
struct Router {
    tree: Tree,
    assembler: Assembler,
    matched: Vec<u32>,
    out: Vec<u8>,
}

impl Router {
    fn new(filter_count: u32, filter: &str) -> Self {
        let mut tree = filled_tree(filter_count);
        subscribe(&mut tree, filter_count, filter);
        Self { tree, assembler: Assembler::new(), matched: Vec::new(), out: Vec::with_capacity(64 * 1024) }
    }

    /// Every packet of the burst goes to the one subscriber.
    fn route(&mut self, burst: &[u8]) {
        self.out.clear();
        let mut rest = black_box(burst);
        while let Ok(Some(frame)) = self.assembler.next(&mut rest, PACKET_BYTES_MAX) {
            let publish = Publish::decode(VERSION, frame.first_byte, frame.body).expect("made by the codec");
            let topic = publish.topic.expect("no alias was agreed on").as_str();
            self.matched.clear();
            self.tree.matches(topic, &mut self.matched);
            for &filter in &self.matched {
                for member in self.tree.members(filter).in_piece().unwrap_or_default() {
                    black_box(member.session());
                    let parts = PublishParts {
                        dup: false,
                        qos: publish.qos.min(member.options().qos),
                        retain: false,
                        topic,
                        packet_id: None,
                        message_expiry_interval_s: None,
                        topic_alias: None,
                        subscription_ids: &[],
                        forwarded: &[],
                        payload_bytes: publish.payload.len(),
                    };
                    parts.encode_head(VERSION, &mut self.out);
                    self.out.extend_from_slice(publish.payload);
                }
            }
        }
        assert_eq!(self.out.len(), burst.len());
    }
}

/// Routes bursts to one topic.
pub(crate) fn route(filter_count: u32) -> impl FnMut() {
    let mut router = Router::new(filter_count, "device/7/state");
    let mut burst = Vec::new();
    for _ in 0..BURST {
        publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut burst);
    }
    move || router.route(&burst)
}

/// Routes each message to another one of very many topics.
pub(crate) fn route_cold(filter_count: u32) -> impl FnMut() {
    let mut router = Router::new(filter_count, "site/+/+/+/cold");
    let bursts: Vec<Vec<u8>> = (0..TOPICS)
        .step_by(usize::try_from(BURST).expect("a burst is short"))
        .map(|first| {
            let mut burst = Vec::new();
            for number in first..first + u32::try_from(BURST).expect("a burst is short") {
                let topic = format!("site/{:02}/device/{number:07}/cold", number % 100);
                publish_bytes(&topic, QoS::AtMostOnce, 1, &mut burst);
            }
            burst
        })
        .collect();
    let mut turn = 0;
    move || {
        router.route(&bursts[turn]);
        turn = (turn + 1) % bursts.len();
    }
}

/// Messages gather for a burst and leave in one piece.
pub(crate) fn outbox() -> impl FnMut() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
    let message = [7; 80];
    move || {
        for _ in 0..BURST {
            outbox.append(&mut pool, |out| out.extend_from_slice(black_box(&message)));
            outbox.count_qos0();
        }
        let chunk = outbox.lend().expect("there is something to send");
        let bytes = black_box(chunk.as_bytes()).len();
        assert_eq!(u64::from(outbox.give_back(&mut pool, chunk, bytes)), BURST);
    }
}

/// The head of each message is copied and its payload shared; they leave one after the other.
pub(crate) fn outbox_shared() -> impl FnMut() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
    let (head, payload) = ([7; 16], Bytes::from(vec![7; 4096]));
    move || {
        for _ in 0..BURST {
            outbox.append(&mut pool, |out| out.extend_from_slice(black_box(&head)));
            outbox.append_shared(&mut pool, payload.clone());
            outbox.count_qos0();
        }
        while let Some(chunk) = outbox.lend() {
            let bytes = black_box(chunk.as_bytes()).len();
            outbox.give_back(&mut pool, chunk, bytes);
        }
        assert_eq!(outbox.qos0_count(), 0);
    }
}

/// Each message leaves by itself, and the kernel accepts only a part of it at first.
pub(crate) fn outbox_pieces() -> impl FnMut() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::new(0));
    let message = [7; 80];
    move || {
        for _ in 0..BURST {
            outbox.append(&mut pool, |out| out.extend_from_slice(black_box(&message)));
            outbox.count_qos0();
            let chunk = outbox.lend().expect("there is something to send");
            assert_eq!(outbox.give_back(&mut pool, chunk, black_box(30)), 0);
            let chunk = outbox.lend().expect("the rest");
            let bytes = black_box(chunk.as_bytes()).len();
            assert_eq!(outbox.give_back(&mut pool, chunk, bytes), 1);
        }
    }
}

/// A deadline that looks random and is the same in every run.
fn spread_ms(number: u64) -> u64 {
    1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % TIMER_MS
}

/// Each operation gives one of the timers a new deadline.
pub(crate) fn timer_reset() -> impl FnMut() {
    let mut wheel = TimerWheel::new(Instant::from_ms(1), 32);
    let mut number = 0;
    let mut timers = Vec::new();
    for timer in 0..TIMERS {
        number += 1;
        timers.push(wheel.insert(Instant::from_ms(spread_ms(number)), timer));
    }
    let mut at = 0;
    move || {
        for _ in 0..BURST {
            number += 1;
            at = (at + 7_919) % TIMERS;
            assert!(wheel.cancel(timers[at]));
            timers[at] = wheel.insert(Instant::from_ms(spread_ms(number)), at);
        }
    }
}

/// In each operation a timer expires and is set again for the same delay.
pub(crate) fn timer_expiry() -> impl FnMut() {
    let mut wheel = TimerWheel::new(Instant::from_ms(1), 32);
    for timer in 0..TIMERS {
        wheel.insert(Instant::from_ms(spread_ms(timer as u64)), timer);
    }
    let mut now = Instant::from_ms(1);
    move || {
        let mut due = 0;
        while due < BURST {
            let Some(timer) = wheel.pop_due(now, &mut u32::MAX.clone()) else {
                now = now.plus_ms(1);
                continue;
            };
            wheel.insert(now.plus_ms(TIMER_MS), timer);
            due += 1;
        }
    }
}
