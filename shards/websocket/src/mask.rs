//! The mask of a client's frames, removed in place (RFC 6455, section 5.3).

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
}
