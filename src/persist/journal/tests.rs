//! Logs in real files: what a start finds is what the starts before wrote.

use std::fs;
use std::time::Duration;

use engine::Entropy;
use journal::{Batch, Settings, Writer, encode_record};

use super::{Executor, Opened, Place, Read, read_log};
use crate::error::StartupError;
use crate::process::scratch::Scratch;

const KEY: Entropy = Entropy(7);

const SETTINGS: Settings = Settings { segment_bytes: 64 * 1024, ..Settings::DEFAULT };

type Record = (u8, Vec<u8>);

fn read(opened: &Opened) -> Result<(journal::Recovered, Read, Vec<Record>), StartupError> {
    let mut found = Vec::new();
    let mut take = |_: Place, kind: u8, body: &[u8]| {
        found.push((kind, body.to_vec()));
        Ok(())
    };
    let (end, counts) = read_log(opened, 0, &mut take, &mut |_| {})?;
    Ok((end, counts, found))
}

/// Does everything that is due, and waits for it.
fn settle(writer: &mut Writer, executor: &Executor) {
    let mut requests = 0;
    writer.hurry();
    loop {
        while let Some(io) = writer.poll(0, true) {
            requests += 1;
            executor.begin(io);
        }
        if requests == 0 {
            break;
        }
        let done = executor.wait(Duration::from_secs(30)).expect("a disk works");
        assert!(done.failure.is_none(), "{:?}", done.failure);
        requests -= 1;
        writer.complete(done.id, done.result, done.block);
    }
    assert_eq!(writer.unsynced_bytes(), 0);
}

#[test]
fn a_start_finds_what_the_starts_before_wrote() {
    let scratch = Scratch::new("journal_starts");
    let mut written: Vec<Record> = Vec::new();
    for start in 1..=4 {
        let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
        assert_eq!((opened.start().get(), opened.is_new()), (start, start == 1));
        let (end, counts, found) = read(&opened).unwrap();
        assert_eq!(counts.records, written.len() as u64);
        assert!(found == written);
        let used: u64 = counts.segments.iter().map(|(_, used_bytes)| used_bytes).sum();
        let record_bytes = written.len() as u64 * 1_503;
        // Commits are padded to sectors; without shrinking, the last segment of each start would add most of 64 KiB.
        assert!(used >= record_bytes && used <= record_bytes * 14 / 10, "{used} of {record_bytes}");
        opened.directory(0).shrink(&counts.segments).unwrap();
        let executor = Executor::start(0, &opened.directory(0), || {}).unwrap();
        let mut writer = Writer::new(SETTINGS, end, opened.start().get());
        for number in 0..200_u64 {
            let body = vec![u8::try_from(number).unwrap(); 1_500];
            writer.append(0, Batch(number + 1), true, |out| encode_record(out, 1, &body));
            written.push((1, body));
            if number % 7 == 0 {
                settle(&mut writer, &executor);
            }
        }
        settle(&mut writer, &executor);
        assert_eq!(writer.progress().synced, Batch(200));
    }
    let opened = Opened::open(scratch.path(), 1, Entropy(8)).unwrap();
    assert_eq!(opened.key().0, KEY.0, "the key that the logs were written by");
    assert!(read(&opened).unwrap().1.segments.len() > 10);
}

#[test]
fn a_checkpoint_takes_the_place_of_the_segments_before_it() {
    let scratch = Scratch::new("journal_checkpoint");
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    let (end, ..) = read(&opened).unwrap();
    let executor = Executor::start(0, &opened.directory(0), || {}).unwrap();
    let mut writer = Writer::new(SETTINGS, end, 1);
    let append = |writer: &mut Writer, batch: u64| {
        writer.append(0, Batch(batch), true, |out| encode_record(out, 1, &[0; 9_000]));
        settle(writer, &executor);
    };
    (1..=40).for_each(|batch| append(&mut writer, batch));
    let segments = || opened.directory(0).files().unwrap().len();
    let before = segments();
    writer.begin_checkpoint();
    for object in 0..10_u8 {
        let mut slice = Vec::new();
        encode_record(&mut slice, 2, &vec![object; 50_000]);
        settle(&mut writer, &executor);
        writer.append_slice(&slice);
    }
    settle(&mut writer, &executor);
    writer.finish_checkpoint();
    settle(&mut writer, &executor);
    assert!(writer.checkpoint().is_some() && segments() + 3 < before, "{} of {before}", segments());
    append(&mut writer, 41);
    drop(executor);
    let (end, _, found) = read(&Opened::open(scratch.path(), 1, KEY).unwrap()).unwrap();
    assert_eq!(end.checkpoint, writer.checkpoint());
    let kinds: Vec<u8> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [vec![2; 10], vec![1]].concat());
}

#[test]
fn logs_keep_their_number_of_shards_and_a_directory_that_was_taken_away_is_refused() {
    let scratch = Scratch::new("journal_shards");
    Opened::open(scratch.path(), 2, KEY).unwrap();
    // Who wants another number deals them anew before.
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    assert_eq!((opened.shard_count(), opened.start().get()), (2, 2));
    fs::remove_dir(opened.directory(0).path()).unwrap();
    let error = read(&opened).unwrap_err();
    assert!(matches!(error, StartupError::JournalDamaged { .. }), "{error}");
}

#[test]
fn a_copy_of_the_identity_that_was_torn_costs_one_start_and_no_number_twice() {
    let scratch = Scratch::new("journal_identity");
    Opened::open(scratch.path(), 1, KEY).unwrap();
    assert_eq!(Opened::open(scratch.path(), 1, KEY).unwrap().start().get(), 2);
    fs::write(scratch.path().join("journal/identity.b"), [0; 40]).unwrap();
    // The second start did not become durable, so nothing was written in it.
    assert_eq!(Opened::open(scratch.path(), 1, KEY).unwrap().start().get(), 2);
    // The third one writes, and its copy is lost later.
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    let executor = Executor::start(0, &opened.directory(0), || {}).unwrap();
    let mut writer = Writer::new(SETTINGS, read(&opened).unwrap().0, opened.start().get());
    writer.append(0, Batch(1), true, |out| encode_record(out, 1, b"1"));
    settle(&mut writer, &executor);
    fs::write(scratch.path().join("journal/identity.a"), [0; 40]).unwrap();
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    assert_eq!(opened.start().get(), 3, "its number again");
    let sentence = read(&opened).unwrap_err().to_string();
    assert!(sentence.contains("older than the log"), "{sentence}");
    for copy in ["identity.a", "identity.b"] {
        fs::write(scratch.path().join("journal").join(copy), [0; 4_096]).unwrap();
    }
    let sentence = Opened::open(scratch.path(), 1, KEY).unwrap_err().to_string();
    assert!(sentence.contains("identity.a") && sentence.contains("put back a copy"), "{sentence}");
}

#[test]
#[cfg(unix)]
fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("journal_modes");
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    let executor = Executor::start(0, &opened.directory(0), || {}).unwrap();
    let mut writer = Writer::new(SETTINGS, read(&opened).unwrap().0, 1);
    writer.append(0, Batch(1), true, |out| encode_record(out, 1, b"secret"));
    settle(&mut writer, &executor);
    let log = opened.directory(0).path_of(journal::File::Segment(1));
    for file in [scratch.path().join("journal/identity.a"), log] {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

/// A broker whose directory was replaced wrote its next segment into the log of the broker that has the new one.
#[test]
#[cfg(unix)]
fn nothing_is_written_into_a_directory_that_took_the_name_of_the_logs_own() {
    let scratch = Scratch::new("journal_replaced");
    let opened = Opened::open(scratch.path(), 1, KEY).unwrap();
    let (end, ..) = read(&opened).unwrap();
    let directory = opened.directory(0);
    let executor = Executor::start(0, &directory, || {}).unwrap();
    fs::rename(directory.path(), directory.path().with_file_name("aside")).unwrap();
    fs::create_dir(directory.path()).unwrap();
    let mut writer = Writer::new(SETTINGS, end, 1);
    writer.append(0, Batch(1), true, |out| encode_record(out, 1, b"x"));
    writer.hurry();
    executor.begin(writer.poll(0, true).expect("a segment is made first"));
    let done = executor.wait(Duration::from_secs(30)).expect("it fails at once");
    let failure = done.failure.expect("the directory is another one");
    assert!(failure.error.to_string().contains("was replaced"), "{failure:?}");
    assert_eq!(directory.files().unwrap(), []);
}
