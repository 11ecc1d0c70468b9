//! The tables of normative statements in `tests/spec`: each that binds a server is shown by tests or exempt with a reason.
//! Reads tables and sources; runs nothing of them. `cargo test --test spec -- --nocapture` prints the counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Version, its table, its list of conformance cases, and the statements that OASIS numbered.
const STANDARDS: [(&str, &str, &str, usize); 2] = [
    ("3.1.1", "tests/spec/mqtt-3.1.1.toml", "tests/conformance/v3_1_1.rs", 139),
    ("5.0", "tests/spec/mqtt-5.0.toml", "tests/conformance/v5.rs", 251),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    statement: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    binds: Binds,
    text: String,
    #[serde(default)]
    tests: Vec<String>,
    exempt: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Binds {
    Server,
    Client,
    Both,
}

#[test]
fn every_statement_is_in_its_table_once() {
    for (version, path, _, count) in STANDARDS {
        let table = table(path);
        let ids: BTreeSet<&str> = table.iter().map(|statement| statement.id.as_str()).collect();
        assert_eq!((table.len(), ids.len()), (count, count), "statements of {version}");
        for statement in &table {
            assert!(statement.text.len() > 30, "{version} {}: the words of the standard", statement.id);
        }
    }
}

#[test]
fn every_statement_that_binds_a_server_is_tested_or_exempt() {
    let mut open = Vec::new();
    for (version, path, ..) in STANDARDS {
        let (mut tested, mut exempt, mut clients) = (0, 0, 0);
        for Statement { id, binds, tests, exempt: reason, .. } in table(path) {
            let reason = reason.unwrap_or_default();
            match (tests.is_empty(), reason.is_empty()) {
                (false, true) => tested += 1,
                (true, false) if binds == Binds::Client => clients += 1,
                (true, false) => exempt += 1,
                (true, true) => open.push(format!("{version} {id}: neither tests nor a reason")),
                (false, false) => open.push(format!("{version} {id}: tests and yet exempt")),
            }
            if !reason.is_empty() && (reason.len() < 20 || !reason.ends_with('.')) {
                open.push(format!("{version} {id}: the reason is no sentence"));
            }
        }
        println!(
            "MQTT {version}: {tested} tested, {exempt} exempt with a reason, {clients} bind clients alone"
        );
    }
    assert!(open.is_empty(), "{} statements are open:\n{}", open.len(), open.join("\n"));
}

#[test]
fn every_cited_test_exists() {
    let mut missing = Vec::new();
    for (version, path, ..) in STANDARDS {
        for Statement { id, tests, .. } in table(path) {
            for test in tests {
                let (file, name) =
                    test.split_once("::").unwrap_or_else(|| panic!("{id}: {test} is not FILE::NAME"));
                if !has_word(&code(file), name) {
                    missing.push(format!("{version} {id}: {test}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "these tests do not exist:\n{}", missing.join("\n"));
}

#[test]
fn every_conformance_case_stands_beside_its_statement() {
    for (version, path, list, _) in STANDARDS {
        let cited: BTreeMap<String, Vec<String>> =
            table(path).into_iter().map(|statement| (statement.id, statement.tests)).collect();
        for name in cases(&code(list)) {
            let id = statement_of(&name);
            let tests = cited.get(&id).unwrap_or_else(|| panic!("{list}: {name}: {version} has no {id}"));
            let wanted = format!("{list}::{name}");
            assert!(tests.contains(&wanted), "{path}: {id} does not name {wanted}");
        }
    }
}

#[test]
fn a_word_is_found_whole_and_never_in_a_comment() {
    assert!(has_word("fn a_test() {", "a_test"));
    assert!(!has_word("fn a_test_more() {", "a_test"));
    assert!(!has_word(&without_comments("// fn a_test()\nfn other() {}"), "a_test"));
}

fn table(path: &str) -> Vec<Statement> {
    let table: Table = toml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    table.statement
}

/// The names of the cases in a list.
fn cases(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.trim().split_once(" => ").map(|(name, _)| name.to_owned()))
        .filter(|name| name.starts_with("mqtt_"))
        .collect()
}

/// `MQTT-3.1.0-2` for `mqtt_3_1_0_2_a_second_connect_closes`.
fn statement_of(case: &str) -> String {
    let words = case.split('_').skip(1);
    let numbers: Vec<&str> = words.take_while(|word| word.parse::<u16>().is_ok()).collect();
    let (last, section) = numbers.split_last().expect("a case is named after its statement");
    format!("MQTT-{}-{last}", section.join("."))
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

fn code(file: &str) -> String {
    without_comments(&read(file))
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
