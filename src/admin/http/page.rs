//! The dashboard: one page whose files are in the binary. It asks the API as any other client of it does.
//!
//! Invariants: the files are the same for everybody and tell nothing about this broker, so they need no token; no script runs but
//! these files, and nothing is asked of another place, which the header Content-Security-Policy has the browser enforce.

use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, X_FRAME_OPTIONS,
};

use super::respond::{Reply, plain, reply};

/// Where the page is.
pub(super) const PATH: &str = "/dashboard";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Only the files below are loaded, only this address is asked, and no other page has this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files with their types.
macro_rules! files {
    ($( $name:literal $kind:expr; )+) => {
        &[$( (concat!("/dashboard/", $name), $kind, include_str!(concat!("dashboard/", $name))) ),+]
    };
}

const FILES: &[(&str, &str, &str)] = files! {
    "dashboard.css" "text/css; charset=utf-8";
    "icon.svg" "image/svg+xml";
    "api.js" JAVASCRIPT;
    "chart.js" JAVASCRIPT;
    "dashboard.js" JAVASCRIPT;
    "dom.js" JAVASCRIPT;
    "feed.js" JAVASCRIPT;
    "lists.js" JAVASCRIPT;
    "mqtt.js" JAVASCRIPT;
    "operate.js" JAVASCRIPT;
    "overview.js" JAVASCRIPT;
    "text.js" JAVASCRIPT;
    "zh.js" JAVASCRIPT;
};

/// The file of a path; `None` if the page has none there.
pub(super) fn respond(path: &str) -> Option<Reply> {
    let mut response = if path == PATH {
        reply(StatusCode::OK, "text/html; charset=utf-8", include_str!("dashboard/index.html"))
    } else {
        let (_, kind, text) = FILES.iter().find(|(known, ..)| *known == path)?;
        reply(StatusCode::OK, kind, *text)
    };
    let own = |text| HeaderValue::from_static(text);
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, own(POLICY)),
        (X_FRAME_OPTIONS, own("DENY")),
        (REFERRER_POLICY, own("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), own("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), own("same-origin")),
    ] {
        response.headers_mut().insert(name, value);
    }
    Some(response)
}

/// The way of a browser from `/` to the page.
pub(super) fn redirect() -> Reply {
    let mut response = plain(StatusCode::SEE_OTHER, PATH);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(PATH));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of everything that the first view loads.
    const FIRST_VIEW_BYTES_MAX: usize = 100_000;

    /// Files that a view or a language loads later.
    const LATER: [&str; 4] = ["lists.js", "mqtt.js", "operate.js", "zh.js"];

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let page = include_str!("dashboard/index.html");
        let scripts = FILES.iter().map(|(_, _, text)| *text);
        let mut named = 0;
        for text in scripts.chain([page]) {
            for part in text.split(['"', '\'']) {
                let path = match part.strip_prefix("./") {
                    Some(file) => format!("/dashboard/{file}"),
                    _ if part.starts_with("/dashboard/") => part.to_owned(),
                    _ => continue,
                };
                named += 1;
                assert!(respond(&path).is_some(), "{path}");
            }
        }
        assert!(named > FILES.len());
        assert!(respond("/dashboard/none.js").is_none() && respond("/dashboard/").is_none());
    }

    #[test]
    fn no_text_of_a_peer_can_become_markup_and_no_script_stands_in_the_page() {
        for (path, _, text) in FILES {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!text.contains(forbidden), "{path}: {forbidden}");
            }
            assert!(!text.contains("://") || text.contains("www.w3.org") || text.contains("wss"), "{path}");
        }
        let page = include_str!("dashboard/index.html");
        assert!(!page.contains(" on") && !page.contains("style=") && page.matches("<script").count() == 1);
    }

    #[test]
    fn the_first_view_is_short() {
        let first = FILES.iter().filter(|(path, ..)| !LATER.iter().any(|later| path.ends_with(later)));
        let bytes: usize = first.map(|(_, _, text)| text.len()).sum();
        assert!(bytes + include_str!("dashboard/index.html").len() < FIRST_VIEW_BYTES_MAX, "{bytes}");
    }
}
