//! Torn ends are cut, damage is named.

use super::*;
use crate::log::format::{FRAME_HEADER_BYTES, FrameHeader, u32_at};

/// Opens for reading and for writing; both must agree.
fn open_both(dir: &Path) -> Result<Opened, LogError> {
    let read_only = Log::open_read_only(dir).map(|(_, opened)| opened);
    let opened = try_open(dir).map(|(_, opened)| opened);
    match (&read_only, &opened) {
        (Ok(read_only), Ok(opened)) => {
            assert_eq!((read_only.last, read_only.torn_bytes), (opened.last, opened.torn_bytes));
        }
        // Without `log.meta` a folder is no log to a reader, and a damaged one to a writer.
        (Err(LogError::NoLog { .. }), Err(LogError::NoLog { .. })) => {}
        (Err(read_only), Err(opened)) => assert_eq!(read_only.to_string(), opened.to_string()),
        (read_only, opened) => panic!("read-only {read_only:?}, for writing {opened:?}"),
    }
    opened
}

fn check_torn_end(used_segment: bool) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    let mut last = 0;
    if used_segment {
        while log.folder.lock().segments.back().is_some_and(|segment| segment.header.generation < 2) {
            last += 1;
            append_numbers(&log, last..=last, 5000);
            log.trim(Position(last)).expect("the log is trimmed");
        }
    }
    let active = log.folder.lock().segments.back().expect("an active segment").path.clone();
    let before = fs::read(&active).expect("the segment is read");
    append_numbers(&log, last + 1..=last + 1, 301);
    let after = fs::read(&active).expect("the segment is read");
    let start = before.iter().zip(&after).position(|(before, after)| before != after).expect("the frame is there") / 4096 * 4096;
    let rejected = 4 * ((last + 1) % 4) as usize;
    let end = start + FRAME_HEADER_BYTES + rejected + 301;
    let copy = copy_folder(dir.path());
    let active = copy.path().join(active.file_name().expect("a name"));
    let meta = fs::read(copy.path().join("log.meta")).expect("meta is read");
    for cut in start..end {
        let written = cut - start;
        for shorten in [false, true] {
            // What was not written is what stood there before; or the file ends.
            let mut torn = after[..cut].to_vec();
            if !shorten {
                torn.extend_from_slice(&before[cut..]);
            }
            // A byte that was not written may have stood there already.
            let whole = after[cut..end] == before[cut..end];
            fs::write(&active, &torn).expect("the segment is written");
            fs::write(copy.path().join("log.meta"), &meta).expect("meta is written");
            let opened = open_both(copy.path()).expect("a torn end is no error");
            let before_torn = opened.torn_bytes;
            assert_eq!(opened.last, Position(if whole && !shorten { last + 1 } else { last }), "cut {written}, shortened {shorten}");
            if !used_segment && written > 0 {
                assert!(opened.torn_bytes > 0 && opened.torn_bytes <= written as u64, "cut {written}: {}", opened.torn_bytes);
            }
            if used_segment && written >= FRAME_HEADER_BYTES && !whole {
                assert!(opened.torn_bytes > 0, "cut {written}, shortened {shorten}");
            }
            if shorten || written % 16 == 0 {
                let (log, opened) = open(copy.path());
                assert_eq!(opened.torn_bytes, 0, "a torn end is reported once; cut {written}, shortened {shorten}, before {before_torn}");
                assert_eq!(fs::metadata(&active).expect("the segment is there").len(), SEGMENT_BYTES, "its size is restored");
                if !whole || shorten {
                    append_numbers(&log, last + 1..=last + 1, 400);
                    let first = log.folder.lock().segments[0].header.first;
                    check_numbers(&log, last.saturating_sub(1).max(first - 1), last + 1);
                }
            }
        }
    }
}

#[test]
fn a_torn_end_is_cut_at_every_byte_of_the_last_frame() {
    check_torn_end(false);
}

#[test]
fn a_torn_end_is_cut_in_a_used_segment() {
    check_torn_end(true);
}

#[test]
fn a_flipped_bit_anywhere_is_named_or_the_torn_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=5, 2500);
    let segments = files(dir.path(), ".log");
    assert_eq!(segments.len(), 2);
    let mut checked = 0;
    for (index, segment) in segments.iter().enumerate() {
        let original = fs::read(segment).expect("the segment is read");
        let copy = copy_folder(dir.path());
        let path = copy.path().join(segment.file_name().expect("a name"));
        let meta = fs::read(copy.path().join("log.meta")).expect("meta is read");
        let seed = u32_at(&original, 12);
        for block in 0..4_usize {
            let start = block * 4096;
            let head: &[u8; FRAME_HEADER_BYTES] = original[start..start + FRAME_HEADER_BYTES].try_into().expect("a header");
            let header = FrameHeader::decode(head, seed);
            let covered = match (block, header) {
                (0, _) => 72,
                (_, Some(header)) => FRAME_HEADER_BYTES + header.body_bytes() as usize,
                (_, None) => 0,
            };
            // Every byte of headers and lists, and some of the payload.
            for at in (0..covered).filter(|at| *at < 100 || at % 97 == 0 || at + 1 == covered) {
                let mut flipped = original.clone();
                flipped[start + at] ^= 0x10;
                fs::write(&path, &flipped).expect("the segment is written");
                fs::write(copy.path().join("log.meta"), &meta).expect("meta is written");
                let last_frame = index == 1 && header.is_some_and(|header| header.position == 5);
                checked += 1;
                match open_both(copy.path()) {
                    Ok(opened) if last_frame => {
                        assert_eq!(opened.last, Position(4));
                        assert!(opened.torn_bytes > 0);
                    }
                    Err(LogError::Corrupt { file, offset, .. }) if !last_frame => {
                        assert_eq!(file, path);
                        assert_eq!(offset / 4096, block as u64, "byte {at} of block {block}");
                    }
                    Err(LogError::UnsupportedVersion { file, .. }) if block == 0 && (8..12).contains(&at) => assert_eq!(file, path),
                    other => panic!("segment {index}, block {block}, byte {at}: {other:?}"),
                }
            }
        }
    }
    assert!(checked > 600, "only {checked} bytes were flipped");
}

#[test]
fn damage_to_the_last_frame_of_a_closed_log_is_no_torn_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=2, 100);
    log.close().expect("the log closes");
    drop(log);
    let segment = files(dir.path(), ".log").remove(0);
    let mut bytes = fs::read(&segment).expect("the segment is read");
    bytes[2 * 4096 + 90] ^= 1;
    fs::write(&segment, bytes).expect("the segment is written");
    match open_both(dir.path()) {
        Err(LogError::Corrupt { file, offset, .. }) => assert_eq!((file, offset), (segment, 2 * 4096)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_to_the_small_files_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=7, 5000);
    log.trim(Position(7)).expect("the log is trimmed");
    log.close().expect("the log closes");
    drop(log);
    for name in ["log.meta", "batch-ids.snapshot"] {
        let path = dir.path().join(name);
        let original = fs::read(&path).expect("the file is read");
        for at in 0..original.len() {
            let mut flipped = original.clone();
            flipped[at] ^= 0x40;
            fs::write(&path, flipped).expect("the file is written");
            match open_both(dir.path()) {
                Err(LogError::Corrupt { file, .. } | LogError::UnsupportedVersion { file, .. }) => assert_eq!(file, path),
                other => panic!("byte {at} of {name}: {other:?}"),
            }
        }
        fs::write(&path, &original[..original.len() - 1]).expect("the file is written");
        assert!(matches!(open_both(dir.path()), Err(LogError::Corrupt { .. })), "{name} is cut short");
        fs::remove_file(&path).expect("the file is removed");
        let error = open_both(dir.path()).expect_err("the file is missing");
        assert!(matches!(error, LogError::NoLog { .. } | LogError::Io { .. }), "{name}: {error:?}");
        fs::write(&path, &original).expect("the file is restored");
    }
    open_both(dir.path()).expect("the log is whole again");
}

#[test]
fn a_missing_segment_is_named_wherever_it_was() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=7, 5000);
    log.close().expect("the log closes");
    drop(log);
    let segments = files(dir.path(), ".log");
    assert_eq!(segments.len(), 7);
    for (index, segment) in segments.iter().enumerate() {
        let aside = dir.path().join("aside");
        fs::rename(segment, &aside).expect("the segment is moved away");
        let missing = index as u64 + 1;
        match open_both(dir.path()) {
            Err(LogError::MissingSegment { expected, found, .. }) => assert_eq!((expected, found), (missing, missing + 1)),
            // Without the last one, the one before ends too early.
            Err(LogError::Corrupt { .. }) if index == 6 => {}
            other => panic!("segment {missing}: {other:?}"),
        }
        fs::rename(&aside, segment).expect("the segment is moved back");
    }
    let other = tempfile::tempdir().expect("a temporary folder");
    drop(open(other.path()));
    fs::copy(&files(other.path(), ".log")[0], &segments[0]).expect("the segment is replaced");
    assert!(matches!(open_both(dir.path()), Err(LogError::WrongLog { file }) if file == segments[0]));
}
