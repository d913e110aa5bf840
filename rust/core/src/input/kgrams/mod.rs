//! Sets and counts of k-grams: the filter of the closed-model test.

mod counts;
mod keys;
mod set;

pub use counts::KgramCounts;
pub use set::KgramSet;
