//! The mask of a client's frames, removed in place (RFC 6455, section 5.3).

use core::ops::Range;

/// Removes the mask from a part of a payload. Returns the mask for the part that follows.
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d].iter().cycle()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(bytes.len() % 4);
    next
}

/// Removes the mask from `bytes[from]` and moves it down to `to`.
///
/// # Panics
/// If `to` is behind its front, or `from` is not within `bytes`.
pub(crate) fn unmask_down(bytes: &mut [u8], from: Range<usize>, to: usize, mask: [u8; 4]) {
    assert!(to <= from.start);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (mut source, mut target) = (from.start, to);
    while source + 8 <= from.end {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[source..source + 8]);
        // The target is never ahead of the source, so it overwrites only bytes that were read.
        bytes[target..target + 8].copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
        (source, target) = (source + 8, target + 8);
    }
    for (offset, key) in (0..from.end - source).zip([a, b, c, d].iter().cycle()) {
        bytes[target + offset] = bytes[source + offset] ^ key;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn any_cut_gives_the_same_payload() {
        let mask = [1, 20, 30, 200];
        let payload: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> =
            payload.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]).collect();
        for cut in 0..=payload.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            let mask = unmask(first, mask);
            unmask(second, mask);
            assert_eq!(bytes, payload, "cut at {cut}");
        }
    }

    #[test]
    fn what_moves_down_is_the_same_as_in_place() {
        let mask = [1, 20, 30, 200];
        for length in 0..40 {
            for distance in 0..12 {
                let mut moved: Vec<u8> = (0..).take(distance + length).collect();
                let mut in_place = moved[distance..].to_vec();
                unmask(&mut in_place, mask);
                unmask_down(&mut moved, distance..distance + length, 0, mask);
                assert_eq!(moved[..length], in_place, "{length} bytes by {distance}");
            }
        }
    }
}
