//! Bytes that a peer told us in confidence: wiped when they are dropped, and never shown.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;

use zeroize::Zeroizing;

/// Bytes that are overwritten when they are dropped. Their `Debug` form is their number.
#[derive(Default)]
pub(crate) struct Secret(Zeroizing<Box<[u8]>>);

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} secret bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let secret = Secret::from(&b"hunter2"[..]);
        assert_eq!(&*secret, b"hunter2");
        assert_eq!(alloc::format!("{secret:?}"), "7 secret bytes");
        assert!(Secret::default().is_empty());
    }
}
