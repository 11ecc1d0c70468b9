//! A user by its name, as it goes from shard to shard and into tables; and the source of a retained message, which is a user
//! with the rest of what rules ask for.

use alloc::string::String;
use alloc::vec::Vec;

use crate::base::byte_reader::{Reader, write_part};

/// Between the parts of a source. No text of MQTT has it [MQTT-1.5.4-2].
const SEPARATOR: char = '\0';

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

    /// The text of a source, which is a name for tables and lanes: of a user with its client identifier and the roles of its token.
    pub(crate) fn source<'s>(user: &str, client_id: &'s str, roles: impl Iterator<Item = &'s str>) -> String {
        let mut text = String::with_capacity(user.len() + client_id.len() + 1);
        text.push_str(user);
        for part in core::iter::once(client_id).chain(roles) {
            text.push(SEPARATOR);
            text.push_str(part);
        }
        text
    }

    /// The user of a source, its client identifier and roles. These are empty where no rules were in force.
    pub(crate) fn source_parts(self) -> (&'a str, &'a str, impl Iterator<Item = &'a str>) {
        let mut parts = self.0.split(SEPARATOR);
        let user = parts.next().unwrap_or_default();
        (user, parts.next().unwrap_or_default(), parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_parts_that_it_was_made_of() {
        for roles in [&[][..], &["operator"], &["operator", "guest"]] {
            let text = UserName::source("ann", "pump-7", roles.iter().copied());
            let (user, client_id, parts) = UserName::new(&text).source_parts();
            assert_eq!((user, client_id), ("ann", "pump-7"));
            assert_eq!(parts.collect::<Vec<_>>(), roles);
        }
        let (user, client_id, mut roles) = UserName::new("ann").source_parts();
        assert_eq!((user, client_id, roles.next()), ("ann", "", None));
    }
}
