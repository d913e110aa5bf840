//! Exact integer keys: a window's tokens packed into 64, 128, 384 or 1408 bits, the oldest token in
//! the highest bits. Equal keys are equal windows, and keys sort by context first. A hash of a wide
//! window would be smaller, but units are scored from their keys, so the tokens must come back.

mod integer;
mod packer;
mod widths;

pub use integer::Key;
pub use packer::{MAX_CONTEXT_WIDTH, MAX_KGRAM_WIDTH, PADDING, Packer};
pub use widths::{Wide, Widest};
