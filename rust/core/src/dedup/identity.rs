//! Which windows are equal: by their tokens, by their contexts, or by what a scheme reads of them.

use crate::dedup::partitioner::{Partitioner, Scratch, partition_of};
use crate::dedup::partitions::{Partition, Progress};
use crate::dedup::rule::Rule;
use crate::dedup::table::{Contexts, NarrowContexts, Table, Units, Windows};
use crate::key::{Key, Packer};
use crate::memory;
use crate::schemes::{Scheme, UnitKind};
use crate::simd;
use crate::simd::vector::Vector;
use std::sync::Arc;

/// Windows that are unpacked in one go.
pub(crate) const SLICE: usize = 1 << 13;
/// Bits of a hash that each level of partitions has for itself.
const LEVEL_BITS: u32 = 20;

/// A worker's memory for deduplicating and scoring a partition.
#[derive(Debug, Default)]
pub struct Workspace<K> {
    /// The partition's keys.
    pub(crate) keys: Vec<K>,
    pub(crate) scratch: Scratch,
    narrow_ids: Vec<u64>,
    wide_table: Table<K>,
    narrow_table: Table<u64>,
    unit_table: Table<u128>,
}

/// Which windows are equal, and so which partition they share.
#[derive(Clone)]
pub enum Identity {
    /// Those of the same tokens or contexts.
    Window(ByWindow),
    /// Those that are the same to a scheme.
    Unit(ByUnit),
}

impl Identity {
    /// Windows are equal if all that a rule compares is.
    pub fn of_windows(packer: Packer, rule: Rule) -> Self {
        Self::Window(ByWindow {
            packer,
            rule,
            level: 0,
        })
    }

    /// The same identity for partitions that were split `level` times.
    #[must_use]
    pub fn at_level(&self, level: u32) -> Self {
        let mut identity = self.clone();
        match &mut identity {
            Self::Window(by_window) => by_window.level = level,
            Self::Unit(by_unit) => by_unit.level = level,
        }
        identity
    }

    /// Removes the repetitions of partition `index` among `2^bits` and returns how many there were;
    /// what is left is in the workspace then. `None`, and nothing in the workspace, if all windows
    /// were known to be distinct.
    pub fn dedup<K: Key>(
        &self,
        partition: &mut Partition<K>,
        workspace: &mut Workspace<K>,
        (index, bits): (usize, u32),
    ) -> Option<usize> {
        match self {
            Self::Window(by_window) => by_window.dedup(partition, workspace, (index, bits)),
            Self::Unit(by_unit) => by_unit.dedup(partition, workspace, (index, bits)),
        }
    }
}

impl<K: Key> Partitioner<K> for Identity {
    fn find(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]) {
        match self {
            Self::Window(by_window) => by_window.find(keys, bits, scratch, out),
            Self::Unit(by_unit) => by_unit.find(keys, bits, scratch, out),
        }
    }
}

/// Windows are equal if their tokens are, or their contexts. The partition is that of the context, so
/// that windows of one context are scored together; of a partition that is split (levels from 1 on),
/// it is that of what is compared.
#[derive(Debug, Clone, Copy)]
pub struct ByWindow {
    /// How windows are packed.
    pub packer: Packer,
    /// Which of them are equal.
    pub rule: Rule,
    /// How often the partition was split.
    pub level: u32,
}

impl ByWindow {
    /// The hash that decides on the partition of a window.
    #[inline(always)]
    fn hash<K: Key>(self, window: K) -> u64 {
        if self.level == 0 {
            return self.packer.context(window).spread();
        }
        let id = match self.rule {
            Rule::Context => self.packer.context(window),
            _ => window,
        };
        id.mix().rotate_left(LEVEL_BITS * self.level)
    }

    /// The same hash, of what is compared.
    fn hash_id<K: Key>(self, id: K) -> u64 {
        match self.rule {
            Rule::Context if self.level == 0 => id.spread(),
            Rule::Context => id.mix().rotate_left(LEVEL_BITS * self.level),
            _ => self.hash(id),
        }
    }

    fn dedup<K: Key>(
        self,
        partition: &mut Partition<K>,
        workspace: &mut Workspace<K>,
        (index, bits): (usize, u32),
    ) -> Option<usize> {
        let (packer, distinct) = (self.packer, partition.progress.distinct);
        if self.rule == Rule::None {
            partition.progress.distinct = partition.progress.total;
        }
        if partition.progress.distinct == partition.progress.total {
            return None;
        }
        partition.gather(0, &mut workspace.keys);
        let ids = (0..).map(|i| K::default().push(i, 20).push(i, 20).push(i, 20));
        let empty_slot = absent(index, bits, ids, |id| self.hash_id(id));
        let context_bits = packer.window_bits() - packer.bits;
        let kept = if self.rule == Rule::Context && K::BITS == 128 && context_bits <= 64 {
            let items = &mut NarrowContexts(&mut workspace.keys, packer);
            (workspace.narrow_table).distinct(items, distinct, empty_slot.fold())
        } else if self.rule == Rule::Context {
            let items = &mut Contexts(&mut workspace.keys, packer);
            workspace.wide_table.distinct(items, distinct, empty_slot)
        } else {
            let items = &mut Windows(&mut workspace.keys);
            workspace.wide_table.distinct(items, distinct, empty_slot)
        };
        Some(partition.keep(&mut workspace.keys, kept))
    }
}

impl<K: Key> Partitioner<K> for ByWindow {
    fn find(&self, keys: &[K], bits: u32, _: &mut Scratch, out: &mut [u16]) {
        let by_window = *self;
        let job = FindJob {
            by_window,
            keys,
            bits,
            out,
        };
        if let Err(job) = simd::run(job) {
            job.compute();
        }
    }
}

/// Partitions to be found side by side.
struct FindJob<'a, K> {
    by_window: ByWindow,
    keys: &'a [K],
    bits: u32,
    out: &'a mut [u16],
}

impl<K: Key> FindJob<'_, K> {
    #[inline(always)]
    fn compute(self) {
        for (out, &key) in self.out.iter_mut().zip(self.keys) {
            *out = partition_of(self.by_window.hash(key), self.bits) as u16;
        }
    }
}

impl<K: Key> simd::Job for FindJob<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.compute();
    }
}

/// Windows are equal if their units under a scheme are. A window without a key has no unit: it equals
/// only itself, to be counted and not scored.
#[derive(Clone)]
pub struct ByUnit {
    scheme: Arc<dyn Scheme>,
    packer: Packer,
    level: u32,
    /// Whether windows may be repeated.
    repeated: bool,
    /// Whether identities are made to fit 64 bits.
    narrow: bool,
    /// Whether units of one seed share a partition, since they are cheaper to score together.
    by_seed: bool,
}

/// Marks the identity of a window without a key.
const MARK: u128 = 1 << 127;

/// A unit of 32 bits and a target, or a marked number below 2^63, in 64 bits.
#[inline]
fn narrowed(id: u128) -> u64 {
    if id & MARK == 0 {
        (id >> 32 << 20) as u64 | (id as u64 & 0xF_FFFF)
    } else {
        1 << 63 | id as u64
    }
}

impl ByUnit {
    /// For windows that are distinct.
    pub fn new(scheme: Arc<dyn Scheme>, packer: Packer) -> Self {
        Self {
            narrow: scheme.unit_kind() == UnitKind::SeedAndTarget,
            by_seed: scheme.shares_work_within_contexts(),
            scheme,
            packer,
            level: 0,
            repeated: false,
        }
    }

    /// For any windows; `None` if their keys do not fit beside a mark.
    pub fn of_repeated(scheme: Arc<dyn Scheme>, packer: Packer) -> Option<Self> {
        let mut by_unit = Self::new(scheme, packer);
        by_unit.repeated = true;
        by_unit.narrow &= packer.window_bits() < 64;
        (packer.window_bits() <= 64).then_some(by_unit)
    }

    /// Finds the identity of each window.
    fn identify<K: Key>(&self, keys: &[K], scratch: &mut Scratch) {
        let Scratch {
            tokens,
            keyless,
            ids,
            ..
        } = scratch;
        memory::resize(ids, keys.len(), 0);
        for from in (0..keys.len()).step_by(SLICE) {
            let range = from..keys.len().min(from + SLICE);
            let ids = &mut ids[range.clone()];
            self.packer.unpack_into(&keys[range.clone()], tokens);
            self.scheme.units(tokens, ids);
            memory::resize(keyless, ids.len(), false);
            if self.scheme.keyless(tokens, keyless) {
                for (row, id) in ids.iter_mut().enumerate().filter(|&(row, _)| keyless[row]) {
                    let own = match self.repeated {
                        true => keys[from + row].fold(),
                        false => (from + row) as u64,
                    };
                    *id = MARK | u128::from(own);
                }
            }
        }
    }

    /// The hash that decides on the partition of a unit.
    #[inline]
    fn hash(&self, unit: u128) -> u64 {
        match self.level {
            0 if self.by_seed => ((unit >> 32) as u64).spread(),
            0 => unit.spread(),
            level => unit.mix().rotate_left(LEVEL_BITS * level),
        }
    }

    fn dedup<K: Key>(
        &self,
        partition: &mut Partition<K>,
        workspace: &mut Workspace<K>,
        (index, bits): (usize, u32),
    ) -> Option<usize> {
        let Progress {
            total, distinct, ..
        } = *partition.progress;
        if distinct == total {
            return None;
        }
        partition.gather(0, &mut workspace.keys);
        self.identify(&workspace.keys, &mut workspace.scratch);
        let ids = &mut workspace.scratch.ids;
        let units = (0..).map(|seed: u128| seed << 32);
        let empty_slot = absent(index, bits, units, |unit| self.hash(unit));
        let kept = if self.narrow {
            workspace.narrow_ids.clear();
            let narrow = ids.iter().map(|&id| narrowed(id));
            memory::append(&mut workspace.narrow_ids, narrow);
            let items = &mut Units(&mut workspace.narrow_ids, &mut workspace.keys);
            (workspace.narrow_table).distinct(items, distinct, narrowed(empty_slot))
        } else {
            let items = &mut Units(ids, &mut workspace.keys);
            workspace.unit_table.distinct(items, distinct, empty_slot)
        };
        Some(partition.keep(&mut workspace.keys, kept))
    }
}

impl<K: Key> Partitioner<K> for ByUnit {
    fn find(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]) {
        for (keys, out) in keys.chunks(SLICE).zip(out.chunks_mut(SLICE)) {
            self.identify(keys, scratch);
            for ((partition, &id), key) in out.iter_mut().zip(&scratch.ids).zip(keys) {
                let hash = if id & MARK == 0 {
                    self.hash(id)
                } else {
                    key.mix().rotate_left(LEVEL_BITS * self.level)
                };
                *partition = partition_of(hash, bits) as u16;
            }
        }
    }
}

/// The first of some identities whose hash leads to another partition, so that nothing in this one
/// has it.
fn absent<I: Key>(
    index: usize,
    bits: u32,
    mut ids: impl Iterator<Item = I>,
    hash: impl Fn(I) -> u64,
) -> I {
    ids.find(|&id| partition_of(hash(id), bits) != index)
        .unwrap_or_default()
}
