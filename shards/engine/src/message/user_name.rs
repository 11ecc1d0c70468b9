//! A user by its name, as it goes from shard to shard and into tables.

use alloc::vec::Vec;

use crate::base::byte_reader::{Reader, write_part};

/// The publisher or owner of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserName<'a>(&'a str);

impl<'a> UserName<'a> {
    /// A client that nobody judged, or one without a name.
    pub(crate) const NOBODY: Self = Self("");

    /// The user of this name; nobody if it is empty.
    pub(crate) const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// Empty for nobody.
    pub(crate) fn name(self) -> &'a str {
        self.0
    }

    /// Whether nothing follows from it.
    pub(crate) fn is_nobody(self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of its text; the rest has a fixed length.
    pub(crate) fn variable_bytes(self) -> usize {
        self.0.len()
    }

    /// Appends its bytes.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        write_part(out, self.0.as_bytes());
    }

    /// Reads the bytes that [`UserName::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Self {
        Self(reader.text().unwrap_or_default())
    }
}
