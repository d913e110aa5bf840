//! Exact integer keys: a window's tokens packed into 64, 128, 384 or 1408 bits, oldest token in the
//! highest bits, so that equal keys are equal windows and keys sort by context first. A hash would
//! be smaller for wide windows, but units are scored from their keys, so tokens must come back.

mod integer;
mod packer;
mod widths;

pub use integer::Key;
pub use packer::{MAX_CONTEXT_WIDTH, MAX_KGRAM_WIDTH, MAX_VOCAB, PADDING, Packer};
pub use widths::{Wide, Widest};
