//! The rules of a trie that concern one topic, or one filter of a SUBSCRIBE.

use crate::level::Names;
use crate::rules::Kind;

use super::{Ends, NONE, Node, ROOT, Trie, kinds};

/// The rules that were found, gathered over the tries of a set: the first grant and the first deny.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    grant_kind: Kind,
    pub(crate) grant: u32,
    pub(crate) deny: u32,
}

impl Met {
    pub(crate) fn new(grant_kind: Kind) -> Self {
        Self { grant_kind, grant: NONE, deny: NONE }
    }

    /// Whether rules of these kinds could still change the answer.
    #[inline]
    fn wants(self, kinds: u8) -> bool {
        self.deny == NONE
            && (kinds & kinds::DENY != 0 || (self.grant == NONE && kinds & self.grant_kind.bit() != 0))
    }

    #[inline]
    fn take(&mut self, ends: Ends, is_deny_only: bool) {
        if self.deny == NONE {
            self.deny = ends.0[Kind::Deny as usize];
        }
        if self.grant == NONE && !is_deny_only {
            self.grant = ends.0[self.grant_kind as usize];
        }
    }
}

/// How the rules relate to a filter: whether a grant, or a deny, covers it wholly or meets it at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting {
    pub(crate) grant_covers: u32,
    pub(crate) grant_meets: u32,
    pub(crate) deny_covers: u32,
    pub(crate) deny_meets: u32,
}

impl Meeting {
    pub(crate) const NONE: Self =
        Self { grant_covers: NONE, grant_meets: NONE, deny_covers: NONE, deny_meets: NONE };

    fn take(&mut self, ends: Ends, covers: bool, is_deny_only: bool) {
        let first = |slot: &mut u32, rule: u32| {
            if *slot == NONE {
                *slot = rule;
            }
        };
        let deny = ends.0[Kind::Deny as usize];
        first(&mut self.deny_meets, deny);
        if covers {
            first(&mut self.deny_covers, deny);
        }
        if is_deny_only {
            return;
        }
        let grant = ends.0[Kind::Subscribe as usize];
        first(&mut self.grant_meets, grant);
        if covers {
            first(&mut self.grant_covers, grant);
        }
    }
}

impl Trie {
    /// Adds the rules for a topic to those that were found.
    pub(crate) fn find_topic(&self, names: Names<'_>, topic: &str, met: &mut Met) {
        if !met.wants(self.kinds()) {
            return;
        }
        let root = self.node(ROOT);
        // A leading wildcard covers such a topic in a deny only.
        let is_dollar = topic.starts_with('$');
        met.take(root.multi, is_dollar);
        let (level, rest) = first_level(topic);
        if let Some(child) = self.child(ROOT, level) {
            self.topic_below(child, rest, names, met, false);
        }
        for child in root.patterns() {
            let level_of_child = &self.node(child).level;
            if level_of_child.is(names, level) {
                let is_deny_only = is_dollar && level_of_child.begins_open();
                self.topic_below(child, rest, names, met, is_deny_only);
            }
        }
        if root.single != NONE {
            self.topic_below(root.single, rest, names, met, is_dollar);
        }
    }

    fn topic_below(&self, at: u32, rest: Option<&str>, names: Names<'_>, met: &mut Met, is_deny_only: bool) {
        let node = self.node(at);
        if !met.wants(if is_deny_only { node.below & kinds::DENY } else { node.below }) {
            return;
        }
        met.take(node.multi, is_deny_only);
        let Some(rest) = rest else {
            met.take(node.exact, is_deny_only);
            return;
        };
        let (level, rest) = first_level(rest);
        if let Some(child) = self.child(at, level) {
            self.topic_below(child, rest, names, met, is_deny_only);
        }
        for child in node.patterns() {
            if self.node(child).level.is(names, level) {
                self.topic_below(child, rest, names, met, is_deny_only);
            }
        }
        if node.single != NONE {
            self.topic_below(node.single, rest, names, met, is_deny_only);
        }
    }

    /// Adds how the rules relate to a filter, which has no share name, to what was found.
    pub(crate) fn find_filter(&self, names: Names<'_>, filter: &str, met: &mut Meeting) {
        let root = self.node(ROOT);
        let (level, rest) = first_level(filter);
        match level {
            "#" => {
                met.take(root.multi, true, false);
                // Every topic has a first level, so `+/#` is as much.
                if root.single != NONE {
                    met.take(self.node(root.single).multi, true, false);
                }
                // A leading wildcard matches no topic that begins with `$` [MQTT-4.7.2-1].
                for child in self.open_children(root, names) {
                    self.all_below(child, names, met);
                }
            }
            "+" => {
                met.take(root.multi, true, false);
                for child in self.open_children(root, names) {
                    self.filter_below(child, rest, names, met, (child == root.single, false));
                }
            }
            _ => {
                let is_dollar = level.starts_with('$');
                met.take(root.multi, true, is_dollar);
                if let Some(child) = self.child(ROOT, level) {
                    self.filter_below(child, rest, names, met, (true, false));
                }
                for child in root.patterns() {
                    let level_of_child = &self.node(child).level;
                    if level_of_child.is(names, level) {
                        let is_deny_only = is_dollar && level_of_child.begins_open();
                        self.filter_below(child, rest, names, met, (true, is_deny_only));
                    }
                }
                if root.single != NONE {
                    self.filter_below(root.single, rest, names, met, (true, is_dollar));
                }
            }
        }
    }

    /// The children that a leading wildcard meets.
    fn open_children<'a>(&'a self, root: &Node, names: Names<'a>) -> impl Iterator<Item = u32> + 'a {
        let single = Some(root.single).filter(|&single| single != NONE);
        let literal = root.children.clone().filter(move |&child| {
            let level = &self.node(child).level;
            level.is_possible(names) && !level.begins_with_dollar(names)
        });
        literal.chain(single)
    }

    /// `covers`: whether the levels until here cover those of the filter.
    fn filter_below(
        &self,
        at: u32,
        rest: Option<&str>,
        names: Names<'_>,
        met: &mut Meeting,
        (covers, is_deny_only): (bool, bool),
    ) {
        let node = self.node(at);
        if node.below & (kinds::SUBSCRIBE | kinds::DENY) == 0 {
            return;
        }
        met.take(node.multi, covers, is_deny_only);
        let Some(rest) = rest else {
            met.take(node.exact, covers, is_deny_only);
            return;
        };
        let (level, rest) = first_level(rest);
        match level {
            "#" => {
                // The filter also matches the level above its `#`, and everything below.
                met.take(node.exact, false, is_deny_only);
                self.below_children(node, names, met, is_deny_only);
            }
            "+" => {
                for child in node.children.clone() {
                    if self.node(child).level.is_possible(names) {
                        self.filter_below(child, rest, names, met, (false, is_deny_only));
                    }
                }
                if node.single != NONE {
                    self.filter_below(node.single, rest, names, met, (covers, is_deny_only));
                }
            }
            _ => {
                if let Some(child) = self.child(at, level) {
                    self.filter_below(child, rest, names, met, (covers, is_deny_only));
                }
                for child in node.patterns() {
                    if self.node(child).level.is(names, level) {
                        self.filter_below(child, rest, names, met, (covers, is_deny_only));
                    }
                }
                if node.single != NONE {
                    self.filter_below(node.single, rest, names, met, (covers, is_deny_only));
                }
            }
        }
    }

    /// A filter with `#` meets every rule from here on.
    fn all_below(&self, at: u32, names: Names<'_>, met: &mut Meeting) {
        let node = self.node(at);
        met.take(node.multi, false, false);
        met.take(node.exact, false, false);
        self.below_children(node, names, met, false);
    }

    fn below_children(&self, node: &Node, names: Names<'_>, met: &mut Meeting, is_deny_only: bool) {
        let single = Some(node.single).filter(|&single| single != NONE);
        for at in node.children.clone().chain(single) {
            let child = self.node(at);
            let wants_grant = met.grant_meets == NONE && !is_deny_only && child.below & kinds::SUBSCRIBE != 0;
            let wants_deny = met.deny_meets == NONE && child.below & kinds::DENY != 0;
            if (wants_grant || wants_deny) && child.level.is_possible(names) {
                met.take(child.multi, false, is_deny_only);
                met.take(child.exact, false, is_deny_only);
                self.below_children(child, names, met, is_deny_only);
            }
        }
    }
}

/// The first level, and the levels after it.
#[inline]
fn first_level(text: &str) -> (&str, Option<&str>) {
    // A level is short, so a loop over bytes is faster than a search by words.
    match text.as_bytes().iter().position(|&byte| byte == b'/') {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}
