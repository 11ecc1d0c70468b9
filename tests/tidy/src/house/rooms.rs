//! The rooms of the engine and the order in which they may know one another.

use std::collections::BTreeSet;

use super::arrows::Arrow;
use super::parsed::File;

/// From the ground up: a room may use what stands on a lower line. Rooms of one line do not know one another, but those of
/// the first line do, where the plain types are. A name is a folder of `shards/engine/src`, or a file there.
const ORDER: &[&[&str]] = &[
    &[
        "base",
        "action",
        "cause",
        "notice",
        "turn",
        "timer",
        "limits",
        "counters",
        "drop_watch",
        "log_room",
        "rules_in_force",
        "memory",
        "record",
    ],
    &["topic"],
    &["message"],
    &["session"],
    &["connection"],
    &["publish"],
    &["retained", "shared"],
    &["mesh"],
    // These see every room.
    &["engine", "event", "lib"],
];

/// Arrows from a room to one that stands above it or beside it.
pub(crate) fn arrows_back(files: &[File], arrows: &BTreeSet<Arrow>) -> Vec<Arrow> {
    let runs_back = |(from, to): &&Arrow| {
        let (source, target) = (room(&files[*from]), room(&files[*to]));
        let (Some(source_line), Some(target_line)) = (line(source), line(target)) else { return false };
        let is_free = source == target || source_line == 0 || source_line + 1 == ORDER.len();
        target_line > source_line || target_line == source_line && !is_free
    };
    arrows.iter().filter(runs_back).copied().collect()
}

/// Files that belong to no room.
pub(crate) fn homeless(files: &[File]) -> Vec<&str> {
    files.iter().filter(|file| line(room(file)).is_none()).map(|file| &*file.path).collect()
}

fn room(file: &File) -> &str {
    file.module.first().map_or("lib", |name| name)
}

fn line(room: &str) -> Option<usize> {
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::arrows::arrows;

    #[test]
    fn arrows_that_run_back_or_sideways_are_found() {
        let files: Vec<File> = [
            ("src/base/slab.rs", "use crate::turn::Turn; pub(crate) struct Slab;"),
            ("src/engine.rs", "use crate::event::Event; use crate::mesh::Mesh; pub struct Engine;"),
            ("src/event.rs", "use crate::engine::Engine; pub struct Event;"),
            ("src/turn.rs", "use crate::base::slab::Slab; pub struct Turn;"),
            ("src/lib.rs", ""),
            ("src/base/mod.rs", ""),
            ("src/retained/mod.rs", ""),
            ("src/mesh/mod.rs", "use crate::retained::store::Store; pub(crate) struct Mesh;"),
            ("src/retained/store.rs", "use crate::shared::Shared; pub(crate) struct Store;"),
            ("src/shared.rs", "use crate::engine::Engine; pub(crate) struct Shared;"),
            ("src/tree.rs", "use crate::engine::Engine;"),
        ]
        .iter()
        .map(|(path, text)| File::parse("src", path, text))
        .collect();
        let back: Vec<_> = arrows_back(&files, &arrows(&files))
            .iter()
            .map(|(from, to)| (&*files[*from].path, &*files[*to].path))
            .collect();
        assert_eq!(back, [("src/retained/store.rs", "src/shared.rs"), ("src/shared.rs", "src/engine.rs")]);
        assert_eq!(homeless(&files), ["src/tree.rs"]);
    }
}
