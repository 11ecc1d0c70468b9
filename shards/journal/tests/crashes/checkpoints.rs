//! Logs with checkpoints that crash while these are written, named and cleared up after.

use journal::{Checkpoint, DamageKind, File, Recovery, SECTOR_BYTES};

use super::{Crash, Failure, IDENTITY, SETTINGS, World, long_log, seeds};

/// A world with checkpoints.
fn world(seed: u64) -> World {
    World { has_checkpoints: true, ..World::new(seed) }
}

#[test]
fn no_crash_loses_or_changes_the_state_that_a_checkpoint_and_its_log_lead_to() {
    let (mut crashes, mut checkpoints, mut recovered, mut deleted) = (0, 0, 0, 0);
    for seed in seeds() {
        let mut world = world(seed);
        for _ in 0..1_500 {
            world.step();
            if world.dice.one_in(120) {
                let crash = if world.dice.one_in(3) { Crash::Process } else { Crash::Power };
                world.crash(crash);
                recovered += u64::from(world.writer.checkpoint().is_some());
                crashes += 1;
            }
        }
        world.settle();
        let used: Vec<u64> = world.disk.segments().map(|(number, _)| number).collect();
        assert!(used.len() < 20, "segments stay: {used:?}");
        checkpoints += world.checkpoints;
        deleted += world.disk.deleted;
        world.crash(Crash::Power);
    }
    assert!(crashes > 300 && checkpoints > 200 && recovered > 100, "{crashes} {checkpoints} {recovered}");
    assert!(deleted > 300, "{deleted}");
}

#[test]
fn a_checkpoint_that_fails_costs_nothing_but_room_and_is_tried_again() {
    let mut refused = 0;
    for seed in seeds().take(100) {
        let mut world = world(seed);
        world.failure = Failure::Drafts;
        for _ in 0..600 {
            world.step();
        }
        refused += u64::from(world.writer.progress().checkpoint_refused.is_some());
        assert_eq!(world.writer.progress().poisoned, None);
        assert_eq!(world.writer.checkpoint(), None);
        world.failure = Failure::None;
        world.now_us += SETTINGS.checkpoint_retry_delay_us;
        for _ in 0..600 {
            world.step();
        }
        world.now_us += SETTINGS.checkpoint_retry_delay_us;
        world.settle();
        world.settle();
        assert!(world.writer.checkpoint().is_some());
        assert_eq!(world.writer.progress().checkpoint_refused, None);
        world.crash(Crash::Power);
    }
    assert!(refused > 30, "{refused}");
}

/// A log behind a checkpoint, at rest.
fn checkpointed(seed: u64) -> World {
    let mut world = world(seed);
    while world.writer.checkpoint().is_none() || world.records.len() < 30 {
        let length = 500 + world.dice.below(3_000);
        world.append(length);
        world.settle();
    }
    world.append(10);
    world.settle();
    world
}

#[test]
fn a_changed_or_cut_checkpoint_is_refused_or_the_state_is_the_same() {
    let mut world = checkpointed(7);
    let position = world.writer.checkpoint().unwrap().position;
    let file = File::Checkpoint(position);
    let length = world.disk.files().find(|(name, _)| *name == file).unwrap().1.len();
    let (whole, _) = world.start().unwrap();
    assert_eq!(whole.checkpoint.unwrap().position, position);
    let (mut refused, mut unchanged) = (0, 0);
    for byte in (0..length).step_by(17) {
        let bit = u8::try_from(byte % 8).unwrap();
        world.disk.flip(file, byte, bit);
        match world.start() {
            Err(damage) => {
                assert_eq!(damage.file, file);
                refused += 1;
            }
            Ok((found, _)) => {
                assert!(found.state == whole.state, "{byte}");
                unchanged += 1;
            }
        }
        world.disk.flip(file, byte, bit);
    }
    assert!(refused > 100 && unchanged > 100, "{refused} {unchanged}");
    // The segments before it are deleted, so nothing takes its place.
    for length in [length - 1, length - SECTOR_BYTES, SECTOR_BYTES, 10, 0] {
        world.disk.truncate(file, length);
        let damage = world.start().err().unwrap();
        assert_eq!((damage.file, damage.kind), (file, DamageKind::End));
    }
}

#[test]
fn a_log_that_ends_before_its_checkpoint_is_damage() {
    let mut world = checkpointed(8);
    let segments: Vec<u64> = world.disk.segments().map(|(number, _)| number).collect();
    for segment in segments {
        world.disk.remove(File::Segment(segment));
    }
    let damage = world.start().err().unwrap();
    assert_eq!(
        (damage.file, damage.kind),
        (File::Checkpoint(world.writer.checkpoint().unwrap().position), DamageKind::Short)
    );
}

#[test]
fn a_checkpoint_of_another_log_or_a_later_version_is_refused() {
    let mut world = checkpointed(9);
    let file = File::Checkpoint(world.writer.checkpoint().unwrap().position);
    world.disk.flip(file, 13, 0);
    assert_eq!(world.start().err().unwrap().kind, DamageKind::Format(1 + (1 << 8)));
    world.disk.flip(file, 13, 0);
    let other = journal::LogIdentity { shard: 0, ..IDENTITY };
    let damage = super::state::start(other, &world.disk).err().unwrap();
    assert_eq!((damage.file, damage.kind), (file, DamageKind::Foreign));
}

#[test]
fn a_log_is_read_from_a_checkpoint_on_and_no_earlier() {
    let world = long_log(3);
    let (whole, end) = world.recover().unwrap();
    let mut positions = Vec::new();
    let mut recovery = Recovery::new(IDENTITY, None);
    for (number, bytes) in world.disk.segments() {
        recovery.segment(number, bytes, &mut |position, _, _| positions.push(position)).unwrap();
    }
    assert!(positions.is_sorted() && positions.len() == whole.len());
    for skipped in [0, 1, whole.len() / 2, whole.len() - 1] {
        let position = positions[skipped];
        let checkpoint = Checkpoint { position, as_of: position, ..Checkpoint::default() };
        let mut recovery = Recovery::new(IDENTITY, Some(checkpoint));
        let mut found = Vec::new();
        let first = recovery.skip(world.disk.segments());
        for (number, bytes) in world.disk.segments().filter(|&(number, _)| number >= first) {
            recovery.segment(number, bytes, &mut |_, kind, body| found.push((kind, body.to_vec()))).unwrap();
        }
        assert!(found == whole[skipped..], "from {skipped}");
        let found = recovery.finish().unwrap();
        assert_eq!(found.position, end.position);
        assert!(
            found.segments[0].1 <= position
                && found.segments.len() + found.unneeded.len() >= end.segments.len()
        );
    }
    // A checkpoint that knows more than the log has.
    let checkpoint = Checkpoint { position: positions[1], as_of: end.position + 1, ..Checkpoint::default() };
    let mut recovery = Recovery::new(IDENTITY, Some(checkpoint));
    for (number, bytes) in world.disk.segments() {
        recovery.segment(number, bytes, &mut |_, _, _| {}).unwrap();
    }
    assert_eq!(recovery.finish().unwrap_err().kind, DamageKind::Commit);
    // Without a checkpoint the beginning is needed.
    let (number, bytes) = world.disk.segments().nth(2).unwrap();
    let error = Recovery::new(IDENTITY, None).segment(number, bytes, &mut |_, _, _| {}).unwrap_err();
    assert_eq!((error.file, error.kind), (File::Segment(number), DamageKind::Segment));
}

#[test]
fn short_commits_make_a_checkpoint_due_by_the_room_that_they_take() {
    let mut world = World::new(10);
    let (mut commits, growth_bytes) = (0, SETTINGS.checkpoint_growth_bytes);
    while !world.writer.is_checkpoint_due(world.now_us) {
        world.append(10);
        world.settle();
        commits += 1;
        assert!(commits * (SECTOR_BYTES as u64) < growth_bytes + SETTINGS.segment_bytes);
    }
    // Each begins with a sector, and so does each segment.
    assert!(
        commits * 2 * SECTOR_BYTES as u64 > growth_bytes && world.writer.end() < growth_bytes / 10,
        "{commits}"
    );
}

#[test]
fn the_time_of_a_log_is_known_although_no_commit_behind_its_checkpoint_is_whole() {
    let mut world = World::new(11);
    world.writer.set_clocks(5_000, 9_000);
    world.append(10);
    world.settle();
    // Another start begins a segment at the position of the checkpoint.
    world.crash(Crash::Power);
    world.settle();
    world.writer.begin_checkpoint();
    world.cursor = Some(super::Cursor::default());
    world.settle();
    world.append(10);
    world.settle();
    let position = world.writer.checkpoint().unwrap().position;
    // The next one may be prepared already.
    let written = |bytes: &[u8]| bytes.iter().skip(SECTOR_BYTES).any(|&byte| byte != 0);
    let last = world.disk.segments().filter(|(_, bytes)| written(bytes)).last().unwrap().0;
    world.disk.flip(File::Segment(last), SECTOR_BYTES + 60, 0);
    let (_, end) = world.recover().unwrap();
    assert_eq!(end.position, position);
    assert_eq!((end.broker_ms, end.wall_ms), (5_000, 9_000));
}

#[test]
fn segments_grow_from_the_first_to_the_longest_and_begin_short_again_with_the_next_start() {
    let mut world = World::new(12);
    let lengths =
        |world: &World| -> Vec<usize> { world.disk.segments().map(|(_, bytes)| bytes.len()).collect() };
    let (first, longest) = (16 * 1024, 32 * 1024);
    while world.disk.segments().count() < 4 {
        world.append(2_000);
        world.settle();
    }
    assert_eq!(lengths(&world), [first, longest, longest, longest]);
    world.crash(Crash::Power);
    world.settle();
    assert_eq!(lengths(&world).last(), Some(&first));
}
