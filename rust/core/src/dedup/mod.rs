//! Each unit once: windows are scattered to partitions by hash and deduplicated partition by partition.

pub mod distinct;
pub mod placing;
pub mod rule;
pub mod scatter;
pub mod sharing;
pub mod store;
