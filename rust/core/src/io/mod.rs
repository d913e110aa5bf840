//! What radscore saves: little-endian fields, checksums, and files that appear whole or not at all.

pub mod atomic;
pub mod checksum;
pub mod files;
pub mod records;
