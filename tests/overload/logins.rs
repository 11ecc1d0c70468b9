//! Storms of what a client has to prove: handshakes of TLS, keys of devices and slow passwords, all at once, beside a client that is
//! connected already.
//! The broker has one shard and the first core, and all clients the other ones; shard and neighbour go before everybody else, and the
//! clients of a storm run when nobody else wants to. So the neighbour measures the broker, and not how cores are shared.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Scale;
use crate::cores::{in_the_background, leave_the_first_core, let_shards_go_first};
use crate::figure::Figure;
use crate::harness::broker::{Broker, Directory, command_in};
use crate::harness::machine::raise_descriptor_limit;
use crate::harness::packet::{Connect, Version};
use crate::harness::time::now;
use crate::meter::{cpu_time, ms};
use crate::neighbour::{Neighbour, percentile};

#[expect(clippy::disallowed_types, reason = "rustls takes its configuration in this shape")]
type Shared<T> = std::sync::Arc<T>;

/// CONNACK with "server busy".
const BUSY: u8 = 0x89;
/// The pause of a client that was told so.
const RETRY: Duration = Duration::from_millis(500);
/// A client that hears nothing for so long connects anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

const QUIET: &str = "[[listener]]\nname = \"quiet\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n";
const STORM: &str = "[[listener]]\nname = \"storm\"\nbind = [\"127.0.0.1\"]\nport = 0\n";
/// For CONNECT as well: the clients are slower than the broker.
const FLAGS: [&str; 10] = [
    "--shards",
    "1",
    "--stats-interval",
    "0",
    "--connect-timeout-s",
    "120",
    "--max-connections",
    "20000",
    "--connection-log",
    "none",
];

/// Full handshakes of TLS 1.3 with ECDSA, of clients that have all connected before the first of them reads an answer.
pub(crate) fn handshake_storm(scale: Scale) -> Vec<Figure> {
    let count = scale.pick(1_000, 10_000);
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("ring makes keys");
    let directory = Directory::new();
    directory.write("server.pem", &key.cert.pem());
    directory.write("server.key", &key.signing_key.serialize_pem());
    let tls = "[listener.tls]\ncertificates = [{ chain = \"server.pem\", key = \"server.key\" }]\n";
    let mut broker = start(directory, &format!("{QUIET}{STORM}{tls}"));
    let trust = trust(key.cert.der().clone());
    beside("handshakes", &mut broker, count, move |address| {
        let mut sockets: Vec<_> = (0..count).map(|_| Handshake::begin(address, &trust)).collect();
        for (number, handshake) in sockets.iter_mut().enumerate() {
            handshake.finish(&Connect::new(Version::V5, &format!("storm-{number}")).encode());
        }
        0
    })
}

/// Logins with the keys of devices, which cost one SHA-256 each.
pub(crate) fn device_logins(scale: Scale) -> Vec<Figure> {
    logins(scale.pick(2_000, 10_000), true, false)
}

/// Logins with passwords that were right before and are remembered.
pub(crate) fn remembered_logins(scale: Scale) -> Vec<Figure> {
    logins(scale.pick(100, 10_000), false, true)
}

/// Logins with passwords that cost 17 ms of argon2 each. Clients that are told 0x89 try again.
pub(crate) fn fresh_logins(scale: Scale) -> Vec<Figure> {
    logins(scale.pick(200, 10_000), false, false)
}

/// Logins of so many users at once; the second time, if their passwords are to be remembered.
fn logins(count: usize, is_device: bool, twice: bool) -> Vec<Figure> {
    let directory = Directory::new();
    let secret = add_users(&directory, count, is_device);
    let config = format!("{QUIET}{STORM}auth = [\"password\"]\n[auth.password]\nfile = \"passwords\"\n");
    let mut broker = start(directory, &config);
    let storm = move |address| log_in(address, count, secret.as_bytes());
    if twice {
        storm(broker.addresses()[1]);
    }
    beside("logins", &mut broker, count, storm)
}

/// Writes a password file with one secret for all users. Returns the secret.
fn add_users(directory: &Directory, count: usize, is_device: bool) -> String {
    let mut command = command_in(directory);
    command.args(["user", "add", "one", "--file", "passwords"]).args(is_device.then_some("--device"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // The key of a device is invented, and nothing is read.
    let _ = child.stdin.take().expect("standard input is piped").write_all(b"secret\n");
    let output = child.wait_with_output().expect("the command ends");
    assert!(output.status.success());
    let passwords = fs::read_to_string(directory.path().join("passwords")).expect("it was written");
    let hash = passwords.trim_end().strip_prefix("one:").expect("the user is there");
    let lines: Vec<String> = (0..count).map(|number| format!("user-{number}:{hash}")).collect();
    directory.write("passwords", &lines.join("\n"));
    if is_device {
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    } else {
        "secret".to_owned()
    }
}

fn start(directory: Directory, config: &str) -> Broker {
    raise_descriptor_limit();
    let file = directory.write("broker.conf", config);
    let mut command = command_in(&directory);
    command.arg("--config").arg(file).arg("--data-dir").arg(directory.path().join("data")).args(FLAGS);
    Broker::spawn(directory, command, 2)
}

/// Runs a storm against the second listener, and measures a neighbour at the first before and beside it. The storm returns how often
/// a client was refused.
fn beside(
    what: &str,
    broker: &mut Broker,
    count: usize,
    storm: impl FnOnce(SocketAddr) -> usize + Send + 'static,
) -> Vec<Figure> {
    let [quiet_at, storm_at] = *broker.addresses() else { panic!("the broker has two listeners") };
    let process = broker.process().id();
    leave_the_first_core();
    let_shards_go_first(process);
    let quiet = ms(percentile(&Neighbour::measure(quiet_at, "quiet", Duration::from_secs(2)), 99));
    let neighbour = Neighbour::start(quiet_at, "beside");
    let (start, cpu_before) = (now(), cpu_time(process));
    let refused = in_the_background(move || storm(storm_at)).join().expect("every client is let in");
    let (took, cpu) = (now() - start, cpu_time(process).saturating_sub(cpu_before));
    let busy = ms(percentile(&neighbour.stop(), 99));
    let share = "p99 beside them over a quiet one, a tenth of a millisecond allowed for noise";
    vec![
        Figure::told(format!("{what} at once"), as_f64(count), ""),
        Figure::told("time until the last client was let in", took.as_secs_f64(), "s"),
        Figure::told("refusals with 0x89 before that", as_f64(refused), ""),
        Figure::told("CPU time of the broker for each client", ms(cpu) * 1e3 / as_f64(count), "µs"),
        Figure::told("p99 of a quiet neighbour", quiet, "ms"),
        Figure::told("p99 of a neighbour beside them", busy, "ms"),
        // 2.3 to 2.9 with handshakes, and 10 and more with logins, while steps followed each other without a look at the sockets, and
        // while the table of descriptors grew with the connections.
        Figure::at_most(share, busy / (quiet + 0.1), "", 2.0),
    ]
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count of clients is small"))
}

/// Lets so many clients log in at once; those that are told 0x89 try again. Returns how many were told so.
fn log_in(address: SocketAddr, count: usize, secret: &[u8]) -> usize {
    let mut waiting: Vec<usize> = (0..count).collect();
    let mut refused = 0;
    let deadline = now() + Duration::from_mins(15);
    while !waiting.is_empty() {
        assert!(now() < deadline, "{} clients were not let in", waiting.len());
        let sockets: Vec<(usize, TcpStream)> = waiting
            .drain(..)
            .map(|number| {
                let mut socket = connect(address);
                let user = format!("user-{number}");
                let connect = Connect::new(Version::V5, &user).with_credentials(&user, secret);
                // The broker may have closed it already; its answer tells.
                let _ = socket.write_all(&connect.encode());
                (number, socket)
            })
            .collect();
        for (number, mut socket) in sockets {
            match answer(&mut socket) {
                Some(0) => {}
                Some(BUSY) | None => {
                    refused += 1;
                    waiting.push(number);
                }
                Some(other) => panic!("user-{number} was refused with {other:#x}"),
            }
        }
        if !waiting.is_empty() {
            thread::sleep(RETRY);
        }
    }
    refused
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the broker accepts");
    socket.set_read_timeout(Some(ANSWER_WITHIN)).expect("the time-out is not zero");
    socket
}

/// The reason of the CONNACK; `None` if the broker closed or said nothing.
fn answer(socket: &mut TcpStream) -> Option<u8> {
    let mut start = [0; 4];
    match socket.read_exact(&mut start) {
        Ok(()) => {
            assert!(start[0] == 0x20, "{start:?} is no CONNACK");
            Some(start[3])
        }
        Err(error) => {
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::WouldBlock];
            assert!(kinds.contains(&error.kind()), "{error}");
            None
        }
    }
}

/// Clients that trust one certificate and resume nothing.
fn trust(certificate: CertificateDer<'static>) -> Shared<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("it is a certificate");
    let provider = ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.into()
}

/// A client that has sent its first flight.
struct Handshake {
    socket: TcpStream,
    tls: ClientConnection,
}

impl Handshake {
    fn begin(address: SocketAddr, trust: &Shared<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let mut tls = ClientConnection::new(Shared::clone(trust), name).expect("the settings are complete");
        let mut socket = connect(address);
        tls.write_tls(&mut socket).expect("the broker reads");
        Self { socket, tls }
    }

    /// Ends the handshake, sends CONNECT and waits for CONNACK.
    fn finish(&mut self, connect: &[u8]) {
        let mut stream = rustls::Stream::new(&mut self.tls, &mut self.socket);
        stream.write_all(connect).expect("the handshake succeeds");
        let mut start = [0; 4];
        stream.read_exact(&mut start).expect("the broker answers");
        assert!(start[0] == 0x20 && start[3] == 0, "{start:?} is no CONNACK of success");
    }
}
