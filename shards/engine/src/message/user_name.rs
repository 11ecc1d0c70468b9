//! A user by its name, as it goes from shard to shard and into tables.

use alloc::vec::Vec;

use crate::base::byte_reader::{Reader, write_part};

/// The number of no set of roles: nothing is checked.
pub const NO_RULES: u32 = u32::MAX;

/// Who published or owns something. The numbers of sets of roles are those of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserName<'a> {
    /// Empty for an anonymous client.
    name: &'a str,
    /// Empty unless the rules name the client identifier.
    client_id: &'a str,
    rules: u32,
}

impl<'a> UserName<'a> {
    /// A client that nobody judged and no rule binds.
    pub(crate) const NOBODY: Self = Self { name: "", client_id: "", rules: NO_RULES };

    /// The user `name`, with a client identifier if the set of roles `rules` names it.
    pub(crate) const fn new(name: &'a str, client_id: &'a str, rules: u32) -> Self {
        Self { name, client_id, rules }
    }

    /// Empty for an anonymous client.
    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    /// Empty unless the rules name it.
    pub(crate) fn client_id(self) -> &'a str {
        self.client_id
    }

    /// The number of the set of roles.
    pub(crate) fn rules(self) -> u32 {
        self.rules
    }

    /// Whether nothing follows from it.
    pub(crate) fn is_nobody(self) -> bool {
        self.name.is_empty() && self.client_id.is_empty() && self.rules == NO_RULES
    }

    /// Bytes of its texts; the rest has a fixed length.
    pub(crate) fn variable_bytes(self) -> usize {
        self.name.len() + self.client_id.len()
    }

    /// Appends its bytes.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        write_part(out, self.name.as_bytes());
        write_part(out, self.client_id.as_bytes());
        out.extend_from_slice(&self.rules.to_le_bytes());
    }

    /// Reads the bytes that [`UserName::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Self {
        let (name, client_id) = (reader.text().unwrap_or_default(), reader.text().unwrap_or_default());
        Self { name, client_id, rules: reader.u32() }
    }
}
