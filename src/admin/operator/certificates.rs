//! `mqtt-broker certificates`: the certificates and the lists of revoked ones that the configuration names, and when each ends. They are
//! read from the files, which the running broker reads again once a minute and at each reload, so no broker is asked.

use std::io::{self, Write as _};

use serde::Serialize;

use super::output::{Form, Table, moment, rows};
use crate::config::Config;
use crate::error::StartupError;
use crate::net::layers::ListenerLayers;
use crate::net::tls::Rotation;
use crate::process::clock;

const DAY_S: i64 = 24 * 3_600;

/// A file that ends.
#[derive(Debug, Serialize)]
struct Row {
    /// The name of its listener; `admin` for `[admin.tls]`.
    listener: String,
    file: String,
    /// `certificate`, or `crl` for a list of revoked ones.
    kind: &'static str,
    /// Its end, in seconds since 1970.
    ends_at_s: i64,
    /// Whole days until then; below zero if it has ended.
    days_left: i64,
}

/// Prints when each certificate and list ends.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn show(config: &Config, form: Form) -> Result<(), StartupError> {
    let mut rotation = Rotation::default();
    ListenerLayers::load(config, &mut rotation)?;
    if let Some(tls) = config.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        let begun = rotation.begin("admin", &tls.listener(), b"http/1.1");
        begun.map_err(|fault| StartupError::listener("[admin]", fault))?;
    }
    let now_s = i64::try_from(clock::unix_s()).unwrap_or(i64::MAX);
    let mut all = Vec::new();
    for tls in rotation.in_force() {
        all.extend(tls.expiries().iter().map(|expiry| Row {
            listener: tls.name().to_owned(),
            file: expiry.file.display().to_string(),
            kind: if expiry.is_list { "crl" } else { "certificate" },
            ends_at_s: expiry.at_s,
            days_left: (expiry.at_s - now_s).div_euclid(DAY_S),
        }));
    }
    all.sort_by_key(|row| row.ends_at_s);
    let text = rows(form, &all, |all| {
        let mut table = Table::new(&["ends", "days left", "listener", "kind", "file"]);
        for row in all {
            let at_us = u64::try_from(row.ends_at_s).ok().and_then(|at_s| at_s.checked_mul(1_000_000));
            let days = row.days_left.to_string();
            table.row([moment(at_us), days, row.listener.clone(), row.kind.to_owned(), row.file.clone()]);
        }
        table
    });
    // A reader that closes early has read enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}
