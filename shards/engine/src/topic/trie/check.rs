//! Recomputes what the trie keeps beside its labels, for an audit.

use alloc::collections::BTreeMap;

use crate::base::heap;
use crate::base::pool::NONE;

use super::super::filters::Filters;
use super::super::literals::Literals;
use super::{ROOT, Trie, first_level, path_of, weight};

impl Trie {
    /// # Panics
    /// If a node is superfluous, or a link, a cost or a count is wrong.
    pub(in super::super) fn check(&self, filters: &Filters) {
        self.nodes.check();
        self.by_edge.check();
        let (mut heap_bytes, mut edge_count, mut child_count, mut end_count) = (0, 0, 0, 0);
        let mut literals: BTreeMap<u32, Literals> = BTreeMap::new();
        for (index, node) in self.nodes.iter() {
            heap_bytes += heap::text(&node.copy) + node.literals.heap_bytes();
            edge_count += node.literals.count() as usize;
            child_count += node.child_count() as usize;
            assert!(node.cost == self.cost_of(index));
            let ends = [(node.filter, false), (node.filter_multi, true)];
            for (filter, is_multi) in ends.into_iter().filter(|&(filter, _)| filter != NONE) {
                assert!(filters.get(filter).node() == Some(index));
                let (path, ends_in_multi) = path_of(filters.text(filter));
                assert!(is_multi == ends_in_multi && (path.is_none() == (index == ROOT)));
                assert!(path.is_none_or(|path| path.len() == usize::from(node.end)));
                end_count += 1;
            }
            if index != ROOT {
                self.check_link(filters, index);
            }
            if index != ROOT && self.nodes.get(node.parent).single != index {
                literals.entry(node.parent).or_default().add(index, node.cost);
            }
        }
        for (index, node) in self.nodes.iter() {
            assert!(node.literals == literals.remove(&index).unwrap_or_default());
        }
        assert!(literals.is_empty());
        assert!(heap_bytes == self.heap_bytes);
        assert!(edge_count == self.by_edge.len());
        // With one parent each, and none its own ancestor since labels have a place, the nodes are a tree.
        assert!(child_count + 1 == self.nodes.len());
        assert!(end_count == filters.iter().filter(|(_, filter)| filter.node().is_some()).count());
        assert!(self.nodes.len() <= 2 * end_count + 1);
    }

    /// A node and its parent name each other, and it is there for a reason.
    fn check_link(&self, filters: &Filters, index: u32) {
        let node = self.nodes.get(index);
        let parent = self.nodes.get(node.parent);
        assert!(node.anchor().is_some() || node.child_count() >= 2);
        assert!(node.anchor().is_none() || node.copy.is_empty());
        let label = self.label(filters, index);
        assert!(label.len() == usize::from(node.end) - self.label_start(index));
        assert!(weight(label.len()) <= node.cost);
        assert!(usize::from(node.depth) == usize::from(parent.depth) + label.split('/').count());
        let level = first_level(label);
        if level == "+" {
            assert!(parent.single == index);
        } else {
            assert!(parent.single != index);
            let hash = self.hasher.bytes(level.as_bytes());
            assert!(
                self.child(filters, (node.parent, self.label_start(index)), level.as_bytes(), hash)
                    == Some(index)
            );
        }
        // The labels from the root to here are the start of a filter that ends here or below.
        if let Some(filter) = node.anchor() {
            let mut at = index;
            let mut end = usize::from(node.end);
            while at != ROOT {
                let (label, start) = (self.label(filters, at), self.label_start(at));
                assert!(filters.text(filter)[start..end] == *label);
                (at, end) = (self.nodes.get(at).parent, start.saturating_sub(1));
            }
        }
    }
}
