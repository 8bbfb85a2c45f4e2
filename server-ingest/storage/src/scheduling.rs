//! Who goes first where threads share a CPU: those somebody waits for, before those that work for later.
//!
//! Linux alone is told, and it is a wish: a system that does not know it runs threads as they come. What made it worth it: with one CPU the slowest
//! acknowledgements waited for a flush that had it ("Waiting for an acknowledgement" in `docs/performance.md`).

use std::time::Duration;

/// How long a thread that is [prompt](be_prompt) runs at once where others want its CPU: the least that Linux takes. Others have a millisecond or
/// some.
const PROMPT: Duration = Duration::from_micros(100);

/// The calling thread has little to do at once, and somebody waits for it: it comes before those that run for longer at once, and gets no more of
/// the CPU than they do. So do the threads that it starts, unless they are made [ordinary](be_ordinary). Linux has this since version 6.12.
pub fn be_prompt() {
    let _is_told = system::set_slice(PROMPT);
}

/// The calling thread, and those that it starts, run as long at once as the system sees fit.
pub fn be_ordinary() {
    let _is_told = system::set_slice(Duration::ZERO);
}

#[cfg(target_os = "linux")]
mod system {
    use std::time::Duration;

    /// The calling thread runs for so long at once; zero is as long as those do that never asked. Its policy and its priority stay.
    pub(super) fn set_slice(slice: Duration) -> bool {
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
        (unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) }) == 0
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    pub(super) fn set_slice(_slice: Duration) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::mem::MaybeUninit;
    use std::thread;

    use super::*;

    /// What the system says of the calling thread.
    fn attributes() -> libc::sched_attr {
        let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
        let size = size_of::<libc::sched_attr>();
        // SAFETY: there is room for as many bytes as it is told.
        let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) } != 0;
        assert!(!failed, "{}", std::io::Error::last_os_error());
        // SAFETY: all zeros is a value of it, and what was written is one.
        unsafe { attributes.assume_init() }
    }

    #[test]
    fn the_prompt_start_prompt_threads_unless_these_are_ordinary() {
        let test = || {
            let usual = attributes().sched_runtime;
            be_prompt();
            let prompt = attributes().sched_runtime;
            let of_started = thread::spawn(|| {
                let inherited = attributes().sched_runtime;
                be_ordinary();
                (inherited, attributes().sched_runtime)
            });
            (usual, prompt, of_started.join().expect("it did not panic"))
        };
        let (usual, prompt, (inherited, ordinary)) = thread::spawn(test).join().expect("it did not panic");
        if usual == 0 {
            eprintln!("not tested: before version 6.12 Linux knows no slices");
            return;
        }
        assert_eq!(prompt, PROMPT.as_nanos() as u64);
        assert_eq!(inherited, prompt);
        assert_eq!(ordinary, usual);
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
