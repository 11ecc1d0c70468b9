//! An address to listen on, as the operator writes it: an IP address, and for a link-local one of IPv6 the network interface.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest name of a network interface; Linux permits 15 bytes.
const INTERFACE_BYTES_MAX: usize = 64;

/// An IP address, with the interface that a link-local address of IPv6 belongs to (`fe80::1%eth0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindAddress {
    /// The address alone.
    pub(crate) ip: IpAddr,
    /// Name or number of the interface.
    interface: Option<String>,
}

impl BindAddress {
    /// Whether the address exists on every interface and the interface is not named.
    pub(crate) fn lacks_interface(&self) -> bool {
        self.interface.is_none() && is_link_local(self.ip)
    }

    /// Name or number of the interface, if it has one.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }
}

impl From<IpAddr> for BindAddress {
    fn from(ip: IpAddr) -> Self {
        Self { ip, interface: None }
    }
}

impl FromStr for BindAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((ip, interface)) = text.split_once('%') else {
            return text.parse::<IpAddr>().map(Self::from).map_err(drop);
        };
        let ip = IpAddr::V6(ip.parse::<Ipv6Addr>().map_err(drop)?);
        let is_name = (1..=INTERFACE_BYTES_MAX).contains(&interface.len())
            && interface.bytes().all(|byte| byte.is_ascii_graphic() && !b"/%\"\\,".contains(&byte));
        if !is_link_local(ip) || !is_name {
            return Err(());
        }
        Ok(Self { ip, interface: Some(interface.to_owned()) })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            None => self.ip.fmt(f),
            Some(interface) => write!(f, "{}%{interface}", self.ip),
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_was_read() {
        for text in ["127.0.0.1", "::", "2001:db8::1", "fe80::1", "fe80::1%eth0", "fe80::1%2"] {
            assert_eq!(text.parse::<BindAddress>().unwrap().to_string(), text);
        }
        for text in
            ["", "localhost", "fe80::1%", "::1%lo", "127.0.0.1%lo", "fe80::1%a/b", "fe80::1%a%b", "%lo"]
        {
            assert_eq!(text.parse::<BindAddress>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_link_local_address_needs_its_interface() {
        let lacks = |text: &str| text.parse::<BindAddress>().unwrap().lacks_interface();
        assert!(lacks("fe80::1"));
        assert!(!lacks("fe80::1%lo") && !lacks("::1") && !lacks("169.254.0.1"));
    }
}
