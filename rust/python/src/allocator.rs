//! The allocator: the system's, and where that refuses a small allocation, the core's reserve.

use radscore_core::memory;
use std::alloc::{GlobalAlloc, Layout, System};

struct WithReserve;

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve;

#[cold]
fn again(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let mut block: *mut u8 = std::ptr::null_mut();
    while block.is_null() && memory::spend(size) {
        block = allocate();
    }
    block
}

// SAFETY: every call is handed to the system's allocator as it came, at most more than once.
unsafe impl GlobalAlloc for WithReserve {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let allocate = || unsafe { System.alloc(layout) };
        match allocate() {
            block if block.is_null() => again(layout.size(), allocate),
            block => block,
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let allocate = || unsafe { System.alloc_zeroed(layout) };
        match allocate() {
            block if block.is_null() => again(layout.size(), allocate),
            block => block,
        }
    }

    #[inline]
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises; a block that was not moved is as it was.
        let allocate = || unsafe { System.realloc(old, layout, size) };
        match allocate() {
            block if block.is_null() => again(size, allocate),
            block => block,
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}
