//! The trie of filters with wildcards, one node a level.
//!
//! Invariants worth naming:
//! - The edges of all nodes are one table, so a node costs its text and a few words, however many children it has.
//! - A node leads to a filter: removal frees the nodes that lead to none, so an empty trie is its root.
//! - A walk visits a node once, so the nodes bound it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use crate::base::hash::Keyed;

use super::index::Index;
use super::pool::{NONE, Pool};

const ROOT: u32 = 0;

#[derive(Debug)]
struct Node {
    parent: u32,
    level: Box<str>,
    /// The filter that ends here.
    filter: u32,
    /// The filter that ends with `#` below here.
    filter_multi: u32,
    /// The child for `+`.
    single: u32,
    /// Children for levels without wildcards, found through the edges.
    literal_count: u32,
}

impl Node {
    fn new(parent: u32, level: &str) -> Self {
        Self { parent, level: level.into(), filter: NONE, filter_multi: NONE, single: NONE, literal_count: 0 }
    }

    fn leads_nowhere(&self) -> bool {
        self.filter == NONE && self.filter_multi == NONE && self.single == NONE && self.literal_count == 0
    }
}

/// **Lives on:** every shard, inside its tree.
#[derive(Debug)]
pub(super) struct Trie {
    hasher: Keyed,
    nodes: Pool<Node>,
    by_edge: Index,
    walk: Walk,
}

/// One walk of a topic through the nodes; kept between walks for its allocations.
#[derive(Debug, Default)]
struct Walk {
    /// Levels of the topic split so far, at most as many as the deepest filter has.
    levels: Vec<Level>,
    /// Nodes to visit, and how many levels lead there.
    stack: Vec<(u32, usize)>,
}

/// A level of the topic. It is split and hashed once, though many nodes of a walk need it.
#[derive(Clone, Copy, Debug)]
struct Level {
    start: usize,
    end: usize,
    hash: u64,
}

impl Walk {
    /// The level at `depth`, if the topic has it: "a/" has an empty last level, "a" has not. A walk first asks for depth 0, and for
    /// none before the one above it.
    fn level(&mut self, depth: usize, topic: &str, hasher: &Keyed) -> Option<Level> {
        if let Some(level) = self.levels.get(depth) {
            return Some(*level);
        }
        let start = self.levels.last().map_or(0, |last| last.end + 1);
        let rest = topic.as_bytes().get(start..)?;
        let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let level = Level { start, end: start + length, hash: hasher.bytes(&rest[..length]) };
        self.levels.push(level);
        Some(level)
    }
}

impl Trie {
    pub(super) fn new(hasher: Keyed) -> Self {
        let mut nodes = Pool::new();
        let root = nodes.insert(Node::new(NONE, ""));
        assert!(root == ROOT);
        Self { hasher, nodes, by_edge: Index::new(), walk: Walk::default() }
    }

    /// Nodes in use; 1 when it holds no filter.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds `filter`, whose text is `text`. Returns the node to name in [`Self::remove`].
    pub(super) fn insert(&mut self, text: &str, filter: u32) -> u32 {
        let mut at = ROOT;
        for level in text.split('/') {
            if level == "#" {
                let node = self.nodes.get_mut(at);
                assert!(node.filter_multi == NONE);
                node.filter_multi = filter;
                return at;
            }
            at = self.child_or_new(at, level);
        }
        let node = self.nodes.get_mut(at);
        assert!(node.filter == NONE);
        node.filter = filter;
        at
    }

    /// Removes a filter from its node, and the nodes that then lead to none.
    pub(super) fn remove(&mut self, at: u32, filter: u32) {
        let node = self.nodes.get_mut(at);
        if node.filter == filter {
            node.filter = NONE;
        } else {
            assert!(node.filter_multi == filter);
            node.filter_multi = NONE;
        }
        self.prune(at);
    }

    /// Appends every filter that matches `topic` to `matched`.
    ///
    /// Bounded by the nodes; as deep as the deepest filter.
    pub(super) fn matches(&mut self, topic: &str, matched: &mut Vec<u32>) {
        if self.nodes.len() == 1 && self.nodes.get(ROOT).filter_multi == NONE {
            return;
        }
        // [MQTT-4.7.2-1]
        let wild_at_root = !topic.starts_with('$');
        let mut walk = mem::take(&mut self.walk);
        walk.levels.clear();
        walk.stack.push((ROOT, 0));
        while let Some((index, depth)) = walk.stack.pop() {
            let node = self.nodes.get(index);
            let wild = index != ROOT || wild_at_root;
            if wild && node.filter_multi != NONE {
                matched.push(node.filter_multi);
            }
            let Some(level) = walk.level(depth, topic, &self.hasher) else {
                if node.filter != NONE {
                    matched.push(node.filter);
                }
                continue;
            };
            if wild && node.single != NONE {
                walk.stack.push((node.single, depth + 1));
            }
            if node.literal_count > 0
                && let Some(child) = self.child(index, &topic[level.start..level.end], level.hash)
            {
                walk.stack.push((child, depth + 1));
            }
        }
        self.walk = walk;
    }

    fn child(&self, parent: u32, level: &str, hash: u64) -> Option<u32> {
        self.by_edge.find(edge_hash(parent, hash), |node| {
            let node = self.nodes.get(node);
            node.parent == parent && *node.level == *level
        })
    }

    fn child_or_new(&mut self, parent: u32, level: &str) -> u32 {
        let single = level == "+";
        if single && self.nodes.get(parent).single != NONE {
            return self.nodes.get(parent).single;
        }
        let hash = self.hasher.bytes(level.as_bytes());
        if !single && let Some(child) = self.child(parent, level, hash) {
            return child;
        }
        let child = self.nodes.insert(Node::new(parent, level));
        if single {
            self.nodes.get_mut(parent).single = child;
            return child;
        }
        self.nodes.get_mut(parent).literal_count += 1;
        let (nodes, hasher) = (&self.nodes, self.hasher);
        self.by_edge.insert(edge_hash(parent, hash), child, |other| {
            let other = nodes.get(other);
            edge_hash(other.parent, hasher.bytes(other.level.as_bytes()))
        });
        // Every node but the root is an edge or the child for `+` of its parent.
        assert!(self.by_edge.len() < self.nodes.len());
        child
    }

    /// Frees a node that leads to no filter, and the parents that then lead to none.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes.get(at).leads_nowhere() {
            let Node { parent, level, .. } = self.nodes.remove(at);
            let above = self.nodes.get_mut(parent);
            if above.single == at {
                above.single = NONE;
            } else {
                assert!(above.literal_count > 0);
                above.literal_count -= 1;
                let hash = self.hasher.bytes(level.as_bytes());
                self.by_edge.remove(edge_hash(parent, hash), at);
            }
            at = parent;
        }
        assert!(self.nodes.len() > 1 || self.by_edge.len() == 0);
    }
}

/// The hash of an edge, from the keyed hash of its level: a level is hashed once for all nodes that a topic passes. Without the key,
/// nobody can construct parents for which one level collides.
fn edge_hash(parent: u32, level_hash: u64) -> u64 {
    const FACTORS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
    let mixed = level_hash ^ u64::from(parent).wrapping_mul(FACTORS[0]);
    let product = u128::from(mixed) * u128::from(FACTORS[1]);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (high, low) = ((product >> 64) as u64, product as u64);
    high ^ low
}
