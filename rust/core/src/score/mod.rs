//! From distinct windows to sums: scores, tallies, weights, and documents as tests of their own.
//!
//! ```text
//!  Partitions ──► ScorePass ── Scheme::scores ──► Sums ──► Tally      (GroupScores)
//!  Record     ──► combine ──► Evidence ──► products ──► Tally         (weighted)
//!  Documents  ──► Candidates ──► DocumentTally, Positions             (per_document)
//! ```

pub mod candidates;
pub mod exact_sum;
pub mod matched;
pub mod options;
pub mod pass;
pub mod per_document;
pub mod products;
pub mod schemes;
pub mod tally;
pub mod weighted;
