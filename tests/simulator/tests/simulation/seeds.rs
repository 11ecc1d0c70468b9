//! Random runs: the same seed gives the same run, and no seed breaks a guarantee.

use simulator::run;

/// Seeds of every test run, from 0.
const SEEDS: u64 = 64;

fn play(seed: u64) -> simulator::Report {
    match run(seed) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn no_seed_breaks_a_guarantee() {
    #[expect(clippy::disallowed_methods, reason = "a test's one setting, named in its documentation")]
    let asked = std::env::var("SEED").ok();
    if let Some(asked) = asked {
        let digits = asked.strip_prefix("0x").unwrap_or(&asked);
        let seed = u64::from_str_radix(digits, 16).expect("SEED is a hexadecimal number");
        let report = play(seed);
        println!("SEED={seed:#x}: digest {:#018x}, {report:?}", report.digest);
        return;
    }
    let mut total = [0; 5];
    let mut seeds: Vec<u64> = (0..SEEDS).chain(REGRESSIONS.iter().map(|(seed, _)| *seed)).collect();
    seeds.dedup();
    for seed in seeds {
        let report = play(seed);
        total[0] += report.message_count;
        total[1] += report.forwarded_count;
        total[2] += report.handed_over_count;
        total[3] += report.take_over_count;
        total[4] += report.shed_count;
    }
    let [messages, forwarded, handed_over, taken_over, shed] = total;
    // The runs must contain the hard cases, or they would prove little.
    assert!(messages > 10_000 && forwarded > 10_000 && handed_over > 500, "{total:?}");
    assert!(taken_over > 100 && shed > 30, "{total:?}");
}

#[test]
fn the_same_seed_repeats_a_run_and_another_seed_does_not() {
    assert_eq!(play(7), play(7));
    assert_ne!(play(7).digest, play(8).digest);
}

/// Seeds that found a fault, each with its story.
const REGRESSIONS: [(u64, &str); 7] = [
    (
        0x6,
        "a page request overtook the update that its own shard had sent to the home: an older retained message came last",
    ),
    (
        0xb,
        "an update passed the subscriber's shard before the subscription and its home after the page: it was missed",
    ),
    (0x2b, "retained messages of QoS 0 in a long page of another shard were dropped past the outbox's bound"),
    (0x11, "the home forwarded an update, which came behind the publisher's next one"),
    (
        0xa0,
        "interest was withdrawn and announced again: one update came live and hid the next one in the page",
    ),
    (
        0x1_0a37,
        "a rival took the session over before a DISCONNECT that was to end it, which the simulated client did not expect",
    ),
    (0x1050, "a hand-over freed a connection's number: a SUBACK was sent for a later connection"),
];
