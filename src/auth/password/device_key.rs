//! Device keys: passwords that the broker invents for machines. They carry 160 random bits, so one fast hash stores them safely
//! and a shard can judge them itself.

use zeroize::Zeroizing;

/// Random bits of a key, in bytes.
const KEY_BYTES: usize = 20;

/// The digits of RFC 4648's base32 in lower case: none that are confused when they are read aloud.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A new key: 32 letters and digits.
///
/// # Errors
/// If the system gives no random bytes.
pub(crate) fn generate() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(encode(&bytes))
}

/// Five bytes are eight digits.
fn encode(bytes: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    let (groups, []) = bytes.as_chunks::<5>() else { unreachable!("a key is a whole number of groups") };
    let digits = groups.iter().flat_map(|group| {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).rev().map(move |at| bits >> (at * 5) & 31)
    });
    let mut key = Zeroizing::new(String::with_capacity(KEY_BYTES * 8 / 5));
    key.extend(digits.map(|digit| char::from(DIGITS[usize::try_from(digit).expect("five bits")])));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_base32_of_its_bytes() {
        assert_eq!(*encode(b"foobafoobafoobafooba"), "mzxw6ytb".repeat(4), "RFC 4648, section 10");
        assert_eq!(*encode(&[0xFF; KEY_BYTES]), "7".repeat(32));
    }

    #[test]
    fn keys_differ() {
        assert_ne!(generate().unwrap(), generate().unwrap());
    }
}
