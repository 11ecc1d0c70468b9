//! The methods of authentication of this process. A test method exercises the exchange of MQTT 5.0 and proves no identity. The
//! password file is edited by `mqtt-broker user`; no listener asks it yet.

pub(crate) mod password;

use engine::{AuthenticationStep, Verdict};
use wire::ReasonCode;

/// The method of `test_authentication`.
pub(crate) const TEST_METHOD: &str = "test-echo";

/// Authentication data that the test method sends with its success.
const SUCCESS_DATA: &[u8] = b"welcome";

/// Decides a step of the test method: a client that returns `challenge` is let in.
pub(crate) fn judge<'a>(step: &AuthenticationStep<'_>, challenge: &'a [u8]) -> Verdict<'a> {
    if step.begins {
        Verdict::Continue(challenge)
    } else if step.data == challenge {
        Verdict::Success(SUCCESS_DATA)
    } else {
        Verdict::Failed(ReasonCode::NotAuthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_method_challenges_once_and_accepts_only_the_echo() {
        let step = |data, begins| AuthenticationStep { method: TEST_METHOD, data, begins };
        assert_eq!(judge(&step(b"c", true), b"c"), Verdict::Continue(b"c"));
        assert_eq!(judge(&step(b"c", false), b"c"), Verdict::Success(SUCCESS_DATA));
        assert_eq!(judge(&step(b"", false), b"c"), Verdict::Failed(ReasonCode::NotAuthorized));
    }
}
