//! The header of the PROXY protocol, versions 1 and 2, in front of everything else on a connection: the client's address as a
//! trusted proxy saw it, and the name of the client's certificate. Pure: bytes in, addresses out.
//! Invariant: a header of version 1 has at most 107 bytes, one of version 2 at most [`HEADER_BYTES_MAX`], and both are refused by
//! their first bytes where these suffice.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ppp::v1;
use ppp::v2::{self, Command, Protocol, TypeLengthValues};

/// Bytes of a header at most.
pub(crate) const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a header of version 1 at most, as its specification says.
const TEXT_BYTES_MAX: usize = 107;
const TEXT_PREFIX: &[u8] = b"PROXY ";
/// Bytes of version 2 up to its length.
const START_BYTES: usize = 16;

/// The type of what a proxy says of the client's TLS, and of the common name in it.
const SSL: u8 = 0x20;
const SSL_COMMON_NAME: u8 = 0x22;
/// The client speaks TLS; it showed a certificate on this connection, or in the session that it resumed.
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERTIFICATE: u8 = 0x02 | 0x04;

/// A whole header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its length. The client's bytes follow.
    pub(crate) bytes: usize,
    /// The client's address; `None` if the proxy speaks for itself or knows none, and the peer of the socket counts.
    pub(crate) peer: Option<SocketAddr>,
    /// The common name of the client's certificate, if the proxy was shown one and has verified it.
    pub(crate) common_name: Option<String>,
}

/// The reason why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They begin with neither version's mark.
    Absent,
    TooLong,
    Malformed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "no PROXY header",
            Self::TooLong => "a PROXY header that is too long",
            Self::Malformed => "a malformed PROXY header",
        })
    }
}

/// Reads the header at the front of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// As soon as the bytes cannot become a header. The connection is closed without an answer then.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Header>, Refusal> {
    let agrees = |mark: &[u8]| bytes.iter().zip(mark).all(|(byte, expected)| byte == expected);
    if agrees(v2::PROTOCOL_PREFIX) {
        return read_binary(bytes);
    }
    if agrees(TEXT_PREFIX) {
        return read_text(bytes);
    }
    Err(Refusal::Absent)
}

fn read_text(bytes: &[u8]) -> Result<Option<Header>, Refusal> {
    let line = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() == TEXT_BYTES_MAX { Err(Refusal::TooLong) } else { Ok(None) };
    };
    let length = end + 2;
    let header = v1::Header::try_from(&bytes[..length]).map_err(|_| Refusal::Malformed)?;
    let peer = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some(SocketAddr::new(ip.source_address.into(), ip.source_port)),
        v1::Addresses::Tcp6(ip) => Some(SocketAddr::new(ip.source_address.into(), ip.source_port)),
    };
    Ok(Some(Header { bytes: length, peer: peer.map(canonical), common_name: None }))
}

fn read_binary(bytes: &[u8]) -> Result<Option<Header>, Refusal> {
    if let Some([high, low]) = bytes.get(START_BYTES - 2..START_BYTES)
        && START_BYTES + usize::from(u16::from_be_bytes([*high, *low])) > HEADER_BYTES_MAX
    {
        return Err(Refusal::TooLong);
    }
    let header = match v2::Header::try_from(bytes) {
        Ok(header) => header,
        Err(v2::ParseError::Incomplete(_) | v2::ParseError::Partial(..)) => return Ok(None),
        Err(_) => return Err(Refusal::Malformed),
    };
    let length = header.len();
    if header.command == Command::Local {
        return Ok(Some(Header { bytes: length, peer: None, common_name: None }));
    }
    if header.protocol == Protocol::Datagram {
        return Err(Refusal::Malformed);
    }
    let peer = match header.addresses {
        v2::Addresses::IPv4(ip) => Some(SocketAddr::new(ip.source_address.into(), ip.source_port)),
        v2::Addresses::IPv6(ip) => Some(SocketAddr::new(ip.source_address.into(), ip.source_port)),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    // Where there is no address, all that follows the start is addresses of a kind that nobody knows.
    let common_name = if peer.is_some() { common_name(header.tlvs())? } else { None };
    Ok(Some(Header { bytes: length, peer: peer.map(canonical), common_name }))
}

/// The common name, only of a certificate that was presented and verified.
fn common_name(values: TypeLengthValues<'_>) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for value in values {
        let value = value.map_err(|_| Refusal::Malformed)?;
        if value.kind != SSL {
            continue;
        }
        let [client, a, b, c, d, inner @ ..] = &value.value[..] else { return Err(Refusal::Malformed) };
        let is_verified = u32::from_be_bytes([*a, *b, *c, *d]) == 0;
        let is_presented = client & CLIENT_SSL != 0 && client & CLIENT_CERTIFICATE != 0;
        for value in TypeLengthValues::from(inner) {
            let value = value.map_err(|_| Refusal::Malformed)?;
            if value.kind == SSL_COMMON_NAME && is_verified && is_presented {
                let name = str::from_utf8(&value.value).map_err(|_| Refusal::Malformed)?;
                // Two names would be a choice between identities.
                if found.replace(name.to_owned()).is_some() {
                    return Err(Refusal::Malformed);
                }
            }
        }
    }
    Ok(found)
}

/// A client of IPv4 on a socket of IPv6 is one of IPv4 for every rule.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &[u8] = b"\x10\x0c\0\x04MQTT";

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, body].concat()
    }

    fn value(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x07, 0x5b];

    fn ssl(client: u8, verify: u32, name: &[u8]) -> Vec<u8> {
        let body =
            [&[client][..], &verify.to_be_bytes(), &value(0x21, b"TLSv1.3"), &value(0x22, name)].concat();
        binary(1, 0x11, &[&IPV4[..], &value(0x04, b"pad"), &value(SSL, &body)].concat())
    }

    /// The result for a header with the client's bytes behind it. Every shorter part of it is incomplete.
    fn header(bytes: &[u8]) -> (Option<String>, Option<String>) {
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Ok(None), "{length} bytes");
        }
        let header = read(&[bytes, PAYLOAD].concat()).unwrap().unwrap();
        assert_eq!(header.bytes, bytes.len());
        (header.peer.map(|peer| peer.to_string()), header.common_name)
    }

    #[test]
    fn both_versions_tell_the_clients_address() {
        let client = |text: &str| (Some(text.to_owned()), None);
        assert_eq!(header(b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 1883\r\n"), client("192.0.2.7:8080"));
        assert_eq!(header(b"PROXY TCP6 2001:db8::7 ::1 8080 1883\r\n"), client("[2001:db8::7]:8080"));
        assert_eq!(header(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 8080 1883\r\n"), client("192.0.2.7:8080"));
        assert_eq!(header(&binary(1, 0x11, &IPV4)), client("192.0.2.7:8080"));
        let mut ipv6 = [0; 36];
        ipv6[..2].copy_from_slice(&[0x20, 0x01]);
        ipv6[15] = 7;
        ipv6[33] = 80;
        assert_eq!(header(&binary(1, 0x21, &ipv6)), client("[2001::7]:80"));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_or_knows_no_address_keeps_the_peer() {
        assert_eq!(header(b"PROXY UNKNOWN\r\n"), (None, None));
        let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert_eq!(longest.len(), TEXT_BYTES_MAX);
        assert_eq!(header(longest.as_bytes()), (None, None));
        assert_eq!(header(&binary(0, 0x11, &IPV4)), (None, None));
        assert_eq!(header(&binary(0, 0x00, &[])), (None, None));
        assert_eq!(header(&binary(1, 0x00, b"anything")), (None, None));
        assert_eq!(header(&binary(1, 0x31, &[0; 216])), (None, None));
    }

    #[test]
    fn a_common_name_counts_only_of_a_certificate_that_was_presented_and_verified() {
        let name = |bytes: &[u8]| header(bytes).1;
        assert_eq!(name(&ssl(0x07, 0, b"meter-7")), Some("meter-7".to_owned()));
        assert_eq!(
            name(&ssl(0x05, 0, b"meter-7")),
            Some("meter-7".to_owned()),
            "shown in the session resumed"
        );
        assert_eq!(name(&ssl(0x01, 0, b"meter-7")), None, "no certificate");
        assert_eq!(name(&ssl(0x06, 0, b"meter-7")), None, "no TLS");
        assert_eq!(name(&ssl(0x07, 1, b"meter-7")), None, "not verified");
        assert_eq!(read(&ssl(0x07, 0, b"\xff")), Err(Refusal::Malformed));
    }

    #[test]
    fn everything_else_is_refused_as_soon_as_it_shows() {
        let long = [&binary(1, 0x11, &IPV4)[..START_BYTES - 2], &[0x0f, 0xf1]].concat();
        for (bytes, refusal) in [
            (PAYLOAD.to_vec(), Refusal::Absent),
            (b"GET / HTTP/1.1\r\n".to_vec(), Refusal::Absent),
            (b"PROXx".to_vec(), Refusal::Absent),
            ([b"PROXY UNKNOWN ", &[b'x'; TEXT_BYTES_MAX][..]].concat(), Refusal::TooLong),
            (long, Refusal::TooLong),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n".to_vec(), Refusal::Malformed),
            (b"PROXY TCP4 192.0.2.300 10.0.0.1 8080 1883\r\n".to_vec(), Refusal::Malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 08080 1883\r\n".to_vec(), Refusal::Malformed),
            (b"PROXY UDP4 192.0.2.7 10.0.0.1 8080 1883\r\n".to_vec(), Refusal::Malformed),
            (binary(2, 0x11, &IPV4), Refusal::Malformed),
            (binary(1, 0x12, &IPV4), Refusal::Malformed),
            (binary(1, 0x41, &IPV4), Refusal::Malformed),
            (binary(1, 0x11, &IPV4[..11]), Refusal::Malformed),
            (binary(1, 0x11, &[&IPV4[..], &[SSL, 0, 9, 1]].concat()), Refusal::Malformed),
            (binary(1, 0x11, &[&IPV4[..], &value(SSL, &[1, 0, 0])].concat()), Refusal::Malformed),
        ] {
            assert_eq!(read(&bytes), Err(refusal), "{bytes:?}");
            assert!(!refusal.to_string().is_empty());
        }
    }
}
