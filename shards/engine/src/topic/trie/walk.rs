//! The walk of one topic through the trie.
//!
//! Invariants worth naming:
//! - A level of the topic is found once and hashed at most once, though many nodes of a walk need it.
//! - A node is visited at most once, and a visit compares its label once. So the cost of the root bounds the walk.

use alloc::vec::Vec;
use core::mem;

use crate::base::heap;
use crate::base::pool::NONE;

use super::super::filters::Filters;
use super::{ROOT, Trie, child_start, label_from, weight};

/// Kept between walks for its allocations.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Levels of the topic found so far, from the left.
    levels: Vec<Level>,
    /// Nodes whose labels the topic has, to go on from.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    start: usize,
    end: usize,
    /// 0 until it is needed.
    hash: u64,
}

/// A node to visit.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: u32,
    /// Where its label begins in the texts of its filters.
    start: usize,
    /// Bytes of the label that are known to be those of the topic: its first level.
    equal_bytes: usize,
}

impl Walk {
    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(self.levels.capacity() * size_of::<Level>())
            + heap::block(self.places.capacity() * size_of::<Place>())
    }

    /// The level at `depth`: "a/" has an empty last level, "a" has not.
    #[inline]
    fn level(&mut self, depth: usize, topic: &str) -> Option<&mut Level> {
        while self.levels.len() <= depth {
            let start = self.levels.last().map_or(0, |last| last.end + 1);
            let rest = topic.as_bytes().get(start..)?;
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            self.levels.push(Level { start, end: start + length, hash: 0 });
        }
        self.levels.get_mut(depth)
    }

    /// Whether the levels of the topic from `depth` on begin with a label, which may have levels `+`. The first one exists.
    fn has_label(&mut self, label: &[u8], topic: &str, depth: usize) -> bool {
        let bytes = topic.as_bytes();
        let (mut rest, mut depth) = (label, depth);
        while let Some(level) = self.level(depth, topic) {
            let at = level.start;
            // No topic has a `+`, so the rest has none either if it is equal.
            if bytes[at..].starts_with(rest) && ends_level(bytes, at + rest.len()) {
                return true;
            }
            let Some(single) = rest.iter().position(|&byte| byte == b'+') else { return false };
            let (literal, after) = (&rest[..single], &rest[single + 1..]);
            if !bytes[at..].starts_with(literal) {
                return false;
            }
            // Each separator before the `+` ends a level that is equal.
            depth += literal.split(|&byte| byte == b'/').count() - 1;
            // The label ends with the `+`, if the topic has a level for it, or goes on after a separator.
            let Some((_, after)) = after.split_first() else { return self.level(depth, topic).is_some() };
            (rest, depth) = (after, depth + 1);
        }
        false
    }
}

/// Whether a level of the topic ends before `at`.
fn ends_level(topic: &[u8], at: usize) -> bool {
    topic.get(at).is_none_or(|&byte| byte == b'/')
}

impl Trie {
    /// Appends every filter that matches `topic` to `matched`. Returns the nodes visited; long labels count as several. It is at most
    /// [`Self::cost`].
    pub(in super::super) fn matches(
        &mut self,
        filters: &Filters,
        topic: &str,
        matched: &mut Vec<u32>,
    ) -> u32 {
        if self.nodes.len() == 1 && self.nodes.get(ROOT).filter_multi == NONE {
            return 0;
        }
        // [MQTT-4.7.2-1]
        let wild_at_root = !topic.starts_with('$');
        let mut walk = mem::take(&mut self.walk);
        walk.levels.clear();
        walk.places.push(Place { node: ROOT, start: 0, equal_bytes: 0 });
        let mut visited_count = 0;
        while let Some(place) = walk.places.pop() {
            let node = self.nodes.get(place.node);
            let label_bytes = usize::from(node.end) - place.start;
            visited_count += weight(label_bytes);
            // Of a label of one level, nothing is left to compare.
            if label_bytes != place.equal_bytes {
                let label = label_from(filters, node, place.start);
                let depth = usize::from(self.nodes.get(node.parent).depth);
                if !walk.has_label(label, topic, depth) {
                    continue;
                }
            }
            let wild = place.node != ROOT || wild_at_root;
            if wild && node.filter_multi != NONE {
                matched.push(node.filter_multi);
            }
            let start = child_start(place.node, node);
            let Some(level) = walk.level(usize::from(node.depth), topic) else {
                if node.filter != NONE {
                    matched.push(node.filter);
                }
                continue;
            };
            let text = &topic.as_bytes()[level.start..level.end];
            let mut literal = None;
            if !node.literals.is_empty() {
                if level.hash == 0 {
                    level.hash = self.hasher.bytes(text);
                }
                literal = self.child(filters, (place.node, start), text, level.hash);
            }
            if wild && node.single != NONE {
                walk.places.push(Place { node: node.single, start, equal_bytes: 1 });
            }
            if let Some(child) = literal {
                walk.places.push(Place { node: child, start, equal_bytes: text.len() });
            }
        }
        self.walk = walk;
        visited_count
    }
}
