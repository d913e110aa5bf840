//! From distinct windows to sums: scores, tallies, weights, and documents as tests of their own.

pub mod exact_sum;
pub mod options;
pub mod per_document;
pub mod scoring;
pub mod tally;
pub mod weighted;
