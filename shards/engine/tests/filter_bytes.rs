//! The bytes that the engine counts for subscriptions are those that its allocator hands out, for every form of filter. The test counts
//! the bytes that live in its process, in which it is alone.

#![expect(unsafe_code, reason = "an allocator that counts is a `GlobalAlloc`")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{Engine, Entropy, Instant, Limits, SessionRecord, SubscriptionRecord};

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of a caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the freed memory came from `alloc` above, so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FILTERS: u32 = 3_000;

fn record(number: u32, filter: impl Fn(u32) -> String) -> SessionRecord {
    let subscriptions = (0..FILTERS).map(|at| SubscriptionRecord {
        topic_filter: filter(at),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        subscription_identifier: None,
    });
    SessionRecord {
        client_id: format!("client-{number}"),
        user: None,
        expiry: None,
        subscriptions: subscriptions.collect(),
    }
}

#[test]
fn the_bytes_counted_for_subscriptions_are_those_that_live() {
    let deep = ["level"; 40].join("/");
    let forms: [(&str, &dyn Fn(u32) -> String); 7] = [
        ("short, without wildcards", &|at| format!("a/{at}")),
        ("long, without wildcards", &|at| format!("{deep}/{at}")),
        ("short, with +", &|at| format!("device/{at}/+/state")),
        ("long, apart in the middle", &|at| format!("{deep}/{at}/+/{deep}")),
        ("in pairs, apart at the end", &|at| format!("+/{}/{deep}/{}", at / 2, at % 2)),
        ("of many costs", &|at| format!("x/{}/{}{at}/y", at % 100, "+/".repeat(1 + at as usize % 7))),
        ("shared", &|at| format!("$share/a long name of a group/{}/+", at / 4)),
    ];
    for (name, filter) in forms {
        let limits = Limits { match_nodes_max: 1 << 20, ..Limits::default() };
        let mut engine = Engine::new(limits, Entropy(7), Instant::from_ms(1));
        let records: Vec<SessionRecord> = (0..3).map(|number| record(number, filter)).collect();
        let live_before = LIVE_BYTES.load(Ordering::Relaxed);
        let counted_before = engine.subscription_bytes();
        for record in &records {
            engine.restore(Instant::from_ms(1), record).expect("the filters are valid");
        }
        let live = LIVE_BYTES.load(Ordering::Relaxed) - live_before;
        let counted = engine.subscription_bytes() - counted_before;
        // The allocator's own share is counted as well; sessions and their timers are not.
        let percent = counted * 100 / live as u64;
        assert!((92..=125).contains(&percent), "{name}: {counted} counted, {live} live");
        let _audit = engine.audit();
    }
}
