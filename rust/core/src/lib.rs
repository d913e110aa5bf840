//! The exact core of radscore: token ids become windows, windows become units, a keyed scheme
//! scores each unit once, a tally adds. No Python anywhere.

pub mod error;
pub mod random;
pub mod schemes;

pub use error::{Error, Result};
