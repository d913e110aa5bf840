//! The exact core of radscore: token ids become windows, windows become units, a keyed scheme
//! scores each unit once, a tally adds. No Python anywhere.
//!
//! Each module uses only those above it in this list (`tests/layers.rs` checks it):
//! `error`, `threads`, `recycler`, `io`, `key`, `simd`, `prng`, `schemes`, `input`, `dedup`, `score`,
//! `spill`, `scorer`.

pub mod dedup;
pub mod error;
pub mod input;
pub mod io;
pub mod key;
pub mod prng;
pub mod recycler;
pub mod schemes;
pub mod score;
pub mod scorer;
pub mod simd;
pub mod spill;
pub mod threads;

pub use error::{Error, Result};
