//! Each window or unit once. Windows are scattered to partitions by a hash, and repetitions are
//! removed partition by partition, in a table that fits the second-level cache.
//!
//! ```text
//!  input ──► WindowSet ── cuts, finds partitions (Partitioner), scatters ──► ScatteredBlock
//!                │                                                               │
//!                └─ deduplicates one Partition of all blocks (Identity, Table) ◄─┘
//! ```
//!
//! Results depend neither on the number of partitions nor on the threads: what may be equal shares a
//! partition, and within one the windows stay in reading order.

pub mod identity;
pub mod object_pool;
pub mod partitioner;
pub mod partitions;
pub mod rule;
pub mod scatter;
pub mod sharing;
pub mod table;
pub mod window_set;
