//! Connections with one client identifier that arrive on different shards.

use simulator::ConnectOptions;
use wire::QoS;

use crate::stage::{client_on, finish, stranger_on, subscribe, turns, world};

#[test]
fn the_later_connection_wins_on_any_shard_and_the_session_goes_on() {
    for (first, second) in [(0, 1), (1, 0), (2, 2), (0, 2), (2, 0)] {
        let mut world = world(3);
        let publisher = client_on(&mut world, 0, 0);
        let client = stranger_on(&mut world, 2, 1_000);
        world.connect(client, first, ConnectOptions::default());
        world.settle();
        subscribe(&mut world, client, "w/#");
        world.settle();
        world.vanish(client, false);
        world.connect(client, second, ConnectOptions::default());
        let message = world.publish(publisher, "w/a", QoS::ExactlyOnce, false, 10);
        turns(&mut world, &[0, 1, 2], client);
        assert_eq!(world.delivered(client), [(message, false)]);
        assert_eq!(world.counters(2).take_overs, 1);
        assert_eq!(world.audit(2).sessions.len(), 1);
        finish(world);
    }
}

#[test]
fn the_newer_connection_has_the_session_whichever_reaches_the_home_first() {
    for order in [[0, 1], [1, 0]] {
        let mut world = world(3);
        let publisher = client_on(&mut world, 2, 0);
        let client = stranger_on(&mut world, 2, 1_000);
        world.connect(client, 2, ConnectOptions::default());
        world.settle();
        subscribe(&mut world, client, "w/#");
        world.settle();
        // Neither connection has its CONNACK when the next one begins, and the network does not notice its end.
        world.vanish(client, false);
        world.connect(client, 0, ConnectOptions::default());
        world.vanish(client, false);
        world.connect(client, 1, ConnectOptions::default());
        for shard in order {
            world.turn(shard);
            world.turn(2);
        }
        let message = world.publish(publisher, "w/a", QoS::ExactlyOnce, false, 10);
        world.settle();
        assert_eq!(world.delivered(client), [(message, false)]);
        assert_eq!(world.counters(0).handed_over + world.counters(1).handed_over, 2);
        // The older one takes nothing over if it comes second.
        assert_eq!(world.counters(2).take_overs, if order == [0, 1] { 2 } else { 1 });
        finish(world);
    }
}
