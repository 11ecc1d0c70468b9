//! The paths, and the answer of each.

use std::net::IpAddr;

use hyper::body::Body;
use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request, StatusCode};

use super::respond::{Reply, plain, reply, wrong_method};
use super::serve::Surface;
use super::{Shared, Sources, page, tool, v1};
use crate::admin::tokens::Scope;
use crate::observe::exposition::CONTENT_TYPE;
use crate::observe::service_state::Phase;
use crate::shard::gauges::JournalState;

/// The paths with a line about each, for `/`.
const PATHS: &str = "mqtt-broker\n\n\
    /healthz   200 if every shard turns\n\
    /readyz    200 if clients can connect\n\
    /metrics   metrics for Prometheus\n\
    /v1/       the API of [admin], with a token; /v1/openapi.json describes it\n\
    /dashboard the page of [admin] for browsers, with a token\n\
    /mqtt      MQTT over WebSocket for that page; the password is a token\n";

/// Answers a request.
pub(super) async fn respond<B>(request: Request<B>, surface: &Surface, sources: &Shared<Sources>) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Surface::Admin { hosts, is_open } = surface {
        if !is_own(&request, hosts) {
            return plain(
                StatusCode::MISDIRECTED_REQUEST,
                "this address is not meant by that name; if it is, write the name in hosts of [admin]",
            );
        }
        if request.uri().path() == tool::PATH && request.method() == Method::GET {
            return tool::respond(request, sources).await;
        }
        if request.uri().path().starts_with("/v1/") {
            return v1::respond(request, sources).await;
        }
        if request.uri().path() == "/metrics"
            && !is_open
            && let Err((status, sentence)) = v1::permits(&request, sources, Scope::Read)
        {
            return v1::error(status, sentence);
        }
        if request.method() == Method::GET || request.method() == Method::HEAD {
            if request.uri().path() == "/" && wants_page(&request) {
                return page::redirect();
            }
            if let Some(file) = page::respond(request.uri().path()) {
                return file;
            }
        }
    }
    match request.uri().path() {
        _ if request.method() != Method::GET && request.method() != Method::HEAD => wrong_method(),
        "/healthz" => health(sources),
        "/readyz" => readiness(sources),
        "/metrics" => reply(StatusCode::OK, CONTENT_TYPE, sources.metrics.render()),
        "/" => plain(StatusCode::OK, PATHS.trim_end()),
        _ => plain(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// Whether the request names this service: by an address, as "localhost", or by one of `hosts`. A page of another name that resolves
/// here (DNS rebinding) is refused by it.
fn is_own<B>(request: &Request<B>, hosts: &[String]) -> bool {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = request.uri().host().or(header) else { return false };
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Whether a browser asks, which shows a page.
fn wants_page<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

fn health(sources: &Sources) -> Reply {
    match sources.pulse.still() {
        None => plain(StatusCode::OK, "ok"),
        Some(shard) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("shard {shard} does not turn")),
    }
}

fn readiness(sources: &Sources) -> Reply {
    let metrics = &sources.metrics;
    let reason = match (metrics.state().phase(), metrics.view().totals().journal) {
        (Phase::Starting, _) => "the broker starts",
        (Phase::Draining, _) => "the broker is being drained",
        (Phase::Stopping, _) => "the broker stops",
        (Phase::Serving, JournalState::Degraded) => "the journal has no room for what follows",
        (Phase::Serving, JournalState::Failed) => "the journal has failed",
        (Phase::Serving, JournalState::None | JournalState::Serving) => {
            return plain(StatusCode::OK, "ready");
        }
    };
    plain(StatusCode::SERVICE_UNAVAILABLE, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_service_by_address_or_a_name_of_its_own() {
        let check = |host: Option<&str>, expected| {
            let mut request = Request::builder().uri("/metrics");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(is_own(&request, &["mqtt.example.com".to_owned()]), expected, "{host:?}");
        };
        for own in [
            "127.0.0.1:9883",
            "[::1]:9883",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "10.0.0.1",
            "MQTT.example.com:9883",
        ] {
            check(Some(own), true);
        }
        for foreign in ["evil.example", "localhost.evil.example:9883", "mqtt.example.com.evil", "", "[", ":"]
        {
            check(Some(foreign), false);
        }
        check(None, false);
    }
}
