//! How much memory the program keeps that it does not use.
//!
//! - *No huge pages.* The allocator asks for them; a server that holds 10 MiB then has 30 MiB resident, and clearing two megabytes where some
//!   kilobytes were wanted costs more CPU under load than it saves (measured: 0.1 to 0.3 µs a span).
//! - *What is free goes back.* The allocator returns memory when somebody allocates or frees; a server that has become idle does neither.
//!   So a thread asks it to, first soon after the start, which checks a password in 19 MiB that are not needed again.

#[cfg(target_os = "linux")]
use std::ffi::{c_int, c_ulong};
use std::{thread, time::Duration};

/// The first pause; then they double.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Under load what was given back is asked for again, so this is not too often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The thread calls one function.
const STACK_BYTES: usize = 64 * 1024;

unsafe extern "C" {
    /// Of the allocator: gives unused memory back, all of it if `force`.
    fn mi_collect(force: bool);
    #[cfg(target_os = "linux")]
    fn prctl(option: c_int, ...) -> c_int;
}

/// To be called before other threads run. Failures cost memory and nothing else.
pub(crate) fn settle() {
    #[cfg(target_os = "linux")]
    {
        const PR_SET_THP_DISABLE: c_int = 41;
        let (yes, unused): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: the option takes one number and three zeros, and touches no memory of ours.
        unsafe { prctl(PR_SET_THP_DISABLE, yes, unused, unused, unused) };
    }
    let collect = || {
        let mut pause = FIRST_PAUSE;
        loop {
            thread::sleep(pause);
            // SAFETY: it may be called at any time from any thread.
            unsafe { mi_collect(true) };
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    let _ = thread::Builder::new().name("scouter-memory".to_owned()).stack_size(STACK_BYTES).spawn(collect);
}
