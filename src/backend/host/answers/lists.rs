//! The lists that operators ask for, a part at a time: clients, subscriptions, receivers of a topic, and ends of connections.

use std::net::IpAddr;

use engine::{DropReason, ReceiverCursor, SessionSummary, SubscriptionSummary, SurveyChanged};
use ipnet::IpNet;
use wire::TopicName;

use super::{Endpoint, Host, SLOTS_MAX};
use crate::admin::operator::{Answer, ClientFilter, ClientRow, Page, ReceiverRow, SubscriptionRow};
use crate::observe::connection_log::version;
use crate::process::clock;

impl<T: Endpoint> Host<T> {
    pub(super) fn clients(&self, from: u32, only: &ClientFilter) -> Answer {
        let Ok(network) = only.address.as_deref().map(network).transpose() else {
            return Answer::NotUnderstood;
        };
        let mut page = Page::default();
        let next =
            self.engine.borrow().visit_sessions(from, from.saturating_add(SLOTS_MAX), &mut |session| {
                if session.connection.is_none() || !self.is_meant(&session, only, network) {
                    return true;
                }
                page.take(session.client_id.len() + session.user.len(), || self.client_row(&session))
            });
        Answer::Clients { rows: page.into_rows(), next: self.place_of(next) }
    }

    pub(super) fn client(&self, client_id: &str) -> Answer {
        let engine = self.engine.borrow();
        let session = engine.session_of(client_id).map(|session| Box::new(self.client_row(&session)));
        let mut last_end = None;
        let (mut before, mut first) = (None, true);
        // The ring is short enough to be read at once for one client.
        while last_end.is_none() && (first || before.is_some()) {
            first = false;
            before = self.log.borrow().visit_closed(before, Some(client_id), &mut |closed| {
                last_end = Some(Box::new(closed));
                false
            });
        }
        if session.is_none() && last_end.is_none() {
            return Answer::NoSession;
        }
        Answer::Client { session, last_end }
    }

    fn is_meant(&self, session: &SessionSummary<'_>, only: &ClientFilter, network: Option<IpNet>) -> bool {
        let ClientFilter { user, listener, prefix, is_waited_for, .. } = only;
        let address = || session.connection.and_then(|id| self.peers.borrow().address(id.slot()));
        user.as_ref().is_none_or(|user| user == session.user)
            && prefix.as_ref().is_none_or(|prefix| session.client_id.starts_with(prefix.as_str()))
            && (!is_waited_for || session.waiting_bytes > 0)
            && network.is_none_or(|network| {
                address().is_some_and(|address| network.contains(&address.ip().to_canonical()))
            })
            && listener.as_ref().is_none_or(|name| self.listener_of(session).as_ref() == Some(name))
    }

    fn listener_of(&self, session: &SessionSummary<'_>) -> Option<String> {
        let socket = session.connection.and_then(|id| self.socket(id))?;
        self.log.borrow().listener(socket.listener).map(str::to_owned)
    }

    fn client_row(&self, session: &SessionSummary<'_>) -> ClientRow {
        let peers = self.peers.borrow();
        let peer = session.connection.and_then(|id| peers.address(id.slot()));
        let age_ms = session.connection.map(|id| peers.age_ms(id.slot(), self.clock.now().as_ms()));
        let lost = DropReason::ALL.into_iter().map(|reason| (reason, session.dropped[reason.index()]));
        let lost = lost.filter(|(_, count)| *count > 0);
        ClientRow {
            client: session.client_id.to_owned(),
            user: some(session.user),
            shard: self.number,
            connected: session.connection.is_some(),
            peer: peer.map(|peer| peer.to_string()),
            listener: self.listener_of(session),
            version: session.client.map(|client| version(client.version).to_owned()),
            since_us: age_ms.map(|age_ms| clock::unix_us().saturating_sub(age_ms * 1_000)),
            keep_alive_s: session.client.map(|client| client.keep_alive_s),
            packets_received: session.client.map(|client| client.packets_received),
            expiry_s: session.expiry_interval_s,
            subscriptions: session.subscription_count,
            inflight: session.inflight_count,
            queued: session.queued_count,
            waiting_bytes: session.waiting_bytes,
            matched: session.matched,
            delivered: session.delivered,
            dropped: lost.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        }
    }

    pub(super) fn subscriptions(&self, from: u32) -> Answer {
        let mut page = Page::default();
        let end = from.saturating_add(SLOTS_MAX);
        let next = self.engine.borrow().visit_subscriptions(from, end, &mut |subscription| {
            page.take(text_bytes(&subscription), || row(&subscription))
        });
        Answer::Subscriptions { rows: page.into_rows(), next: self.place_of(next) }
    }

    pub(super) fn subscriptions_of(&self, client_id: &str, from: Option<u32>) -> Answer {
        let engine = self.engine.borrow();
        if engine.session_of(client_id).is_none() {
            return Answer::NoSession;
        }
        let mut page = Page::default();
        let next = engine.visit_subscriptions_of(client_id, from, &mut |subscription| {
            page.take(text_bytes(&subscription), || row(&subscription))
        });
        match next {
            Ok(next) => Answer::Subscriptions {
                rows: page.into_rows(),
                next: next.map(|subscription| (self.number, subscription)),
            },
            Err(SurveyChanged) => Answer::Changed,
        }
    }

    pub(super) fn receivers(&self, topic: &str, (filter, list, position): (u32, u32, u32)) -> Answer {
        if TopicName::parse(topic).is_err() {
            return Answer::NotUnderstood;
        }
        let mut page = Page::default();
        let cursor = ReceiverCursor { filter, list, position };
        let next = self.engine.borrow_mut().visit_receivers(topic, cursor, &mut |receiver| {
            let session = &receiver.session;
            let group_bytes = receiver.share_name.map_or(0, str::len);
            let text_bytes = session.client_id.len() + session.user.len() + receiver.filter.len();
            page.take(text_bytes + group_bytes, || ReceiverRow {
                client: session.client_id.to_owned(),
                user: some(session.user),
                connected: session.connection.is_some(),
                filter: receiver.filter.to_owned(),
                group: receiver.share_name.map(str::to_owned),
                qos: receiver.options.qos as u8,
                may_read: receiver.may_read,
            })
        });
        let next = next.map(|next| (next.filter, next.list, next.position));
        Answer::Receivers { rows: page.into_rows(), next: self.place_of(next) }
    }

    pub(super) fn closed(&self, before: Option<u64>, client_id: Option<&str>) -> Answer {
        let mut page = Page::default();
        let next = self.log.borrow().visit_closed(before, client_id, &mut |closed| page.take(0, || closed));
        Answer::Closed { rows: page.into_rows(), next: self.place_of(next.map(Some)) }
    }
}

/// An address, or a network.
fn network(text: &str) -> Result<IpNet, ()> {
    let address = |text: &str| text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse().or_else(|_| address(text)).map_err(drop)
}

pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn text_bytes(subscription: &SubscriptionSummary<'_>) -> usize {
    let share_bytes = subscription.share_name.map_or(0, str::len);
    subscription.client_id.len() + subscription.filter.len() + share_bytes
}

fn row(subscription: &SubscriptionSummary<'_>) -> SubscriptionRow {
    let SubscriptionSummary { client_id, share_name, filter, options, identifier } = *subscription;
    SubscriptionRow {
        client: client_id.to_owned(),
        filter: share_name.map_or_else(|| filter.to_owned(), |name| format!("$share/{name}/{filter}")),
        qos: options.qos as u8,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: options.retain_handling as u8,
        identifier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_one() {
        for (text, inside, outside) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.0/24", "10.1.2.255", "10.1.3.0"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
        ] {
            let network = network(text).unwrap();
            let contains = |address: &str| network.contains(&address.parse::<IpAddr>().unwrap());
            assert!(contains(inside) && !contains(outside), "{text}");
        }
        assert!(network("10.1.2").is_err() && network("").is_err());
    }
}
