//! How much memory the program keeps that it does not use.
//!
//! - *No huge pages.* The allocator asks for them; a server that holds 10 MiB then has 30 MiB resident, and clearing two megabytes where some
//!   kilobytes were wanted costs more CPU under load than it saves (measured: 0.1 to 0.3 µs a span).
//! - *What is free goes back.* The allocator returns memory when somebody allocates or frees; a server that has become idle does neither.
//!   So a thread asks it to, first soon after the start, which checks a password in 19 MiB that are not needed again.
//! - *More so near the limit.* The allocator keeps what was freed for a second, which under load is more than what is in use. With less
//!   memory it keeps it for less long ([`Keeper::keep_below`]); near the limit it keeps it for hardly any time, and the thread has all
//!   of it given back. Always to do so costs: at full load of small servers 3.8 µs of CPU a span when nothing is kept, 3.2 when it is kept
//!   for 10 ms, 2.9 for 50 and 2.5 for a second (one run each, on a busy machine).
//! - *zstd is C and asks the system's allocator*, which keeps a heap for each of many threads unless it is told to have one. What that
//!   keeps is given back as well.
//! - *Code of the start goes back.* Opening the tables runs through 30 MiB of the program that an idle server never looks at again.
//!   The same thread unmaps what nobody writes to; what is wanted again comes from the machine's page cache, 64 KiB at a time.

#[cfg(target_os = "linux")]
use std::ffi::{c_int, c_ulong, c_void};
#[cfg(target_os = "linux")]
use std::ops::Range;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The first pause; then they double.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Under load what was given back is asked for again, so this is not too often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The allocator's number for how many milliseconds it keeps what is free. A test says when a new version has another.
const MI_OPTION_PURGE_DELAY: std::ffi::c_int = 15;
/// That near the limit, the least of it elsewhere, and its default.
const NEAR_KEEPING_MS: usize = 10;
const SHORTEST_KEEPING_MS: usize = 100;
const LONGEST_KEEPING_MS: usize = 1000;
/// For each of these, one millisecond.
const KEEPING_STEP_BYTES: usize = 1024 * 1024;
/// The limit is near in the last part of it, which is no less than this.
const NEAR_PART: usize = 6;
const LEAST_NEAR_BYTES: usize = 64 * 1024 * 1024;
/// Between two looks at the process's memory, far from the limit and near it.
const FAR_PAUSE: Duration = Duration::from_millis(200);
const NEAR_PAUSE: Duration = Duration::from_millis(20);
/// After giving back what changed little.
const VAIN_PAUSE: Duration = Duration::from_millis(100);
/// The thread calls few functions.
const STACK_BYTES: usize = 64 * 1024;

unsafe extern "C" {
    /// Of the allocator: gives unused memory back, all of it if `force`.
    fn mi_collect(force: bool);
    /// Of the allocator: sets one of its numbers.
    fn mi_option_set(option: std::ffi::c_int, value: std::ffi::c_long);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn mallopt(option: c_int, value: c_int) -> c_int;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn malloc_trim(keep: usize) -> c_int;
    #[cfg(target_os = "linux")]
    fn prctl(option: c_int, ...) -> c_int;
    #[cfg(target_os = "linux")]
    fn madvise(address: *mut c_void, bytes: usize, advice: c_int) -> c_int;
}

/// Tells the thread what the process may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeper {
    /// 0 while nothing was said.
    limit_bytes: Arc<AtomicUsize>,
}

impl Keeper {
    /// The process is to stay below this.
    pub(crate) fn keep_below(&self, bytes: usize) {
        keep_what_is_free_for(keeping_ms(bytes));
        self.limit_bytes.store(bytes, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }
}

/// For how long the allocator of a process that may have so much keeps what is free.
fn keeping_ms(limit: usize) -> usize {
    (limit / KEEPING_STEP_BYTES).clamp(SHORTEST_KEEPING_MS, LONGEST_KEEPING_MS)
}

/// So much below its limit the process is near it: it may take that much within a few looks.
fn near_bytes(limit: usize) -> usize {
    (limit / NEAR_PART).max(LEAST_NEAR_BYTES)
}

fn keep_what_is_free_for(milliseconds: usize) {
    let milliseconds = std::ffi::c_long::try_from(milliseconds).unwrap_or(std::ffi::c_long::MAX);
    // SAFETY: it may be called at any time from any thread.
    unsafe { mi_option_set(MI_OPTION_PURGE_DELAY, milliseconds) };
}

/// To be called before other threads run. Failures cost memory and nothing else.
pub(crate) fn settle() -> Keeper {
    #[cfg(target_os = "linux")]
    {
        const PR_SET_THP_DISABLE: c_int = 41;
        let (yes, unused): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: the option takes one number and three zeros, and touches no memory of ours.
        unsafe { prctl(PR_SET_THP_DISABLE, yes, unused, unused, unused) };
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_ARENA_MAX: c_int = -8;
        // SAFETY: it sets a number.
        unsafe { mallopt(M_ARENA_MAX, 1) };
    }
    let keeper = Keeper::default();
    let told = keeper.clone();
    let _ = thread::Builder::new().name("scouter-memory".to_owned()).stack_size(STACK_BYTES).spawn(move || give_back(&told));
    keeper
}

fn give_back(keeper: &Keeper) {
    let mut regular_pause = FIRST_PAUSE;
    let mut regular = Instant::now() + regular_pause;
    let mut pause = FIRST_PAUSE;
    let mut was_near = false;
    loop {
        thread::sleep(pause.min(regular.saturating_duration_since(Instant::now())));
        let (limit, resident) = (keeper.limit(), resident_bytes().unwrap_or_default());
        let is_regular = Instant::now() >= regular;
        let is_near = limit > 0 && resident > limit.saturating_sub(near_bytes(limit));
        if is_near != was_near {
            was_near = is_near;
            keep_what_is_free_for(if is_near { NEAR_KEEPING_MS } else { keeping_ms(limit) });
        }
        if is_regular || is_near {
            // SAFETY: it may be called at any time from any thread.
            unsafe { mi_collect(true) };
        }
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if is_regular {
            // SAFETY: it may be called at any time from any thread.
            unsafe { malloc_trim(0) };
        }
        if is_regular {
            #[cfg(target_os = "linux")]
            if regular_pause < LONGEST_PAUSE {
                unmap_program();
            }
            regular_pause = (regular_pause * 2).min(LONGEST_PAUSE);
            regular = Instant::now() + regular_pause;
        }
        pause = if is_near && resident_bytes().unwrap_or_default() > resident / 10 * 9 {
            VAIN_PAUSE
        } else if limit > 0 && resident > limit.saturating_sub(2 * near_bytes(limit)) {
            NEAR_PAUSE
        } else {
            FAR_PAUSE
        };
    }
}

/// What the process has in memory, its program included.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.split_ascii_whitespace().next()?.parse::<usize>().ok()? * 1024)
}

/// Drops the program's pages from this process; they stay in the page cache.
#[cfg(target_os = "linux")]
fn unmap_program() {
    const MADV_DONTNEED: c_int = 4;
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for range in unwritten(&smaps) {
        // SAFETY: each page is as it is in its file and cannot be written, so the next who reads it finds the same bytes.
        unsafe { madvise(std::ptr::without_provenance_mut(range.start), range.len(), MADV_DONTNEED) };
    }
}

/// The mappings of files that hold nothing but the file: private, not to be written, and no page that differs. (What the loader
/// has relocated differs, though it can no longer be written.)
#[cfg(target_os = "linux")]
fn unwritten(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if first == "Anonymous:" {
            found.extend(mapping.take().filter(|_| second == "0"));
        } else if !first.ends_with(':') {
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            let is_fixed = matches!(second, "r--p" | "r-xp");
            mapping = first.split_once('-').filter(|_| is_file && is_fixed).and_then(|(start, end)| {
                let address = |hex| usize::from_str_radix(hex, 16).ok();
                Some(address(start)?..address(end)?)
            });
        }
    }
    found
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
