//! Large blocks of memory: on huge pages where the system has them, and given back for reuse, since
//! the first touch of fresh pages costs as much as the work that is done on them.

/// Bytes from which huge pages pay.
const LARGE: usize = 1 << 22;

/// Blocks that wait to be used again.
#[derive(Debug, Default)]
pub struct Arena<T> {
    spare: Vec<Vec<T>>,
}

impl<T> Arena<T> {
    /// An arena without blocks.
    pub fn new() -> Self {
        Self { spare: Vec::new() }
    }

    /// An empty vector with room for `length` items.
    pub fn take(&mut self, length: usize) -> Vec<T> {
        let fits = |block: &Vec<T>| block.capacity() >= length && block.capacity() / 2 <= length;
        match self.spare.iter().position(fits) {
            Some(at) => self.spare.swap_remove(at),
            None => reserve(length),
        }
    }

    /// Takes a block back.
    pub fn give(&mut self, mut block: Vec<T>) {
        block.clear();
        self.spare.push(block);
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        let items: usize = self.spare.iter().map(Vec::capacity).sum();
        items * size_of::<T>()
    }

    /// Returns the waiting blocks to the system.
    pub fn clear(&mut self) {
        self.spare.clear();
    }
}

/// An empty vector with room for `length` items, on huge pages where it is large.
pub fn reserve<T>(length: usize) -> Vec<T> {
    let mut block = Vec::with_capacity(length);
    advise(&mut block);
    block
}

#[cfg(target_os = "linux")]
fn advise<T>(block: &mut Vec<T>) {
    const PAGE: usize = 4096;
    let bytes = block.capacity() * size_of::<T>();
    if bytes < LARGE {
        return;
    }
    let from = (block.as_mut_ptr() as usize).next_multiple_of(PAGE);
    let to = (block.as_ptr() as usize + bytes) / PAGE * PAGE;
    // SAFETY: the range lies within the block, and advice changes no content; where the system
    // refuses, pages stay small.
    unsafe {
        libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise<T>(_: &mut Vec<T>) {}
