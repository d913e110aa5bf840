//! Address space that is kept for small allocations when there is no other left.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether some of it is spent.
static SPENT: AtomicBool = AtomicBool::new(false);

/// Whether some of it is spent: then memory has run out.
pub fn is_spent() -> bool {
    SPENT.load(Ordering::Relaxed)
}

#[cfg(target_os = "linux")]
mod pieces {
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, Ordering};

    pub const SIZE: usize = 1 << 20;
    static ALL: [AtomicPtr<libc::c_void>; 16] = [const { AtomicPtr::new(null_mut()) }; 16];

    /// Gives a piece back to the system; false if there is none.
    pub fn give_back() -> bool {
        ALL.iter().any(|piece| {
            let own = piece.swap(null_mut(), Ordering::Relaxed);
            // SAFETY: `take_all` has mapped this piece, and nobody else has it any more.
            !own.is_null() && unsafe { libc::munmap(own, SIZE) } == 0
        })
    }

    /// Takes those that are missing from the system; false if it refuses.
    pub fn take_all() -> bool {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        for piece in &ALL {
            if !piece.load(Ordering::Relaxed).is_null() {
                continue;
            }
            // SAFETY: a new mapping, which nobody uses.
            let own = unsafe { libc::mmap(null_mut(), SIZE, access, kind, -1, 0) };
            if own == libc::MAP_FAILED {
                return false;
            }
            let order = Ordering::Relaxed;
            if piece
                .compare_exchange(null_mut(), own, order, order)
                .is_err()
            {
                // SAFETY: the mapping from above: another thread was faster.
                unsafe { libc::munmap(own, SIZE) };
            }
        }
        true
    }
}

#[cfg(not(target_os = "linux"))]
mod pieces {
    pub const SIZE: usize = 0;
    pub fn give_back() -> bool {
        false
    }
    pub fn take_all() -> bool {
        true
    }
}

/// Gives a piece of it back to the system, for an allocation that was refused; false if there is none
/// left, or the allocation is too large for it.
#[cold]
pub fn spend(bytes: usize) -> bool {
    if 2 * bytes > pieces::SIZE {
        return false;
    }
    SPENT.store(true, Ordering::Relaxed);
    pieces::give_back()
}

/// Makes it whole, if the system has as much again.
pub fn refill() {
    SPENT.store(!pieces::take_all(), Ordering::Relaxed);
}
