//! Memory of requests, used again on the thread that sends them.
//!
//! A request is some hundred kilobytes that live for milliseconds. Allocators hand such memory back to the system, which then costs a page
//! fault for every four kilobytes of the next one: more than everything else a request costs.

use std::cell::RefCell;

use bytes::Bytes;

/// As many as requests are usually in flight.
const MAX_KEPT: usize = 8;
const MAX_KEPT_BYTES: usize = 1024 * 1024;

thread_local! {
    /// `None`: this thread keeps nothing.
    static KEPT: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
}

/// From now on this thread keeps the memory of requests that end on it.
pub(crate) fn keep_on_this_thread() {
    KEPT.with(|kept| *kept.borrow_mut() = Some(Vec::new()));
}

/// An empty buffer of at least that capacity.
pub(super) fn take(capacity: usize) -> Vec<u8> {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten();
    let mut buffer = kept.unwrap_or_default();
    buffer.reserve(capacity);
    buffer
}

/// The bytes written, whose memory is kept when the last of them is dropped.
pub(super) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(Kept(buffer))
}

struct Kept(Vec<u8>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.capacity() <= MAX_KEPT_BYTES {
            // A thread that is ending keeps nothing.
            let _gone = KEPT.try_with(|kept| {
                if let Some(kept) = kept.borrow_mut().as_mut().filter(|kept| kept.len() < MAX_KEPT) {
                    buffer.clear();
                    kept.push(buffer);
                }
            });
        }
    }
}
