//! Large blocks of memory: on huge pages where the system has them, and given back for reuse, since
//! the first touch of fresh pages costs as much as the work that is done on them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from which huge pages pay.
const LARGE: usize = 1 << 22;

/// Bytes of blocks of one kind that wait for the process's next scorer, at most.
const WAITING: usize = 1 << 30;

/// Items whose blocks outlive the scorer that made them.
pub trait Lasting: Sized + 'static {
    /// The blocks of the process that wait.
    fn waiting() -> &'static Mutex<Vec<Vec<Self>>>;
}

/// Blocks that wait to be used again.
#[derive(Debug)]
pub struct Arena<T: Lasting> {
    spare: Vec<Vec<T>>,
}

impl<T: Lasting> Default for Arena<T> {
    fn default() -> Self {
        Self { spare: Vec::new() }
    }
}

impl<T: Lasting> Drop for Arena<T> {
    fn drop(&mut self) {
        let mut waiting = lock::<T>();
        let mut bytes: usize = waiting.iter().map(size).sum();
        for mut block in self.spare.drain(..) {
            bytes += size(&block);
            if bytes <= WAITING && size(&block) >= LARGE {
                advise(&mut block, Advice::Reclaim);
                waiting.push(block);
            } else {
                bytes -= size(&block);
            }
        }
    }
}

impl<T: Lasting> Arena<T> {
    /// An empty vector with room for `length` items.
    pub fn take(&mut self, length: usize) -> Vec<T> {
        find(&mut self.spare, length)
            .or_else(|| find(&mut lock::<T>(), length))
            .unwrap_or_else(|| {
                // A block that does not fit makes room for one that does, with some to spare, so
                // that blocks of slowly changing lengths do not pile up.
                let room = self.spare.pop().map_or(0, |_| length / 8);
                reserve(length + room)
            })
    }

    /// Takes a block back.
    pub fn give(&mut self, mut block: Vec<T>) {
        block.clear();
        self.spare.push(block);
    }

    /// Returns the waiting blocks to the system.
    pub fn clear(&mut self) {
        self.spare.clear();
    }
}

/// Returns the blocks that wait for a scorer of this kind to the system.
pub fn release<T: Lasting>() {
    lock::<T>().clear();
}

fn lock<T: Lasting>() -> MutexGuard<'static, Vec<Vec<T>>> {
    T::waiting().lock().unwrap_or_else(PoisonError::into_inner)
}

fn size<T>(block: &Vec<T>) -> usize {
    block.capacity() * size_of::<T>()
}

fn find<T>(blocks: &mut Vec<Vec<T>>, length: usize) -> Option<Vec<T>> {
    let fits = |block: &Vec<T>| block.capacity() >= length && block.capacity() / 2 <= length;
    let at = blocks.iter().position(fits)?;
    Some(blocks.swap_remove(at))
}

/// An empty vector with room for `length` items, on huge pages where it is large.
pub fn reserve<T>(length: usize) -> Vec<T> {
    let mut block = Vec::with_capacity(length);
    advise(&mut block, Advice::Huge);
    block
}

/// What the system is told of a block.
#[derive(Clone, Copy)]
enum Advice {
    /// It should lie on huge pages.
    Huge,
    /// Its pages may be taken away where memory is short, until it is written to again.
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
