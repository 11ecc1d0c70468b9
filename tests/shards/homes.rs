//! The home of a session: the shard that accepts a connection hands it over to the home, with all the bytes it has
//! read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::cluster::{await_shards, client_at_home, peer_at_home, shard_of, start, start_in, sum};
use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::machine::{descriptor_count_beside_the_log, print_notice, resident_bytes};
use crate::harness::packet::{Connect, Properties, Publish, Version, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::time::{Deadline, PATIENCE, now};

pub(crate) fn a_session_lives_on_one_shard_whichever_accepts_the_connection(io: Io) {
    let mut broker = start(io, 4, &[]);
    let mut homes = [0; 4];
    for number in 0..16 {
        let client_id = format!("client-{number}");
        // The system distributes each connection to a shard of its choice.
        let seen: Vec<u16> = (0..6)
            .map(|_| {
                let peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &client_id));
                let home = shard_of(&peer);
                peer.disconnect();
                home
            })
            .collect();
        assert!(seen.iter().all(|home| *home == seen[0]), "{client_id} lived on {seen:?}");
        homes[usize::from(seen[0])] += 1;
    }
    assert!(homes.iter().all(|&count| count < 16), "all clients live on one shard: {homes:?}");
    let shards = await_shards(&mut broker, 4, |shards| sum(shards, "connections") == 0);
    let handed_over = sum(&shards, "handed_over");
    // About three of four connections are accepted by another shard: 72 of 96.
    assert!((48..=92).contains(&handed_over), "{handed_over} of 96 connections were handed over");
    assert_eq!(sum(&shards, "sessions"), 16);
    broker.stop();
}

/// The shard that takes a connection over knows its listener.
pub(crate) fn a_connection_that_is_handed_over_remembers_its_listener(io: Io) {
    let directory = Directory::new();
    let listener = |ip: &str| format!("[[listener]]\nbind = [\"{ip}\"]\nport = 0\nname = \"{ip}\"\n");
    directory.write("config/broker.conf", &(listener("127.0.0.1") + &listener("127.0.0.2")));
    let mut command = command_in(&directory);
    command.args(["--io", io.possible().flag(), "--shards", "2", "--log-level", "debug"]);
    let broker = Broker::spawn(directory, command, 2);
    let addresses = [broker.addresses()[0], broker.addresses()[1]];
    // The system distributes each connection to one of two shards, and half of the identifiers live on the other. With
    // so many connections at least one is handed over.
    let mut came_by: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for number in 0..64 {
        for (address, ports) in addresses.iter().zip(&mut came_by) {
            let stream = TcpStream::connect(address).expect("the broker listens");
            ports.push(format!("peer=Some({})", stream.local_addr().expect("it is connected")));
            let mut peer = Peer::over(stream, Version::V5);
            peer.send(&Connect::new(Version::V5, &format!("client-{number}")).encode());
            assert_eq!(peer.await_connack(), 0);
            peer.disconnect();
        }
    }
    let (finished, _directory) = broker.stop();
    for (listener, peers) in came_by.iter().enumerate() {
        // One port can serve both addresses, one after the other. The port then does not identify the address.
        let others = &came_by[1 - listener];
        let peers: Vec<&String> = peers.iter().filter(|peer| !others.contains(peer)).collect();
        let is_one = |line: &&str| {
            (line.contains("handed over") || line.contains("taken over"))
                && peers.iter().any(|peer| line.contains(peer.as_str()))
        };
        let lines: Vec<&str> = finished.output.lines().filter(is_one).collect();
        assert!(lines.iter().any(|line| line.contains("taken over")), "{}", finished.output);
        for line in lines {
            assert!(line.contains(&format!("listener={listener} ")), "{line}");
        }
    }
}

pub(crate) fn packets_right_behind_connect_are_not_lost(io: Io) {
    let mut broker = start(io, 4, &[]);
    for number in 0..40 {
        let client_id = format!("hasty-{number}");
        let version = Version::BOTH[number % 2];
        let topic = format!("hasty/{number}");
        let mut bytes = Connect::new(version, &client_id).encode();
        bytes.extend(subscribe(version, 1, &[(&topic, 1)], &Properties::new()));
        // Longer than one receive.
        let payload = vec![b'x'; if number % 4 < 2 { 10 } else { 20_000 }];
        bytes.extend(Publish::new(&topic, 1, &payload).with_packet_id(2).encode(version));
        let mut peer = Peer::open(broker.address(), version);
        peer.send(&bytes);
        assert_eq!(peer.await_connack(), 0);
        peer.await_packet("SUBACK", |packet| matches!(packet, Received::SubAck { packet_id: 1, .. }));
        assert_eq!(peer.next_message().payload, payload);
        assert_eq!(peer.complete(1, 2), 0);
        peer.disconnect();
    }
    let shards = await_shards(&mut broker, 4, |shards| sum(shards, "connections") == 0);
    assert!(sum(&shards, "handed_over") >= 10, "{shards:?}");
    broker.stop();
}

pub(crate) fn an_assigned_client_stays_where_it_was_accepted(io: Io) {
    let mut broker = start(io, 4, &[]);
    for _ in 0..20 {
        let peer = Peer::connect(broker.address(), &Connect::new(Version::V5, ""));
        let assigned = peer.text(property::ASSIGNED_CLIENT_ID).expect("CONNACK contains the identifier");
        let home = shard_of(&peer);
        peer.disconnect();
        // Its identifier leads to the same shard.
        let again = Peer::connect(broker.address(), &Connect::new(Version::V5, &assigned));
        assert_eq!(shard_of(&again), home);
        again.disconnect();
    }
    let shards = await_shards(&mut broker, 4, |shards| sum(shards, "connections") == 0);
    let handed_over = sum(&shards, "handed_over");
    assert!(handed_over <= 20, "{handed_over} hand-overs: those without a name are never handed over");
    broker.stop();
}

pub(crate) fn the_limit_of_connections_is_exact_over_all_shards(io: Io) {
    let mut broker = start(io, 4, &["--max-connections", "10"]);
    for round in 0..5 {
        let mut peers: Vec<Peer> = (0..10)
            .map(|number| {
                Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("{round}-{number}")))
            })
            .collect();
        let (refused, reason) =
            Peer::try_connect(broker.address(), &Connect::new(Version::V5, &format!("{round}-one-more")));
        assert_eq!(reason, 0x97, "one more is refused with quota exceeded");
        drop(refused);
        for peer in &mut peers {
            peer.ping();
        }
        peers.into_iter().for_each(Peer::disconnect);
        await_shards(&mut broker, 4, |shards| sum(shards, "connections") == 0);
    }
    broker.stop();
}

pub(crate) fn a_stop_amid_hand_overs_is_clean(io: Io) {
    let broker = start(io, 4, &[]);
    let address = broker.address();
    let come_and_go = |number: usize| {
        thread::spawn(move || {
            let mut count = 0_u32;
            // Until the broker no longer listens.
            while let Ok(mut stream) = TcpStream::connect(address) {
                stream.set_read_timeout(Some(PATIENCE)).expect("the time-out is not zero");
                let connect = Connect::new(Version::V5, &format!("{number}-{count}")).encode();
                // The broker can stop at any point of this. Only the close at the end matters.
                let _ = stream.write_all(&connect).and_then(|()| stream.read_exact(&mut [0; 2]));
                let _ = stream.shutdown(Shutdown::Write);
                if let Err(error) = std::io::copy(&mut stream, &mut std::io::sink()) {
                    let timed_out = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!timed_out, "a connection was forgotten");
                }
                count += 1;
            }
            count
        })
    };
    let clients: Vec<_> = (0..4).map(come_and_go).collect();
    thread::sleep(Duration::from_millis(300));
    let started = now();
    broker.stop();
    let took = now() - started;
    // The broker would wait three seconds for a lost permit.
    assert!(took < Duration::from_millis(2_500), "the stop took {took:?}");
    for client in clients {
        assert!(client.join().expect("a connection was forgotten") > 0);
    }
}

pub(crate) fn the_number_of_shards_may_change_between_two_starts(io: Io) {
    const CLIENTS: usize = 24;
    let broker = start(io, 3, &[]);
    let clients: Vec<String> = (0..CLIENTS).map(|number| format!("kept-{number}")).collect();
    for (number, client_id) in clients.iter().enumerate() {
        let version = Version::BOTH[number % 2];
        let mut peer = Peer::connect(broker.address(), &Connect::persistent(version, client_id));
        peer.subscribe(&format!("news/{number}"), 1);
        peer.subscribe("all/+", 1);
        peer.disconnect();
    }
    let (_, mut directory) = broker.stop();
    let key_file = directory.path().join("data/placement.key");
    let key = std::fs::read(&key_file).expect("the first start made the key");
    for shard_count in [1, 5, 2] {
        let mut broker = start_in(directory, io, shard_count, &[]);
        // Messages published now reach the restored sessions, before any client has connected.
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
        publisher.publish(&Publish::new("all/x", 1, b"to all"));
        for number in 0..CLIENTS {
            publisher.publish(&Publish::new(&format!("news/{number}"), 1, b"to one"));
        }
        for (number, client_id) in clients.iter().enumerate() {
            let version = Version::BOTH[number % 2];
            let mut peer = Peer::connect(broker.address(), &Connect::persistent(version, client_id));
            assert!(peer.session_present, "{client_id} was forgotten with {shard_count} shards");
            assert_eq!(peer.next_message().text(), "to all");
            assert_eq!(peer.next_message().text(), "to one");
            peer.disconnect();
        }
        publisher.disconnect();
        let shards = await_shards(&mut broker, shard_count, |shards| sum(shards, "connections") == 0);
        assert_eq!(sum(&shards, "sessions"), CLIENTS as u64);
        assert!(shard_count == 1 || sum(&shards, "crossed") > 0);
        (_, directory) = broker.stop();
        assert_eq!(std::fs::read(&key_file).expect("the key stays"), key);
    }
}

/// Take-overs in one second by both clients together; a slow machine does fewer.
const TAKE_OVERS_PER_SECOND: u32 = 1_000;
const STORM: Duration = Duration::from_secs(10);

pub(crate) fn ten_seconds_of_take_overs_leave_one_client_and_no_trace(io: Io) {
    let mut broker = start(io, 2, &[]);
    let contested = client_at_home(&broker, 0, "contested");
    let mut bystander = peer_at_home(&broker, 1, Version::V5, "bystander");
    bystander.subscribe("witness", 1);
    await_shards(&mut broker, 2, |shards| sum(shards, "connections") == 1);
    let process = broker.process().id();
    let (descriptors, resident) = (descriptor_count_beside_the_log(process), resident_bytes(process));

    let address = broker.address();
    let contend = |number: u32| {
        let client_id = contested.clone();
        thread::spawn(move || {
            let interval = Duration::from_secs(1) * 2 / TAKE_OVERS_PER_SECOND;
            let (start, deadline) = (now(), Deadline::after(STORM));
            let mut last = None;
            let mut count = 0;
            while deadline.remaining().is_some() {
                let version = Version::BOTH[(count % 2) as usize];
                let connect = Connect {
                    clean_start: (count + number).is_multiple_of(3),
                    ..Connect::persistent(version, &client_id)
                };
                let mut peer = Peer::open(address, version);
                peer.send(&connect.encode());
                // The other contender's connection may be the newer one.
                let refused = if version.is_v5() { 0x88 } else { 3 };
                match peer.next_or_close() {
                    // The earlier connection is dropped after the new one has taken its session.
                    Some(Received::ConnAck { reason: 0, .. }) => last = Some(peer),
                    Some(Received::ConnAck { reason, .. }) if reason == refused => {}
                    // The other one came while CONNACK waited for the log.
                    None => {}
                    other => panic!("CONNECT was answered with {other:?}"),
                }
                count += 1;
                let due = start + interval * count;
                thread::sleep(due.saturating_duration_since(now()));
            }
            drop(last);
            count
        })
    };
    let contenders = [0, 1].map(contend);
    let mut count = 0;
    for contender in contenders {
        count += contender.join().expect("a contender was refused or not answered");
    }
    assert!(count >= 1_000, "only {count} take-overs in {STORM:?}");

    // The last connection serves, and other clients see its messages.
    let mut last = Peer::connect(address, &Connect::new(Version::V5, &contested));
    assert_eq!(shard_of(&last), 0);
    last.subscribe("question", 1);
    bystander.publish(&Publish::new("question", 1, b"?"));
    assert_eq!(last.next_message().text(), "?");
    last.publish(&Publish::new("witness", 1, b"!"));
    assert_eq!(bystander.next_message().text(), "!");
    last.disconnect();
    let shards =
        await_shards(&mut broker, 2, |shards| sum(shards, "connections") == 1 && sum(shards, "crossed") == 2);
    assert_eq!(sum(&shards, "sessions"), 1, "the contested session has ended");
    assert!(shards[1].count("handed_over") > u64::from(count) / 4, "{shards:?}");
    let deadline = Deadline::after(Duration::from_secs(5));
    while descriptor_count_beside_the_log(process) > descriptors {
        assert!(deadline.remaining().is_some(), "descriptors leaked");
        thread::sleep(Duration::from_millis(10));
    }
    let grown = resident_bytes(process).saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes more than before {count} take-overs");
    print_notice(&format!("{count} take-overs in {STORM:?} ({io:?}), {grown} bytes more than before"));
    bystander.disconnect();
    broker.stop();
}
