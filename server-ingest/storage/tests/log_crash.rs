//! A process that appends is killed at any moment; what it was answered is in the log, once, in order.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scouter_storage::log::{BatchId, Door, Frame, Log, LogOptions, Opened, Position};
use scouter_storage::otlp::Envelope;

const FOLDER: &str = "SCOUTER_LOG_CRASH_FOLDER";
/// Set for a child that rests between bursts.
const RESTS: &str = "SCOUTER_LOG_CRASH_RESTS";

/// How many kills; `SCOUTER_TEST_KILLS=200` for the proof.
fn kills() -> u64 {
    std::env::var("SCOUTER_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40)
}

fn open(dir: &Path) -> (Log, Opened) {
    let options = LogOptions { segment_bytes: 256 * 1024, max_bytes: 64 * 1024 * 1024, ..LogOptions::default() };
    Log::open(dir, options, Box::new(|_, _| {})).expect("the log opens")
}

fn frame(number: u64) -> Frame {
    let payload_bytes = 1 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as usize;
    Frame {
        door: Door::ScouterGrpc,
        envelope: Envelope::Scouter,
        received_unix_nano: number,
        batch_id: BatchId(u128::from(number).to_be_bytes()),
        rejected_spans: vec![number as u32],
        rejected_records: Vec::new(),
        payload: vec![number as u8; payload_bytes].into(),
    }
}

/// The killed process: eight callers append without end, trim now and then, and say what they were answered. With `RESTS` they
/// come in bursts, between which the log lets go of everything and goes on in a small segment.
#[test]
#[ignore = "the child of answered_frames_survive_kill_9"]
fn child() {
    let dir = std::env::var_os(FOLDER).expect("the parent says which folder");
    let (log, opened) = open(Path::new(&dir));
    let log = Arc::new(log);
    let start = opened.last.0 * 1000;
    let rests = std::env::var_os(RESTS).is_some();
    for burst in 0.. {
        append_burst(&log, start + burst * 200, if rests { 25 } else { u64::MAX });
        for _ in 0..burst % 4 {
            log.rest(log.durable()).expect("the log rests");
        }
    }
}

/// Eight callers, `turns` frames each, numbered from `start`.
fn append_burst(log: &Arc<Log>, start: u64, turns: u64) {
    let appenders: Vec<_> = (1..=8)
        .map(|appender| {
            let log = Arc::clone(log);
            std::thread::spawn(move || {
                for turn in 0..turns {
                    let number = start + turn * 8 + appender;
                    let position = futures::executor::block_on(log.append_durable(frame(number))).expect("the frame is appended");
                    let line = format!("answered {} {number}\n", position.0);
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
                    if position.0.is_multiple_of(64) {
                        log.trim(Position(position.0.saturating_sub(200))).expect("the log is trimmed");
                    }
                }
            })
        })
        .collect();
    for appender in appenders {
        appender.join().expect("an appender does not panic");
    }
}

#[test]
fn answered_frames_survive_kill_9() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64 | 1;
    eprintln!("seed {seed}");
    let mut random = seed;
    let mut answers = 0;
    let mut next_last = 0;
    let mut rested = Position(0);
    for kill in 0..kills() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut command = Command::new(std::env::current_exe().expect("this test's program"));
        if kill % 2 == 1 {
            command.env(RESTS, "1");
        }
        let mut child = command
            .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            // A line this short is written to the pipe whole or not at all.
            let lines = output.split(b'\n').map(|line| String::from_utf8(line.expect("the pipe is read")).expect("text"));
            lines.filter_map(|line| parse(&line)).collect::<Vec<(u64, u64)>>()
        });
        std::thread::sleep(Duration::from_millis(20 + random % 180));
        child.kill().expect("the child is killed");
        child.wait().expect("the child is gone");
        let answered = reader.join().expect("the reader ends");
        answers += answered.len();

        let (log, opened) = open(dir.path());
        assert!(opened.last.0 >= next_last, "seed {seed}, kill {kill}: the log became shorter");
        next_last = opened.last.0;
        // Trims keep the last 200 positions and what is in their segments; who rests has no more use for any.
        let kept_from = opened.last.0.saturating_sub(150).max(if kill % 2 == 1 { opened.trimmed.0 } else { rested.0 });
        rested = opened.trimmed;
        let read: Vec<_> = log.replay(Position(kept_from)).collect::<Result<_, _>>().expect("the log replays");
        let positions: Vec<u64> = read.iter().map(|(position, _)| position.0).collect();
        assert_eq!(positions, (kept_from + 1..=opened.last.0).collect::<Vec<_>>(), "seed {seed}, kill {kill}");
        let mut numbers: Vec<u64> = read.iter().map(|(_, frame)| frame.received_unix_nano).collect();
        for (position, number) in answered {
            assert!(position <= opened.last.0, "seed {seed}, kill {kill}: position {position} was answered and is gone");
            if position > kept_from {
                let found = &read[(position - kept_from - 1) as usize].1;
                assert_eq!(*found, frame(number), "seed {seed}, kill {kill}, position {position}");
            }
        }
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), read.len(), "seed {seed}, kill {kill}: a frame is there twice");
        log.close().expect("the log closes");
    }
    assert!(answers as u64 > kills(), "the children were killed before they did anything: {answers} answers");
    eprintln!("{answers} answers, {} kills, last position {next_last}", kills());
}

/// `answered POSITION NUMBER`; what the test harness of the child prints is passed over.
fn parse(line: &str) -> Option<(u64, u64)> {
    let mut words = line.strip_prefix("answered ")?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
