//! Makes the broker's reader and writer of subscriptions.json available to the checks. Uses memory instead of a file.

#[path = "../../../src/subscriptions_file/form.rs"]
mod form;

use engine::SessionRecord;

pub(crate) fn parse(json: &[u8]) -> Result<Vec<SessionRecord>, serde_json::Error> {
    form::parse(json)
}

pub(crate) fn write(sessions: &[SessionRecord]) -> Vec<u8> {
    let mut written = Vec::new();
    form::write(&mut written, sessions.iter()).expect("writing to memory succeeds");
    written
}
