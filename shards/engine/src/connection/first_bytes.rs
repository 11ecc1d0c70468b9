//! The first bytes of a peer that does not speak MQTT: other protocols that are often met on its port.

use crate::cause::Cause;

/// The first bytes of a TLS handshake record: its type, and the major version.
const TLS: [u8; 2] = [0x16, 0x03];
/// The signature of the binary PROXY header.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The beginning of the textual PROXY header.
const PROXY_V1: &[u8] = b"PROXY ";
/// Methods of HTTP/1 and the preface of HTTP/2, each up to its space.
const HTTP: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
];

/// The cause to close a peer whose first bytes do not begin a CONNECT: the protocol that it speaks instead, if the bytes tell.
pub(crate) fn stranger(bytes: &[u8]) -> Cause {
    if bytes.starts_with(&TLS) {
        Cause::Tls
    } else if HTTP.iter().any(|method| bytes.starts_with(method)) {
        Cause::Http
    } else if bytes.starts_with(PROXY_V1) || bytes.starts_with(PROXY_V2) {
        Cause::Proxy
    } else {
        Cause::NotConnect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        let cases: &[(&[u8], Cause)] = &[
            (&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], Cause::Tls),
            (&[0x16, 0x03], Cause::Tls),
            (&[0x16], Cause::NotConnect),
            (&[0x16, 0x04], Cause::NotConnect),
            (b"GET / HTTP/1.1\r\n", Cause::Http),
            (b"POST /", Cause::Http),
            (b"CONNECT broker:1883 HTTP/1.1", Cause::Http),
            (b"PRI * HTTP/2.0", Cause::Http),
            (b"GETX", Cause::NotConnect),
            (b"get /", Cause::NotConnect),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Cause::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Cause::Proxy),
            (b"\r\n\r\n\0\r\nQUIT", Cause::NotConnect),
            (&[0x30, 2, 0, 0], Cause::NotConnect),
            (b"SSH-2.0-x", Cause::NotConnect),
            (b"", Cause::NotConnect),
        ];
        for (bytes, cause) in cases {
            assert_eq!(stranger(bytes), *cause, "{bytes:?}");
        }
    }
}
