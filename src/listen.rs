//! Whether the configured addresses can be listened on, asked before anything else is touched: shards share a
//! port among themselves, so a second broker of the same user would share it, too, and never be told.
//! Accepts nothing and keeps no socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{info, warn};

use crate::config::Config;
use crate::trouble::Trouble;

/// Checks every address, and says who can connect. An address of the default that this machine lacks (`::1`
/// where there is no IPv6) is left out of `config`; one that the operator named (`explicit`) is an error.
///
/// # Errors
/// The first address that cannot be listened on, and why.
pub(crate) fn check(config: &mut Config, explicit: bool) -> Result<(), Trouble> {
    let mut usable = Vec::with_capacity(config.bind.len());
    let mut refused = None;
    for &address in &config.bind {
        let target = SocketAddr::new(address, config.port);
        match probe(target) {
            Ok(()) => usable.push(address),
            Err(error) if !explicit && is_missing(&error) => {
                info!(%address, "not listening there: this machine does not have it");
                refused = Some(Trouble::listen(target, error));
            }
            Err(error) => return Err(Trouble::listen(target, error)),
        }
    }
    if usable.is_empty()
        && let Some(trouble) = refused
    {
        return Err(trouble);
    }
    config.bind = usable;
    tell_who_can_connect(&config.bind);
    Ok(())
}

/// Binds without sharing the port, and lets go again.
fn probe(target: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that still linger must not count as a listener.
    socket.set_reuse_address(true)?;
    if target.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&target.into())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

fn tell_who_can_connect(addresses: &[IpAddr]) {
    let open: Vec<_> = addresses.iter().filter(|address| !address.is_loopback()).collect();
    if open.is_empty() {
        info!(
            "only this machine can connect; --bind ADDRESS, or bind = [\"ADDRESS\"] in broker.conf, opens it"
        );
    } else {
        warn!(
            addresses = ?open,
            "whoever reaches these addresses may publish and subscribe: this version has no authentication"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// From the block reserved for documentation: no machine has it.
    const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn config(bind: Vec<IpAddr>, port: u16) -> Config {
        Config { bind, port, ..Config::default() }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let trouble = check(&mut config(vec![LOOPBACK], port), true).unwrap_err();
        assert!(matches!(trouble, Trouble::AddressInUse(_)), "{trouble}");
    }

    #[test]
    fn a_port_shared_by_reuse_port_is_in_use_all_the_same() {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        holder.set_reuse_address(true).unwrap();
        holder.set_reuse_port(true).unwrap();
        holder.bind(&SocketAddr::new(LOOPBACK, 0).into()).unwrap();
        holder.listen(1).unwrap();
        let port = holder.local_addr().unwrap().as_socket().unwrap().port();
        let trouble = check(&mut config(vec![LOOPBACK], port), true).unwrap_err();
        assert!(matches!(trouble, Trouble::AddressInUse(_)), "{trouble}");
    }

    #[test]
    fn a_missing_address_is_left_out_of_the_default_and_an_error_if_named() {
        let mut by_default = config(vec![LOOPBACK, NOBODYS], 0);
        check(&mut by_default, false).unwrap();
        assert_eq!(by_default.bind, [LOOPBACK]);

        let trouble = check(&mut config(vec![LOOPBACK, NOBODYS], 0), true).unwrap_err();
        assert!(matches!(trouble, Trouble::AddressUnavailable(_)), "{trouble}");
        let trouble = check(&mut config(vec![NOBODYS], 0), false).unwrap_err();
        assert!(matches!(trouble, Trouble::AddressUnavailable(_)), "{trouble}");
    }
}
