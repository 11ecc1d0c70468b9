//! The key of the opening handshake (RFC 6455, sections 4.2.1 and 4.2.2).

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

/// Bytes of a `Sec-WebSocket-Accept`.
pub const ACCEPT_BYTES: usize = 28;

/// Every server appends it to the key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const KEY_BYTES: usize = 16;

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; `None` if that is not the base64 of 16 bytes.
#[must_use]
pub fn accept(key: &str) -> Option<[u8; ACCEPT_BYTES]> {
    let mut nonce = [0; KEY_BYTES];
    let decoded = Base64::decode(key, &mut nonce).ok()?;
    if decoded.len() != KEY_BYTES {
        return None;
    }
    let digest = Sha1::new().chain_update(key).chain_update(SUFFIX).finalize();
    let mut accept = [0; ACCEPT_BYTES];
    let text = Base64::encode(&digest, &mut accept).ok()?;
    debug_assert_eq!(text.len(), ACCEPT_BYTES);
    Some(accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_gives_its_answer() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ==").as_ref(), Some(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn only_the_base64_of_16_bytes_is_a_key() {
        for key in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZSE=", "d h=", "äöü="]
        {
            assert_eq!(accept(key), None, "{key}");
        }
    }
}
