//! The rules of one role as a flat trie: a node for each level, children of a node side by side, literal edges in one table.
//!
//! Invariants worth naming:
//! - A node stands for one sequence of levels, so a look-up visits it at most once.
//! - `below` of a node has the kinds of all rules that end at it or below it, so a look-up leaves out what cannot change its answer.
//! - A trie is never changed. No peer adds to it, so its hash needs no key.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use crate::level::Level;
use crate::rules::Kind;

pub(crate) use walk::{Meeting, Met};

mod walk;

/// The number of no node and of no rule.
pub(crate) const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
/// Levels of a rule: bounds the depth of a look-up.
pub(crate) const LEVELS_MAX: usize = 128;

/// Sets of kinds of rules.
pub(crate) mod kinds {
    pub(crate) const PUBLISH: u8 = 1;
    pub(crate) const SUBSCRIBE: u8 = 2;
    pub(crate) const DENY: u8 = 4;
}

/// A rule as the trie takes it.
#[derive(Debug)]
pub(crate) struct Path {
    /// The levels before a last `#`.
    pub(crate) levels: Vec<Level>,
    /// Whether `#` follows.
    pub(crate) is_multi: bool,
}

/// The numbers of the rules that end at a node, one for each kind.
#[derive(Clone, Copy, Debug)]
struct Ends([u32; 3]);

impl Ends {
    const NONE: Self = Self([NONE; 3]);

    fn set(&mut self, kind: Kind, rule: u32) {
        let end = &mut self.0[kind as usize];
        // The first of two equal rules is the one that is told.
        if *end == NONE {
            *end = rule;
        }
    }

    fn kinds(self) -> u8 {
        let bit = |kind: Kind| if self.0[kind as usize] == NONE { 0 } else { kind.bit() };
        bit(Kind::Publish) | bit(Kind::Subscribe) | bit(Kind::Deny)
    }
}

#[derive(Debug)]
struct Node {
    parent: u32,
    level: Level,
    /// Rules that end here.
    exact: Ends,
    /// Rules that end here but for a last `#`.
    multi: Ends,
    /// Children with a literal level, then those with a pattern.
    children: Range<u32>,
    patterns_from: u32,
    /// The child for `+`.
    single: u32,
    /// Kinds of all rules here and below.
    below: u8,
}

impl Node {
    fn patterns(&self) -> Range<u32> {
        self.patterns_from..self.children.end
    }
}

/// The rules of one role. **Lives on:** the `Rules` of all shards.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Box<[Node]>,
    /// Literal edges: open addressing over the numbers of children, at most half full.
    edges: Box<[u32]>,
}

impl Trie {
    /// Builds the trie of these rules, each with its number.
    pub(crate) fn build(rules: impl Iterator<Item = (Path, Kind, u32)>) -> Self {
        let draft = Draft::of(rules);
        let mut nodes = draft.flatten();
        for at in (1..nodes.len()).rev() {
            let below = nodes[at].below | nodes[at].exact.kinds() | nodes[at].multi.kinds();
            nodes[at].below = below;
            let parent = nodes[at].parent as usize;
            assert!(parent < at, "a parent stands before its children");
            nodes[parent].below |= below;
        }
        nodes[0].below |= nodes[0].exact.kinds() | nodes[0].multi.kinds();
        let edges = edges_of(&nodes);
        Self { nodes: nodes.into_boxed_slice(), edges }
    }

    /// Kinds of its rules.
    pub(crate) fn kinds(&self) -> u8 {
        self.node(ROOT).below
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    /// The child with this literal level.
    #[inline]
    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let mask = self.edges.len().checked_sub(1)?;
        let mut slot = hash(parent, level) & mask;
        loop {
            let child = self.edges[slot];
            if child == NONE {
                return None;
            }
            let node = self.node(child);
            if node.parent == parent && matches!(&node.level, Level::Text(text) if **text == *level) {
                return Some(child);
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// The trie while it grows.
struct Draft {
    nodes: Vec<DraftNode>,
    by_level: BTreeMap<(u32, Level), u32>,
}

#[derive(Clone, Copy)]
struct DraftNode {
    exact: Ends,
    multi: Ends,
}

impl Draft {
    fn of(rules: impl Iterator<Item = (Path, Kind, u32)>) -> Self {
        const EMPTY: DraftNode = DraftNode { exact: Ends::NONE, multi: Ends::NONE };
        let mut draft = Self { nodes: Vec::new(), by_level: BTreeMap::new() };
        draft.nodes.push(EMPTY);
        for (path, kind, rule) in rules {
            assert!(path.levels.len() <= LEVELS_MAX);
            let mut at = ROOT;
            for level in path.levels {
                let next = number(draft.nodes.len());
                at = *draft.by_level.entry((at, level)).or_insert(next);
                if at == next {
                    draft.nodes.push(EMPTY);
                }
            }
            let node = &mut draft.nodes[at as usize];
            let ends = if path.is_multi { &mut node.multi } else { &mut node.exact };
            ends.set(kind, rule);
        }
        draft
    }

    /// Puts the children of each node side by side, and parents before children.
    fn flatten(self) -> Vec<Node> {
        let Self { nodes: drafts, by_level } = self;
        let mut children: Vec<Vec<(Level, u32)>> = Vec::new();
        children.resize_with(drafts.len(), Vec::new);
        // The order of the map is that of levels: texts, patterns, `+`.
        for ((parent, level), child) in by_level {
            children[parent as usize].push((level, child));
        }
        let mut nodes = Vec::with_capacity(drafts.len());
        let mut draft_of = Vec::with_capacity(drafts.len());
        let node = |parent: u32, level: Level, draft: DraftNode| Node {
            parent,
            level,
            exact: draft.exact,
            multi: draft.multi,
            children: 0..0,
            patterns_from: 0,
            single: NONE,
            below: 0,
        };
        nodes.push(node(NONE, Level::Text("".into()), drafts[0]));
        draft_of.push(0_usize);
        let mut at = 0;
        while at < nodes.len() {
            let first = number(nodes.len());
            let (mut end, mut patterns_from, mut single) = (first, None, NONE);
            for (level, draft) in core::mem::take(&mut children[draft_of[at]]) {
                let child = number(nodes.len());
                match level {
                    Level::Text(_) => end = child + 1,
                    Level::Pattern(_) => {
                        patterns_from.get_or_insert(child);
                        end = child + 1;
                    }
                    Level::Single => single = child,
                }
                nodes.push(node(number(at), level, drafts[draft as usize]));
                draft_of.push(draft as usize);
            }
            let parent = &mut nodes[at];
            parent.children = first..end;
            parent.patterns_from = patterns_from.unwrap_or(end);
            parent.single = single;
            at += 1;
        }
        assert!(nodes.len() == drafts.len());
        nodes
    }
}

fn edges_of(nodes: &[Node]) -> Box<[u32]> {
    let texts = nodes.iter().skip(1).filter(|node| matches!(node.level, Level::Text(_))).count();
    if texts == 0 {
        return Box::default();
    }
    let mut edges = alloc::vec![NONE; (2 * texts).next_power_of_two()];
    let mask = edges.len() - 1;
    for (at, node) in nodes.iter().enumerate().skip(1) {
        let Level::Text(text) = &node.level else { continue };
        let mut slot = hash(node.parent, text) & mask;
        while edges[slot] != NONE {
            slot = (slot + 1) & mask;
        }
        edges[slot] = number(at);
    }
    edges.into_boxed_slice()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).ok().filter(|&number| number != NONE).expect("fewer rules than 2^32")
}

/// The hash of an edge, eight bytes at a time.
#[inline]
fn hash(parent: u32, level: &str) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = level.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = u64::from(parent) ^ ((level.len() as u64) << 32);
    for word in words.iter().chain([&last]) {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    (hash >> 32) as usize
}
