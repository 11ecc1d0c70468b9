//! The fields of records: numbers of variable length, byte strings and texts.
//! Invariant: the bytes come from a disk, so each is checked; reading never panics and takes nothing beyond its end.

use alloc::vec::Vec;

/// Bits of a number that one byte has.
const GROUP_BITS: u32 = 7;

/// A record is not what its kind says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// Appends a number: seven bits to a byte, the lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 1 << GROUP_BITS {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= GROUP_BITS;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

/// Appends a byte string and its length before it.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads fields one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            let shifted = group.checked_shl(shift).filter(|shifted| shifted >> shift == group);
            number |= shifted.ok_or(Malformed)?;
            if byte < 0x80 {
                return Ok(number);
            }
            shift += GROUP_BITS;
        }
    }

    /// A number that fits a smaller type.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed)
    }

    /// A byte string of [`put_bytes`].
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length: usize = self.small()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// Ends the reading; bytes that are left belong to no field.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Numbers one after the other, in a byte string that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    /// Of bytes that [`put_number`] appended.
    pub(crate) const fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_bytes(out, self.0);
    }

    pub(super) fn get(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let encoded = fields.bytes()?;
        let mut numbers = Fields::new(encoded);
        while !numbers.is_empty() {
            numbers.number()?;
        }
        Ok(Self(encoded))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + use<'a> {
        let mut numbers = Fields::new(self.0);
        core::iter::from_fn(move || numbers.number().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_byte_strings_are_read_as_they_were_written() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, 1 << 40, (1 << 40) + 77, u64::MAX - 1, u64::MAX];
        let mut out = Vec::new();
        for number in numbers {
            put_number(&mut out, number);
        }
        assert_eq!(Numbers::of(&out).iter().collect::<Vec<_>>(), numbers);
        put_bytes(&mut out, "tëxt".as_bytes());
        let mut fields = Fields::new(&out);
        for number in numbers {
            assert_eq!(fields.number(), Ok(number));
        }
        assert_eq!(fields.text(), Ok("tëxt"));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn fields_that_cannot_be_are_errors() {
        assert_eq!(Fields::new(&[]).number(), Err(Malformed));
        assert_eq!(Fields::new(&[0x80]).number(), Err(Malformed));
        assert_eq!(Fields::new(&[0xff; 10]).number(), Err(Malformed), "more than 64 bits");
        assert_eq!(Fields::new(&[0x80; 200]).number(), Err(Malformed));
        assert_eq!(Fields::new(&[0x80, 0x80, 4]).small::<u16>(), Err(Malformed));
        assert_eq!(Fields::new(&[2, b'a']).bytes(), Err(Malformed));
        assert_eq!(Fields::new(&[1, 0xff]).text(), Err(Malformed));
        assert_eq!(Fields::new(&[0]).finish(), Err(Malformed));
        assert_eq!(Numbers::get(&mut Fields::new(&[1, 0x80])), Err(Malformed));
    }
}
