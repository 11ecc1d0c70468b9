//! The method of tests, which exercises the exchange and proves no identity.

use wire::ReasonCode;

use super::question::{Answer, OwnedGrant};

/// Its name. `test_authentication` offers it.
pub(crate) const TEST_METHOD: &str = "test-echo";

/// Authentication data that it sends with its success.
const SUCCESS_DATA: &[u8] = b"welcome";

/// Decides a step of the test method: a client that returns the challenge is let in.
pub(super) fn echo(challenge: String, data: &[u8], begins: bool) -> Answer {
    if begins {
        Answer::Continue(challenge.into_bytes())
    } else if data == challenge.as_bytes() {
        Answer::Success {
            data: SUCCESS_DATA.to_vec(),
            grant: OwnedGrant { method: TEST_METHOD, ..OwnedGrant::default() },
        }
    } else {
        Answer::failed(ReasonCode::NotAuthorized, TEST_METHOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_method_challenges_once_and_accepts_only_the_echo() {
        let challenge = || "c".to_owned();
        assert_eq!(echo(challenge(), b"c", true), Answer::Continue(b"c".to_vec()));
        let grant = OwnedGrant { method: TEST_METHOD, ..OwnedGrant::default() };
        assert_eq!(echo(challenge(), b"c", false), Answer::Success { data: SUCCESS_DATA.to_vec(), grant });
        assert_eq!(echo(challenge(), b"", false), Answer::failed(ReasonCode::NotAuthorized, TEST_METHOD));
    }
}
