//! Makes the broker's reader and writer of subscriptions.json available to the checks. Uses memory instead of a file.

#[path = "../../../src/persist/subscriptions_file/format.rs"]
mod format;

use engine::SessionRecord;

pub(crate) fn parse(json: &[u8]) -> Result<Vec<SessionRecord>, serde_json::Error> {
    format::parse(json)
}

pub(crate) fn write(sessions: &[SessionRecord]) -> Vec<u8> {
    let mut written = Vec::new();
    format::write(&mut written, sessions.iter()).expect("memory takes everything");
    written
}
