//! Who goes first where threads share a CPU: those somebody waits for, before those that work for later.
//!
//! Linux alone is told, and it is a wish: a system that does not know it runs threads as they come. What made it worth it: with one CPU the slowest
//! acknowledgements waited for a flush that had it ("Waiting for an acknowledgement" in `docs/performance.md`).

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread that is [prompt](be_prompt) runs at once where others want its CPU: the least that Linux takes. Others have a millisecond or
/// some.
const PROMPT: Duration = Duration::from_micros(100);

/// A prompt thread that works for longer [gives way](give_way) no sooner than this after the last time. By that it may lose the rest of its slice,
/// which is half as long, so it keeps half of its part of the CPU or more.
const TURN: Duration = Duration::from_micros(200);

thread_local! {
    /// Since when a prompt thread has worked.
    static WORKS_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The calling thread does little at once, or [gives way](give_way) in between, and somebody waits for it: it comes before those that run for longer
/// at once, and gets no more of the CPU than they do. So do the threads that it starts, unless they are made [ordinary](be_ordinary). Linux has this
/// since version 6.12.
pub fn be_prompt() {
    system::set_slice(PROMPT);
    // An older Linux takes the wish and does nothing.
    WORKS_SINCE.set((system::slice() == PROMPT).then(Instant::now));
}

/// The calling thread, and those that it starts, run as long at once as the system sees fit.
pub fn be_ordinary() {
    system::set_slice(Duration::ZERO);
    WORKS_SINCE.set(None);
}

/// To be called now and then in long work: if the calling thread called [`be_prompt`], who waits for its CPU goes first. Linux looks who should have it
/// when a thread wakes up; one that has just had its part then waits for the next tick of the kernel's clock, some milliseconds. A thread that is not
/// prompt goes on: it could lose the rest of a long slice, and beside others that compute would hardly run.
pub fn give_way() {
    if WORKS_SINCE.get().is_some_and(|since| since.elapsed() >= TURN) {
        thread::yield_now();
        WORKS_SINCE.set(Some(Instant::now()));
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::mem::MaybeUninit;
    use std::time::Duration;

    /// The calling thread runs for so long at once; zero is as long as those do that never asked. Its policy and its priority stay.
    pub(super) fn set_slice(slice: Duration) {
        let wish = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: 0,
            sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
            // SAFETY: no memory is involved. For Linux 0 means the calling thread alone.
            sched_nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
            sched_priority: 0,
            sched_runtime: slice.as_nanos() as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the attributes are of the size they say, and are only read.
        let _wish = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    }

    /// For how long the calling thread runs at once; zero where the system does not know.
    pub(super) fn slice() -> Duration {
        attributes().map_or(Duration::ZERO, |attributes| Duration::from_nanos(attributes.sched_runtime))
    }

    /// What the system says of the calling thread.
    pub(super) fn attributes() -> Option<libc::sched_attr> {
        let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
        let size = size_of::<libc::sched_attr>();
        // SAFETY: there is room for as many bytes as it is told.
        let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) } != 0;
        // SAFETY: all zeros is a value of it, and what was written is one.
        (!failed).then(|| unsafe { attributes.assume_init() })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    pub(super) fn set_slice(_slice: Duration) {}

    pub(super) fn slice() -> Duration {
        Duration::ZERO
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn attributes() -> libc::sched_attr {
        system::attributes().expect("the system tells")
    }

    #[test]
    fn the_prompt_start_prompt_threads_unless_these_are_ordinary() {
        let test = || {
            let usual = system::slice();
            be_prompt();
            let prompt = system::slice();
            let of_started = thread::spawn(|| {
                let inherited = system::slice();
                be_ordinary();
                (inherited, system::slice())
            });
            (usual, prompt, of_started.join().expect("it did not panic"))
        };
        let (usual, prompt, (inherited, ordinary)) = thread::spawn(test).join().expect("it did not panic");
        if usual.is_zero() {
            eprintln!("not tested: before version 6.12 Linux knows no slices");
            return;
        }
        assert_eq!(prompt, PROMPT);
        assert_eq!(inherited, prompt);
        assert_eq!(ordinary, usual);
    }

    #[test]
    fn who_gives_way_does_so_after_a_turn_of_work_and_only_if_it_is_prompt() {
        let turns = |prepare: fn()| {
            thread::spawn(move || {
                prepare();
                let begun = WORKS_SINCE.get();
                give_way();
                let at_once = WORKS_SINCE.get();
                thread::sleep(2 * TURN);
                give_way();
                (begun, at_once, WORKS_SINCE.get())
            })
            .join()
            .expect("it did not panic")
        };
        let (begun, at_once, later) = turns(be_prompt);
        if system::slice().is_zero() {
            eprintln!("not tested: before version 6.12 Linux knows no slices");
            return;
        }
        assert!(begun.is_some() && at_once >= begun && later > at_once);
        assert_eq!(turns(be_ordinary), (None, None, None));
        assert_eq!(turns(|| ()), (None, None, None));
    }

    #[test]
    fn policy_and_priority_stay() {
        let test = || {
            // SAFETY: no memory is involved but the parameters, which are only read.
            let told = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &libc::sched_param { sched_priority: 0 }) };
            assert_eq!(told, 0, "{}", std::io::Error::last_os_error());
            let before = attributes();
            be_prompt();
            let after = attributes();
            be_ordinary();
            [before, after, attributes()].map(|attributes| (attributes.sched_policy, attributes.sched_nice))
        };
        let [before, prompt, ordinary] = thread::spawn(test).join().expect("it did not panic");
        assert_eq!(before.0, libc::SCHED_BATCH as u32);
        assert_eq!(prompt, before);
        assert_eq!(ordinary, before);
    }
}
