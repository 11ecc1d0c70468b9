//! Sessions that come and go, as the groups see it that they are members of.

use super::super::subscriptions::{SubscriptionList, Target};
use super::Tree;

impl Tree {
    /// A session came online, went offline or changed whether it keeps messages. Its groups have new versions, and all others too:
    /// that takes the same time however many groups it is in. Others have to be told of each group: see [`Self::tell_next`].
    pub(crate) fn members_changed(&mut self, list: SubscriptionList) {
        if !list.has_shared() {
            return;
        }
        self.groups.touch_all();
        if let (true, Some(session), Some(first)) =
            (self.shares_names, self.subscriptions.session_of(list), list.first())
        {
            self.subscriptions.set_untold(session, first);
        }
    }

    /// Whether [`Self::tell_next`] is due for a session.
    pub(crate) fn is_untold(&self, session: u32) -> bool {
        self.subscriptions.is_untold(session)
    }

    /// Sessions for which [`Self::tell_next`] is due, for an audit.
    pub(crate) fn untold_count(&self) -> usize {
        self.subscriptions.untold_count()
    }

    /// Records the next group of a session for those with whom names are shared. Returns whether it was one; `None` once all are
    /// recorded.
    pub(crate) fn tell_next(&mut self, session: u32) -> Option<bool> {
        match self.subscriptions.next_untold(session)? {
            Target::Filter(_) => Some(false),
            Target::Group(group) => {
                self.record_group(group);
                Some(true)
            }
        }
    }
}
