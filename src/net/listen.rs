//! The listening sockets: one for each address and, where the system distributes connections, for each shard.
//! Every address is checked first by an exclusive bind, before anything else of the process is set up. Shards share a
//! port by a socket option, so without that check a second broker of the same user would share it as well, unnoticed.

mod change;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tracing::{info, warn};

use crate::config::listener::{ADDRESSES_MAX, LISTENERS_MAX};
use crate::config::{BindAddress, Config, FileMode, Io, ListenAt, ListenerConfig};
use crate::error::StartupError;
use crate::net::interface::socket_address;
use crate::net::local;
use change::Target;
pub(crate) use change::{ListenerChange, ListenerTables, Listeners, Prepared, Wanted};

/// Length of the accept queue of a listener; `net.core.somaxconn` can lower it.
const BACKLOG: i32 = 4_096;

/// Whether an accepted socket inherits the options of [`set_connection_options`] from its listener, which saves system calls
/// for each connection.
pub(crate) const OPTIONS_ARE_INHERITED: bool = cfg!(target_os = "linux");

/// A peer that vanished and whose keep alive is 0 is noticed by probes of TCP: after a silence of five minutes, by six
/// probes that nobody answers in three more. They cost a connection that is in use nothing.
const PROBE_AFTER: Duration = Duration::from_mins(5);
const KEEPALIVE_PROBE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 6;

/// Number of checks of a port in use, before the last one that counts.
const PROBES_MAX: u32 = 10;
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Number of a listener and of one of its addresses, the same on every shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ListenerNumber {
    listener: u8,
    address: u8,
}

/// Numbers of listeners, and of their addresses, in the life of a process.
pub(crate) const NUMBERS_MAX: usize = 1 << u8::BITS;

const _: () = assert!(LISTENERS_MAX <= NUMBERS_MAX && ADDRESSES_MAX <= NUMBERS_MAX);

impl ListenerNumber {
    /// The position among the configured listeners.
    pub(crate) fn index(self) -> usize {
        self.listener.into()
    }

    /// The same position, for the engine.
    pub(crate) fn number(self) -> u16 {
        self.listener.into()
    }

    /// The position among the addresses of all listeners.
    pub(crate) fn address(self) -> usize {
        self.address.into()
    }
}

#[cfg(test)]
impl ListenerNumber {
    /// The numbers of the first address of two listeners.
    pub(crate) fn first_two() -> [Self; 2] {
        [Self { listener: 0, address: 0 }, Self { listener: 1, address: 1 }]
    }
}

impl fmt::Display for ListenerNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(formatter)
    }
}

/// A socket that a shard accepts on.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Its listener.
    pub(crate) number: ListenerNumber,
    /// The socket.
    pub(crate) socket: Socket,
    /// Whether the other shards have the same socket, and perhaps systemd, which goes on listening when this process ends.
    pub(crate) is_shared: bool,
}

impl Listening {
    /// The address or path of the socket.
    pub(crate) fn place(&self) -> String {
        local::place(&self.socket)
    }
}

/// Checks every address, and logs who can connect. A default address that this machine lacks, such as `::1` without
/// IPv6, is removed from `config`; one that the operator named is an error.
///
/// # Errors
/// The first address that cannot be listened on, and the reason.
pub(crate) fn check(config: &mut Config) -> Result<(), StartupError> {
    for listener in &mut config.listeners {
        if let ListenAt::Tcp { bind, named, port } = listener.at() {
            listener.bind = Some(usable(bind, named, port, &[])?);
        }
    }
    log_who_can_connect(&config.listeners);
    Ok(())
}

/// The addresses of a listener that this machine has. Addresses that this process holds itself, `held`, are not tried.
fn usable(
    bind: Vec<BindAddress>,
    named: bool,
    port: u16,
    held: &[SocketAddr],
) -> Result<Vec<BindAddress>, StartupError> {
    let mut usable = Vec::with_capacity(bind.len());
    let mut refused = None;
    for address in bind {
        let target = socket_address(&address, port)?;
        let is_held = held.iter().any(|own| excludes(*own, target));
        match if is_held { Ok(()) } else { probe_again(target) } {
            Ok(()) => usable.push(address),
            Err(error) if !named && is_missing(&error) => {
                info!(%address, "not listening on this address: this machine does not have it");
                refused = Some(StartupError::listen(target, error));
            }
            Err(error) => return Err(StartupError::listen(target, error)),
        }
    }
    match refused {
        Some(error) if usable.is_empty() => Err(error),
        _ => Ok(usable),
    }
}

/// Whether a socket at one address keeps another from listening at the other.
fn excludes(one: SocketAddr, other: SocketAddr) -> bool {
    let meet = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4() && meet
}

/// The distributor of new connections among the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distributor {
    /// The system, among listeners that share a port.
    System,
    /// The first shard. It has the only listeners, and assigns accepted connections to all shards in turn.
    FirstShard,
}

impl Distributor {
    /// Only Linux distributes connections evenly. macOS gives all of them to one listener, and Windows cannot share a
    /// port. A backend for those systems distributes in the same way on Linux, so that the tests cover it.
    pub(crate) fn of(io: Io) -> Self {
        match io {
            Io::Auto | Io::Uring | Io::Epoll if cfg!(target_os = "linux") => Self::System,
            Io::Auto | Io::Uring | Io::Epoll | Io::Tokio | Io::Blocking => Self::FirstShard,
        }
    }
}

/// The sockets of every shard that accepts, each for all addresses of all listeners.
///
/// # Errors
/// The first address that cannot be listened on, and the reason.
pub(crate) fn bind(config: &Config, shard_count: u16) -> Result<Vec<Vec<Listening>>, StartupError> {
    let mut shards: Vec<Vec<Listening>> = (0..shard_count).map(|_| Vec::new()).collect();
    let accepting = match Distributor::of(config.io) {
        Distributor::System => &mut shards[..],
        Distributor::FirstShard => &mut shards[..1],
    };
    let mut addresses = 0..=u8::MAX;
    for (listener, at) in (0..=u8::MAX).zip(config.listeners.iter().map(ListenerConfig::at)) {
        let (single, what) = match at {
            ListenAt::Tcp { bind, port, .. } => {
                for address in bind {
                    let number = ListenerNumber { listener, address: next(&mut addresses)? };
                    bind_for_each(
                        accepting,
                        number,
                        socket_address(&address, port)?,
                        config.send_buffer_bytes,
                    )?;
                }
                continue;
            }
            ListenAt::Unix { path, mode } => {
                (local::bind(path, mode, BACKLOG).map(|socket| vec![socket]), path.display().to_string())
            }
            ListenAt::Systemd { name } => (local::passed(name), format!("the sockets {name:?} of systemd")),
        };
        let refused = |error| StartupError::system(format!("listen on {what}"), error);
        for socket in single.map_err(refused)? {
            let number = ListenerNumber { listener, address: next(&mut addresses)? };
            duplicate(accepting, number, &socket).map_err(refused)?;
        }
    }
    Ok(shards)
}

/// Gives each shard a duplicate of a socket that exists once.
fn duplicate(accepting: &mut [Vec<Listening>], number: ListenerNumber, socket: &Socket) -> io::Result<()> {
    // A listener of the network inherits its options from its own start; this one is new, or systemd's.
    if socket.local_addr().is_ok_and(|address| address.as_socket().is_some()) {
        set_connection_options(&SockRef::from(socket))?;
    }
    for sockets in accepting {
        sockets.push(Listening { number, socket: socket.try_clone()?, is_shared: true });
    }
    Ok(())
}

/// Listens at one more place while the broker runs.
fn bind_at(
    accepting: &mut [Vec<Listening>],
    number: ListenerNumber,
    target: &Target,
    mode: FileMode,
    send_buffer_bytes: u32,
) -> Result<(), StartupError> {
    match target {
        Target::Tcp(address) => bind_for_each(accepting, number, *address, send_buffer_bytes),
        Target::Unix(path) => local::bind(path, mode, BACKLOG)
            .and_then(|socket| duplicate(accepting, number, &socket))
            .map_err(|error| StartupError::system(format!("listen on {}", path.display()), error)),
        Target::Systemd(name) => {
            Err(StartupError::listener(name, "systemd passes its sockets at a start; restart the broker"))
        }
    }
}

/// The number of the next address.
fn next(addresses: &mut impl Iterator<Item = u8>) -> Result<u8, StartupError> {
    let too_many = || io::Error::other(format!("there are more than {ADDRESSES_MAX} sockets"));
    addresses.next().ok_or_else(|| StartupError::system("listen on all sockets", too_many()))
}

/// Binds a socket of each shard to `address`.
fn bind_for_each(
    accepting: &mut [Vec<Listening>],
    number: ListenerNumber,
    mut address: SocketAddr,
    send_buffer_bytes: u32,
) -> Result<(), StartupError> {
    for sockets in accepting {
        let refused = |error| StartupError::listen(address, error);
        let socket = share(address, send_buffer_bytes).map_err(refused)?;
        // With port 0 the first socket selects a free port, and the others share it.
        let local = socket.local_addr().map_err(refused)?.as_socket();
        address.set_port(local.map_or(address.port(), |local| local.port()));
        sockets.push(Listening { number, socket, is_shared: false });
    }
    Ok(())
}

fn share(address: SocketAddr, send_buffer_bytes: u32) -> io::Result<Socket> {
    let socket = socket(address)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(true)?;
    if send_buffer_bytes > 0 {
        // Accepted sockets inherit the size.
        socket.set_send_buffer_size(send_buffer_bytes as usize)?;
    }
    if OPTIONS_ARE_INHERITED {
        set_connection_options(&SockRef::from(&socket))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sets the options of a connection: no delay that collects small packets, and probes that notice a peer which vanished.
///
/// # Errors
/// If the system refuses one of them. The socket still works.
pub(crate) fn set_connection_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(KEEPALIVE_PROBE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&probes)
}

/// Like `probe`, but repeats the check of a port in use for a short while: `io_uring` holds the port of a killed
/// broker with outstanding accepts for some milliseconds after the end of the process.
fn probe_again(target: SocketAddr) -> io::Result<()> {
    for _ in 0..PROBES_MAX {
        match probe(target) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(PROBE_INTERVAL),
            other => return other,
        }
    }
    probe(target)
}

/// Binds exclusively and closes the socket again.
fn probe(target: SocketAddr) -> io::Result<()> {
    socket(target)?.bind(&target.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that are still in TIME_WAIT must not block the port. On Windows they do not, and
    // the option would let two brokers share one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

fn log_who_can_connect(listeners: &[ListenerConfig]) {
    if listeners.iter().all(|listener| listener.beyond().is_empty()) {
        info!(
            "only this machine can connect; bind = [\"ADDRESS\"] of a listener in broker.conf, or --bind ADDRESS, lets others connect"
        );
    }
    listeners.iter().for_each(warn_of_open);
}

fn warn_of_open(listener: &ListenerConfig) {
    let open = listener.beyond();
    if !open.is_empty() && listener.allows_anonymous() {
        warn!(
            listener = listener.name,
            addresses = ?open,
            "every client that reaches these addresses is let in without authentication, because anonymous = true; \
             restrict access with a firewall"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::*;

    /// An address of the block for documentation, which no machine has.
    const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn config(bind: Vec<IpAddr>, port: u16) -> Config {
        let bind = Some(bind.into_iter().map(BindAddress::from).collect());
        Config {
            listeners: vec![ListenerConfig { bind, port, ..ListenerConfig::default() }],
            ..Config::default()
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = check(&mut config(vec![LOOPBACK], port)).unwrap_err();
        assert!(matches!(error, StartupError::AddressInUse(_)), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_port_shared_by_reuse_port_is_in_use_all_the_same() {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        holder.set_reuse_address(true).unwrap();
        holder.set_reuse_port(true).unwrap();
        holder.bind(&SocketAddr::new(LOOPBACK, 0).into()).unwrap();
        holder.listen(1).unwrap();
        let port = holder.local_addr().unwrap().as_socket().unwrap().port();
        let error = check(&mut config(vec![LOOPBACK], port)).unwrap_err();
        assert!(matches!(error, StartupError::AddressInUse(_)), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn all_shards_share_the_port_that_the_first_one_found() {
        let shards = bind(&Config { io: Io::Epoll, ..config(vec![LOOPBACK], 0) }, 3).unwrap();
        let ports: Vec<u16> = shards
            .iter()
            .map(|listeners| listeners[0].socket.local_addr().unwrap().as_socket().unwrap().port())
            .collect();
        assert!(ports[0] != 0 && ports == [ports[0]; 3], "{ports:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_accepted_socket_has_the_options_of_a_connection() {
        let shards = bind(&config(vec![LOOPBACK], 0), 1).unwrap();
        let address = shards[0][0].socket.local_addr().unwrap().as_socket().unwrap();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = shards[0][0].socket.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(OPTIONS_ARE_INHERITED && socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let probes = (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        );
        assert_eq!(probes, (PROBE_AFTER, KEEPALIVE_PROBE_INTERVAL, KEEPALIVE_PROBES));
    }

    /// With a size that the system chooses, a reader that never reads takes 4 MiB of the kernel's memory.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_accepted_socket_has_the_send_buffer_of_the_settings() {
        for send_buffer_bytes in [Config::default().send_buffer_bytes, 65_536] {
            let shards = bind(&Config { send_buffer_bytes, ..config(vec![LOOPBACK], 0) }, 1).unwrap();
            let address = shards[0][0].socket.local_addr().unwrap().as_socket().unwrap();
            let _peer = std::net::TcpStream::connect(address).unwrap();
            let (accepted, _) = shards[0][0].socket.accept().unwrap();
            let size = SockRef::from(&accepted).send_buffer_size().unwrap();
            // Linux doubles it for its own needs.
            assert_eq!(size, 2 * send_buffer_bytes as usize);
            assert!(size < 512 * 1024);
        }
    }

    #[test]
    fn only_the_first_shard_listens_where_it_distributes_connections() {
        let shards = bind(&Config { io: Io::Tokio, ..config(vec![LOOPBACK], 0) }, 3).unwrap();
        let listeners: Vec<usize> = shards.iter().map(Vec::len).collect();
        assert_eq!(listeners, [1, 0, 0]);
    }

    #[test]
    fn a_missing_address_is_left_out_of_the_default_and_an_error_if_named() {
        let addresses = |ips: &[IpAddr]| ips.iter().copied().map(BindAddress::from).collect();
        let by_default = usable(addresses(&[LOOPBACK, NOBODYS]), false, 0, &[]).unwrap();
        assert_eq!(by_default, [BindAddress::from(LOOPBACK)]);

        let error = check(&mut config(vec![LOOPBACK, NOBODYS], 0)).unwrap_err();
        assert!(matches!(error, StartupError::AddressUnavailable(_)), "{error}");
        let error = usable(addresses(&[NOBODYS]), false, 0, &[]).unwrap_err();
        assert!(matches!(error, StartupError::AddressUnavailable(_)), "{error}");
    }
}
