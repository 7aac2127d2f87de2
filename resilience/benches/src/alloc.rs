//! Counts heap allocations, per thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, and two counters.
#[derive(Debug)]
pub(crate) struct Counting;

thread_local! {
    static COUNTED: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
}

/// What was asked of the allocator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allocations {
    /// How often memory was asked for; growing a block counts.
    pub(crate) count: u64,
    /// How much.
    pub(crate) bytes: u64,
}

impl Allocations {
    /// By this thread, since it started.
    pub(crate) fn now() -> Self {
        COUNTED.get()
    }

    /// What came since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count - earlier.count,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

fn count(bytes: usize) {
    // Three instructions, and nothing that could allocate: the cell needs no
    // destructor. A thread that is going away counts for nothing.
    let _ = COUNTED.try_with(|counted| {
        let Allocations { count, bytes: sum } = counted.get();
        counted.set(Allocations {
            count: count + 1,
            bytes: sum + bytes as u64,
        });
    });
}

// SAFETY: every method passes its arguments to the system's allocator as they
// are, and counting neither allocates nor unwinds.
#[allow(unsafe_code)] // the trait is unsafe: see above
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(block, layout, size) }
    }
}
