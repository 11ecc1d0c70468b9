//! Packets of which a part is optional: encoded whole, and again with less if the client does not accept as much.

use alloc::vec::Vec;

/// Appends the first of `variants` whose encoding has at most `bytes_max` bytes, the client's Maximum Packet Size
/// [MQTT-3.1.2-24]; each variant leaves out more of what is optional. If none fits, the last one is appended all the
/// same and `false` comes back: the caller leaves the packet out, or sends it because it is short.
pub(crate) fn append_bounded<V>(
    out: &mut Vec<u8>,
    bytes_max: u32,
    variants: &[V],
    encode: impl Fn(&V, &mut Vec<u8>),
) -> bool {
    let start = out.len();
    for variant in variants {
        out.truncate(start);
        encode(variant, out);
        assert!(out.len() > start);
        if out.len() - start <= bytes_max as usize {
            return true;
        }
    }
    false
}
