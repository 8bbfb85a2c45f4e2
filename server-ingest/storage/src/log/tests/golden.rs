//! The bytes on disk are a promise to the next version: committed files must stay readable, and what is written must not change.
//! `SCOUTER_WRITE_GOLDEN=1` writes the files anew, for a new version of the format.

use super::*;
use crate::log::format::{IdEntry, Meta, SegmentHeader, encode_ids};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1").join(name)
}

/// The folder as version 1 wrote it, with the newer file of ids.
fn current() -> tempfile::TempDir {
    let dir = copy_folder(&golden(""));
    fs::copy(golden("../log-ids-v2/batch-ids.snapshot"), dir.path().join("batch-ids.snapshot")).expect("the file is copied");
    dir
}

fn check(name: &str, bytes: &[u8]) {
    if std::env::var_os("SCOUTER_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(golden(name).parent().expect("it has a folder")).expect("the folder is made");
        fs::write(golden(name), bytes).expect("the golden file is written");
    }
    let expected = fs::read(golden(name)).expect("the golden file is read");
    let difference = expected.iter().zip(bytes).position(|(expected, got)| expected != got);
    assert_eq!((difference, bytes.len()), (None, expected.len()), "{name} differs");
}

fn full_frame() -> Frame {
    Frame {
        door: Door::ScouterGrpc,
        envelope: Envelope::Scouter,
        received_unix_nano: 1_700_000_000_123_456_789,
        batch_id: BatchId(*b"0123456789abcdef"),
        rejected_spans: vec![1, 70_000],
        rejected_records: vec![3],
        payload: Bytes::from_static(b"the request as it came"),
    }
}

#[test]
fn the_bytes_of_every_file_are_what_the_format_page_says() {
    let log_id = Uuid::from_bytes(*b"log id, 16 bytes");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let meta = Meta { log_id, first: 7, durable: 6, session: 1 };
    fs::write(dir.path().join("log.meta"), meta.encode()).expect("meta is written");
    check("log.meta", &meta.encode());

    let id =
        IdEntry { position: 6, received_unix_nano: 1_700_000_000_000_000_000, batch_id: BatchId([0x11; 16]), rejected_records: Some(2) };
    let ids = encode_ids(log_id, [id].iter());
    fs::write(dir.path().join("batch-ids.snapshot"), &ids).expect("ids are written");
    check("../log-ids-v2/batch-ids.snapshot", &ids);

    let header = SegmentHeader {
        log_id,
        first: 7,
        generation: 1,
        segment_bytes: SEGMENT_BYTES,
        created_unix_nano: 1_700_000_000_000_000_000,
        previous: 5,
    };
    let mut segment = header.encode().0.to_vec();
    segment.resize(SEGMENT_BYTES as usize, 0);
    let name = "segment-00000000000000000007.log";
    fs::write(dir.path().join(name), &segment).expect("the segment is written");
    let (log, opened) = open(dir.path());
    assert_eq!(opened.last, Position(6));
    append(&log, full_frame()).expect("the frame is appended");
    append(&log, frame(8, 3)).expect("the frame is appended");
    log.close().expect("the log closes");
    check(name, &fs::read(dir.path().join(name)).expect("the segment is read"));
}

#[test]
fn files_of_version_1_are_read() {
    let dir = copy_folder(&golden(""));
    let (reader, opened) = Log::open_read_only(dir.path()).expect("the log opens");
    assert_eq!(opened.log_id, Uuid::from_bytes(*b"log id, 16 bytes"));
    assert_eq!((opened.last, opened.torn_bytes), (Position(8), 0));
    let refused = |opened: &Opened| opened.recent_batches.iter().map(|batch| batch.rejected_records).collect::<Vec<_>>();
    assert_eq!(opened.recent_batches[1].batch_id, BatchId(*b"0123456789abcdef"));
    assert_eq!(refused(&opened), [None, Some(1), Some(0)], "the older file of ids does not say how many records were refused");
    let (_, with_newer_ids) = Log::open_read_only(current().path()).expect("the log opens");
    assert_eq!(refused(&with_newer_ids), [Some(2), Some(1), Some(0)]);
    let read: Vec<_> = reader.replay(Position(6)).collect::<Result<_, _>>().expect("the log replays");
    assert_eq!(read, vec![(Position(7), full_frame()), (Position(8), frame(8, 3))]);
    match reader.replay(Position(0)).next() {
        Some(Err(LogError::MissingSegment { expected: 1, found: 7, .. })) => {}
        other => panic!("trimmed frames are asked for and the answer is {other:?}"),
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let dir = current();
    for (name, known) in [("log.meta", 1), ("batch-ids.snapshot", 2), ("segment-00000000000000000007.log", 1)] {
        let path = dir.path().join(name);
        let bytes = fs::read(&path).expect("the file is read");
        let mut newer = bytes.clone();
        newer[8] = known + 1;
        fs::write(&path, newer).expect("the file is written");
        match Log::open_read_only(dir.path()) {
            Err(LogError::UnsupportedVersion { file, version, supported }) => {
                assert_eq!((file, version, supported), (path.clone(), u32::from(known) + 1, u32::from(known)));
            }
            other => panic!("{name}: {:?}", other.map(|(_, opened)| opened)),
        }
        fs::write(&path, bytes).expect("the file is written");
    }
}
