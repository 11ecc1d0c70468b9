//! The generator judged against a broker whose mistakes are known.
//! Knows what the books must say, not how they are kept.

use std::time::Duration;

use wire::{ProtocolVersion, QoS};

use crate::clock::now;
use crate::faulty_broker::{Done, Faults, FaultyBroker};
use crate::ledger::Totals;
use crate::plan::{Plan, Scenario};
use crate::run::{Pace, Run, Way};

/// Runs a paced load of one pair against a broker with faults: the generator's books, and what was really done.
fn books(faults: Faults) -> (Totals, Done) {
    let broker = FaultyBroker::start(faults);
    let plan = Plan::new(Scenario::Pairs, 1, QoS::AtMostOnce);
    let way =
        Way { broker: broker.address, version: ProtocolVersion::V3_1_1, payload_bytes: 64, keep_alive_s: 0 };
    let mut run = Run::connect(&plan, way, Pace::Rate(5_000)).unwrap();
    run.publish_until(now() + Duration::from_millis(400)).unwrap();
    run.settle_until(now() + Duration::from_millis(500)).unwrap();
    assert!(run.totals().owed > 100, "{:?}", run.totals());
    (run.totals(), broker.done())
}

#[test]
fn a_broker_that_does_its_work_has_clean_books() {
    let (totals, _) = books(Faults::default());
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (0, 0, 0));
}

#[test]
fn every_dropped_message_is_lost_and_nothing_else() {
    let (totals, done) = books(Faults { drop: 10, ..Faults::default() });
    assert!(done.dropped > 5);
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (done.dropped, 0, 0));
}

#[test]
fn every_doubled_message_is_a_duplicate_and_nothing_else() {
    let (totals, done) = books(Faults { double: 7, ..Faults::default() });
    assert!(done.doubled > 5);
    assert_eq!((totals.lost(), totals.duplicated, totals.reordered), (0, done.doubled, 0));
}

#[test]
fn every_swapped_message_is_out_of_order_and_nothing_else() {
    let (totals, done) = books(Faults { swap: 9, ..Faults::default() });
    assert!(done.swapped > 5);
    // The last one may still be held.
    let held = totals.lost();
    assert!(held <= 1);
    assert_eq!((totals.duplicated, totals.reordered), (0, done.swapped - held));
}

#[test]
fn mistakes_of_all_kinds_are_told_apart() {
    let (totals, done) = books(Faults { drop: 10, double: 7, swap: 11 });
    let held = totals.lost() - done.dropped;
    assert!(held <= 1 && done.dropped > 0 && done.doubled > 0 && done.swapped > 0);
    assert_eq!((totals.duplicated, totals.reordered), (done.doubled, done.swapped - held));
}

#[test]
fn latency_counts_from_when_a_message_was_due() {
    let broker = FaultyBroker::start(Faults { swap: 50, ..Faults::default() });
    let plan = Plan::new(Scenario::Pairs, 1, QoS::AtMostOnce);
    let way =
        Way { broker: broker.address, version: ProtocolVersion::V3_1_1, payload_bytes: 64, keep_alive_s: 0 };
    let mut run = Run::connect(&plan, way, Pace::Rate(100)).unwrap();
    run.measure();
    run.publish_until(now() + Duration::from_secs(1)).unwrap();
    // A held message waits for the next one, which is due 10 ms later.
    assert!(run.latency_us().max() >= 9_000, "{} µs", run.latency_us().max());
    assert!(run.latency_us().value_at_percentile(50.0) < 9_000);
}
