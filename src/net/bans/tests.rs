//! The tests of the bans.

use std::fs;

use super::counts::{COUNTED_MAX, GROUP_COUNTED_MAX};
use super::*;
use crate::process::scratch::Scratch;

fn bans(failures_max: u32, address_failures_max: u32, flapping_max: u32) -> Bans {
    let config = BansConfig { failures_max, address_failures_max, flapping_max, ..BansConfig::default() };
    Bans::of(Some(&config))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const NONE: Lift = Lift { address: None, user: None, client_id: None };

#[test]
fn failures_of_one_name_from_one_address_ban_this_pair_only() {
    let bans = bans(3, 0, 0);
    let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
    for (now_ms, banned) in [(0, false), (1_000, false), (59_999, true)] {
        bans.count_failure(one, Some("ann"), now_ms);
        assert_eq!(bans.has_user(one, "ann"), banned);
    }
    assert!(!bans.has_user(one, "bob") && !bans.has_client(one, None, "ann"));
    assert!(!bans.has_user(other, "ann") && !bans.has_address(one));
    assert_eq!((bans.count(), bans.list(0, 10).len(), bans.list(1, 10).len()), (1, 1, 0));
    // A client that sends no name has none that could be banned.
    for _ in 0..100 {
        bans.count_failure(other, None, 0);
    }
    assert_eq!(bans.count(), 1);
}

#[test]
fn failures_add_up_within_a_window_only() {
    let bans = bans(2, 0, 0);
    let one = address("192.0.2.1");
    for now_ms in [0, 60_000, 120_000] {
        bans.count_failure(one, Some("ann"), now_ms);
        assert!(!bans.has_user(one, "ann"));
    }
    bans.count_failure(one, Some("ann"), 120_001);
    assert!(bans.has_user(one, "ann"));
}

#[test]
fn addresses_have_a_key_of_their_own() {
    let by_address = bans(0, 3, 0);
    let one = address("2001:db8::1");
    for user in [Some("a"), None, Some("b")] {
        assert!(!by_address.has_address(one));
        by_address.count_failure(one, user, 0);
    }
    assert!(
        by_address.has_address(address("2001:db8::ffff"))
            && !by_address.has_address(address("2001:db8:0:1::"))
    );
    assert_eq!(by_address.list(0, 9)[0].subject.shown(), "address=2001:db8::/64");
}

#[test]
fn an_identifier_is_banned_for_the_user_that_flaps_with_it_and_for_no_other() {
    let (home, away) = (address("2001:db8::1"), address("192.0.2.1"));
    let pumps = |bans: &Bans| {
        let has = |address, user| bans.has_client(address, user, "pump");
        [
            has(away, Some("ann")),
            has(home, Some("ann")),
            has(home, Some("eve")),
            has(home, None),
            has(away, None),
        ]
    };
    let bans = bans(0, 0, 2);
    for (user, expected) in [
        (Some("eve"), [false, false, true, false, false]),
        (None, [false, false, true, true, false]),
        (Some("ann"), [true, true, true, true, false]),
    ] {
        bans.count_connection(home, user, "pump", 0);
        bans.count_connection(home, user, "valve", 0);
        assert_ne!(pumps(&bans), expected);
        bans.count_connection(home, user, "pump", 1);
        assert_eq!(pumps(&bans), expected);
        assert!(!bans.has_client(home, user, "valve"));
    }
    assert!(bans.has_client(address("2001:db8::ffff"), None, "pump"), "the same network");
    let shown: Vec<String> = bans.list(0, 9).iter().map(|ban| ban.subject.shown()).collect();
    let expected = [
        r#"client="pump" user="ann""#,
        r#"client="pump" user="eve""#,
        r#"client="pump" address=2001:db8::/64"#,
    ];
    assert_eq!(shown, expected);
}

#[test]
fn bans_are_lifted_by_what_they_are_about() {
    let lifted = |lift: Lift| {
        let bans = bans(1, 1, 1);
        bans.count_failure(address("192.0.2.1"), Some("ann"), 0);
        bans.count_failure(address("192.0.2.2"), Some("ann"), 0);
        bans.count_connection(address("192.0.2.1"), Some("ann"), "pump", 0);
        bans.count_connection(address("192.0.2.1"), None, "pump", 0);
        assert_eq!(bans.count(), 6);
        let lifted = bans.lift(&lift);
        assert_eq!(bans.count(), 6 - lifted as u64);
        lifted
    };
    let one = Some(address("192.0.2.1"));
    assert_eq!(lifted(NONE), 6);
    assert_eq!(lifted(Lift { address: one, ..NONE }), 3);
    assert_eq!(lifted(Lift { address: one, user: Some("ann".to_owned()), ..NONE }), 1);
    assert_eq!(lifted(Lift { user: Some("ann".to_owned()), ..NONE }), 3);
    assert_eq!(lifted(Lift { client_id: Some("pump".to_owned()), ..NONE }), 2);
    assert_eq!(lifted(Lift { client_id: Some("valve".to_owned()), ..NONE }), 0);
}

#[test]
fn bans_outlive_the_process_and_a_damaged_file_is_kept_aside() {
    let scratch = Scratch::new("bans");
    let file = scratch.path().join("bans.json");
    let before = bans(1, 1, 1);
    before.second(scratch.path());
    assert!(!file.exists(), "nothing has changed");
    before.count_failure(address("192.0.2.1"), Some("ann\n"), 0);
    before.count_connection(address("192.0.2.1"), Some("ann"), "pump", 0);
    before.count_connection(address("192.0.2.1"), None, "pump", 0);
    before.second(scratch.path());
    let after = bans(1, 1, 1);
    let _same = after.load(scratch.path());
    assert_eq!((after.count(), after.list(0, 9)), (4, before.list(0, 9)));
    assert!(after.has_user(address("192.0.2.1"), "ann\n"));
    after.lift(&NONE);
    after.second(scratch.path());
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), "[]");
    for content in ["", "{", "[{\"address\":{\"address\":\"here\"},\"until_s\":1}]", "\0"] {
        fs::write(&file, content).unwrap();
        let damaged = bans(1, 1, 1);
        let _same = damaged.load(scratch.path());
        assert!(damaged.count() == 0 && !file.exists(), "{content:?}");
        assert_eq!(fs::read_to_string(scratch.path().join("bans.json.damaged")).unwrap(), content);
    }
    // A ban that has ended meanwhile is none.
    fs::write(&file, "[{\"client\":{\"user\":\"ann\",\"client_id\":\"pump\"},\"until_s\":1}]").unwrap();
    let ended = bans(1, 1, 1);
    let _same = ended.load(scratch.path());
    assert_eq!(ended.count(), 0);
}

#[test]
fn counts_and_bans_are_bounded() {
    let counting = bans(2, 0, 0);
    let one = address("192.0.2.1");
    for number in 0..4 * GROUP_COUNTED_MAX {
        counting.count_failure(one, Some(&number.to_string()), 0);
    }
    assert_eq!(counting.0.as_ref().unwrap().lock().counts.len(), GROUP_COUNTED_MAX);
    let banning = bans(1, 0, 0);
    let long = "x".repeat(70_000);
    for number in 0..=BANS_MAX {
        let address =
            IpAddr::from(0xC000_0000_u32.wrapping_add(u32::try_from(number).unwrap()).to_be_bytes());
        banning.count_failure(address, Some(&format!("{number}{long}")), 0);
        if number == BANS_MAX {
            assert!(banning.has_user(address, &format!("{number}{long}")));
        }
    }
    assert_eq!(banning.count(), BANS_MAX as u64);
    assert!(banning.memory_bytes() < 16 * 1024 * 1024, "{}", banning.memory_bytes());
}

/// A flood of names that fail once made room by forgetting every count, so that nobody was ever banned beside it.
#[test]
fn names_that_are_invented_make_no_failure_of_others_forgotten() {
    let bans = bans(3, 0, 0);
    let (one, crowd) =
        (address("192.0.2.1"), |number: u32| IpAddr::from((0x0A00_0000 + number).to_be_bytes()));
    let fail_once = |count: u32, now_ms| {
        for number in 0..count {
            bans.count_failure(crowd(number / 8), Some(&number.to_string()), now_ms);
        }
    };
    bans.count_failure(one, Some("ann"), 0);
    bans.count_failure(one, Some("ann"), 1);
    fail_once(u32::try_from(COUNTED_MAX).unwrap() + 5_000, 2);
    assert_eq!(bans.0.as_ref().unwrap().lock().counts.len(), COUNTED_MAX);
    // Nor those that come from the same address.
    for number in 0..2 * GROUP_COUNTED_MAX {
        bans.count_failure(one, Some(&number.to_string()), 3);
    }
    assert_eq!((bans.count(), bans.has_user(one, "ann")), (0, false));
    bans.count_failure(one, Some("ann"), 4);
    assert_eq!((bans.count(), bans.has_user(one, "ann")), (1, true));
    // Failures whose window is over make room first: a subject that fails now is still counted after as many more.
    bans.count_failure(one, Some("bob"), 70_000);
    fail_once(1_000, 70_001);
    bans.count_failure(one, Some("bob"), 70_002);
    bans.count_failure(one, Some("bob"), 70_003);
    assert!(bans.has_user(one, "bob"));
}

/// Names are invented for nothing, so those of one peer are not to lift the bans of others.
#[test]
fn names_that_are_invented_lift_no_ban_of_others() {
    let bans = bans(1, 0, 1);
    let (neighbours, eve) = ([address("192.0.2.1"), address("192.0.2.3")], address("192.0.2.2"));
    bans.count_connection(eve, Some("ann"), "pump", 0);
    for neighbour in neighbours {
        bans.count_failure(neighbour, Some("ann"), 0);
    }
    let groups = [
        |bans: &Bans, eve, name: &str| bans.count_failure(eve, Some(name), 0),
        |bans: &Bans, eve, name: &str| bans.count_connection(eve, Some("eve"), name, 0),
        |bans: &Bans, eve, name: &str| bans.count_connection(eve, None, name, 0),
    ];
    for (number, count) in groups.iter().enumerate() {
        for name in 0..=BANS_MAX {
            count(&bans, eve, &name.to_string());
        }
        assert_eq!(bans.count(), (3 + (number + 1) * GROUP_BANS_MAX) as u64);
    }
    assert!(neighbours.iter().all(|neighbour| bans.has_user(*neighbour, "ann")));
    assert!(bans.has_client(eve, Some("ann"), "pump"));
    let newest = &BANS_MAX.to_string();
    assert!(bans.has_user(eve, newest) && bans.has_client(eve, Some("eve"), newest));
    assert!(bans.has_client(eve, None, newest));
}

#[test]
fn without_the_table_nobody_is_banned_but_by_the_operator() {
    let bans = Bans::of(None);
    let one = address("192.0.2.1");
    for _ in 0..1_000 {
        bans.count_failure(one, Some("ann"), 0);
        bans.count_connection(one, None, "pump", 0);
    }
    assert!(!bans.has_address(one) && !bans.has_user(one, "ann") && !bans.has_client(one, None, "pump"));
    assert_eq!((bans.count(), bans.lift(&NONE)), (0, 0));
    let subject = Subject::of(Some(one), Some("ann"), None).unwrap();
    bans.ban(Ban { subject, until_s: clock::unix_s() + 100 });
    assert!(bans.has_user(one, "ann") && !bans.has_user(one, "bob") && !bans.has_address(one));
    bans.count_failure(one, Some("bob"), 0);
    assert_eq!((bans.count(), bans.lift(&NONE), bans.count()), (1, 1, 0));
    assert_eq!(Subject::of(Some(one), Some("ann"), Some("pump")), None);
    assert_eq!(Subject::of(None, Some("ann"), None), None);
}

#[test]
fn a_reload_changes_what_is_counted_and_lifts_nothing() {
    let bans = Bans::of(None);
    let one = address("192.0.2.1");
    let fail = || (0..3).for_each(|_| bans.count_failure(one, Some("ann"), 0));
    fail();
    assert_eq!(bans.count(), 0, "nothing is counted without [bans]");
    bans.change(Some(&BansConfig { failures_max: 3, ..BansConfig::default() }));
    fail();
    assert!(bans.has_user(one, "ann"));
    bans.change(None);
    (0..3).for_each(|_| bans.count_failure(one, Some("bob"), 0));
    assert!(bans.has_user(one, "ann") && !bans.has_user(one, "bob"));
}
