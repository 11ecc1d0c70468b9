//! New connections where the system does not distribute them: the first shard accepts, and all shards serve in turn.

use crate::cluster::{shard_of, start};
use crate::harness::broker::Io;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

#[test]
fn connections_are_distributed_to_all_shards_in_turn() {
    for io in [Io::Tokio, Io::Blocking] {
        judge(io);
    }
}

fn judge(io: Io) {
    let broker = start(io, 3, &[]);
    // A client without its own identifier stays on the shard that it was distributed to.
    let peers: Vec<Peer> =
        (0..9).map(|_| Peer::connect(broker.address(), &Connect::new(Version::V5, ""))).collect();
    let shards: Vec<u16> = peers.iter().map(shard_of).collect();
    assert_eq!(shards, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    peers.into_iter().for_each(Peer::disconnect);
    broker.stop();
}
