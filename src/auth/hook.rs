//! The question to the operator's service over HTTP, and its answer, in EMQX's JSON: a service written for EMQX is used as it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::ReasonCode;
use zeroize::Zeroizing;

use super::methods::{Case, Identity, Opinion};

/// Roles of one answer at most, and bytes of each.
const ROLES_MAX: usize = 64;
const ROLE_BYTES_MAX: usize = 1_024;

/// The body of a question.
#[derive(Serialize)]
struct Question<'a> {
    clientid: &'a str,
    username: Option<&'a str>,
    password: Option<&'a str>,
    peerhost: Option<String>,
    peerport: Option<u16>,
    listener: &'a str,
}

/// The body of an answer. Members that are not listed are passed over.
#[derive(Deserialize)]
struct Reply {
    result: Decision,
    #[serde(default)]
    roles: Vec<String>,
    /// Seconds since 1970 at which the session of this client ends.
    #[serde(default)]
    expire_at: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allow,
    Deny,
    Ignore,
}

/// The body of the question about a client. `None` if its password is no text, which JSON cannot carry.
pub(super) fn question(case: &Case, listener: &str) -> Option<Zeroizing<Vec<u8>>> {
    let password = match &case.password {
        Some(password) => Some(str::from_utf8(password).ok()?),
        None => None,
    };
    let question = Question {
        clientid: &case.client_id,
        username: case.username.as_deref(),
        password,
        peerhost: case.peer.map(|peer| peer.ip().to_canonical().to_string()),
        peerport: case.peer.map(|peer| peer.port()),
        listener,
    };
    // Room for everything, so that no copy of a part is left behind: an escaped byte has six.
    let length = [
        &case.client_id,
        case.username.as_deref().unwrap_or_default(),
        password.unwrap_or_default(),
        listener,
    ]
    .iter()
    .map(|part| part.len())
    .sum::<usize>();
    let mut body = Zeroizing::new(Vec::with_capacity(length * 6 + 256));
    serde_json::to_writer(&mut *body, &question).ok()?;
    Some(body)
}

/// The opinion of a service that answers `body` at `now_s`, in seconds since 1970. A body that is not understood lets nobody in.
pub(super) fn opinion(body: &[u8], case: &Case, now_s: u64) -> Opinion {
    let denied = Opinion::Deny(ReasonCode::BadUserNameOrPassword);
    let Ok(reply) = serde_json::from_slice::<Reply>(body) else { return denied };
    let roles_are_sound =
        reply.roles.len() <= ROLES_MAX && reply.roles.iter().all(|role| role.len() <= ROLE_BYTES_MAX);
    match reply.result {
        Decision::Ignore => Opinion::Next,
        Decision::Allow if roles_are_sound && reply.expire_at.is_none_or(|end_s| end_s > now_s) => {
            Opinion::Allow(Identity {
                user: case.username.clone(),
                roles: reply.roles,
                lifetime: reply.expire_at.map(|end_s| Duration::from_secs(end_s - now_s)),
                is_listed: false,
            })
        }
        Decision::Allow | Decision::Deny => denied,
    }
}

#[cfg(test)]
mod tests {
    use engine::{Admission, Arrival, Engine, Entropy, Instant, Limits};

    use super::*;
    use crate::auth::question::Asked;
    use crate::net::listen::ListenerNumber;
    use crate::process::clock;

    fn case(password: &[u8]) -> Case {
        let now = Instant::from_ms(0);
        let connection =
            Engine::new(Limits::default(), Entropy(1), now).accept(now, Admission::Serve, Arrival::new(1), 0);
        let password = Some(Zeroizing::new(password.to_vec()));
        let asked = Asked { shard: 0, connection, step: 1, began: clock::read() };
        Case::new(
            asked,
            ListenerNumber::default(),
            None,
            "c\u{1}".to_owned(),
            Some("al\"ice".to_owned()),
            password,
        )
    }

    #[test]
    fn a_question_is_json_without_a_copy_of_the_password_behind() {
        let body = question(&case(b"s3\ncret"), "devices").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&json["clientid"], &json["username"]), (&"c\u{1}".into(), &"al\"ice".into()));
        assert_eq!((&json["password"], &json["listener"]), (&"s3\ncret".into(), &"devices".into()));
        assert!(json["peerhost"].is_null());
        let long = question(&case(&vec![1; 65_535]), "devices").unwrap();
        assert!(long.len() < long.capacity() && long.len() > 6 * 65_535, "the capacity sufficed");
        assert_eq!(question(&case(&[0xFF]), "devices"), None);
    }

    #[test]
    fn only_a_clear_answer_lets_a_client_in() {
        let judge = |body: &str| opinion(body.as_bytes(), &case(b"x"), 1_000);
        let allowed = |roles: &[&str], lifetime| {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            Opinion::Allow(Identity { user: Some("al\"ice".to_owned()), roles, lifetime, is_listed: false })
        };
        assert_eq!(judge(r#"{"result":"allow","is_superuser":true}"#), allowed(&[], None));
        let with_more = r#"{"result":"allow","roles":["a","b"],"expire_at":1060}"#;
        assert_eq!(judge(with_more), allowed(&["a", "b"], Some(Duration::from_mins(1))));
        assert_eq!(judge(r#"{"result":"ignore"}"#), Opinion::Next);
        for body in [
            "",
            "allow",
            "{}",
            r#"{"result":"deny"}"#,
            r#"{"result":"ALLOW"}"#,
            r#"{"result":true}"#,
            r#"{"result":"allow","expire_at":1000}"#,
            r#"{"result":"allow","expire_at":"soon"}"#,
            r#"{"result":"allow","roles":"admin"}"#,
        ] {
            assert_eq!(judge(body), Opinion::Deny(ReasonCode::BadUserNameOrPassword), "{body}");
        }
    }
}
