//! Several listeners: on addresses, in the file system, and passed by a service manager; and their limits.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::FdFlags;

use crate::harness::broker::{Broker, Directory, Io, command_in, wrapped_command_in};
use crate::harness::packet::{Connect, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::process::run;

/// A broker on `io` with this file, once it serves on `addresses` addresses.
fn start(io: Io, file: &str, addresses: usize) -> Broker {
    let directory = Directory::new();
    directory.write("config/broker.conf", file);
    let mut command = command_in(&directory);
    command.args(["--io", io.possible().flag()]);
    Broker::spawn(directory, command, addresses)
}

/// A client of the socket at `path`.
fn connect(path: &Path, id: &str) -> Peer {
    let stream = UnixStream::connect(path).expect("the broker listens on it");
    let mut peer = Peer::over(TcpStream::from(OwnedFd::from(stream)), Version::V5);
    peer.send(&Connect::new(Version::V5, id).encode());
    assert_eq!(peer.await_connack(), 0);
    peer
}

#[test]
fn each_listener_of_the_file_serves() {
    let file = "[[listener]]\nname = 'one'\nbind = ['127.0.0.1']\nport = 0\n\
                [[listener]]\nname = 'two'\nbind = ['127.0.0.1']\nport = 0\n";
    let broker = start(Io::Auto, file, 2);
    for address in broker.addresses() {
        Peer::connect(*address, &Connect::new(Version::V5, "peer")).disconnect();
    }
    let (finished, _directory) = broker.stop();
    for name in ["listener=one", "listener=two"] {
        assert!(
            finished.output.lines().any(|line| line.contains("client connected") && line.contains(name)),
            "{}",
            finished.output
        );
    }
}

#[test]
fn a_unix_socket_serves_beside_a_port_and_goes_with_the_broker() {
    let file = "shards = 2\n[[listener]]\nbind = ['127.0.0.1']\nport = 0\n\
                [[listener]]\nname = 'local'\nunix = '../mqtt.sock'\nmode = '0600'\n";
    for io in Io::EACH {
        let broker = start(io, file, 1);
        // A relative path is relative to the directory of the file.
        let path = broker.directory().path().join("mqtt.sock");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
        assert_eq!(reader.subscribe("t/#", 1), 1);
        let mut writers: Vec<Peer> = (0..20).map(|at| connect(&path, &format!("writer-{at}"))).collect();
        for writer in &mut writers {
            assert_eq!(writer.publish(&Publish::new("t/1", 1, b"x")), 0);
        }
        for _ in &writers {
            let message = reader.next_publish();
            reader.acknowledge(&message);
        }
        // A take-over works as anywhere else.
        let mut again = connect(&path, "writer-3");
        again.ping();
        let (finished, _directory) = broker.stop();
        assert!(!path.exists(), "{io:?}: {}", finished.output);
        let local = |line: &&str| line.contains("client connected") && line.contains("listener=local");
        assert_eq!(finished.output.lines().filter(local).count(), 21, "{io:?}: {}", finished.output);
    }
}

#[test]
fn a_unix_socket_of_another_process_is_left_alone() {
    let file = "[[listener]]\nbind = ['127.0.0.1']\nport = 0\n[[listener]]\nunix = '../mqtt.sock'\n";
    let broker = start(Io::Auto, file, 1);
    let mut second = command_in(broker.directory());
    second.args(["--data-dir", "other"]);
    let finished = run(second);
    assert!(!finished.status.success());
    assert!(
        finished.output.contains("mqtt.sock") && finished.output.contains("another process"),
        "{}",
        finished.output
    );
    connect(&broker.directory().path().join("mqtt.sock"), "peer").ping();
    broker.stop();
}

/// As systemd does it: the socket is descriptor 3, and the variables name it. It outlives the broker.
#[test]
#[cfg(target_os = "linux")]
fn a_socket_that_a_service_manager_passes_serves_and_stays_open() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let file = "shards = 2\n[[listener]]\nname = 'passed'\nsystemd = 'mqtt'\nanonymous = true\n";
    for io in Io::EACH {
        let directory = Directory::new();
        directory.write("config/broker.conf", file);
        let passed = socket.try_clone().unwrap();
        rustix::io::fcntl_setfd(&passed, FdFlags::empty()).unwrap();
        let script = format!(
            "exec 3<&{}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=mqtt exec \"$@\"",
            passed.as_raw_fd()
        );
        let wrapper = ["bash", "-c", &script, "bash"].map(str::to_owned);
        let mut command = wrapped_command_in(&directory, &wrapper);
        command.args(["--io", io.possible().flag()]);
        let broker = Broker::spawn(directory, command, 1);
        assert_eq!(broker.address(), address);
        for at in 0..10 {
            Peer::connect(address, &Connect::new(Version::V5, &format!("peer-{at}"))).disconnect();
        }
        broker.stop();
        // Nobody accepts at the moment, and the system still takes connections for the next broker.
        TcpStream::connect(address).expect("the socket goes on listening");
    }

    let directory = Directory::new();
    directory.write("config/broker.conf", file);
    let finished = run(command_in(&directory));
    assert!(!finished.status.success() && finished.output.contains("socket unit"), "{}", finished.output);
}

#[test]
fn a_listener_that_is_full_leaves_the_others_their_connections() {
    let file = "[[listener]]\nname = 'few'\nbind = ['127.0.0.1']\nport = 0\nconnections_max = 2\n\
                [[listener]]\nname = 'many'\nbind = ['127.0.0.1']\nport = 0\n";
    let broker = start(Io::Auto, file, 2);
    let [few, many] = *broker.addresses() else { panic!("two listeners") };
    let join = |address, id: &str| Peer::try_connect(address, &Connect::new(Version::V5, id));
    let (first, code) = join(few, "a");
    assert_eq!((code, join(many, "x").1), (0, 0));
    let (_second, code) = join(few, "b");
    assert_eq!(code, 0);
    // Quota exceeded: as when the whole broker is full.
    assert_eq!((join(few, "c").1, join(many, "y").1), (0x97, 0));
    first.disconnect();
    let mut log = broker;
    log.process().wait_for(0, "the end of the first client", |line| {
        line.contains("client closed") && line.contains("\"a\"")
    });
    assert_eq!(join(few, "d").1, 0);
    log.stop();
}

/// The bounds of a listener are told by CONNACK and hold for its own clients.
#[test]
fn a_listener_has_its_own_packet_size_and_qos() {
    let file = "[[listener]]\nname = 'whole'\nbind = ['127.0.0.1']\nport = 0\n\
                [[listener]]\nname = 'small'\nbind = ['127.0.0.1']\nport = 0\npacket_bytes_max = 1024\nmaximum_qos = 1\n";
    let broker = start(Io::Auto, file, 2);
    let [whole, small] = [broker.addresses()[0], broker.addresses()[1]];
    let of = |address| {
        let peer = Peer::connect(address, &Connect::new(Version::V5, "peer"));
        let limits = (peer.number(property::MAXIMUM_PACKET_SIZE), peer.number(property::MAXIMUM_QOS));
        (peer, limits)
    };
    let (mut peer, limits) = of(whole);
    assert_eq!(limits, (Some(2_097_152), None));
    assert_eq!(peer.subscribe("t", 2), 2);
    assert_eq!(peer.publish(&Publish::new("t", 2, &[0; 2_000])), 0);
    peer.disconnect();
    for (publish, reason) in [(Publish::new("t", 2, b""), 0x9B), (Publish::new("t", 0, &[0; 2_000]), 0x95)] {
        let (mut peer, limits) = of(small);
        assert_eq!(limits, (Some(1_024), Some(1)));
        assert_eq!(peer.subscribe("t", 2), 1);
        peer.send(&publish.with_packet_id(1).encode(Version::V5));
        assert_eq!(peer.await_close(), Some(reason));
    }
    broker.stop();
}
