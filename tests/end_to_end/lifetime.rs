//! Keep alive: the time that a connection may be silent.

use std::time::Duration;

use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;

pub(crate) fn a_silent_client_is_ended_and_a_pinging_one_is_not(broker: &mut Broker) {
    for version in Version::BOTH {
        let (silent_id, lively_id) = (broker.name("silent"), broker.name("lively"));
        let mut connect = Connect::new(version, &silent_id);
        connect.keep_alive_s = 1;
        let lively_connect = Connect { client_id: &lively_id, ..connect.clone() };
        let mut lively = Peer::connect(broker.address(), &lively_connect);
        let mut silent = Peer::connect(broker.address(), &connect);
        let start = now();
        let watcher = std::thread::spawn(move || (silent.await_close(), now() - start));
        while !watcher.is_finished() {
            lively.ping();
            // Less than the keep alive. The timing of a client is the subject of the test.
            std::thread::sleep(Duration::from_millis(300));
        }
        lively.ping();
        lively.disconnect();
        let (reason, waited) = watcher.join().expect("the watcher does not panic");
        assert!(
            waited >= Duration::from_millis(1_400),
            "ended after {waited:?}, before one and a half keep alives"
        );
        assert!(waited < Duration::from_secs(8), "ended after {waited:?} [MQTT-3.1.2-24 of 3.1.1]");
        if version.is_v5() && broker.is_ours() {
            assert_eq!(reason, Some(0x8D), "Keep Alive timeout");
        }
    }
}

pub(crate) fn keep_alive_zero_never_ends(broker: &mut Broker) {
    let (silent_id, free_id) = (broker.name("silent"), broker.name("free"));
    let mut connect = Connect::new(Version::V5, &free_id);
    connect.keep_alive_s = 0;
    let mut free = Peer::connect(broker.address(), &connect);
    // Another client with a keep alive of one second shows that the time has passed.
    let mut connect = Connect::new(Version::V5, &silent_id);
    connect.keep_alive_s = 1;
    Peer::connect(broker.address(), &connect).await_close();
    free.ping();
    free.disconnect();
}

pub(crate) fn a_silent_connection_is_closed(_: &mut Broker) {
    let config = "connect_timeout_s = 1\n";
    let broker = Broker::start_with(&Setup { io: Io::Auto, config, ..Setup::default() });
    let start = now();
    let mut mute = Peer::open(broker.address(), Version::V5);
    let mut halting = Peer::open(broker.address(), Version::V5);
    halting.send(&Connect::new(Version::V5, "halting").encode()[..5]);
    mute.await_close();
    halting.await_close();
    let waited = now() - start;
    assert!(waited >= Duration::from_millis(900), "closed after {waited:?}, the time-out is 1 s");
    broker.stop();
}
