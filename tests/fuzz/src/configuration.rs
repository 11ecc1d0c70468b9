//! The readers of the operator's files. Any content gives a configuration or error messages, and writing and reading a
//! configuration again gives the same one.

use std::path::PathBuf;

use engine::{Engine, Entropy, Instant, Limits};

use crate::config::{ConfigError, Effective, Environment, import};
use crate::subscriptions;

/// The first byte chooses the file, the rest is its content.
///
/// # Panics
/// If a reader violates a guarantee.
pub fn check(input: &[u8]) {
    let Some((&which, content)) = input.split_first() else { return };
    let text = str::from_utf8(content);
    match (which % 3, text) {
        (0, Ok(text)) => check_configuration(text),
        (1, Ok(text)) => check_import(text),
        // The broker refuses a configuration that is not UTF-8 earlier; subscriptions are read as bytes.
        (0 | 1, Err(_)) => {}
        _ => check_subscriptions(content),
    }
}

fn read(text: &str) -> Result<Effective, Vec<ConfigError>> {
    Effective::layer(
        Some((PathBuf::from("broker.conf"), text.to_owned())),
        Environment::default(),
        &[],
        Vec::new(),
    )
}

fn check_configuration(text: &str) {
    match read(text) {
        Ok(effective) => {
            let rows_of = |effective: &Effective| -> Vec<(&str, String)> {
                effective.rows().map(|(setting, value, _)| (setting.key, value)).collect()
            };
            let rows = rows_of(&effective);
            let written: String = rows.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            // A file's integers end below 2⁶³, and a default may lie above.
            let again = read(&written).unwrap_or_else(|errors| panic!("{written}\n{}", sentences(&errors)));
            // Tables are not among the rows.
            assert_eq!(rows_of(&again), rows, "{written}");
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in &errors {
                let sentence = error.to_string();
                let is_one_line = !sentence.is_empty() && !sentence.contains(char::is_control);
                assert!(is_one_line || matches!(error, ConfigError::Syntax { .. }), "{sentence:?}");
            }
        }
    }
}

/// A configuration imported from the replaced product is always valid.
fn check_import(json: &str) {
    match import::convert(json) {
        Ok(text) => {
            let read = read(&text);
            assert!(read.is_ok(), "{text}\n{}", sentences(&read.expect_err("it is not ok")));
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    }
}

/// Sessions are written and read back the same, and an engine accepts them all.
fn check_subscriptions(json: &[u8]) {
    let sessions = match subscriptions::parse(json) {
        Ok(sessions) => sessions,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = subscriptions::write(&sessions);
    assert_eq!(subscriptions::parse(&written).expect("our own file"), sessions);

    let now = Instant::from_ms(0);
    let mut engine = Engine::new(Limits::default(), Entropy(1), now);
    for session in &sessions {
        engine.restore(now, session).expect("the engine accepts every session that the reader accepts");
    }
    assert_eq!(engine.session_count() as usize, sessions.len());
    // A filter that occurs twice is one subscription, the later one.
    for session in &sessions {
        let mut filters: Vec<&str> =
            session.subscriptions.iter().map(|one| one.topic_filter.as_str()).collect();
        filters.sort_unstable();
        filters.dedup();
        let mut records = Vec::new();
        assert_eq!(engine.export(now, 0, u32::MAX, &mut records), None);
        let record = records.iter().find(|record| record.client_id == session.client_id);
        let count = record.map_or(0, |record| record.subscriptions.len());
        assert_eq!(count, filters.len(), "{session:?}");
    }
}

fn sentences(errors: &[ConfigError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}
