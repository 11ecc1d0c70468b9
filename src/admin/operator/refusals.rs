//! `mqtt-broker refusals`: the last connections that the running broker has refused, and why.

use std::num::NonZeroU8;
use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

use super::client::{ask, not_understood, print};
use super::{Answer, Request};
use crate::error::StartupError;
use crate::observe::connection_log::printable;
use crate::observe::refusals::Refusal;

/// Prints the refusals that the broker of `data_dir` remembers, the oldest first; only those of `client_id`, if there is one.
///
/// # Errors
/// If no broker runs there, if it does not answer, or if none of this client is remembered.
pub(crate) fn show(data_dir: &Path, client_id: Option<&str>) -> Result<(), StartupError> {
    let Answer::Refusals(refusals) = ask(data_dir, &Request::Refusals {})? else {
        return Err(not_understood(data_dir));
    };
    // The broker keeps the text as it shows it.
    let shown = client_id.map(printable);
    let is_meant = |refusal: &&Refusal| shown.is_none() || refusal.client == shown;
    let meant: Vec<&Refusal> = refusals.iter().filter(is_meant).collect();
    if let (Some(client_id), true) = (client_id, meant.is_empty()) {
        let sentence = format!("none of the last refusals was of the client {client_id:?}");
        return Err(StartupError::NotFound { sentence });
    }
    for refusal in meant {
        print(&line(refusal));
    }
    Ok(())
}

fn line(refusal: &Refusal) -> String {
    let Refusal { at_us, client, user, peer, listener, method, reason, why } = refusal;
    let quoted = [("client", client), ("user", user)];
    let plain = [("peer", peer), ("listener", listener), ("method", method)];
    let quoted = quoted.into_iter().filter_map(|(name, text)| Some(format!("{name}={:?}", text.as_ref()?)));
    let plain = plain.into_iter().filter_map(|(name, text)| Some(format!("{name}={}", text.as_ref()?)));
    let end = format!("reason={reason} why={why:?}");
    [utc(*at_us)].into_iter().chain(quoted).chain(plain).chain([end]).collect::<Vec<_>>().join(" ")
}

/// The time as the log writes it.
pub(super) fn utc(unix_us: u64) -> String {
    const DIGITS: TimePrecision = TimePrecision::Second { decimal_digits: NonZeroU8::new(6) };
    const FORM: EncodedConfig = Config::DEFAULT.set_time_precision(DIGITS).encode();
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1_000);
    let text = moment.ok().and_then(|moment| moment.format(&Iso8601::<FORM>).ok());
    text.unwrap_or_else(|| unix_us.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_that_are_known() {
        let refusal = Refusal {
            at_us: 1_796_000_000_250_000,
            client: Some("a \"b".to_owned()),
            peer: Some("192.0.2.1:7".to_owned()),
            reason: "client_id".to_owned(),
            why: "too long".to_owned(),
            ..Refusal::default()
        };
        let expected = "2026-11-30T00:53:20.250000Z client=\"a \\\"b\" peer=192.0.2.1:7 reason=client_id why=\"too long\"";
        assert_eq!(line(&refusal), expected);
    }
}
