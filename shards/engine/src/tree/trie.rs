//! Filters with wildcards, by level. The edges of all nodes are one table, so a node costs its text and a
//! few words, however many children it has.
//! Knows filters by number alone.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hashbrown::HashTable;

use super::NONE;
use super::pool::Pool;
use crate::hash::Keyed;

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
    by_edge: HashTable<u32>,
}

impl Trie {
    pub(super) fn new(hasher: Keyed) -> Self {
        let mut nodes = Pool::new();
        let root = nodes.insert(Node::new(NONE, ""));
        assert!(root == ROOT);
        Self { hasher, nodes, by_edge: HashTable::new() }
    }

    /// Nodes in use; 1 when it holds no filter.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Hangs `filter`, whose text is `text`; returns the node that unhangs it.
    pub(super) fn hang(&mut self, text: &str, filter: u32) -> u32 {
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

    /// Takes a filter down from its node, and the nodes that then lead nowhere.
    pub(super) fn unhang(&mut self, at: u32, filter: u32) {
        let node = self.nodes.get_mut(at);
        if node.filter == filter {
            node.filter = NONE;
        } else {
            assert!(node.filter_multi == filter);
            node.filter_multi = NONE;
        }
        self.prune(at);
    }

    /// Appends every filter that matches `topic` to `matched`; `stack` is scratch.
    ///
    /// Bounded by the nodes; as deep as the deepest filter.
    pub(super) fn matches(&self, topic: &str, matched: &mut Vec<u32>, stack: &mut Vec<(u32, usize)>) {
        if self.nodes.len() == 1 && self.nodes.get(ROOT).filter_multi == NONE {
            return;
        }
        // A position past the end says that no level is left: "a/" has an empty last level, "a" has not.
        let end = topic.len() + 1;
        // [MQTT-4.7.2-1]
        let wild_at_root = !topic.starts_with('$');
        stack.push((ROOT, 0));
        while let Some((index, at)) = stack.pop() {
            let node = self.nodes.get(index);
            let wild = index != ROOT || wild_at_root;
            if wild && node.filter_multi != NONE {
                matched.push(node.filter_multi);
            }
            if at == end {
                if node.filter != NONE {
                    matched.push(node.filter);
                }
                continue;
            }
            let rest = &topic[at..];
            let level = rest.split_once('/').map_or(rest, |(level, _)| level);
            let after = at + level.len() + 1;
            if wild && node.single != NONE {
                stack.push((node.single, after));
            }
            if node.literal_count > 0
                && let Some(child) = self.child(index, level)
            {
                stack.push((child, after));
            }
        }
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        self.by_edge
            .find(self.hasher.below(parent, level.as_bytes()), |&node| {
                let node = self.nodes.get(node);
                node.parent == parent && *node.level == *level
            })
            .copied()
    }

    fn child_or_new(&mut self, parent: u32, level: &str) -> u32 {
        let single = level == "+";
        if single && self.nodes.get(parent).single != NONE {
            return self.nodes.get(parent).single;
        }
        if !single && let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.nodes.insert(Node::new(parent, level));
        if single {
            self.nodes.get_mut(parent).single = child;
            return child;
        }
        self.nodes.get_mut(parent).literal_count += 1;
        let (nodes, hasher) = (&self.nodes, self.hasher);
        self.by_edge.insert_unique(self.hasher.below(parent, level.as_bytes()), child, |&other| {
            let other = nodes.get(other);
            hasher.below(other.parent, other.level.as_bytes())
        });
        child
    }

    /// Frees a node that leads nowhere, and its parents that then lead nowhere.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT && self.nodes.get(at).leads_nowhere() {
            let Node { parent, level, .. } = self.nodes.remove(at);
            let above = self.nodes.get_mut(parent);
            if above.single == at {
                above.single = NONE;
            } else {
                above.literal_count -= 1;
                self.by_edge
                    .find_entry(self.hasher.below(parent, level.as_bytes()), |&other| other == at)
                    .expect("every literal node is an edge")
                    .remove();
            }
            at = parent;
        }
    }
}
