//! The requests of the control plane that an engine alone carries out: each is one event.

use engine::{Event, LiveLimits, SharedRules};

use super::{Endpoint, Host};
use crate::observe::sys_topics::SysMessage;

impl<T: Endpoint> Host<T> {
    /// Publishes `$SYS` messages.
    pub(in crate::backend) fn publish_sys(&self, messages: &[SysMessage]) {
        for (topic, payload) in messages {
            let payload = payload.as_bytes();
            let _nothing = self.step(Event::Sys { topic, payload });
        }
    }

    /// Puts rules about topics into force.
    pub(in crate::backend) fn change_rules(&self, rules: Option<&SharedRules>) {
        let _nothing = self.step(Event::Rules(rules));
    }

    /// Decides by these bounds from now on, and explains by them.
    pub(in crate::backend) fn change_limits(&self, limits: &LiveLimits) {
        self.log.borrow_mut().change_limits(limits);
        let _nothing = self.step(Event::Limits(limits));
    }
}
