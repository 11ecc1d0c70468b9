//! Rules for sources and manifests: headers of modules, statement ids that exist, arrows between crates that hold.

use std::collections::BTreeSet;
use std::fs;

use crate::sources::{read, root, sources};

#[test]
fn every_module_says_what_it_is_for() {
    let missing: Vec<String> = sources(&["src", "shards", "tests", "bench"], "rs")
        .into_iter()
        .filter(|source| !has_header(&source.text))
        .map(|source| source.path)
        .collect();
    assert!(missing.is_empty(), "these files do not begin with `//!`:\n{}", missing.join("\n"));
}

#[test]
fn the_header_check_sees_a_missing_header() {
    assert!(has_header("//! What it is for.\n\nuse x;\n"));
    assert!(!has_header("use x;\n//! Too late.\n"));
    assert!(!has_header("//!\n"), "an empty header says nothing");
    assert!(!has_header("/// Not a header.\n"));
}

#[test]
fn shards_never_reach_for_std() {
    for name in ["wire", "rules", "engine", "journal", "ring", "websocket"] {
        let folder = format!("shards/{name}/src");
        if !root().join(&folder).is_dir() {
            continue;
        }
        let files = sources(&[&folder], "rs");
        let top =
            files.iter().find(|source| source.path.ends_with("src/lib.rs")).expect("a crate has a root");
        assert!(top.text.contains("#![no_std]"), "{}: a clock or a socket must be a compile error", top.path);
        assert!(top.text.contains("#![forbid(unsafe_code)]"), "{}: a shard's crate needs none", top.path);
        for source in &files {
            for undoes in ["extern crate std", "use std::", "cfg_attr(not(test), no_std)"] {
                let reaches = code_lines(&source.text).find(|line| line.contains(undoes));
                assert_eq!(reaches, None, "{}: `{undoes}` undoes no_std", source.path);
            }
        }
    }
}

/// The tenth invariant of security: messages take no lock and no channel, only lanes. Requests of the control plane come through a
/// channel, and the backend of threads has a queue of its own.
#[test]
fn no_lock_or_channel_is_on_the_way_of_a_message() {
    let mut channels = Vec::new();
    for source in sources(&["src/backend"], "rs") {
        if source.path.starts_with("src/backend/blocking") {
            continue;
        }
        for line in code_lines(&source.text) {
            for lock in ["Mutex", "RwLock", ".lock()", "mpsc"] {
                assert!(!line.contains(lock), "{}: {line}", source.path);
            }
            if line.contains("crossbeam") {
                channels.push(source.path.clone());
            }
        }
    }
    channels.sort();
    assert_eq!(channels, ["src/backend/host/mod.rs", "src/backend/mod.rs", "src/backend/tasks/mod.rs"]);
}

#[test]
fn cited_statements_exist() {
    let known: BTreeSet<String> = ["3.1.1", "5.0"]
        .iter()
        .flat_map(|version| {
            let text = read(&root().join(format!("tests/spec/mqtt-{version}.toml")));
            let ids = text.lines().filter_map(|line| line.strip_prefix("id = \"")?.strip_suffix('"'));
            ids.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(known.len() > 250, "the tables of statements are there");
    let mut unknown = Vec::new();
    for source in sources(&["src", "shards", "tests"], "rs") {
        for (number, line) in source.text.lines().enumerate() {
            for id in cited(line) {
                if !known.contains(&id) {
                    unknown.push(format!("{}:{}: {id}", source.path, number + 1));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "these statements are in neither standard:\n{}", unknown.join("\n"));
}

#[test]
fn citations_are_found_as_they_are_written() {
    let line = "x [MQTT-3.3.1-4], and [MQTT-4.7.2-1, MQTT-3.3.2-17] MQTT-5 [MQTT-3.x-*] mqtt_3_1_0_1_x => y";
    let (first, last) = ("MQTT-3.3.1-4".to_owned(), "MQTT-3.3.2-17".to_owned());
    assert_eq!(cited(line), [first, "MQTT-4.7.2-1".to_owned(), last, "MQTT-3.1.0-1".to_owned()]);
}

#[test]
fn crates_depend_only_downwards() {
    let ours = [
        "mqtt-broker",
        "wire",
        "rules",
        "engine",
        "journal",
        "ring",
        "websocket",
        "mqtt-broker-wire",
        "mqtt-broker-engine",
    ];
    let arrows: [(&str, &[&str]); 6] = [
        ("wire", &[]),
        ("rules", &["wire"]),
        ("engine", &["wire", "rules", "journal", "websocket"]),
        ("journal", &[]),
        ("ring", &[]),
        ("websocket", &[]),
    ];
    for (name, allowed) in arrows {
        let manifest = root().join(format!("shards/{name}/Cargo.toml"));
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        for dependency in dependencies(&text) {
            let is_ours = ours.contains(&dependency.as_str());
            assert!(
                !is_ours || allowed.contains(&dependency.as_str()),
                "shards/{name} depends on {dependency}: the arrow points the other way"
            );
        }
    }
    let manifest = read(&root().join("Cargo.toml"));
    assert!(
        !dependencies(&manifest).iter().any(|name| name.contains("bench")),
        "the broker does not depend on `bench`"
    );
}

#[test]
fn dependencies_are_read_from_every_kind_of_table() {
    let manifest = "[package]\nname = \"a\"\n[dependencies]\n# one\nwire = { x = 1 }\nbytes = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nring.workspace = true\n[dev-dependencies]\nproptest = \"1\"\n\
                    [dependencies.journal]\nversion = \"1\"\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["wire", "bytes", "ring", "journal"]);
}

#[test]
fn shards_take_their_crates_without_std() {
    for name in ["rules", "engine", "journal"] {
        let Ok(text) = fs::read_to_string(root().join(format!("shards/{name}/Cargo.toml"))) else {
            continue;
        };
        for line in text
            .lines()
            .filter(|line| ["bytes", "hashbrown", "once_cell"].iter().any(|name| line.starts_with(name)))
        {
            assert!(line.contains("default-features = false"), "shards/{name}: {line}");
        }
    }
}

#[test]
fn every_unsafe_block_says_why() {
    for source in sources(&["src", "shards", "bench"], "rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let line = line.trim_start();
            if !line.starts_with("//") && line.contains("unsafe {") {
                let before = lines[..number].iter().rev().take(6);
                let reasoned = before.chain([&lines[number]]).any(|line| line.contains("SAFETY:"));
                assert!(reasoned, "{}:{}: no SAFETY comment", source.path, number + 1);
            }
        }
    }
}

fn has_header(text: &str) -> bool {
    text.lines().next().and_then(|line| line.strip_prefix("//!")).is_some_and(|rest| !rest.trim().is_empty())
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

/// Statement ids in comments and strings, and those that are part of a test's name.
fn cited(line: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for (at, _) in line.match_indices("MQTT-") {
        let rest = &line[at + 5..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(rest.len());
        let id = rest[..end].trim_end_matches(['.', '-']);
        // `MQTT-5` is a name of the protocol and `MQTT-4.6.0-*` a family.
        if id.contains('-') && !rest[id.len()..].starts_with("-*") {
            ids.push(format!("MQTT-{id}"));
        }
    }
    for (at, _) in line.match_indices("mqtt_") {
        let words: Vec<&str> =
            line[at + 5..].split('_').take_while(|word| word.parse::<u16>().is_ok()).collect();
        if let [section @ .., statement] = &words[..]
            && section.len() == 3
        {
            ids.push(format!("MQTT-{}-{statement}", section.join(".")));
        }
    }
    ids
}

/// Names in a manifest's tables of dependencies, those for tests left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table == "dependencies"
                || table.ends_with(".dependencies") && !table.starts_with("workspace");
            if let Some(name) = table.strip_prefix("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside
            && !line.starts_with('#')
            && let Some(end) = line.find(['=', '.', ' '])
        {
            names.push(line[..end].to_owned());
        }
    }
    names
}
