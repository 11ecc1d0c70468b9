//! Export and restoration of the sessions that outlive the process.

use alloc::string::String;
use alloc::vec::Vec;

use super::Rooms;
use crate::base::time::Instant;
use crate::message::user_name::UserName;
use crate::session::Session;
use crate::session::access::Access;
use crate::session::replays::ReplayTerms;
use crate::session::snapshot::{SessionExpiry, SessionRecord, SubscriptionRecord};
use crate::timer::Timers;
use crate::turn::Turn;

impl Rooms {
    /// See [`super::Engine::export`].
    pub(super) fn export(
        &self,
        timers: &Timers,
        now: Instant,
        from: u32,
        sessions_max: u32,
        records: &mut Vec<SessionRecord>,
    ) -> Option<u32> {
        let sessions = &self.delivery.sessions;
        let end = from.saturating_add(sessions_max).min(sessions.slot_count());
        let known = |index| Some((index, sessions.get(sessions.id_at(index)?)?));
        for (index, session) in (from..end).filter_map(known) {
            let list = session.subscriptions();
            if !session.is_persistent() || session.has_ended() || list.count() == 0 {
                continue;
            }
            records.push(self.session_record(timers, now, index, session));
        }
        (end < sessions.slot_count()).then_some(end)
    }

    /// The session in a slot, and its subscriptions.
    pub(super) fn session_record(
        &self,
        timers: &Timers,
        now: Instant,
        index: u32,
        session: &Session,
    ) -> SessionRecord {
        let (list, sessions) = (session.subscriptions(), &self.delivery.sessions);
        let mut subscriptions = Vec::with_capacity(list.count() as usize);
        self.topics.for_each(list, |share_name, filter, member| {
            subscriptions.push(SubscriptionRecord::new(share_name, filter, member));
        });
        assert!(subscriptions.len() == list.count() as usize);
        let expiry = Some(session.expiry(timers, now));
        let user = sessions.users().name_of(sessions.user_at(index)).name();
        let user = (!user.is_empty()).then(|| user.into());
        let client_id = session.client_id().into();
        SessionRecord { client_id, user, expiry, subscriptions }
    }

    /// See [`super::Engine::restore`].
    pub(super) fn restore(&mut self, turn: &mut Turn<'_>, record: &SessionRecord) -> Result<(), String> {
        let parsed: Result<Vec<_>, String> =
            record.subscriptions.iter().map(SubscriptionRecord::parse).collect();
        let parsed = parsed?;
        let sessions = &mut self.delivery.sessions;
        let known = sessions.find(&record.client_id);
        if known.is_some() && !turn.is_recording() {
            return Ok(());
        }
        let given = record
            .expiry
            .unwrap_or(SessionExpiry { interval_s: turn.limits.default_session_expiry_s, passed_s: 0 });
        // The operator may have lowered the maximum since.
        let interval_s = given.interval_s.min(turn.limits.session_expiry_s_max).max(1);
        // The log may end within a session that was restored before a crash: its subscriptions are taken again.
        let id = known.unwrap_or_else(|| {
            let id = sessions.restore(turn, &record.client_id, SessionExpiry { interval_s, ..given });
            let user = record.user.as_deref().unwrap_or_default();
            sessions.set_user(id, UserName::new(user));
            // As in recovery: if a list that has this user loses it, the session ends.
            sessions.set_access(id, Access::of_user(record.user.as_deref(), true));
            id
        });
        let list = sessions.of_connection(id).subscriptions_mut();
        for (filter, options, identifier) in &parsed {
            self.topics.subscribe(list, id.index(), filter, *options, *identifier);
        }
        assert!(known.is_some() || list.count() as usize <= parsed.len());
        if turn.is_recording() {
            if known.is_none() {
                self.record_session(turn, id);
            }
            for &(filter, options, identifier) in &parsed {
                self.record_subscribed(turn, id, &filter, ReplayTerms { options, identifier }, false);
            }
            if known.is_none() {
                // Of its time without a connection, this much has passed.
                let passed_ms = u64::from(given.passed_s.min(interval_s - 1)) * 1_000;
                let since = Instant::from_ms(turn.now.as_ms().saturating_sub(passed_ms));
                self.record_detached(turn, id, since);
            }
        }
        Ok(())
    }
}
