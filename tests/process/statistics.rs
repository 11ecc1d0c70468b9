//! The statistics block on standard output, exactly in the format that scripts parse.

use rustix::process::Signal;

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Process, Stream};
use crate::harness::time::{Deadline, PATIENCE};

/// Requests blocks until one is `expected`. The actions of a client are counted soon after their answer, not before
/// it.
fn becomes(broker: &mut Broker, expected: &[String; 3]) {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mark = broker.process().mark();
        broker.process().signal(Signal::USR1);
        let printed = block(broker.process(), mark);
        if printed == *expected {
            return;
        }
        assert!(
            deadline.remaining().is_some(),
            "the statistics stay at {printed:?} and should be {expected:?}"
        );
    }
}

/// The next complete block after `mark`, with every character of its lines checked.
fn block(process: &mut Process, mark: usize) -> [String; 3] {
    let first = process.wait_for(mark, "statistics", |line| line.starts_with("[STATS] Connections: "));
    process.wait_for(mark, "third line", |line| line.starts_with("[STATS] Subscriptions: "));
    let lines = process.lines();
    let at = (mark..lines.len()).find(|at| lines[*at].1 == first).expect("it was just found");
    let block = [0, 1, 2].map(|offset| {
        assert_eq!(lines[at + offset].0, Stream::Out, "statistics go to standard output");
        lines[at + offset].1.clone()
    });
    check_form(&block);
    block
}

fn check_form(block: &[String; 3]) {
    let number = |text: &str| text.parse::<u64>().is_ok() && !text.starts_with('+');
    let connections = block[0].strip_prefix("[STATS] Connections: ").and_then(|rest| {
        let (counts, share) = rest.split_once(" (")?;
        let (now, max) = counts.split_once('/')?;
        let (whole, tenth) = share.strip_suffix("%)")?.split_once('.')?;
        (number(now) && number(max) && number(whole) && tenth.len() == 1 && number(tenth)).then_some(())
    });
    assert!(connections.is_some(), "not `[STATS] Connections: 1234/10000 (12.3%)`: {:?}", block[0]);
    let messages = block[1].strip_prefix("[STATS] Messages: ").and_then(|rest| {
        let (received, sent) = rest.strip_suffix(" sent")?.split_once(" received, ")?;
        (number(received) && number(sent)).then_some(())
    });
    assert!(messages.is_some(), "not `[STATS] Messages: 45678 received, 123456 sent`: {:?}", block[1]);
    let subscriptions = block[2].strip_prefix("[STATS] Subscriptions: ").filter(|rest| number(rest));
    assert!(subscriptions.is_some(), "not `[STATS] Subscriptions: 5678`: {:?}", block[2]);
}

#[test]
fn the_signal_prints_the_numbers_of_now_and_the_stop_the_last() {
    let mut broker = Broker::start_with(&Setup { flags: &["--max-connections", "8"], ..Setup::default() });
    let expected = |connections: &str, messages: &str, subscriptions: &str| {
        [
            format!("[STATS] Connections: {connections}"),
            format!("[STATS] Messages: {messages}"),
            format!("[STATS] Subscriptions: {subscriptions}"),
        ]
    };
    becomes(&mut broker, &expected("0/8 (0.0%)", "0 received, 0 sent", "0"));
    let mut one = Peer::connect(broker.address(), &Connect::new(Version::V5, "one"));
    let mut two = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "two"));
    one.subscribe("a", 0);
    one.subscribe("b/#", 1);
    two.subscribe("a", 2);
    for _ in 0..5 {
        one.publish(&Publish::new("a", 1, b"x"));
        one.next_message();
        two.next_message();
    }
    one.ping();
    two.ping();
    becomes(&mut broker, &expected("2/8 (25.0%)", "5 received, 10 sent", "3"));
    one.unsubscribe(&["a"]);
    two.disconnect();
    becomes(&mut broker, &expected("1/8 (12.5%)", "5 received, 10 sent", "1"));
    one.disconnect();
    let (finished, _directory) = broker.stop();
    let last: Vec<&str> = finished.output.lines().filter(|line| line.starts_with("[STATS] ")).collect();
    let last = &last[last.len() - 3..];
    assert_eq!(
        last,
        expected("0/8 (0.0%)", "5 received, 10 sent", "0"),
        "the last block has the final numbers"
    );
}

#[test]
fn the_interval_prints_again_and_again() {
    let mut broker = Broker::start_with(&Setup { flags: &["--stats-interval", "1"], ..Setup::default() });
    let mark = broker.process().mark();
    let first = block(broker.process(), mark);
    assert_eq!(first[0], "[STATS] Connections: 0/10000 (0.0%)");
    let mark = broker.process().mark();
    block(broker.process(), mark);
    broker.stop();
}

#[test]
fn interval_zero_prints_at_the_stop_alone() {
    let broker = Broker::start_with(&Setup { flags: &["--stats-interval", "0"], ..Setup::default() });
    Peer::connect(broker.address(), &Connect::new(Version::V5, "peer")).disconnect();
    let (finished, _directory) = broker.stop();
    let lines = finished.output.lines().filter(|line| line.starts_with("[STATS] ")).count();
    assert_eq!(lines, 3, "{}", finished.output);
}
