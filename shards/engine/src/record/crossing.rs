//! The part of MESSAGE that concerns other shards: the transfer that it came by, and the shards that it goes to. A target has all that
//! sending the message again takes beside its content.

use alloc::vec::Vec;

use super::fields::{Fields, Malformed, put_bytes, put_number};

const DELIVER_HERE: u64 = 1;
const RETAIN_HERE: u64 = 1 << 1;
const ACCEPTS_OFFLINE: u64 = 1 << 2;
const IS_RETURNED: u64 = 1 << 3;
const GROUPS: u64 = 1 << 4;
const AUTHOR: u64 = 1 << 5;
const FLAGS_END: u64 = 1 << 6;

/// Bytes of a key of a group.
const KEY_BYTES: usize = 8;

/// The purposes of a message at a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Purpose(u64);

impl Purpose {
    /// Whether the target delivers it to its subscribers, whether it retains it, whether it may give it to members that are offline, and
    /// whether it chose this shard for the groups and gets it back.
    pub(crate) fn new([deliver_here, retain_here, accepts_offline, is_returned]: [bool; 4]) -> Self {
        let mut bits = 0;
        for (is_set, bit) in [
            (deliver_here, DELIVER_HERE),
            (retain_here, RETAIN_HERE),
            (accepts_offline, ACCEPTS_OFFLINE),
            (is_returned, IS_RETURNED),
        ] {
            bits |= if is_set { bit } else { 0 };
        }
        Self(bits)
    }

    pub(crate) const fn deliver_here(self) -> bool {
        self.0 & DELIVER_HERE != 0
    }

    pub(crate) const fn retain_here(self) -> bool {
        self.0 & RETAIN_HERE != 0
    }

    pub(crate) const fn accepts_offline(self) -> bool {
        self.0 & ACCEPTS_OFFLINE != 0
    }

    pub(crate) const fn is_returned(self) -> bool {
        self.0 & IS_RETURNED != 0
    }
}

/// A shard that a message goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TargetBody<'a> {
    shard: u16,
    purpose: Purpose,
    /// The shard where it was published, and its number there.
    origin: (u16, u64),
    /// The fingerprint of its publisher, 0 for none, and its user, for the home of a retained message.
    author: (u64, &'a str),
    /// Keys of groups, eight bytes each.
    groups: &'a [u8],
    /// Shards that were asked for these groups before, as a word.
    tried: u64,
}

impl<'a> TargetBody<'a> {
    /// The shard; the shard where the message was published, and its number there; the fingerprint of its publisher, 0 for none, and its
    /// user; the keys of groups, eight bytes each, and the shards that were asked for these before.
    pub(crate) const fn new(
        shard: u16,
        purpose: Purpose,
        origin: (u16, u64),
        author: (u64, &'a str),
        (groups, tried): (&'a [u8], u64),
    ) -> Self {
        assert!(groups.len().is_multiple_of(KEY_BYTES));
        Self { shard, purpose, origin, author, groups, tried }
    }

    pub(crate) const fn shard(&self) -> u16 {
        self.shard
    }

    pub(crate) const fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(crate) const fn origin(&self) -> (u16, u64) {
        self.origin
    }

    pub(crate) const fn author(&self) -> (u64, &'a str) {
        self.author
    }

    /// The keys of groups, and the shards that were asked for these before.
    pub(crate) const fn groups(&self) -> (&'a [u8], u64) {
        (self.groups, self.tried)
    }

    /// Appends it to a list of targets.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { shard, purpose, origin, author, groups, tried } = *self;
        let mut flags = purpose.0;
        for (is_set, flag) in [(!groups.is_empty(), GROUPS), (author != (0, ""), AUTHOR)] {
            flags |= if is_set { flag } else { 0 };
        }
        for number in [shard.into(), flags, origin.0.into(), origin.1] {
            put_number(out, number);
        }
        if !groups.is_empty() {
            put_bytes(out, groups);
            put_number(out, tried);
        }
        if author != (0, "") {
            put_number(out, author.0);
            put_bytes(out, author.1.as_bytes());
        }
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let (shard, flags) = (fields.small()?, fields.number()?);
        if flags >= FLAGS_END {
            return Err(Malformed);
        }
        let has = |flag| flags & flag != 0;
        let origin = (fields.small()?, fields.number()?);
        let (groups, tried) = if has(GROUPS) { (fields.bytes()?, fields.number()?) } else { (&[][..], 0) };
        let author = if has(AUTHOR) { (fields.number()?, fields.text()?) } else { (0, "") };
        if !groups.len().is_multiple_of(KEY_BYTES) {
            return Err(Malformed);
        }
        let purpose = Purpose(flags & (DELIVER_HERE | RETAIN_HERE | ACCEPTS_OFFLINE | IS_RETURNED));
        Ok(Self { shard, purpose, origin, author, groups, tried })
    }
}

/// The targets of a record, in a byte string that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TargetList<'a>(&'a [u8]);

impl<'a> TargetList<'a> {
    /// Of bytes that [`TargetBody::encode`] appended.
    pub(crate) const fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of the list.
    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn get(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let encoded = fields.bytes()?;
        let mut targets = Fields::new(encoded);
        while !targets.is_empty() {
            TargetBody::decode(&mut targets)?;
        }
        Ok(Self(encoded))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = TargetBody<'a>> + use<'a> {
        let mut targets = Fields::new(self.0);
        core::iter::from_fn(move || TargetBody::decode(&mut targets).ok())
    }
}

/// The way of a message between shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Crossing<'a> {
    from: Option<(u16, u64)>,
    targets: TargetList<'a>,
}

impl<'a> Crossing<'a> {
    /// The shard that it came from with the number of the transfer there, and the shards that it goes to as a transfer with the number of
    /// the record.
    pub(crate) const fn new(from: Option<(u16, u64)>, targets: TargetList<'a>) -> Self {
        Self { from, targets }
    }

    pub(crate) const fn from(&self) -> Option<(u16, u64)> {
        self.from
    }

    pub(crate) const fn targets(&self) -> TargetList<'a> {
        self.targets
    }
}
