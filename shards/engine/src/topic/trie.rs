//! The trie of filters with wildcards, path-compressed: a node stands where filters part or end, and its label is a run of levels.
//!
//! Invariants worth naming:
//! - Each node but the root ends a filter or has two children at least. So a filter adds at most two nodes, however many levels it has.
//! - Labels begin and end at the borders of levels. No two children of a node begin with the same level.
//! - A node that ends a filter has its label in that filter's text; others, where filters part, have a copy. So the copies are no
//!   longer than the texts of all filters.
//! - The edges of all nodes are one table, so a node costs a few words, however many children it has.
//! - The **cost** of a node is the most that any topic can make a walk visit from there on: its own weight, the cost of its child for
//!   `+`, and the highest cost among its other children, since a topic has one level there. The weight grows with the label, because
//!   it is compared. The cost of the root bounds every walk.

use core::mem;

use compact_str::CompactString;

use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::index::Index;
use crate::base::pool::{NONE, Pool};

use super::filters::Filters;
use super::literals::Literals;

use walk::Walk;

mod check;
mod walk;

const ROOT: u32 = 0;
/// Bytes of a label that are as much work to compare as a visit without any.
const LABEL_BYTES_PER_VISIT: u32 = 32;

#[derive(Debug)]
struct Node {
    parent: u32,
    /// The child whose label begins with `+`.
    single: u32,
    /// Children whose labels begin with a level without wildcards, found through the edges.
    literals: Literals,
    /// The filter that ends here.
    filter: u32,
    /// The filter that ends here but for a last level `#`.
    filter_multi: u32,
    cost: u32,
    /// Bytes and levels from the start of a filter to the end of the label: the same for all filters that pass.
    end: u16,
    depth: u16,
    /// The label, if no filter ends here.
    copy: CompactString,
}

impl Node {
    /// A node without children, where no filter ends yet; its cost is the caller's to compute.
    fn new(parent: u32, end: u16, depth: u16, copy: CompactString) -> Self {
        let literals = Literals::default();
        Self { parent, single: NONE, literals, filter: NONE, filter_multi: NONE, cost: 0, end, depth, copy }
    }

    /// A filter that ends here, whose text has the label.
    fn anchor(&self) -> Option<u32> {
        let anchor = if self.filter == NONE { self.filter_multi } else { self.filter };
        (anchor != NONE).then_some(anchor)
    }

    fn child_count(&self) -> u32 {
        self.literals.count() + u32::from(self.single != NONE)
    }
}

/// **Lives on:** every shard, inside its tree.
#[derive(Debug)]
pub(super) struct Trie {
    hasher: Keyed,
    nodes: Pool<Node>,
    by_edge: Index,
    /// Heap bytes of copied labels and of lists of costs.
    heap_bytes: u64,
    walk: Walk,
}

impl Trie {
    pub(super) fn new(hasher: Keyed) -> Self {
        let mut nodes = Pool::new();
        let root = nodes.insert(Node { cost: 1, ..Node::new(NONE, 0, 0, CompactString::const_new("")) });
        assert!(root == ROOT);
        Self { hasher, nodes, by_edge: Index::new(), heap_bytes: 0, walk: Walk::default() }
    }

    /// Nodes in use; 1 when it holds no filter.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The most that any topic can make a walk visit, in the unit of [`Self::matches`].
    pub(super) fn cost(&self) -> u32 {
        self.nodes.get(ROOT).cost
    }

    /// The most that one more filter can add to the cost: a node for its end, one where it parts, and its own bytes.
    pub(super) fn cost_added_max(text: &str) -> u32 {
        weight(text.len()).saturating_add(1)
    }

    pub(super) fn bytes_held(&self) -> u64 {
        self.nodes.bytes_held() + self.by_edge.bytes_held() + self.heap_bytes + self.walk.bytes_held()
    }

    /// Adds a filter with wildcards. Returns the node to name in [`Self::remove`].
    pub(super) fn insert(&mut self, filters: &Filters, filter: u32) -> u32 {
        let (path, is_multi) = path_of(filters.text(filter));
        let at = match path {
            None => ROOT,
            Some(path) => self.node_of(filters, filter, path),
        };
        let node = self.nodes.get_mut(at);
        let end = if is_multi { &mut node.filter_multi } else { &mut node.filter };
        assert!(*end == NONE || *end == filter);
        *end = filter;
        // The filter's text has the label now.
        self.heap_bytes -= heap::text(&node.copy);
        node.copy = CompactString::const_new("");
        at
    }

    /// Removes a filter from its node, and the nodes that then neither end a filter nor part two. The filter still has its text.
    pub(super) fn remove(&mut self, filters: &Filters, at: u32, filter: u32) {
        let label = CompactString::from(self.label(filters, at));
        let node = self.nodes.get_mut(at);
        if node.filter == filter {
            node.filter = NONE;
        } else {
            assert!(node.filter_multi == filter);
            node.filter_multi = NONE;
        }
        if at == ROOT || node.anchor().is_some() {
            return;
        }
        let (parent, child_count) = (node.parent, node.child_count());
        self.heap_bytes += heap::text(&label);
        node.copy = label;
        match child_count {
            0 => {
                self.detach(filters, parent, at);
                self.heap_bytes -= heap::text(&self.nodes.remove(at).copy);
                self.update_costs(parent);
                let above = self.nodes.get(parent);
                if parent != ROOT && above.anchor().is_none() && above.child_count() == 1 {
                    self.merge(filters, parent);
                }
            }
            1 => self.merge(filters, at),
            _ => {}
        }
        assert!(self.nodes.len() > 1 || (self.by_edge.len() == 0 && self.heap_bytes == 0));
    }

    /// The node at the end of a path, made if it is missing. A node that is made ends `filter`.
    fn node_of(&mut self, filters: &Filters, filter: u32, path: &str) -> u32 {
        let (mut at, mut start) = (ROOT, 0);
        loop {
            let rest = &path[start..];
            let level = first_level(rest);
            let child = if level == "+" {
                self.nodes.get(at).single
            } else {
                let level = level.as_bytes();
                self.child(filters, (at, start), level, self.hasher.bytes(level)).unwrap_or(NONE)
            };
            if child == NONE {
                return self.add_leaf(filters, at, filter, path);
            }
            let label = self.label(filters, child);
            let common = common_bytes(label, rest);
            at = if common < label.len() { self.split(filters, child, common) } else { child };
            if common == rest.len() {
                return at;
            }
            start += common + 1;
        }
    }

    fn add_leaf(&mut self, filters: &Filters, parent: u32, filter: u32, path: &str) -> u32 {
        let leaf = self.nodes.insert(Node::new(
            parent,
            short(path.len()),
            short(path.split('/').count()),
            CompactString::const_new(""),
        ));
        // Its text has the label from now on; the caller sets the same end again.
        let node = self.nodes.get_mut(leaf);
        let is_multi = filters.text(filter).len() > path.len();
        *(if is_multi { &mut node.filter_multi } else { &mut node.filter }) = filter;
        self.nodes.get_mut(leaf).cost = self.cost_of(leaf);
        self.attach(filters, parent, leaf);
        self.update_costs(parent);
        leaf
    }

    /// Puts a node in the middle of a label, after its first `common` bytes.
    fn split(&mut self, filters: &Filters, child: u32, common: usize) -> u32 {
        let label = CompactString::from(self.label(filters, child));
        let parent = self.nodes.get(child).parent;
        assert!(label.as_bytes()[common] == b'/');
        let start = self.label_start(child);
        let depth = usize::from(self.nodes.get(parent).depth) + label[..common].split('/').count();
        self.detach(filters, parent, child);
        let copy = CompactString::from(&label[..common]);
        self.heap_bytes += heap::text(&copy);
        let middle = self.nodes.insert(Node::new(parent, short(start + common), short(depth), copy));
        self.move_below(filters, middle, child, &label[common + 1..]);
        self.nodes.get_mut(middle).cost = self.cost_of(middle);
        self.attach(filters, parent, middle);
        self.update_costs(parent);
        middle
    }

    /// Replaces a node that ends no filter by its only child, whose label becomes longer by the node's.
    fn merge(&mut self, filters: &Filters, at: u32) {
        let node = self.nodes.get(at);
        assert!(at != ROOT && node.anchor().is_none());
        let (parent, single) = (node.parent, node.single);
        let child = node.literals.only().unwrap_or(single);
        let label = CompactString::from(self.label(filters, child));
        self.detach(filters, at, child);
        self.detach(filters, parent, at);
        let removed = self.nodes.remove(at);
        assert!(removed.child_count() == 0);
        self.heap_bytes -= heap::text(&removed.copy);
        let mut joined = CompactString::with_capacity(removed.copy.len() + 1 + label.len());
        joined.push_str(&removed.copy);
        joined.push('/');
        joined.push_str(&label);
        self.move_below(filters, parent, child, &joined);
        self.update_costs(parent);
    }

    /// Makes a node that has no parent the child of `parent`, with this label.
    fn move_below(&mut self, filters: &Filters, parent: u32, child: u32, label: &str) {
        let node = self.nodes.get_mut(child);
        node.parent = parent;
        if node.anchor().is_none() {
            self.heap_bytes -= heap::text(&node.copy);
            node.copy = CompactString::from(label);
            self.heap_bytes += heap::text(&node.copy);
        }
        assert!(self.label(filters, child) == label);
        self.nodes.get_mut(child).cost = self.cost_of(child);
        self.attach(filters, parent, child);
    }

    /// Names a node in its parent, whose cost the caller updates.
    fn attach(&mut self, filters: &Filters, parent: u32, child: u32) {
        let level = first_level(self.label(filters, child));
        let (is_single, hash) = (level == "+", self.hasher.bytes(level.as_bytes()));
        let cost = self.nodes.get(child).cost;
        let node = self.nodes.get_mut(parent);
        if is_single {
            assert!(node.single == NONE);
            node.single = child;
            self.by_edge.cover(child);
            return;
        }
        let held_bytes = node.literals.heap_bytes();
        node.literals.add(child, cost);
        self.heap_bytes = self.heap_bytes + node.literals.heap_bytes() - held_bytes;
        self.by_edge.insert(edge_hash(parent, hash), child);
        // Every node but the root is an edge or the child for `+` of its parent.
        assert!(self.by_edge.len() < self.nodes.len());
    }

    /// Undoes [`Self::attach`].
    fn detach(&mut self, filters: &Filters, parent: u32, child: u32) {
        let level = first_level(self.label(filters, child));
        let hash = self.hasher.bytes(level.as_bytes());
        let cost = self.nodes.get(child).cost;
        let node = self.nodes.get_mut(parent);
        if node.single == child {
            node.single = NONE;
            return;
        }
        let held_bytes = node.literals.heap_bytes();
        node.literals.remove(child, cost);
        self.heap_bytes = self.heap_bytes + node.literals.heap_bytes() - held_bytes;
        self.by_edge.remove(edge_hash(parent, hash), child);
    }

    /// Recomputes the cost of a node whose children have changed, and of those above it as far as theirs changes too.
    fn update_costs(&mut self, mut at: u32) {
        loop {
            let cost = self.cost_of(at);
            let node = self.nodes.get_mut(at);
            let old_cost = mem::replace(&mut node.cost, cost);
            let parent = node.parent;
            if old_cost == cost || parent == NONE {
                return;
            }
            let above = self.nodes.get_mut(parent);
            if above.single != at {
                let held_bytes = above.literals.heap_bytes();
                above.literals.change(old_cost, cost);
                self.heap_bytes = self.heap_bytes + above.literals.heap_bytes() - held_bytes;
            }
            at = parent;
        }
    }

    fn cost_of(&self, at: u32) -> u32 {
        let node = self.nodes.get(at);
        let own = weight(usize::from(node.end) - self.label_start(at));
        let single = if node.single == NONE { 0 } else { self.nodes.get(node.single).cost };
        own.saturating_add(single).saturating_add(node.literals.cost_max())
    }

    /// Where the label of a node begins in the texts of its filters.
    fn label_start(&self, at: u32) -> usize {
        match self.nodes.get(at).parent {
            NONE => 0,
            parent => child_start(parent, self.nodes.get(parent)),
        }
    }

    fn label<'a>(&'a self, filters: &'a Filters, at: u32) -> &'a str {
        let node = self.nodes.get(at);
        match node.anchor() {
            Some(filter) if at != ROOT => &filters.text(filter)[self.label_start(at)..usize::from(node.end)],
            Some(_) | None => &node.copy,
        }
    }

    /// The child whose label begins with a level without wildcards. `parent` comes with the place where the
    /// labels of its children begin.
    #[inline]
    fn child(&self, filters: &Filters, parent: (u32, usize), level: &[u8], hash: u64) -> Option<u32> {
        let (parent, start) = parent;
        self.by_edge.find(edge_hash(parent, hash), |child| {
            let child = self.nodes.get(child);
            child.parent == parent && {
                let label = label_from(filters, child, start);
                label.starts_with(level) && label.get(level.len()).is_none_or(|&byte| byte == b'/')
            }
        })
    }
}

/// Where the labels of a node's children begin in the texts of its filters.
fn child_start(at: u32, node: &Node) -> usize {
    if at == ROOT { 0 } else { usize::from(node.end) + 1 }
}

/// The label of a node that is not the root, by the place where it begins in the texts of its filters.
fn label_from<'a>(filters: &'a Filters, node: &'a Node, start: usize) -> &'a [u8] {
    match node.anchor() {
        Some(filter) => &filters.text(filter).as_bytes()[start..usize::from(node.end)],
        None => node.copy.as_bytes(),
    }
}

/// The work of a visit to a node with a label of so many bytes.
fn weight(label_bytes: usize) -> u32 {
    1 + u32::from(short(label_bytes)) / LABEL_BYTES_PER_VISIT
}

/// The levels of a filter before a last `#`, and whether there is one; `None` if there are no others.
fn path_of(text: &str) -> (Option<&str>, bool) {
    if text == "#" {
        return (None, true);
    }
    match text.strip_suffix("/#") {
        Some(path) => (Some(path), true),
        None => (Some(text), false),
    }
}

fn first_level(text: &str) -> &str {
    text.find('/').map_or(text, |end| &text[..end])
}

/// Bytes of the levels with which both texts begin, without the separator after them. Their first levels are equal.
fn common_bytes(first: &str, second: &str) -> usize {
    let (first, second) = (first.as_bytes(), second.as_bytes());
    let equal = first.iter().zip(second).take_while(|(one, other)| one == other).count();
    let ends = |text: &[u8]| text.get(equal).is_none_or(|&byte| byte == b'/');
    if ends(first) && ends(second) {
        return equal;
    }
    let border = first[..equal].iter().rposition(|&byte| byte == b'/');
    assert!(border.is_some(), "the first levels are equal");
    border.unwrap_or(0)
}

/// A number of bytes or levels of a filter, which are at most 65,535 [MQTT-4.7.3-3].
#[inline]
fn short(number: usize) -> u16 {
    let short = u16::try_from(number);
    assert!(short.is_ok());
    short.unwrap_or(u16::MAX)
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
