//! Memory that may run out.
//!
//! Whatever grows with the input is reserved through the functions here. Where the system refuses,
//! the work unwinds to [`caught`], which makes an error of it: between the two nobody has to pass a
//! failure on that can come from everywhere. What unwound may be half changed; its owner keeps book.
//!
//! Small allocations, of which there are too many to ask for one by one, live on a reserve meanwhile
//! if the allocator spends it ([`spend`]): then the next of these functions fails.

mod spare;

use crate::error::{Error, Result};
use spare::{is_spent, refill};
use std::any::Any;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub use spare::spend;

/// What unwinds where memory, or whatever else the system gives, has run out.
struct Refused(Error);

/// Runs `work`. If the system refuses memory meanwhile, that is an error, and so is a bug that panics.
pub fn caught<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    refill();
    let done = catch_unwind(AssertUnwindSafe(work));
    refill();
    done.unwrap_or_else(|cause| Err(cause_of(cause)))
}

fn cause_of(cause: Box<dyn Any + Send>) -> Error {
    let cause = match cause.downcast::<Refused>() {
        Ok(refused) => return refused.0,
        Err(cause) => cause,
    };
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
    Error::Internal(text.unwrap_or("a panic without a text").into())
}

/// Unwinds to [`caught`] with an error.
pub fn refuse(error: Error) -> ! {
    resume_unwind(Box::new(Refused(error)))
}

#[cold]
fn out_of(length: usize, size: usize) -> ! {
    refuse(Error::Memory(length.saturating_mul(size)))
}

/// Room for `more` items, as a vector grows that is pushed to.
#[inline]
pub fn reserve<T>(items: &mut Vec<T>, more: usize) {
    if more > items.capacity() - items.len() {
        grow(items, more, Vec::try_reserve);
    }
}

/// Room for exactly `more` items.
#[inline]
pub fn reserve_exact<T>(items: &mut Vec<T>, more: usize) {
    if more > items.capacity() - items.len() {
        grow(items, more, Vec::try_reserve_exact);
    }
}

#[inline(never)]
fn grow<T, E>(
    items: &mut Vec<T>,
    more: usize,
    try_to: impl FnOnce(&mut Vec<T>, usize) -> std::result::Result<(), E>,
) {
    if is_spent() || try_to(items, more).is_err() {
        out_of(items.len().saturating_add(more), size_of::<T>());
    }
}

/// An empty vector with room for so many items.
#[inline]
pub fn vec<T>(length: usize) -> Vec<T> {
    let mut items = Vec::new();
    reserve_exact(&mut items, length);
    items
}

/// So many copies of a value.
pub fn filled<T: Clone>(value: T, length: usize) -> Vec<T> {
    let mut items = vec(length);
    items.resize(length, value);
    items
}

/// Makes a vector as long as that, with copies of a value where it grows.
#[inline]
pub fn resize<T: Clone>(items: &mut Vec<T>, length: usize, value: T) {
    reserve(items, length.saturating_sub(items.len()));
    items.resize(length, value);
}

/// Appends copies of items.
#[inline]
pub fn extend<T: Clone>(items: &mut Vec<T>, more: &[T]) {
    reserve(items, more.len());
    items.extend_from_slice(more);
}

/// Appends one item.
#[inline]
pub fn push<T>(items: &mut Vec<T>, item: T) {
    reserve(items, 1);
    items.push(item);
}

/// A copy of items.
pub fn copy<T: Clone>(items: &[T]) -> Vec<T> {
    let mut all = vec(items.len());
    all.extend_from_slice(items);
    all
}

/// Appends the items of an iterator.
pub fn append<T>(items: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    let more = more.into_iter();
    match more.size_hint() {
        (least, Some(most)) if least == most => {
            reserve(items, least);
            items.extend(more);
        }
        _ => more.for_each(|item| push(items, item)),
    }
}

/// The items of an iterator; room for exactly as many as it says.
pub fn collect<T>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let items = items.into_iter();
    let mut all = vec(items.size_hint().0);
    append(&mut all, items);
    all
}

/// Fails unless so many bytes could be had now, for what allocates them without asking.
pub fn ensure(bytes: usize) {
    // The compiler would leave out what nobody looks at.
    drop(std::hint::black_box(vec::<u8>(bytes)));
}

/// Room for `more` entries of a hash map.
#[inline]
pub fn reserve_entries<K: Eq + Hash, V, S: BuildHasher>(
    map: &mut hashbrown::HashMap<K, V, S>,
    more: usize,
) {
    if more > map.capacity() - map.len() && (is_spent() || map.try_reserve(more).is_err()) {
        out_of(map.len().saturating_add(more), size_of::<(K, V)>());
    }
}

/// Room for `more` members of a hash set.
#[inline]
pub fn reserve_members<K: Eq + Hash, S: BuildHasher>(
    set: &mut hashbrown::HashSet<K, S>,
    more: usize,
) {
    if more > set.capacity() - set.len() && (is_spent() || set.try_reserve(more).is_err()) {
        out_of(set.len().saturating_add(more), size_of::<K>());
    }
}

/// Room for `more` entries of a hash table.
#[inline]
pub fn reserve_slots<T>(
    table: &mut hashbrown::HashTable<T>,
    more: usize,
    hash: impl Fn(&T) -> u64,
) {
    if more > table.capacity() - table.len()
        && (is_spent() || table.try_reserve(more, hash).is_err())
    {
        out_of(table.len().saturating_add(more), size_of::<T>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_an_error() {
        let huge = usize::MAX / 16;
        let error = caught(|| Ok(vec::<u64>(huge).len())).err();
        assert_eq!(error, Some(Error::Memory(8 * huge)));
        let inside = caught(|| {
            let lengths = [1, huge];
            use rayon::prelude::*;
            Ok(lengths
                .par_iter()
                .map(|&n| vec::<u64>(n).len())
                .sum::<usize>())
        });
        assert!(matches!(inside, Err(Error::Memory(_))));
        assert_eq!(caught(|| Ok(filled(7u8, 3))), Ok(vec![7, 7, 7]));
        assert_eq!(collect((0..9).filter(|i| i % 4 == 0)), [0, 4, 8]);
    }
}
