//! Facts about a connection that are true of few, in one byte: a byte for each would make every connection eight bytes longer.

/// Something that is true of few connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fact {
    /// The host was asked whether bytes wait in the socket, and the answer has not come.
    Peeking,
    /// Bytes waited in the socket when the time for CONNECT had passed. It is not extended again.
    Extended,
    /// `Abort` was asked for.
    Aborted,
    /// Its peer sent DISCONNECT.
    Disconnected,
    /// It waits for memory, and is closed when its timer is due.
    Delayed,
    /// It is a bridge of mosquitto: its subscriptions have No Local and Retain As Published, for which 3.1.1 has no options.
    Bridge,
    /// Acknowledgements may carry no reason string [MQTT-3.1.2-29].
    NoProblemInformation,
}

/// **Lives on:** every connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts(u8);

impl Facts {
    #[inline]
    pub(super) fn has(self, fact: Fact) -> bool {
        self.0 & Self::bit(fact) != 0
    }

    /// Returns whether it was true before.
    pub(super) fn set(&mut self, fact: Fact, is_true: bool) -> bool {
        let before = self.has(fact);
        self.0 = if is_true { self.0 | Self::bit(fact) } else { self.0 & !Self::bit(fact) };
        before
    }

    const fn bit(fact: Fact) -> u8 {
        1 << fact as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_set_alone() {
        const ALL: [Fact; 7] = [
            Fact::Peeking,
            Fact::Extended,
            Fact::Aborted,
            Fact::Disconnected,
            Fact::Delayed,
            Fact::Bridge,
            Fact::NoProblemInformation,
        ];
        for fact in ALL {
            let mut facts = Facts::default();
            assert!(!facts.set(fact, true));
            assert!(ALL.iter().all(|&other| facts.has(other) == (other == fact)));
            assert!(facts.set(fact, false));
            assert_eq!(facts, Facts::default());
        }
    }
}
