//! The health check: connects to the configured address as a client, sends CONNECT and expects a CONNACK with any
//! reason code.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::{Config, ListenAt};
use crate::error::StartupError;
use crate::net::interface::socket_address;

/// Time limit of each step. A supervisor waits longer, Docker 30 seconds.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// CONNECT of 3.1.1: clean session, keep alive of 5 s, and an empty client identifier, so that the broker assigns one
/// [MQTT-3.1.3-6].
const CONNECT: [u8; 14] = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x02, 0, 5, 0, 0];

/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Checks that the broker answers. A refusal is an answer: a broker that is full or requires a password works.
///
/// # Errors
/// If no CONNACK arrives.
///
/// # Panics
/// If the configuration has no address to listen on, which its reader refuses.
pub(crate) fn check(config: &Config) -> Result<(), StartupError> {
    let place = config.listeners.iter().find_map(|listener| match listener.at() {
        ListenAt::Tcp { bind, port, .. } => bind.into_iter().next().map(|first| (first, port)),
        ListenAt::Unix { .. } | ListenAt::Systemd { .. } => None,
    });
    let (first, port) = place.expect("the configuration has an address");
    let mut address = socket_address(&first, port)?;
    address.set_ip(reachable(address.ip()));
    connect(address).map_err(|error| StartupError::Unhealthy { address, error })
}

/// A broker that listens on all addresses is checked on loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

fn connect(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_LIMIT)?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    stream.set_write_timeout(Some(TIME_LIMIT))?;
    stream.write_all(&CONNECT)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer[0] != CONNACK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer is not an MQTT broker"));
    }
    // After a refusal the connection is already closed.
    let _ = stream.write_all(&DISCONNECT);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::config::ListenerConfig;

    fn listening_on(ip: Ipv4Addr, port: u16) -> Config {
        let bind = Some(vec![IpAddr::V4(ip).into()]);
        Config {
            listeners: vec![ListenerConfig { bind, port, ..ListenerConfig::default() }],
            ..Config::default()
        }
    }

    /// Result of `check` with a peer that reads the CONNECT, sends `answer` and closes.
    fn check_against(answer: &'static [u8]) -> Result<(), StartupError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connect = [0; CONNECT.len()];
            stream.read_exact(&mut connect).unwrap();
            stream.write_all(answer).unwrap();
            connect
        });
        let config = listening_on(Ipv4Addr::UNSPECIFIED, port);
        let healthy = check(&config);
        assert_eq!(peer.join().unwrap(), CONNECT);
        healthy
    }

    #[test]
    fn an_accepted_and_a_refused_connect_both_mean_healthy() {
        check_against(&[CONNACK, 2, 0, 0]).unwrap();
        check_against(&[CONNACK, 2, 0, 5]).unwrap();
    }

    #[test]
    fn an_answer_of_another_protocol_or_none_is_not_health() {
        assert!(matches!(check_against(&[]), Err(StartupError::Unhealthy { .. })));
        let other = check_against(b"HTTP/1.1 400 Bad Request").unwrap_err().to_string();
        assert!(other.contains("not an MQTT broker") && other.contains("--port"), "{other}");

        // A bound socket that does not listen reserves the port, so that no other process can answer.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        let nobody = listening_on(Ipv4Addr::LOCALHOST, port);
        assert!(check(&nobody).is_err());
    }
}
