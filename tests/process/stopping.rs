//! Stopping: clients are disconnected, messages in flight arrive, and the exit code is 0 within seconds.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::broker::{Broker, Io, MEMORY, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;

#[test]
fn sigterm_and_sigint_disconnect_the_clients_and_exit_0() {
    for io in Io::EACH {
        for signal in [Signal::TERM, Signal::INT] {
            let mut broker = Broker::start_with(&Setup { io, ..Setup::default() });
            let mut five = Peer::connect(broker.address(), &Connect::new(Version::V5, "five"));
            let mut older = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "older"));
            let mut fresh = Peer::open(broker.address(), Version::V5);
            five.ping();
            older.ping();
            broker.process().signal(signal);
            assert_eq!(five.await_close(), Some(0x8B), "Server shutting down");
            older.await_close();
            fresh.await_close();
            let status = broker.process().wait_for_exit(Duration::from_secs(10));
            assert_eq!(status.code(), Some(0), "{signal:?}");
        }
    }
}

#[test]
fn acknowledged_messages_are_delivered_before_the_end() {
    let mut broker = Broker::start_with(&Setup::default());
    let mut subscriber = Peer::connect(broker.address(), &Connect::new(Version::V5, "subscriber"));
    subscriber.subscribe("last", 0);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    for number in 0..200 {
        publisher.publish(&Publish::new("last", 1, format!("{number}").as_bytes()));
    }
    broker.process().signal(Signal::TERM);
    for number in 0..200 {
        assert_eq!(subscriber.next_publish().text(), format!("{number}"));
    }
    assert_eq!(subscriber.await_close(), Some(0x8B));
    assert!(broker.process().wait_for_exit(Duration::from_secs(10)).success());
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let broker = Broker::start_with(&Setup::default());
    let mut stalled = Peer::connect(broker.address(), &Connect::new(Version::V5, "stalled"));
    stalled.subscribe("flood", 0);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let payload = vec![b'x'; 60_000];
    for _ in 0..200 {
        publisher.publish(&Publish::new("flood", 1, &payload));
    }
    broker.stop();
    stalled.vanish();
}

#[test]
fn nothing_follows_the_disconnect_even_where_wills_are_due() {
    // A client that the broker disconnects has a will that is due. A client that already received DISCONNECT must not
    // receive it.
    let mut broker = Broker::start_with(&Setup::default());
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, "watcher"));
    watcher.subscribe("will", 0);
    let connect = Connect::new(Version::V5, "mortal").with_will("will", b"gone", Properties::new());
    let mut mortal = Peer::connect(broker.address(), &connect);
    mortal.ping();
    broker.process().signal(Signal::TERM);
    assert_eq!(mortal.await_close(), Some(0x8B));
    // Asserts that nothing follows the DISCONNECT.
    assert_eq!(watcher.await_close(), Some(0x8B));
    assert!(broker.process().wait_for_exit(Duration::from_secs(10)).success());
}

#[test]
fn kill_leaves_subscriptions_that_the_next_start_reads() {
    let setup = Setup { flags: &MEMORY, ..Setup::default() };
    let broker = Broker::start_with(&setup);
    let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    peer.subscribe("kept/#", 1);
    // The file is written at most once a second, so this takes a moment.
    let path = broker.directory().path().join("data/subscriptions.json");
    let deadline = crate::harness::time::Deadline::after(crate::harness::time::PATIENCE);
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("kept/#")) {
        assert!(deadline.remaining().is_some(), "the subscription is not written while the broker runs");
        // Waiting for a change of a file would require a dependency.
        std::thread::sleep(Duration::from_millis(20));
    }
    let directory = broker.kill();
    peer.await_close();
    let broker = Broker::start_in(directory, &setup);
    let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    assert!(peer.session_present, "the session was restored");
    peer.publish(&Publish::new("kept/live", 1, b"live"));
    assert_eq!(peer.next_message().text(), "live");
    peer.disconnect();
    broker.stop();
}

#[test]
fn a_lingering_client_does_not_hold_up_the_end() {
    // Half of the time that the broker leaves its clients for the messages in flight. The stop must not need it.
    const SOON: Duration = Duration::from_millis(1_500);
    let stop = || {
        let mut broker = Broker::start_with(&Setup { flags: &["--shards", "2"], ..Setup::default() });
        let peers = ["a", "b", "c"].map(|id| Peer::connect(broker.address(), &Connect::new(Version::V5, id)));
        let mute = Peer::open(broker.address(), Version::V3_1_1);
        let begin = now();
        broker.process().signal(Signal::TERM);
        assert!(broker.process().wait_for_exit(Duration::from_secs(10)).success());
        let took = now().duration_since(begin);
        for mut peer in peers {
            assert_eq!(peer.await_close(), Some(0x8B));
        }
        mute.vanish();
        took
    };
    // Other tests load the machine; the quickest of several stops shows the time that a stop takes by itself.
    let quickest = (0..4).map(|_| stop()).find(|took| *took < SOON);
    assert!(quickest.is_some(), "every stop waited for lingering clients");
}
