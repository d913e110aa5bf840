//! The exact core of radscore: token ids become windows, windows become units, a keyed scheme
//! scores each unit once, a tally adds. No Python anywhere.

pub mod arena;
pub mod bytes;
pub mod distinct;
pub mod documents;
pub mod error;
pub mod exact_sum;
pub mod frame;
pub mod kernels;
pub mod key;
pub mod kgrams;
pub mod outofcore;
pub mod partition;
pub mod per_document;
pub mod placing;
pub mod pool;
pub mod random;
pub mod reduction;
pub mod residues;
pub mod scatter;
pub mod schemes;
pub mod scorer;
pub mod scoring;
pub mod sharing;
pub mod shown;
pub mod spill;
pub mod store;
pub mod tally;
pub mod tokenize;
pub mod weighted;
pub mod windows;

pub use error::{Error, Result};
