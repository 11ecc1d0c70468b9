//! Messages over TLS: many, large, between shards, and to readers that are slow.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::broker::serve;
use crate::client::Client;
use crate::harness::broker::Io;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::tunnel;

pub(crate) fn many_small_messages_and_few_large_ones_arrive_in_order(io: Io) {
    let served = serve(io, &["--shards", "1"]);
    let tunnel = tunnel::open(served.address(), served.trust());
    exchange(tunnel, 5_000, &|number| 1 + number % 200);
    // Around the lengths of a record and of a buffer.
    let lengths = [16_000, 16_384, 16_385, 32_768, 65_535, 100_000, 1_000_000, 3];
    exchange(tunnel, lengths.len(), &|number| lengths[number]);
    served.broker.stop();
}

pub(crate) fn messages_cross_shards_in_both_directions(io: Io) {
    let served = serve(io, &["--shards", "2"]);
    let tunnel = tunnel::open(served.address(), served.trust());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| exchange(tunnel, 500, &|number| 10 + 7 * number));
        }
    });
    served.broker.stop();
}

/// Two clients send each other `count` messages of each QoS, of a given length, and each gets all in order.
fn exchange(address: SocketAddr, count: usize, length: &dyn Fn(usize) -> usize) {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let names = [format!("left-{number}"), format!("right-{number}")];
    let mut peers = names.each_ref().map(|name| Peer::connect(address, &Connect::new(Version::V5, name)));
    for (peer, name) in peers.iter_mut().zip(&names) {
        peer.subscribe(name, 1);
    }
    for message in 0..count {
        let mut payload = message.to_le_bytes().to_vec();
        payload.resize(length(message).max(8), 0x5A);
        for (at, peer) in peers.iter_mut().enumerate() {
            peer.send(&Publish::new(&names[1 - at], 0, &payload).encode(Version::V5));
        }
        // Each reads now and then, so that nothing waits in the buffers of sockets alone.
        if message % 50 == 49 || message + 1 == count {
            let first = message / 50 * 50;
            for peer in &mut peers {
                for expected in first..=message {
                    let got = peer.next_message();
                    assert_eq!(got.payload[..8], expected.to_le_bytes(), "the order is kept");
                    assert_eq!(got.payload.len(), length(expected).max(8));
                }
            }
        }
    }
    let [left, right] = peers;
    left.disconnect();
    right.disconnect();
}

pub(crate) fn a_slow_reader_gets_every_message(io: Io) {
    const COUNT: usize = 300;
    let served = serve(io, &["--shards", "1", "--send-buffer-bytes", "16384"]);
    let tunnel = tunnel::open(served.address(), served.trust());
    let mut reader = Peer::connect(tunnel, &Connect::new(Version::V5, "slow"));
    reader.subscribe("t", 1);
    let mut publisher = Peer::connect(tunnel, &Connect::new(Version::V5, "publisher"));
    let payload = |number: usize| {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(40_000, u8::try_from(number % 256).expect("it is less"));
        payload
    };
    for number in 0..COUNT {
        // 12 MB are more than all buffers on the way hold.
        assert!(publisher.publish(&Publish::new("t", 1, &payload(number))) < 0x80);
    }
    thread::sleep(Duration::from_millis(100));
    for number in 0..COUNT {
        let message = reader.next_publish();
        assert!(message.payload == payload(number), "message {number}");
        reader.acknowledge(&message);
    }
    reader.ping();
    publisher.disconnect();
    reader.disconnect();
    served.broker.stop();
}

pub(crate) fn a_client_learns_the_end_by_a_farewell(io: Io) {
    let served = serve(io, &["--shards", "1"]);
    let mut client = Client::open(served.address(), &served.trust(), "localhost");
    let connect = Connect::new(Version::V5, "stays").encode();
    client.shake_hands(&connect).expect("the certificate is good");
    assert_eq!(client.hear(1).expect("it is let in"), [0x20], "CONNACK");
    let waiting = thread::spawn(move || {
        let heard = client.hear(100_000).expect("the broker keeps to the rules");
        // The reader of rustls returns no bytes after a farewell, and an error without one.
        (heard, std::io::Read::read(&mut client.tls.reader(), &mut [0]).map_err(|error| error.kind()))
    });
    served.broker.stop();
    let (heard, end) = waiting.join().expect("it hears the end");
    assert!(heard.windows(3).any(|it| it[0] == 0xE0 && it[2] == 0x8B), "no DISCONNECT: {heard:x?}");
    assert_eq!(end, Ok(0), "a farewell of TLS before the end of the stream");
}
