//! What radscore saves: little-endian fields, and files that appear whole or not at all.

pub mod files;
pub mod records;
