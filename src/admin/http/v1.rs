//! The way of a call of the API: token, scope, body, the request to the shards, and the line that remembers a change.
//!
//! Invariants: nothing is asked of the broker without a token whose scope permits it; and nothing but the header Authorization counts,
//! so no page can use the token of a browser.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::api::{Route, TOKEN_PATH, description, reply, route};
use super::call::{Call, query};
use super::respond::{Reply, reply as response};
use super::{Shared, Sources};
use crate::admin::operator::{Answer, execute};
use crate::admin::tokens::{self, Scope, Token};
use crate::observe::connection_log::printable;

/// The longest body: a payload of a message in base64, and the JSON around it.
const BODY_BYTES_MAX: usize = 1_500_000;

/// The sentence for a request without a token.
const NO_TOKEN: &str = "a token is missing, or unknown; `mqtt-broker token add NAME` makes one, to be sent as Authorization: Bearer TOKEN";

/// The status and the sentence of a refusal.
pub(super) type Refusal = (StatusCode, &'static str);

/// The target of the lines about changes.
const AUDIT: &str = "audit";

/// Answers a call.
pub(super) async fn respond<B>(request: Request<B>, sources: &Shared<Sources>) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if request.uri().path() == "/v1/openapi.json" && request.method() == Method::GET {
        return json_reply(StatusCode::OK, &description());
    }
    let token = match bearer(&request, sources) {
        Ok(token) => token,
        Err((status, sentence)) => return error(status, sentence),
    };
    let path = request.uri().path().to_owned();
    let (route, id) = match route(request.method(), &path) {
        Ok(found) => found,
        Err(status) => return error(status, "there is no such path, or it has no such method"),
    };
    if token.scope < route.scope {
        return error(
            StatusCode::FORBIDDEN,
            &format!("this needs a token of the scope {}", route.scope.name()),
        );
    }
    if route.path == TOKEN_PATH {
        let Token { name, scope, created_s, .. } = &token;
        return json_reply(
            StatusCode::OK,
            &json!({ "name": name, "scope": scope.name(), "created_s": created_s }),
        );
    }
    let parameters = query(request.uri().query().unwrap_or_default());
    let body = match body(request, route).await {
        Ok(body) => body,
        Err((status, sentence)) => return error(status, sentence),
    };
    let asked = match (route.make)(&Call { id, query: parameters, body }) {
        Ok(asked) => asked,
        Err(sentence) => return error(StatusCode::BAD_REQUEST, &sentence),
    };
    let asking = Shared::clone(sources);
    // A shard has two seconds to answer, and this thread goes on meanwhile.
    let answer = spawn_blocking(move || execute(asked, &asking.asking.commands, &asking.asking.bans)).await;
    let (status, value) = reply(&answer.unwrap_or(Answer::Busy));
    if route.method != Method::GET {
        let (token, method) = (&*token.name, route.method.as_str());
        info!(target: AUDIT, token, method, path = &*printable(&path), status = status.as_u16(), "operator");
    }
    json_reply(status, &value)
}

/// Checks that a request has a token of this scope.
///
/// # Errors
/// The status and the sentence of its refusal.
pub(super) fn permits<B>(request: &Request<B>, sources: &Sources, scope: Scope) -> Result<(), Refusal> {
    match bearer(request, sources)? {
        token if token.scope >= scope => Ok(()),
        _ => Err((StatusCode::FORBIDDEN, "the scope of this token is too small")),
    }
}

/// The token of a request.
fn bearer<B>(request: &Request<B>, sources: &Sources) -> Result<Token, Refusal> {
    let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let text = header
        .and_then(|header| header.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let tokens = tokens::load(&sources.asking.data_dir).unwrap_or_else(|fault| {
        warn!(%fault, "the file of tokens cannot be used, so every call is refused");
        Vec::new()
    });
    let found = text.and_then(|(_, text)| tokens::find(&tokens, text.trim())).cloned();
    found.ok_or((StatusCode::UNAUTHORIZED, NO_TOKEN))
}

/// The fields of the body, if the route has some.
async fn body<B>(request: Request<B>, route: &Route) -> Result<Map<String, Value>, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !route.has_body() {
        return Ok(Map::new());
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json"));
    }
    let collected = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    let bytes = collected
        .map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off"))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| (StatusCode::BAD_REQUEST, "the body is no JSON object"))
}

fn json_reply(status: StatusCode, value: &Value) -> Reply {
    response(status, "application/json", value.to_string())
}

/// A refusal.
pub(super) fn error(status: StatusCode, sentence: &str) -> Reply {
    let mut refusal = json_reply(status, &json!({ "error": sentence }));
    if status == StatusCode::UNAUTHORIZED {
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    refusal
}
