//! Bridges of mosquitto, which name themselves by a bit of the protocol level before 5.0.

use engine::Limits;
use wire::QoS;

use crate::client::Hello;
use crate::host::run;

#[test]
fn a_bridge_is_sent_no_message_of_its_own_and_the_retain_flag_as_it_was_published() {
    run(Limits::default(), |shard| {
        let bridge = shard.connect(&Hello::v3("bridge").bridge());
        let other = shard.connect(&Hello::v3("other"));
        for client in [bridge, other] {
            shard.subscribe(client, "#", 1);
        }
        for (sender, retain) in [(bridge, false), (bridge, true), (other, false), (other, true)] {
            if retain {
                shard.publish_retained(sender, "t", b"retained", 1);
            } else {
                shard.publish(sender, "t", b"live", 1);
            }
        }
        let mut flags =
            |client| shard.messages(client).iter().map(|message| message.retain).collect::<Vec<_>>();
        assert_eq!(flags(bridge), [false, true]);
        assert_eq!(flags(other), [false; 4]);
    });
}

/// No Local on a shared subscription would be an error of 5.0, and a member that refuses its own messages loses them.
#[test]
fn a_shared_subscription_of_a_bridge_gets_every_message() {
    run(Limits::default(), |shard| {
        let bridge = shard.connect(&Hello::v3("bridge").bridge());
        shard.subscribe(bridge, "$share/g/t", 1);
        shard.publish(bridge, "t", b"own", 1);
        assert_eq!(shard.texts(bridge), ["own"]);
    });
}

/// mosquitto sets a retained will for it and publishes it when it is connected. In 5.0 nothing names it a bridge.
#[test]
fn the_state_of_a_bridge_is_a_topic_of_clients() {
    for hello in [Hello::v3("bridge").bridge(), Hello::v5("bridge")] {
        let limits = Limits { retained_messages_max: 1, ..Limits::default() };
        run(limits, |shard| {
            let topic = "$SYS/broker/connection/name/state";
            let bridge = shard.connect(&hello.will_with(topic, "0", QoS::AtLeastOnce, true, 0));
            assert!(shard.publish_retained(bridge, topic, b"1", 1) < 0x80);
            let watcher = shard.connect(&Hello::v5("watcher"));
            for filter in ["$SYS/broker/connection/#", "#"] {
                shard.subscribe(watcher, filter, 1);
            }
            shard.hang_up(bridge);
            assert_eq!(shard.texts(watcher), ["1", "0"]);
            // It counts as a message of a client.
            assert_eq!(shard.engine.retained_count(), 1);
            assert_eq!(shard.publish_retained(watcher, "$SYS/broker/connection/b/state", b"1", 1), 0x97);
            assert_eq!(shard.publish_retained(watcher, "$SYS/broker/connection", b"1", 1), 0x87);
        });
    }
}
