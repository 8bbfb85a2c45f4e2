//! Loss of power: of what was written since a file's last sync, any subset of its pages may be on disk.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use super::*;

const PAGE_BYTES: u64 = 512;

/// Remembers what stood in every page before it was written, until its file is synced; after `syncs_left` syncs the power is
/// gone. Renames are taken to be durable: `sync_folder` follows each that matters.
struct UnreliablePower {
    state: Mutex<PowerState>,
}

struct PowerState {
    syncs_left: u32,
    /// By inode, because files are renamed: page number and its content before.
    unsynced: HashMap<u64, Vec<(u64, Vec<u8>)>>,
}

fn inode(file: &File) -> u64 {
    use std::os::unix::fs::MetadataExt;
    file.metadata().expect("the file has metadata").ino()
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

impl UnreliablePower {
    fn lock(&self) -> std::sync::MutexGuard<'_, PowerState> {
        self.state.lock().expect("no test thread panicked")
    }

    /// Takes back a random part of what was not synced.
    fn forget(&self, dir: &Path, random: &mut u64) {
        let unsynced = std::mem::take(&mut self.lock().unsynced);
        for entry in fs::read_dir(dir).expect("the folder is listed") {
            let path = entry.expect("an entry").path();
            let file = fs::OpenOptions::new().write(true).read(true).open(&path).expect("the file opens");
            for (page, before) in unsynced.get(&inode(&file)).into_iter().flatten().rev() {
                if next_random(random).is_multiple_of(2) {
                    file.write_all_at(before, page * PAGE_BYTES).expect("the page is restored");
                }
            }
        }
    }
}

fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

impl Disk for UnreliablePower {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn write_all_at(&self, file: &File, path: &Path, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.lock();
        if state.syncs_left == 0 {
            return Err(no_power());
        }
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let pages = offset / PAGE_BYTES..(offset + bytes).div_ceil(PAGE_BYTES);
        for page in pages {
            let mut before = vec![0; PAGE_BYTES as usize];
            let read = file.read_at(&mut before, page * PAGE_BYTES)?;
            before.truncate(read);
            state.unsynced.entry(inode(file)).or_default().push((page, before));
        }
        RealDisk.write_all_at(file, path, offset, parts)
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.syncs_left = state.syncs_left.saturating_sub(1);
        if state.syncs_left == 0 {
            return Err(no_power());
        }
        state.unsynced.remove(&inode(file));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.lock().syncs_left == 0 { Err(no_power()) } else { RealDisk.rename(from, to) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.lock().syncs_left == 0 { Err(no_power()) } else { RealDisk.remove(path) }
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        if self.lock().syncs_left == 0 { Err(no_power()) } else { Ok(()) }
    }
}

/// One log lives through many power cuts; after each one every answered frame is there, once, in order.
fn check_seed(seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(open(dir.path()));
    let mut answered: Vec<(u64, u64)> = Vec::new();
    let mut number = 0;
    let mut trimmed = 0;
    for life in 0..8 {
        let syncs_left = 4 + (next_random(&mut random) % 30) as u32;
        let disk = Arc::new(UnreliablePower { state: Mutex::new(PowerState { syncs_left, unsynced: HashMap::new() }) });
        let durability = if next_random(&mut random).is_multiple_of(4) { Durability::Os } else { Durability::Fsync };
        // Segments of 128 KiB, so that resting has a smaller one to go to.
        let segment_bytes = if seed.is_multiple_of(2) { SEGMENT_BYTES } else { 8 * SEGMENT_BYTES };
        let options = LogOptions { durability, segment_bytes, ..small_options() };
        if let Ok((log, opened)) = Log::open_on(disk.clone(), dir.path(), options, no_sink()) {
            let log = Arc::new(log);
            let mut synced = opened.last.0;
            for _ in 0..60 {
                let burst: Vec<_> = (0..1 + next_random(&mut random) % 5)
                    .map(|_| {
                        number += 1;
                        let (log, number) = (Arc::clone(&log), number);
                        let bytes = 1 + (next_random(&mut random) % 6000) as usize;
                        thread::spawn(move || (number, append(&log, frame(number, bytes))))
                    })
                    .collect();
                for appender in burst {
                    let (number, answer) = appender.join().expect("the appender ends");
                    if let Ok(position) = answer {
                        answered.push((position.0, number));
                    }
                }
                synced = log.shared.synced.load(Ordering::SeqCst).max(synced);
                if next_random(&mut random).is_multiple_of(8) && log.trim(Position(synced)).is_ok() {
                    trimmed = log.folder.lock().segments[0].header.first - 1;
                }
                if next_random(&mut random).is_multiple_of(8) && log.rest(Position(synced)).is_ok() {
                    trimmed = log.folder.lock().segments[0].header.first - 1;
                }
                if log.failed().is_some() {
                    break;
                }
            }
            synced = log.shared.synced.load(Ordering::SeqCst).max(synced);
            drop(log);
            if durability == Durability::Os {
                answered.retain(|(position, _)| *position <= synced);
            }
        }
        disk.lock().syncs_left = 0;
        disk.forget(dir.path(), &mut random);

        let (log, opened) = try_open(dir.path()).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error:?}"));
        let first = log.folder.lock().segments[0].header.first;
        trimmed = trimmed.max(first - 1);
        let read: Vec<(u64, u64)> = log
            .replay(Position(first - 1))
            .map(|read| read.map(|(position, frame)| (position.0, u128::from_be_bytes(frame.batch_id.0) as u64)))
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error:?}"));
        answered.retain(|(position, _)| *position > trimmed);
        for expected in &answered {
            assert!(read.contains(expected), "seed {seed}, life {life}: {expected:?} was answered and is gone");
        }
        let positions: Vec<u64> = read.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, (first..=opened.last.0).collect::<Vec<_>>(), "seed {seed}, life {life}");
        // What survived without an answer counts from now on.
        answered = read;
    }
}

#[test]
fn answered_frames_survive_power_cuts() {
    for seed in 1..=40 {
        check_seed(seed);
    }
}
