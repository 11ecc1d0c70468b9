//! Two connections with one client identifier that come together.

use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, PINGREQ, Version};
use crate::harness::peer::Peer;
use crate::harness::received::Received;

const ROUNDS: usize = 60;
/// The system does not tell the order of two connections that different shards accept. Their ports do, except where the ports
/// start anew or a shard has no CPU for a fifth of a second. Without the rule a fifth of all rounds is lost.
const LOST_MAX: usize = 3;

fn broker(io: Io) -> Broker {
    Broker::start_with(&Setup { io, flags: &["--shards", "2", "--stats-interval", "0"], ..Setup::default() })
}

/// A device that gives up and connects again, whose first CONNECT is still on its way.
pub(crate) fn the_newer_of_two_connections_stays(io: Io) {
    let broker = broker(io);
    let lost = (0..ROUNDS).filter(|round| {
        let name = format!("twin-{round}");
        let connect = Connect::new(Version::V3_1_1, &name).encode();
        let [mut older, mut newer] = [0; 2].map(|_| Peer::open(broker.address(), Version::V3_1_1));
        older.send(&connect);
        newer.send(&connect);
        // One of them is closed; the other one waits and is asked.
        let is_accepted = matches!(newer.next_or_close(), Some(Received::ConnAck { reason: 0, .. }));
        if !is_accepted || !answers(&mut newer) {
            return true;
        }
        // The CONNECT of the older one may come only now.
        while older.next_or_close().is_some() {}
        !answers(&mut newer)
    });
    let lost = lost.count();
    assert!(lost <= LOST_MAX, "the newer connection was lost in {lost} of {ROUNDS} rounds");
    broker.stop();
}

fn answers(peer: &mut Peer) -> bool {
    peer.send_ignoring_errors(&PINGREQ);
    peer.next_or_close() == Some(Received::PingResp)
}
