//! Buffers of one thread, taken while a span is encoded: reading a value may run Python code that ends another span.

use std::cell::RefCell;

use bumpalo::Bump;

/// What a thread keeps of its largest span, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) arena: Bump,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// The thread's buffers, empty; others when those are in use.
    #[inline]
    pub(crate) fn take() -> Self {
        SCRATCH.take()
    }

    /// Keeps the buffers for the thread's next span, unless this one made them large.
    #[inline]
    pub(crate) fn give_back(mut self) {
        if self.bytes.capacity() <= KEPT_BYTES && self.arena.allocated_bytes() <= KEPT_BYTES {
            self.bytes.clear();
            self.arena.reset();
            SCRATCH.set(self);
        }
    }
}
