//! Large blocks of memory: on huge pages where the system has them, and kept for reuse, since the
//! first touch of fresh pages costs as much as the work done on them.

use crate::memory;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from which huge pages pay off.
const LARGE: usize = 1 << 22;

/// Most bytes of idle blocks of one type that a process keeps for its next scorer.
const MOST_IDLE: usize = 1 << 30;

/// A type of item whose blocks outlive the recycler that allocated them.
pub trait Recycled: Sized + 'static {
    /// The idle blocks of the process.
    fn idle() -> &'static Mutex<Vec<Vec<Self>>>;
}

/// Blocks to be used again.
///
/// Every block it holds is empty. Dropping it hands its large blocks to the process, up to 1 GiB
/// for each type; the system may take their pages back when memory is short.
#[derive(Debug)]
pub struct BlockRecycler<T: Recycled> {
    spare: Vec<Vec<T>>,
}

impl<T: Recycled> Default for BlockRecycler<T> {
    fn default() -> Self {
        Self { spare: Vec::new() }
    }
}

impl<T: Recycled> Drop for BlockRecycler<T> {
    fn drop(&mut self) {
        let mut idle = lock::<T>();
        let mut bytes: usize = idle.iter().map(size).sum();
        for mut block in self.spare.drain(..) {
            bytes += size(&block);
            if bytes <= MOST_IDLE && size(&block) >= LARGE {
                advise(&mut block, Advice::Reclaim);
                idle.push(block);
            } else {
                bytes -= size(&block);
            }
        }
    }
}

impl<T: Recycled> BlockRecycler<T> {
    /// An empty vector with room for `length` items: a spare block, an idle one, or a new one.
    pub fn take(&mut self, length: usize) -> Vec<T> {
        find(&mut self.spare, length)
            .or_else(|| find(&mut lock::<T>(), length))
            .unwrap_or_else(|| {
                // A block that does not fit is replaced by one that does, with some room to spare,
                // so that blocks of slowly changing lengths do not pile up.
                let room = self.spare.pop().map_or(0, |_| length / 8);
                reserve(length + room)
            })
    }

    /// Takes a block back.
    pub fn give(&mut self, mut block: Vec<T>) {
        block.clear();
        self.spare.push(block);
    }

    /// Frees its spare blocks.
    pub fn clear(&mut self) {
        self.spare.clear();
    }
}

/// Frees the idle blocks of the process.
pub fn release<T: Recycled>() {
    lock::<T>().clear();
}

fn lock<T: Recycled>() -> MutexGuard<'static, Vec<Vec<T>>> {
    T::idle().lock().unwrap_or_else(PoisonError::into_inner)
}

fn size<T>(block: &Vec<T>) -> usize {
    block.capacity() * size_of::<T>()
}

/// Removes the first block that has the room and is at most twice as large.
fn find<T>(blocks: &mut Vec<Vec<T>>, length: usize) -> Option<Vec<T>> {
    let fits = |block: &Vec<T>| block.capacity() >= length && block.capacity() / 2 <= length;
    let at = blocks.iter().position(fits)?;
    Some(blocks.swap_remove(at))
}

/// An empty vector with room for `length` items, on huge pages if it is large.
pub fn reserve<T>(length: usize) -> Vec<T> {
    let mut block = memory::vec(length);
    advise(&mut block, Advice::Huge);
    block
}

/// What to tell the system about a block.
#[derive(Clone, Copy)]
enum Advice {
    /// Put it on huge pages.
    Huge,
    /// Its pages may be taken away when memory is short, until they are written to again.
    Reclaim,
}

#[cfg(target_os = "linux")]
fn advise<T>(block: &mut Vec<T>, advice: Advice) {
    const PAGE: usize = 4096;
    let bytes = block.capacity() * size_of::<T>();
    if bytes < LARGE {
        return;
    }
    let from = (block.as_mut_ptr() as usize).next_multiple_of(PAGE);
    let to = (block.as_ptr() as usize + bytes) / PAGE * PAGE;
    let advice = match advice {
        Advice::Huge => libc::MADV_HUGEPAGE,
        Advice::Reclaim => libc::MADV_FREE,
    };
    // SAFETY: the range lies within the block, which holds no items, so that nobody reads what the
    // advice may take away; where the system refuses, nothing changes.
    unsafe {
        libc::madvise(from as *mut libc::c_void, to - from, advice);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_: &mut Vec<T>, _: Advice) {}
