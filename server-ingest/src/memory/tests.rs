//! Which mappings may be dropped, from a listing of the kernel's and from this process.

use super::{Keeper, LONGEST_KEEPING_MS, MI_OPTION_PURGE_DELAY, resident_bytes, unmap_program, unwritten};

const SMAPS: &str = "\
561b14b58000-561b16cff000 r--p 00000000 fe:00 10879091                   /opt/scouter server/scouter-server
Size:              34460 kB
Rss:                9564 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
561b16cff000-561b1d603000 r-xp 021a6000 fe:00 10879091                   /opt/scouter server/scouter-server
Rss:               24468 kB
Anonymous:             0 kB
561b1d603000-561b1da60000 r--p 08aa9000 fe:00 10879091                   /opt/scouter server/scouter-server
Rss:                4452 kB
Anonymous:          4444 kB
561b1da60000-561b1da70000 rw-p 08f05000 fe:00 10879091                   /opt/scouter server/scouter-server
Anonymous:             0 kB
2cdbc800000-2cdfc800000 r--p 00000000 00:00 0
Anonymous:             0 kB
7fcaca794000-7fcaca8ea000 r--s 00026000 fe:00 326269                     /var/lib/scouter/a-shared-file
Anonymous:             0 kB
7ffd3a9f2000-7ffd3a9f4000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";

#[test]
fn only_what_equals_its_file_and_stays_so_is_dropped() {
    assert_eq!(unwritten(SMAPS), [0x561b_14b5_8000..0x561b_16cf_f000, 0x561b_16cf_f000..0x561b_1d60_3000]);
    assert!(unwritten("").is_empty());
}

#[test]
fn the_program_goes_on_without_its_pages() {
    let own = std::fs::read_to_string("/proc/self/smaps").unwrap();
    assert!(!unwritten(&own).is_empty(), "this program is mapped from a file");
    let others: Vec<_> =
        (0..4).map(|seed: u64| std::thread::spawn(move || (0..200_000).fold(seed, |sum, n| sum.rotate_left(5) ^ n))).collect();
    unmap_program();
    let once: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    let again: Vec<_> = (0..4).map(|seed: u64| (0..200_000).fold(seed, |sum, n| sum.rotate_left(5) ^ n)).collect();
    assert_eq!(once, again);
}

#[test]
fn the_allocator_keeps_what_is_free_for_less_long_when_there_is_less() {
    unsafe extern "C" {
        fn mi_option_get(option: std::ffi::c_int) -> std::ffi::c_long;
    }
    // SAFETY: it may be called at any time from any thread.
    let keeping_ms = || usize::try_from(unsafe { mi_option_get(MI_OPTION_PURGE_DELAY) });
    assert_eq!(keeping_ms(), Ok(LONGEST_KEEPING_MS), "the option has another number, or its default has changed");
    Keeper::default().keep_below(160 * 1024 * 1024);
    assert_eq!(keeping_ms(), Ok(160));
    assert!(resident_bytes().is_some_and(|bytes| bytes > 1024 * 1024));
}
