//! The walk of one topic through the trie.
//!
//! Invariants worth naming:
//! - A level of the topic is found once and hashed at most once, though many nodes of a walk need it.
//! - A node is visited at most once, and a visit compares its label once. So the cost of the root bounds the walk.

use alloc::vec::Vec;
use core::mem;

use crate::base::hash::Keyed;
use crate::base::heap;

use super::super::filters::Filters;
use super::super::pool::NONE;
use super::{ROOT, Trie, weight};

/// Kept between walks for its allocations.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Levels of the topic found so far, from the left.
    levels: Vec<Level>,
    /// Nodes whose label the topic has, to go on from.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    start: usize,
    end: usize,
    hash: Option<u64>,
}

/// A node, and where the levels after its label begin in the topic: one past its end if there are none.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: u32,
    next: usize,
}

impl Walk {
    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(self.levels.capacity() * size_of::<Level>())
            + heap::block(self.places.capacity() * size_of::<Place>())
    }

    /// The level at `depth`: "a/" has an empty last level, "a" has not.
    fn level(&mut self, depth: usize, topic: &str) -> Option<&mut Level> {
        while self.levels.len() <= depth {
            let start = self.levels.last().map_or(0, |last| last.end + 1);
            let rest = topic.as_bytes().get(start..)?;
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            self.levels.push(Level { start, end: start + length, hash: None });
        }
        self.levels.get_mut(depth)
    }

    /// Compares a label with the levels of the topic from `next` on, of which the first is at `depth`. Returns where the levels after
    /// it begin, if the topic has the label.
    fn pass(&mut self, label: &str, topic: &str, next: usize, depth: usize) -> Option<usize> {
        let bytes = topic.as_bytes();
        let (mut rest, mut at, mut depth) = (label, next, depth);
        loop {
            let (literal, after) = match rest.find('+') {
                None => (rest, None),
                Some(single) => (&rest[..single], Some(&rest[single + 1..])),
            };
            if !bytes.get(at..)?.starts_with(literal.as_bytes()) {
                return None;
            }
            at += literal.len();
            if let Some(after) = after {
                depth += literal.bytes().filter(|&byte| byte == b'/').count();
                let level = self.level(depth, topic)?;
                assert!(level.start == at);
                at = level.end;
                rest = after;
            }
            // A label ends where a level does, and so does `+`.
            if bytes.get(at).is_some_and(|&byte| byte != b'/') {
                return None;
            }
            if after.is_none_or(str::is_empty) {
                return Some(at + 1);
            }
            if at == bytes.len() {
                return None;
            }
            (rest, at, depth) = (&rest[1..], at + 1, depth + 1);
        }
    }
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
        walk.places.push(Place { node: ROOT, next: 0 });
        let mut visited_count = 1;
        while let Some(Place { node: index, next }) = walk.places.pop() {
            let node = self.nodes.get(index);
            let wild = index != ROOT || wild_at_root;
            if wild && node.filter_multi != NONE {
                matched.push(node.filter_multi);
            }
            if next > topic.len() {
                if node.filter != NONE {
                    matched.push(node.filter);
                }
                continue;
            }
            let depth = usize::from(node.depth);
            let single = if wild { node.single } else { NONE };
            let literal = if node.literals.is_empty() {
                NONE
            } else {
                self.literal_child(filters, &mut walk, index, topic, depth)
            };
            for child in [single, literal] {
                if child == NONE {
                    continue;
                }
                let label = self.label(filters, child);
                visited_count += weight(label.len());
                if let Some(next) = walk.pass(label, topic, next, depth) {
                    walk.places.push(Place { node: child, next });
                }
            }
        }
        self.walk = walk;
        visited_count
    }

    /// The child for the level of the topic at `depth`; `NONE` if there is none.
    fn literal_child(
        &self,
        filters: &Filters,
        walk: &mut Walk,
        parent: u32,
        topic: &str,
        depth: usize,
    ) -> u32 {
        let hasher: &Keyed = &self.hasher;
        let Some(level) = walk.level(depth, topic) else { return NONE };
        let text = &topic[level.start..level.end];
        let hash = *level.hash.get_or_insert_with(|| hasher.bytes(text.as_bytes()));
        self.child(filters, parent, text, hash).unwrap_or(NONE)
    }
}
