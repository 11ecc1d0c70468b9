//! Network interfaces by their names, for addresses that exist on each of them.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::config::BindAddress;
use crate::error::StartupError;

/// The address with `port`.
///
/// # Errors
/// If it names an interface that this machine does not have.
pub(crate) fn socket_address(address: &BindAddress, port: u16) -> Result<SocketAddr, StartupError> {
    match (address.ip, address.interface()) {
        (IpAddr::V6(ip), Some(interface)) => {
            let number = number_of(interface)
                .map_err(|error| StartupError::InterfaceMissing { address: address.to_string(), error })?;
            Ok(SocketAddrV6::new(ip, port, 0, number).into())
        }
        (ip, _) => Ok(SocketAddr::new(ip, port)),
    }
}

fn number_of(interface: &str) -> io::Result<u32> {
    match interface.parse() {
        Ok(number) => Ok(number),
        Err(_) => number_of_name(interface),
    }
}

#[cfg(target_os = "linux")]
fn number_of_name(interface: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(any, interface)?)
}

/// Elsewhere only an unsafe call finds the number of a name.
#[cfg(not(target_os = "linux"))]
fn number_of_name(_: &str) -> io::Result<u32> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system wants its number, such as fe80::1%4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Result<u32, StartupError> {
        match socket_address(&text.parse().unwrap(), 1)? {
            SocketAddr::V6(address) => Ok(address.scope_id()),
            SocketAddr::V4(address) => panic!("{address}"),
        }
    }

    #[test]
    fn an_interface_is_found_by_number_or_name() {
        assert_eq!(scope("::1").unwrap(), 0);
        assert_eq!(scope("fe80::1%7").unwrap(), 7);
        #[cfg(target_os = "linux")]
        assert_eq!(scope("fe80::1%lo").unwrap(), 1);
        let error = scope("fe80::1%nosuchdev").unwrap_err().to_string();
        assert!(error.contains("fe80::1%nosuchdev"), "{error}");
    }
}
