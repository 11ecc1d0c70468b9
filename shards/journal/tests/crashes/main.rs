//! A writer on a disk that crashes, recovered again and again: what was durable is there, what is there was appended, and the
//! order is that of the appends. The same holds for the state that the records lead to, with checkpoints.

mod checkpoints;
mod dice;
mod disk;
mod state;

use journal::{
    Batch, Damage, DamageKind, File, LogIdentity, Recovered, Recovery, Settings, Writer, encode_record,
};

use dice::Dice;
use disk::{Crash, Disk, Failure};
use state::{Cursor, Found, State};

const IDENTITY: LogIdentity = LogIdentity { log: [9; 16], shard: 1, shard_count: 2, generation: 3 };

const SETTINGS: Settings = Settings {
    segment_bytes: 32 * 1024,
    first_segment_bytes: 16 * 1024,
    commit_bytes: 6 * 1024,
    commit_delay_us: 500,
    unawaited_delay_us: 50_000,
    writes_max: 2,
    unsynced_bytes_max: 64 * 1024,
    retry_delay_us: 1_000_000,
    checkpoint_growth_bytes: 48 * 1024,
    checkpoint_retry_delay_us: 1_000_000,
};

type Record = (u8, Vec<u8>);

/// A log, its disk, and what should be in it.
struct World {
    dice: Dice,
    disk: Disk,
    writer: Writer,
    /// Records that were appended and not lost, each the end of a batch of its number.
    records: Vec<Record>,
    /// Their ends in the stream.
    ends: Vec<u64>,
    /// The state that they lead to.
    state: State,
    /// How far the checkpoint has come that is under way.
    cursor: Option<Cursor>,
    /// Whether checkpoints are begun when they are due.
    has_checkpoints: bool,
    checkpoints: u64,
    start: u32,
    now_us: u64,
    failure: Failure,
}

impl World {
    fn new(seed: u64) -> Self {
        let writer = Writer::new(SETTINGS, Recovered::nothing(IDENTITY), 1);
        Self {
            dice: Dice::new(seed),
            disk: Disk::default(),
            writer,
            records: Vec::new(),
            ends: Vec::new(),
            state: State::default(),
            cursor: None,
            has_checkpoints: false,
            checkpoints: 0,
            start: 1,
            now_us: 0,
            failure: Failure::None,
        }
    }

    fn append(&mut self, length: usize) {
        if !self.writer.has_room() || self.writer.progress().poisoned.is_some() {
            return;
        }
        let number = self.records.len() as u64 + 1;
        let mut body = number.to_le_bytes().to_vec();
        body.resize(8 + length, number.to_le_bytes()[0]);
        let kind = 1 + number.to_le_bytes()[0] % 15;
        let is_awaited = !self.dice.one_in(4);
        self.writer.append(self.now_us, Batch(number), is_awaited, |out| encode_record(out, kind, &body));
        self.state.apply(kind, &body);
        self.records.push((kind, body));
        self.ends.push(self.writer.end());
    }

    /// Does a piece of a checkpoint, if one is due.
    fn checkpoint(&mut self) {
        if self.has_checkpoints && self.writer.is_checkpoint_due(self.now_us) {
            self.writer.begin_checkpoint();
            self.cursor = Some(Cursor::default());
        }
        if self.writer.wants_slice()
            && let Some(cursor) = &mut self.cursor
        {
            let mut records = Vec::new();
            let is_whole = self.state.slice(cursor, 1 + self.dice.below(3), &mut records);
            self.writer.append_slice(&records);
            if is_whole {
                self.cursor = None;
                self.writer.finish_checkpoint();
                self.checkpoints += 1;
            }
        }
        if !self.writer.is_checkpointing() {
            self.cursor = None;
        }
    }

    fn poll(&mut self) {
        let would_sleep = self.dice.one_in(3);
        while let Some(io) = self.writer.poll(self.now_us, would_sleep) {
            self.disk.ask(io);
        }
    }

    fn work(&mut self) {
        let before = self.writer.progress();
        if let Some(done) = self.disk.work(&mut self.dice, self.failure) {
            self.writer.complete(done.id, done.result, done.block);
        }
        let after = self.writer.progress();
        assert!(before.synced <= after.synced && before.written <= after.written);
        assert!(after.synced <= after.written);
        assert!(before.poisoned.is_none() || before == after, "a poisoned log goes nowhere");
    }

    /// Does everything that is due.
    fn settle(&mut self) {
        loop {
            self.now_us += 60_000;
            self.checkpoint();
            self.poll();
            if self.disk.is_idle() {
                break;
            }
            self.work();
        }
    }

    fn step(&mut self) {
        self.now_us += self.dice.next() % 400;
        match self.dice.below(8) {
            0..=2 => {
                let length = match self.dice.below(40) {
                    0 => 20_000 + self.dice.below(40_000),
                    1..=8 => self.dice.below(5_000),
                    _ => self.dice.below(200),
                };
                self.append(length);
            }
            3 => self.checkpoint(),
            4 => self.poll(),
            _ => self.work(),
        }
    }

    fn recover(&self) -> Result<(Vec<Record>, Recovered), Damage> {
        self.start().map(|(found, end)| (found.records, end))
    }

    fn start(&self) -> Result<(Found, Recovered), Damage> {
        state::start(IDENTITY, &self.disk)
    }

    fn crash(&mut self, crash: Crash) {
        let progress = self.writer.progress();
        self.disk.crash(&mut self.dice, crash);
        let (found, end) = self.start().unwrap_or_else(|damage| panic!("{crash:?} is no damage: {damage}"));
        let promised = match crash {
            Crash::Process => progress.written,
            Crash::Power => progress.synced,
        };
        let count = self.ends.iter().take_while(|&&record| record <= end.position).count();
        assert!(count as u64 >= promised.0, "{count} of {promised:?} after {crash:?}");
        assert!(end.position == self.ends[..count].last().copied().unwrap_or(0));
        let first = count - found.records.len();
        assert!(
            found.records == self.records[first..count],
            "records that were never appended in that order"
        );
        self.records.truncate(count);
        self.ends.truncate(count);
        let mut expected = State::default();
        self.records.iter().for_each(|(kind, body)| expected.apply(*kind, body));
        assert!(found.state == expected, "the state after {crash:?} is not that of its {count} records");
        self.state = expected;
        self.cursor = None;
        self.start += 1;
        self.failure = Failure::None;
        self.writer = Writer::new(SETTINGS, end, self.start);
    }
}

/// A release build has time for more.
fn seeds() -> impl Iterator<Item = u64> {
    1..=if cfg!(debug_assertions) { 60 } else { 2_000 }
}

#[test]
fn no_crash_loses_what_was_durable_or_invents_anything() {
    let (mut crashes, mut records) = (0, 0);
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..1_200 {
            world.step();
            if world.dice.one_in(150) {
                let crash = if world.dice.one_in(3) { Crash::Process } else { Crash::Power };
                world.crash(crash);
                crashes += 1;
            }
        }
        world.settle();
        let progress = world.writer.progress();
        assert_eq!((progress.poisoned, progress.degraded), (None, None));
        assert_eq!(world.writer.unsynced_bytes(), 0);
        records += world.records.len();
        let (found, _) = world.recover().unwrap();
        assert!(found == world.records);
    }
    assert!(crashes > 300 && records > 5_000, "{crashes} crashes, {records} records");
}

/// Two segments were written at the same time and neither was durable. The power was cut, and the first lost its header: the log was
/// called damaged, although nothing in it had been promised.
#[test]
fn a_log_may_lose_its_first_segment_while_nothing_is_durable() {
    let mut both = 0;
    for seed in 1..=1_000 {
        let mut world = World::new(seed);
        while world.disk.segments().count() < 2 && world.writer.progress().synced == Batch(0) {
            world.append(20_000);
            world.poll();
            world.work();
        }
        for _ in 0..world.dice.below(20) {
            world.now_us += 1_000;
            world.poll();
            world.work();
        }
        if world.writer.progress().synced == Batch(0) {
            both += u64::from(world.disk.segments().all(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)));
            world.crash(Crash::Power);
        }
    }
    assert!(both > 20, "{both}");
}

#[test]
fn a_disk_that_failed_once_acknowledges_nothing_more() {
    let mut poisoned = 0;
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.failure = if seed % 2 == 0 { Failure::Writes } else { Failure::Syncs };
        for _ in 0..300 {
            world.step();
        }
        let progress = world.writer.progress();
        poisoned += u64::from(progress.poisoned.is_some());
        // The disk works again, and the log stays as it is.
        world.failure = Failure::None;
        for _ in 0..300 {
            world.step();
        }
        if progress.poisoned.is_some() {
            assert_eq!(world.writer.progress(), progress);
            assert!(world.writer.poll(world.now_us, true).is_none());
        }
        world.crash(Crash::Power);
    }
    assert!(poisoned > 50, "{poisoned}");
}

#[test]
fn a_full_disk_is_tried_again() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        world.failure = Failure::Full;
        for _ in 0..400 {
            world.step();
        }
        let progress = world.writer.progress();
        assert_eq!(progress.poisoned, None);
        assert_eq!(progress.synced, Batch(0), "there is no segment");
        assert!(progress.degraded.is_some());
        assert!(world.writer.next_deadline_us().is_some());
        world.failure = Failure::None;
        world.now_us += SETTINGS.retry_delay_us;
        world.settle();
        world.now_us += SETTINGS.retry_delay_us;
        world.settle();
        assert_eq!(world.writer.progress().degraded, None);
        assert_eq!(world.writer.progress().synced, Batch(world.records.len() as u64));
    }
}

#[test]
fn the_header_of_a_segment_knows_what_was_durable() {
    let mut world = long_log(5);
    let used: Vec<(u64, Vec<u8>)> = world
        .disk
        .segments()
        .filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0))
        .map(|(number, bytes)| (number, bytes.to_vec()))
        .collect();
    let [.., (before, commits), (last, rest)] = &used[..] else { panic!("there are several segments") };
    // Nothing behind the header can say it.
    for byte in
        (4096..rest.len()).step_by(4096).filter(|&at| rest[at..at + 4096].iter().any(|&byte| byte != 0))
    {
        world.disk.flip(File::Segment(*last), byte, 0);
    }
    world.recover().expect("the last commits may be torn");
    let end = commits.iter().rposition(|&byte| byte != 0).expect("it is used");
    world.disk.flip(File::Segment(*before), end, 0);
    let damage = world.recover().unwrap_err();
    assert_eq!((damage.file, damage.kind), (File::Segment(*before), DamageKind::Commit));
}

/// A log of many commits that are durable, over several segments and starts.
fn long_log(seed: u64) -> World {
    let mut world = World::new(seed);
    for round in 0..60 {
        let length = 100 + world.dice.below(3_000);
        world.append(length);
        world.settle();
        if round % 20 == 19 {
            world.crash(Crash::Power);
        }
    }
    world.append(10);
    world.settle();
    world
}

#[test]
fn a_flipped_bit_is_damage_or_the_end_of_the_log() {
    let (mut damaged, mut shorter, mut unchanged) = (0, 0, 0);
    let mut world = long_log(1);
    // The last segment has commits that know of each other.
    for _ in 0..5 {
        world.append(10);
        world.settle();
    }
    let (whole, _) = world.recover().unwrap();
    let files: Vec<(u64, usize)> =
        world.disk.segments().map(|(number, bytes)| (number, bytes.len())).collect();
    for (segment, length) in files {
        for byte in (0..length).step_by(61) {
            let bit = u8::try_from(byte % 8).unwrap();
            world.disk.flip(File::Segment(segment), byte, bit);
            match world.recover() {
                Err(_) => damaged += 1,
                Ok((found, _)) if found == whole => unchanged += 1,
                Ok((found, _)) => {
                    assert!(found == whole[..found.len()]);
                    // Only the last commits may be taken for the torn end: nothing knows that they were durable.
                    assert!(found.len() + 2 >= whole.len(), "{} of {}", found.len(), whole.len());
                    shorter += 1;
                }
            }
            world.disk.flip(File::Segment(segment), byte, bit);
        }
    }
    assert!(damaged > 100 && shorter > 0 && unchanged > 100, "{damaged} {shorter} {unchanged}");
}

#[test]
fn a_missing_segment_is_damage() {
    let world = long_log(2);
    let segments: Vec<(u64, &[u8])> = world.disk.segments().collect();
    let used: Vec<u64> =
        segments.iter().filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0)).map(|&(n, _)| n).collect();
    assert!(used.len() > 4, "{used:?}");
    // Without the last one the log is only shorter.
    for &missing in &used[..used.len() - 1] {
        let mut recovery = Recovery::new(IDENTITY, None);
        let result = segments
            .iter()
            .filter(|(number, _)| *number != missing)
            .try_for_each(|(number, bytes)| recovery.segment(*number, bytes, &mut |_, _, _| {}));
        let kind = result.unwrap_err().kind;
        assert!(matches!(kind, DamageKind::Segment | DamageKind::Commit), "{missing}: {kind:?}");
    }
}

#[test]
fn a_log_of_another_shard_or_a_later_version_is_refused() {
    let mut world = long_log(4);
    let (number, bytes) =
        world.disk.segments().next().map(|(number, bytes)| (number, bytes.to_vec())).unwrap();
    let other = LogIdentity { shard: 0, ..IDENTITY };
    let error = Recovery::new(other, None).segment(number, &bytes, &mut |_, _, _| {}).unwrap_err();
    assert_eq!(error.kind, DamageKind::Foreign);
    let renamed = Recovery::new(IDENTITY, None).segment(number + 1, &bytes, &mut |_, _, _| {}).unwrap_err();
    assert_eq!(renamed.kind, DamageKind::Foreign);
    world.disk.flip(File::Segment(number), 13, 0);
    let error = world.recover().unwrap_err();
    assert_eq!(error.kind, DamageKind::Format(1 + (1 << 8)));
    let text = error.to_string();
    assert!(text.contains("segment 1, offset 0: a later version wrote it"), "{text}");
}
