//! The API below `/v1`: a table of routes. Each makes one request of the operator's enum, so the command line and this API ask the same.
//! The description that tools read (`openapi.json`) is made of the same table.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::call::{Call, place};
use crate::admin::operator::{Answer, ClientFilter, Request};
use crate::admin::tokens::Scope;
use crate::drain::DrainTerms;
use crate::observe::packet_trace::TraceTarget;

/// A path with a method, and the request that it is.
pub(super) struct Route {
    pub(super) method: Method,
    /// Its path, in which `{id}` stands for a client identifier.
    pub(super) path: &'static str,
    /// The scope that a token needs.
    pub(super) scope: Scope,
    summary: &'static str,
    /// Parameters of the query, each with its meaning.
    query: &'static [(&'static str, &'static str)],
    /// Fields of the body, each with its type and its meaning.
    body: &'static [(&'static str, &'static str, &'static str)],
    /// The request, or the reason why the call is none.
    pub(super) make: fn(&Call) -> Result<Request, String>,
}

impl Route {
    /// Whether a call has a body.
    pub(super) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }
}

/// The path that tells a token about itself.
pub(super) const TOKEN_PATH: &str = "/v1/token";

const NEXT: (&str, &str) = ("next", "the field next of the page before; the first page without it");

const GET: Route = Route {
    method: Method::GET,
    path: "",
    scope: Scope::Read,
    summary: "",
    query: &[],
    body: &[],
    make: |_| Ok(Request::Health {}),
};

/// The routes. A path without `{id}` stands before one with it.
pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/health", summary: "Whether each shard answers", ..GET },
    Route {
        path: "/v1/statistics",
        summary: "The counters of the broker and of each shard",
        make: |_| Ok(Request::Statistics {}),
        ..GET
    },
    Route {
        path: TOKEN_PATH,
        summary: "The name and the scope of the token that asks",
        // It is answered where the token is known.
        make: |_| Err("nothing is asked of the broker here".to_owned()),
        ..GET
    },
    Route {
        path: "/v1/shards",
        summary: "Each shard from within: what it holds, what its clients lost, and the times of its stages by bound",
        make: |_| Ok(Request::Shards {}),
        ..GET
    },
    Route {
        path: "/v1/config",
        summary: "The keys of the configuration in force with the origin of each value, by pages",
        query: &[NEXT],
        make: |call| Ok(Request::Configuration { after: call.next()? }),
        ..GET
    },
    Route {
        path: "/v1/certificates",
        summary: "The certificates and lists of revoked ones, of listeners and of [admin], and when each ends",
        make: |_| Ok(Request::Certificates {}),
        ..GET
    },
    Route {
        path: "/v1/log",
        summary: "The last lines of the log, the oldest first, by pages; next is where those that are still to come begin",
        query: &[NEXT],
        make: |call| Ok(Request::LastLines { from: call.next()? }),
        ..GET
    },
    Route {
        path: "/v1/clients",
        summary: "Clients that are connected, by pages",
        query: &[
            ("address", "only those of this address or network, such as 10.1.2.0/24"),
            ("user", "only those of this user"),
            ("listener", "only those of this listener"),
            ("prefix", "only those whose identifier begins so"),
            ("waiting", "true: only those for which something waits"),
            NEXT,
        ],
        make: |call| {
            let (shard, from) = call.next()?;
            let [address, user, listener, prefix] =
                ["address", "user", "listener", "prefix"].map(|name| call.option(name));
            let is_waited_for = call.option("waiting").is_some_and(|waiting| waiting == "true");
            Ok(Request::Clients {
                shard,
                from,
                only: ClientFilter { address, user, listener, prefix, is_waited_for },
            })
        },
        ..GET
    },
    Route {
        path: "/v1/clients/{id}",
        summary: "Everything about a client: its connection, its session and why its last connection ended",
        make: |call| Ok(Request::Client { client_id: call.id() }),
        ..GET
    },
    Route {
        method: Method::DELETE,
        path: "/v1/clients/{id}",
        scope: Scope::Operate,
        summary: "Close the connection of a client; its session lives on",
        make: |call| Ok(Request::Disconnect { client_id: call.id() }),
        ..GET
    },
    Route {
        path: "/v1/clients/{id}/subscriptions",
        summary: "The subscriptions of a client, by pages",
        query: &[NEXT],
        make: |call| {
            let (_, from): (u16, u32) = call.next()?;
            Ok(Request::SubscriptionsOf { client_id: call.id(), from: call.option("next").map(|_| from) })
        },
        ..GET
    },
    Route {
        path: "/v1/clients/{id}/trace",
        summary: "Packets of a client without their payloads, from the first call on; it ends ten seconds after the last one",
        query: &[NEXT],
        make: |call| call.trace(TraceTarget::Client(call.id())),
        ..GET
    },
    Route {
        path: "/v1/trace",
        summary: "PUBLISH packets of a topic on one shard, without their payloads, likewise",
        query: &[
            ("topic", "a topic, or a filter for several"),
            ("shard", "the number of the shard; 0 without it"),
            NEXT,
        ],
        make: |call| call.trace(TraceTarget::Topic(call.parameter("topic")?)),
        ..GET
    },
    Route {
        path: "/v1/sessions",
        summary: "Sessions, connected or not, by pages",
        query: &[NEXT],
        make: |call| call.next().map(|(shard, from)| Request::Sessions { shard, from }),
        ..GET
    },
    Route {
        method: Method::DELETE,
        path: "/v1/sessions/{id}",
        scope: Scope::Admin,
        summary: "End the session of a client, with everything that waits there",
        make: |call| Ok(Request::EndSession { client_id: call.id() }),
        ..GET
    },
    Route {
        path: "/v1/subscriptions",
        summary: "Subscriptions of all clients, by pages",
        query: &[NEXT],
        make: |call| call.next().map(|(shard, from)| Request::Subscriptions { shard, from }),
        ..GET
    },
    Route {
        path: "/v1/receivers",
        summary: "Sessions that are offered the messages of a topic, and the filters that match, by pages",
        query: &[("topic", "the topic"), NEXT],
        make: |call| {
            let (shard, from) = call.next()?;
            Ok(Request::Receivers { shard, topic: call.parameter("topic")?, from })
        },
        ..GET
    },
    Route {
        path: "/v1/retained",
        summary: "Retained messages without their payloads, by pages",
        query: &[("filter", "topics that are meant; all without it"), NEXT],
        make: |call| {
            let (shard, after) = call.next()?;
            Ok(Request::Retained {
                shard,
                filter: call.option("filter").unwrap_or_else(|| "#".to_owned()),
                after,
            })
        },
        ..GET
    },
    Route {
        path: "/v1/retained/message",
        scope: Scope::Operate,
        summary: "A retained message with its payload in base64",
        query: &[("topic", "the topic")],
        make: |call| Ok(Request::RetainedMessage { topic: call.parameter("topic")? }),
        ..GET
    },
    Route {
        method: Method::DELETE,
        path: "/v1/retained/message",
        scope: Scope::Operate,
        summary: "Remove a retained message",
        query: &[("topic", "the topic")],
        make: |call| Ok(Request::ClearRetained { topic: call.parameter("topic")? }),
        ..GET
    },
    Route {
        method: Method::POST,
        path: "/v1/publish",
        scope: Scope::Operate,
        summary: "Publish a message, as nobody and under no rules",
        body: &[
            ("topic", "string", "the topic"),
            ("payload", "string", "the payload in base64; empty without it"),
            ("qos", "integer", "0, 1 or 2; 0 without it"),
            ("retain", "boolean", "whether it is retained"),
        ],
        make: |call| {
            Ok(Request::Publish {
                topic: call.field("topic")?.ok_or("the field topic is missing")?,
                payload: call.field("payload")?.unwrap_or_default(),
                qos: call.field("qos")?.unwrap_or_default(),
                retain: call.field("retain")?.unwrap_or_default(),
            })
        },
        ..GET
    },
    Route {
        path: "/v1/closed",
        summary: "The last 10,000 connections that were closed or refused, and why; of each shard the newest first, by pages",
        query: &[("client", "only those of this client identifier"), NEXT],
        make: |call| {
            let (shard, before) = call.next()?;
            Ok(Request::Closed { shard, before, client_id: call.option("client") })
        },
        ..GET
    },
    Route {
        path: "/v1/refusals",
        summary: "The last 256 refusals, the oldest first",
        make: |_| Ok(Request::Refusals {}),
        ..GET
    },
    Route {
        path: "/v1/bans",
        summary: "Bans in force, 128 at a time",
        query: &[("from", "number of those before the first one")],
        make: |call| {
            let from = call.option("from").map_or(Ok(0), |from| from.parse());
            Ok(Request::Bans { from: from.map_err(|_| "the parameter from is no number")? })
        },
        ..GET
    },
    Route {
        method: Method::POST,
        path: "/v1/reload",
        scope: Scope::Admin,
        summary: "Read the configuration and its files again, check everything, and put the live keys into force; a fault changes nothing",
        query: &[("dry_run", "true: tell what would change, and change nothing")],
        make: |call| match call.option("dry_run").as_deref() {
            None | Some("false") => Ok(Request::Reload { is_dry: false }),
            Some("true") => Ok(Request::Reload { is_dry: true }),
            Some(_) => Err("the parameter dry_run is neither true nor false".to_owned()),
        },
        ..GET
    },
    Route {
        method: Method::POST,
        path: "/v1/rollback",
        scope: Scope::Admin,
        summary: "Take the last reload back",
        make: |_| Ok(Request::RollBack {}),
        ..GET
    },
    Route {
        method: Method::PUT,
        path: "/v1/log-level",
        scope: Scope::Admin,
        summary: "Change the least severe level that is logged",
        body: &[("level", "string", "debug, info, warn, error or off")],
        make: |call| {
            Ok(Request::LogLevel { level: call.field("level")?.ok_or("the field level is missing")? })
        },
        ..GET
    },
    Route {
        path: "/v1/drain",
        summary: "How far a drain has come",
        make: |_| Ok(Request::DrainState {}),
        ..GET
    },
    Route {
        method: Method::POST,
        path: "/v1/drain",
        scope: Scope::Admin,
        summary: "Refuse clients, send those that are connected elsewhere, and end the broker",
        body: &[
            ("rate", "integer", "clients that are sent away in a second, at most; 500 without it"),
            (
                "reference",
                "string",
                "the server that clients are referred to; that of the configuration without it",
            ),
            ("wait_s", "integer", "seconds in which clients are still let in; 0 without it"),
            ("timeout_s", "integer", "seconds after which no client is waited for; 300 without it"),
            ("stays", "boolean", "whether the broker runs on without clients; it ends without it"),
        ],
        make: |call| {
            Ok(Request::Drain(DrainTerms {
                rate: call.field("rate")?.unwrap_or(500),
                reference: call.field("reference")?,
                wait_s: call.field("wait_s")?.unwrap_or_default(),
                timeout_s: call.field("timeout_s")?.unwrap_or(300),
                stays: call.field("stays")?.unwrap_or_default(),
            }))
        },
        ..GET
    },
    Route {
        method: Method::DELETE,
        path: "/v1/drain",
        scope: Scope::Admin,
        summary: "End a drain: clients are let in again",
        make: |_| Ok(Request::CancelDrain {}),
        ..GET
    },
];

/// The route of a path and a method, and the identifier in the path; empty without one.
///
/// # Errors
/// The status, if there is no such path, or if it has no such method.
pub(super) fn route(method: &Method, path: &str) -> Result<(&'static Route, String), StatusCode> {
    let mut found = Err(StatusCode::NOT_FOUND);
    for route in ROUTES {
        let Some(id) = matches(route.path, path) else { continue };
        if route.method == *method {
            return Ok((route, id));
        }
        found = Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    found
}

/// The part of a path that stands for `{id}`, empty without one; `None` if the path is not of the pattern.
fn matches(pattern: &str, path: &str) -> Option<String> {
    let (mut id, mut parts) = (String::new(), path.split('/'));
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        if wanted == "{id}" {
            id = super::call::decoded(part);
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(id)
}

/// The status of an answer, and its body.
pub(super) fn reply(answer: &Answer) -> (StatusCode, Value) {
    let error = |status, sentence: &str| (status, json!({ "error": sentence }));
    match answer {
        Answer::Busy => {
            error(StatusCode::SERVICE_UNAVAILABLE, "a shard is too busy to answer, or the broker stops")
        }
        Answer::JournalDegraded => {
            error(StatusCode::SERVICE_UNAVAILABLE, "the journal has no room for what follows")
        }
        Answer::JournalFailed => error(StatusCode::SERVICE_UNAVAILABLE, "the journal has failed"),
        Answer::NotUnderstood => error(StatusCode::BAD_REQUEST, "a value is not what it has to be"),
        Answer::NoSession => error(StatusCode::NOT_FOUND, "there is no such session"),
        Answer::NotConnected => error(StatusCode::NOT_FOUND, "the client is not connected"),
        Answer::NoMessage => error(StatusCode::NOT_FOUND, "there is no such retained message"),
        Answer::Client { session: None, last_end: None } => {
            error(StatusCode::NOT_FOUND, "nothing is known of this client")
        }
        Answer::Refused => {
            error(StatusCode::CONFLICT, "the message was refused: a limit, or memory is short")
        }
        Answer::Faults(faults) => (
            StatusCode::CONFLICT,
            json!({ "error": "nothing was changed: there is a fault", "faults": faults }),
        ),
        Answer::Changed => error(StatusCode::CONFLICT, "the list has changed; begin anew"),
        answer => (StatusCode::OK, body(answer)),
    }
}

/// The fields of an answer without its name. A list without fields of its own has them in `rows`.
fn body(answer: &Answer) -> Value {
    match serde_json::to_value(answer) {
        Ok(Value::Object(named)) => match named.into_iter().next() {
            Some((_, Value::Object(mut fields))) => {
                if let Some(next) = fields.get_mut("next") {
                    *next = place(next);
                }
                Value::Object(fields)
            }
            Some((_, rows)) => json!({ "rows": rows }),
            None => json!({}),
        },
        Ok(name) => json!({ "result": name }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// The description of the API in the form that `openapi.json` has, version 3.1.
pub(super) fn description() -> Value {
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        let id = route
            .path
            .contains("{id}")
            .then(|| parameter("id", "path", "a client identifier, percent-encoded", true));
        let query = route.query.iter().map(|(name, meaning)| {
            // A route needs a topic wherever it has one.
            parameter(name, "query", meaning, *name == "topic")
        });
        let mut operation = json!({
            "summary": route.summary,
            "description": format!("Needs a token of the scope `{}`.", route.scope.name()),
            "parameters": id.into_iter().chain(query).collect::<Vec<_>>(),
            "security": [{ "token": [] }],
            "responses": {
                "200": { "description": "done", "content": { "application/json": { "schema": { "type": "object" } } } },
                "default": { "description": "an error", "content": { "application/json": {
                    "schema": { "type": "object", "properties": { "error": { "type": "string" } } } } } },
            },
        });
        if !route.body.is_empty() {
            let fields = route.body.iter().map(|(name, kind, meaning)| {
                ((*name).to_owned(), json!({ "type": kind, "description": meaning }))
            });
            let schema = json!({ "type": "object", "properties": fields.collect::<serde_json::Map<_, _>>() });
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "mqtt-broker", "version": "1", "description": "Operations on a running broker." },
        "paths": paths,
        "components": { "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn parameter(name: &str, place: &str, meaning: &str, is_required: bool) -> Value {
    json!({ "name": name, "in": place, "description": meaning, "required": is_required, "schema": { "type": "string" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_method_have_one_route() {
        let find = |method: Method, path: &str| route(&method, path).map(|(route, id)| (route.path, id));
        assert_eq!(find(Method::GET, "/v1/clients"), Ok(("/v1/clients", String::new())));
        let id = "a/b".to_owned();
        assert_eq!(find(Method::GET, "/v1/clients/a%2Fb"), Ok(("/v1/clients/{id}", id.clone())));
        assert_eq!(find(Method::DELETE, "/v1/clients/a%2Fb"), Ok(("/v1/clients/{id}", id.clone())));
        let of = find(Method::GET, "/v1/clients/a%2Fb/subscriptions");
        assert_eq!(of, Ok(("/v1/clients/{id}/subscriptions", id)));
        assert_eq!(find(Method::POST, "/v1/clients"), Err(StatusCode::METHOD_NOT_ALLOWED));
        for path in ["/v1", "/v1/", "/v1/clients/a/b", "/v1/none", "/v1/clients/a/subscriptions/"] {
            assert_eq!(find(Method::GET, path), Err(StatusCode::NOT_FOUND), "{path}");
        }
        let all: Vec<_> = ROUTES.iter().map(|route| (route.method.as_str(), route.path)).collect();
        assert!(all.iter().enumerate().all(|(at, route)| !all[..at].contains(route)));
    }

    #[test]
    fn changes_need_more_than_a_token_that_reads() {
        for route in ROUTES {
            assert!(route.method == Method::GET || route.scope >= Scope::Operate, "{}", route.path);
        }
    }

    #[test]
    fn the_description_is_the_one_that_is_kept() {
        let kept = include_str!("../../../deploy/openapi.json");
        let made = serde_json::to_string_pretty(&description()).unwrap() + "\n";
        assert!(kept == made, "GET /v1/openapi.json, pretty, is to be kept in deploy/openapi.json:\n{made}");
    }
}
