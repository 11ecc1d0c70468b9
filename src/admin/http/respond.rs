//! Responses and their headers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

/// A response with its whole body.
pub(super) type Reply = Response<Full<Bytes>>;

/// A response that is kept by nobody, because the next one may differ.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A sentence.
pub(super) fn plain(status: StatusCode, sentence: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// The answer to a method that a path does not have.
pub(super) fn wrong_method() -> Reply {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
