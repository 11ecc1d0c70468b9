//! The generator tested against a broker with known faults.

use std::time::Duration;

use wire::{ProtocolVersion, QoS};

use crate::clock::now;
use crate::faulty_broker::{Done, Faults, FaultyBroker};
use crate::ledger::Totals;
use crate::plan::{Plan, Scenario};
use crate::run::{Pace, Run, Way};

/// Runs a paced load of one pair against a broker with faults; returns the generator's totals and the actual faults.
fn totals_with(faults: Faults) -> (Totals, Done) {
    let broker = FaultyBroker::start(faults);
    let plan = Plan::new(Scenario::Pairs, 1, QoS::AtMostOnce);
    let way = Way {
        broker: broker.address,
        version: ProtocolVersion::V3_1_1,
        payload_bytes: 64,
        keep_alive_s: 0,
        websocket: false,
        tls: None,
        lasting: false,
    };
    let mut run = Run::connect(&plan, way, Pace::Rate { per_s: 5_000, tick_ns: 0 }).unwrap();
    run.publish_until(now() + Duration::from_millis(400)).unwrap();
    run.settle_until(now() + Duration::from_millis(500)).unwrap();
    assert!(run.totals().expected > 100, "{:?}", run.totals());
    (run.totals(), broker.done())
}

#[test]
fn a_correct_broker_has_no_errors() {
    let (totals, _) = totals_with(Faults::default());
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (0, 0, 0));
}

#[test]
fn every_dropped_message_is_lost_and_nothing_else() {
    let (totals, done) = totals_with(Faults { drop: 10, ..Faults::default() });
    assert!(done.dropped > 5);
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (done.dropped, 0, 0));
}

#[test]
fn every_repeated_message_is_a_duplicate_and_nothing_else() {
    let (totals, done) = totals_with(Faults { double: 7, ..Faults::default() });
    assert!(done.doubled > 5);
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (0, done.doubled, 0));
}

#[test]
fn every_swapped_message_is_out_of_order_and_nothing_else() {
    let (totals, done) = totals_with(Faults { swap: 9, ..Faults::default() });
    assert!(done.swapped > 5);
    // The last message may still be held.
    let held = totals.lost();
    assert!(held <= 1);
    assert_eq!((totals.duplicated, totals.reordered), (0, done.swapped - held));
}

#[test]
fn faults_of_all_kinds_are_distinguished() {
    let (totals, done) = totals_with(Faults { drop: 10, double: 7, swap: 11 });
    let held = totals.lost() - done.dropped;
    assert!(held <= 1 && done.dropped > 0 && done.doubled > 0 && done.swapped > 0);
    assert_eq!((totals.duplicated, totals.reordered), (done.doubled, done.swapped - held));
}

#[test]
fn latency_counts_from_when_a_message_was_due() {
    let broker = FaultyBroker::start(Faults { swap: 50, ..Faults::default() });
    let plan = Plan::new(Scenario::Pairs, 1, QoS::AtMostOnce);
    let way = Way {
        broker: broker.address,
        version: ProtocolVersion::V3_1_1,
        payload_bytes: 64,
        keep_alive_s: 0,
        websocket: false,
        tls: None,
        lasting: false,
    };
    let mut run = Run::connect(&plan, way, Pace::Rate { per_s: 100, tick_ns: 0 }).unwrap();
    run.measure();
    run.publish_until(now() + Duration::from_secs(1)).unwrap();
    // A held message waits for the next one, which is due 10 ms later.
    assert!(run.latency_us().max() >= 9_000, "{} µs", run.latency_us().max());
    assert!(run.latency_us().value_at_percentile(50.0) < 9_000);
}
