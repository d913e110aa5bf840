//! Windows that do not fit in memory: their files.

pub mod shard_file;
