//! More windows than memory. Documents are read shard by shard, and the distinct windows of each go to
//! a file by partition. Later the same partition of all files is read at once: nothing in another
//! partition can equal what is in it.
//!
//! ```text
//!  documents ──► Collector ──► shard files (.. .. .. ..)  one per shard, each with all partitions
//!                                 │  │  │  │
//!                                 ▼  ▼  ▼  ▼
//!                              PartitionLoader ──► some partitions of all shards, within a Budget
//! ```
//!
//! Windows with weights are sorted instead (`sorted`), so that units come in the same order as in memory.

pub mod budget;
pub mod collector;
mod header;
pub mod loader;
pub mod shard_file;
pub mod shard_writer;
pub mod sorted;
