//! `publish_rate` and its like on the running broker: a client that publishes too fast is slowed down by its own socket, and nobody
//! else is.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::broker::{Broker, Io};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;

/// A listener with a rate, and one without.
const LISTENERS: &str = "sys_interval_s = 1\n\
    [[listener]]\nname = \"slow\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n\
    publish_rate = 20\nburst_s = 1\n\
    [[listener]]\nname = \"free\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n";

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures a rate")]
fn a_client_is_slowed_to_its_rate_and_no_other_is() {
    for io in Io::EACH {
        let broker = Broker::listen(io, LISTENERS, &["--shards", "2"]);
        let [slow, free] = broker.addresses()[..] else { panic!("two listeners") };
        let mut watcher = Peer::connect(free, &Connect::new(Version::V5, "watcher"));
        watcher.subscribe("t", 0);
        watcher.subscribe("$SYS/broker/publish/rate_pauses", 0);
        let mut connect = Connect::new(Version::V5, "slow");
        // Its PINGREQ waits behind its messages for longer than that.
        connect.keep_alive_s = 1;
        let mut publisher = Peer::connect(slow, &connect);
        let message = Publish::new("t", 0, b"slow").encode(Version::V5);
        let begun = Instant::now();
        publisher.send(&message.repeat(100));
        let mut other = Peer::connect(free, &Connect::new(Version::V5, "free"));
        for _ in 0..100 {
            other.publish(&Publish::new("t", 1, b"free"));
        }
        let (mut of_slow, mut of_free, mut pauses) = (0, 0, 0_u64);
        while of_slow < 100 {
            let message = watcher.next_message();
            match message.text().as_str() {
                "slow" => of_slow += 1,
                "free" => {
                    of_free += 1;
                    assert!(of_slow < 100, "the free one need not wait");
                }
                count => pauses = count.parse().expect("a count"),
            }
        }
        let took = begun.elapsed();
        assert_eq!(of_free, 100);
        // Twenty at once, and eighty at twenty a second.
        assert!(took >= Duration::from_millis(3_900), "{took:?} on {io:?}");
        publisher.ping();
        while pauses < 60 {
            pauses = watcher.next_message().text().parse().expect("a count");
        }
        broker.stop();
    }
}

/// It kept its slot and its will until everything that it had sent was read at its rate, here for 20 seconds.
#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "the test measures a rate")]
fn a_client_that_vanishes_amid_its_pause_leaves_its_will_soon_and_its_debt() {
    for io in Io::EACH {
        let broker = Broker::listen(io, LISTENERS, &["--shards", "2"]);
        let [slow, free] = broker.addresses()[..] else { panic!("two listeners") };
        let mut watcher = Peer::connect(free, &Connect::new(Version::V5, "watcher"));
        watcher.subscribe("t", 0);
        let connect = Connect::new(Version::V5, "slow");
        let with_will = connect.clone().with_will("t", b"gone", Properties::new());
        let mut publisher = Peer::connect(slow, &with_will);
        let begun = Instant::now();
        publisher.send(&Publish::new("t", 0, b"slow").encode(Version::V5).repeat(400));
        assert_eq!(watcher.next_message().text(), "slow");
        drop(publisher);
        let mut of_slow = 1;
        while watcher.next_message().text() == "slow" {
            of_slow += 1;
        }
        let took = begun.elapsed();
        assert_eq!(of_slow, 400, "nothing of what came is lost");
        assert!(took < Duration::from_secs(10), "{took:?} on {io:?}");
        // It pays for them if it comes again.
        let mut publisher = Peer::connect(slow, &connect);
        publisher.send(&Publish::new("t", 0, b"late").encode(Version::V5));
        let mut other = Peer::connect(free, &Connect::new(Version::V5, "free"));
        thread::sleep(Duration::from_millis(300));
        other.publish(&Publish::new("t", 1, b"free"));
        assert_eq!(watcher.next_message().text(), "free", "on {io:?}");
        broker.stop();
    }
}

#[test]
fn a_client_that_may_not_exceed_its_rate_is_told_so() {
    for io in Io::EACH {
        let config = format!("on_rate = \"disconnect\"\n{LISTENERS}");
        let mut broker = Broker::listen(io, &config, &["--shards", "2"]);
        let mut publisher = Peer::connect(broker.addresses()[0], &Connect::new(Version::V5, "slow"));
        publisher.send(&Publish::new("t", 0, b"x").encode(Version::V5).repeat(100));
        assert_eq!(publisher.await_close(), Some(0x96));
        broker.process().wait_for(0, "line", |line| {
            line.contains("client closed client=\"slow\"") && line.contains("by=broker reason=rate detail=")
        });
        broker.stop();
    }
}
