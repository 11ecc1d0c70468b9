//! A case: one scenario that shows one statement of one version, and a fault on which it was seen to fail. The lists in
//! `v5` and `v3_1_1` contain the cases.

use crate::fault::Fault;
use crate::harness::packet::Version;
use crate::target::Target;
use crate::{v3_1_1, v5};

/// The settings that the broker under test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// None. Any broker can be tested.
    Standard,
    /// Settings for a choice that the standard leaves to the server, made with our flags.
    Settings(&'static [&'static str]),
}

impl Needs {
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Standard => &[],
            Self::Settings(flags) => flags,
        }
    }
}

/// One scenario under the name of its statement.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) version: Version,
    /// `mqtt_3_1_0_2_a_second_connect_closes`: the statement, then the expected behaviour.
    pub(crate) name: &'static str,
    pub(crate) scenario: fn(&Target),
    pub(crate) fault: Fault,
    pub(crate) needs: Needs,
}

impl Case {
    /// The name under which it is listed and cited: `v5::mqtt_…`.
    pub(crate) fn path(&self) -> String {
        let module = if self.version.is_v5() { "v5" } else { "v3_1_1" };
        format!("{module}::{}", self.name)
    }

    /// The statement in the name, as `MQTT-3.1.0-2`. Chapters 4.2 of the one version and 4.3 of the other have statements
    /// without a third number.
    ///
    /// # Panics
    /// If the name does not begin with a statement.
    pub(crate) fn statement(&self) -> String {
        let words = self.name.strip_prefix("mqtt_").expect("a case is named after its statement");
        let numbers: Vec<&str> = words.split('_').take_while(|word| word.parse::<u16>().is_ok()).collect();
        let (last, section) = numbers.split_last().expect("a statement has numbers");
        assert!((2..=3).contains(&section.len()), "{}: not the number of a statement", self.name);
        format!("MQTT-{}-{last}", section.join("."))
    }
}

/// All cases of both versions.
pub(crate) fn cases() -> Vec<Case> {
    [v5::CASES, v3_1_1::CASES].concat()
}

/// Lists cases: `mqtt_… => scenario, Fault` and, where a setting of ours is needed, `, ["--flag", "value"]`.
macro_rules! list_of_cases {
    ($version:ident; $( $name:ident => $($scenario:ident)::+, $fault:expr $(, [$($flag:literal),+])? ; )+) => {
        /// Each statement's cases, in the order of the standard.
        pub(crate) const CASES: &[crate::case::Case] = &[
            $( crate::case::Case {
                version: crate::harness::packet::Version::$version,
                name: stringify!($name),
                scenario: crate::scenarios::$($scenario)::+,
                fault: $fault,
                needs: list_of_cases!(@needs $($($flag),+)?),
            }, )+
        ];
    };
    (@needs) => { crate::case::Needs::Standard };
    (@needs $($flag:literal),+) => { crate::case::Needs::Settings(&[$($flag),+]) };
}
pub(crate) use list_of_cases;
