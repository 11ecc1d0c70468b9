//! Users of lists that change: their clients are closed, and sessions of users that are gone end.

use engine::{CauseGroup, Event, Limits, UserGrant, Verdict};
use wire::{Packet, ProtocolVersion};

use crate::client::{Client, Got, Hello};
use crate::host::{Shard, run};
use crate::judging::{JUDGED, judge, limits};

/// A client of a user that a list recognises, or that only a token names.
fn connect(shard: &mut Shard, hello: &Hello<'_>, user: &str, is_listed: bool) -> Client {
    let client = shard.dial_on(JUDGED, hello);
    let grant = UserGrant { user: Some(user), is_listed, ..UserGrant::NOBODY };
    judge(shard, Verdict::Success { data: b"", grant: &grant });
    assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
    client
}

fn change(shard: &mut Shard, gone: &[&str], renewed: &[&str]) {
    let [gone, renewed] =
        [gone, renewed].map(|names| names.iter().map(|&name| name.into()).collect::<Vec<Box<str>>>());
    shard.raw_step(Event::Users { gone: &gone, renewed: &renewed });
    shard.settle();
}

#[test]
fn clients_of_users_that_are_gone_or_renewed_are_closed_and_the_others_stay() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        run(limits(), |shard| {
            let hello = |id| Hello::new(version, id).resume();
            let gone = connect(shard, &hello("1"), "gone", true);
            let renewed = connect(shard, &hello("2"), "renewed", true);
            let stays = connect(shard, &hello("3"), "stays", true);
            let token = connect(shard, &hello("4"), "gone", false);
            let nobody = shard.connect(&hello("5"));
            shard.pass_ms(1);
            change(shard, &["gone", "unknown"], &["renewed"]);
            for client in [gone, renewed] {
                assert_eq!(shard.ended(client), version.is_v5().then_some(0x87));
            }
            for client in [stays, token, nobody] {
                shard.send(client, &Packet::PingReq);
                assert_eq!(shard.take(client), [Got::PingResp]);
            }
            // The session of the one is gone, that of the other waits for its new password.
            assert_eq!((shard.engine.owner_of("1"), shard.engine.owner_of("2")), (None, Some("renewed")));
            assert_eq!(shard.engine.counters().closed[CauseGroup::Authentication.index()], 2);
            for (id, user) in [("2", "renewed"), ("3", "stays"), ("4", "gone")] {
                let client = connect(shard, &Hello::new(version, id), user, true);
                shard.goodbye(client);
            }
        });
    }
}

#[test]
fn sessions_without_a_connection_end_with_their_user_and_their_wills_are_due() {
    run(limits(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will", 0);
        let will = Hello::v5("1").resume().will_with("will", "gone", wire::QoS::AtMostOnce, false, 60);
        let client = connect(shard, &will, "ann", true);
        shard.hang_up(client);
        let client = connect(shard, &Hello::v5("2").resume(), "bob", true);
        shard.hang_up(client);
        change(shard, &["ann"], &["bob"]);
        assert_eq!((shard.engine.owner_of("1"), shard.engine.owner_of("2")), (None, Some("bob")));
        assert_eq!(shard.texts(watcher), ["gone"]);
    });
}

/// It stayed until its expiry, because only a verdict said that a list knew its user.
#[test]
fn a_session_that_was_recovered_ends_with_its_user() {
    let mut shard = Shard::with_log(limits(), 7, true);
    for (id, user) in [("1", "ann"), ("2", "bob")] {
        let client = connect(&mut shard, &Hello::v5(id).resume(), user, true);
        shard.hang_up(client);
    }
    let mut shard = shard.log.recovered(shard.log.batch_count(), shard.now().as_ms());
    change(&mut shard, &["ann"], &["bob"]);
    assert_eq!((shard.engine.owner_of("1"), shard.engine.owner_of("2")), (None, Some("bob")));
    shard.finish();
}

/// A client that comes while sessions are visited was judged by the new list.
#[test]
fn a_client_that_came_after_the_change_is_left_alone_and_visits_are_bounded() {
    run(Limits { step_work_max: 40, ..limits() }, |shard| {
        let names: Vec<String> = (0..200).map(|number| format!("c{number}")).collect();
        let clients: Vec<Client> =
            names.iter().map(|name| connect(shard, &Hello::v5(name).resume(), "ann", true)).collect();
        shard.pass_ms(1);
        shard.ticks = false;
        let renewed: [Box<str>; 1] = ["ann".into()];
        shard.raw_step(Event::Users { gone: &[], renewed: &renewed });
        shard.settle();
        shard.tick();
        let closed = |shard: &Shard| clients.iter().filter(|&&client| shard.is_closed(client)).count();
        assert!((1..100).contains(&closed(shard)), "{}", closed(shard));
        shard.pass_ms(1);
        let late = connect(shard, &Hello::v5("c199").resume(), "ann", true);
        shard.ticks = true;
        shard.settle();
        shard.advance_ms(1);
        assert_eq!(closed(shard), 200, "the last one by the new one with its identifier");
        shard.send(late, &Packet::PingReq);
        assert_eq!(shard.take(late), [Got::PingResp]);
        for name in &names {
            let client = connect(shard, &Hello::v5(name), "ann", true);
            shard.goodbye(client);
        }
    });
}

#[test]
fn a_client_whose_certificate_is_revoked_is_told_and_its_session_goes_on() {
    run(limits(), |shard| {
        let client = connect(shard, &Hello::v5("1").resume(), "ann", false);
        let connection = shard.id(client);
        shard.raw_step(Event::Revoked { connection });
        shard.settle();
        assert_eq!(shard.ended(client), Some(0x98));
        shard.hang_up(client);
        assert_eq!(shard.engine.owner_of("1"), Some("ann"));
        let stale = shard.engine.counters().stale;
        shard.raw_step(Event::Revoked { connection });
        assert_eq!(shard.engine.counters().stale, stale + 1);
        let client = connect(shard, &Hello::v5("1"), "ann", false);
        shard.goodbye(client);
    });
}
