//! Divisibility without a division: a multiple of m is recognised by multiplying with the inverse of
//! m's odd part (Warren, Hacker's Delight, 10-17).

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// For each step i of a permutation of `vocab` entries: how to recognise multiples of vocab - i. 12
/// bytes a step.
pub struct Divisors {
    vocab: u32,
    /// The inverse of the odd part mod 2^32.
    pub inverse: Vec<u32>,
    /// How often the odd part fits into 2^32 - 1: the quotients of its multiples are at most that.
    pub bound: Vec<u32>,
    /// The number of factors 2.
    pub twos: Vec<u32>,
}

impl Divisors {
    fn new(vocab: u32, steps: u32) -> Self {
        let odd = |i: u32| (vocab - i) >> (vocab - i).trailing_zeros();
        Self {
            vocab,
            inverse: (0..steps).map(|i| inverse(odd(i))).collect(),
            bound: (0..steps).map(|i| u32::MAX / odd(i)).collect(),
            twos: (0..steps).map(|i| (vocab - i).trailing_zeros()).collect(),
        }
    }

    /// The table for at least so many steps, shared by all schemes of one shape: a test with decoy keys
    /// has hundreds.
    pub fn shared(vocab: u32, steps: u32) -> Arc<Self> {
        static LIVE: Mutex<Vec<Weak<Divisors>>> = Mutex::new(Vec::new());
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|table| table.strong_count() > 0);
        let found = live
            .iter()
            .filter_map(Weak::upgrade)
            .find(|table| table.vocab == vocab && table.inverse.len() >= steps as usize);
        found.unwrap_or_else(|| {
            let table = Arc::new(Self::new(vocab, steps));
            live.push(Arc::downgrade(&table));
            table
        })
    }
}

/// The inverse of an odd number mod 2^32: Newton's steps, from three right bits to 48.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| {
        x.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(x)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses() {
        for odd in (1..5000).step_by(2).chain([u32::MAX, 1_048_575]) {
            assert_eq!(inverse(odd).wrapping_mul(odd), 1);
        }
    }
}
