//! Records by partition: small tables that several threads fill without a lock.

use crate::memory;

/// Partitions of every table. Results do not depend on their number.
pub const PARTITIONS: usize = 64;

/// The partition of a mixed hash.
#[inline]
pub fn partition_of(mixed: u64) -> usize {
    (mixed >> (64 - PARTITIONS.trailing_zeros())) as usize
}

/// Records grouped by partition, in their original order within each. Grouping takes two passes over
/// the records.
pub struct Scattered<T> {
    records: Vec<T>,
    ends: [usize; PARTITIONS],
}

impl<T: Copy> Scattered<T> {
    /// Groups records by the partition that `partition` gives them.
    pub fn new(records: &[T], partition: impl Fn(&T) -> usize) -> Self {
        let Some(&any) = records.first() else {
            return Self {
                records: Vec::new(),
                ends: [0; PARTITIONS],
            };
        };
        let mut next = [0usize; PARTITIONS];
        records
            .iter()
            .for_each(|record| next[partition(record)] += 1);
        let mut total = 0;
        for slot in &mut next {
            (total, *slot) = (total + *slot, total);
        }
        let mut sorted = memory::filled(any, records.len());
        for record in records {
            let slot = &mut next[partition(record)];
            sorted[*slot] = *record;
            *slot += 1;
        }
        Self {
            records: sorted,
            ends: next,
        }
    }

    /// The records of a partition.
    pub fn partition(&self, index: usize) -> &[T] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.records[start..self.ends[index]]
    }
}
