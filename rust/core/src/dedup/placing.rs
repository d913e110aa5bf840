//! What makes windows the same, and which partition they go to: those that may be the same share it.

use crate::dedup::distinct::{Contexts, NarrowContexts, Table, Units, Windows};
use crate::dedup::rule::Rule;
use crate::dedup::store::{Part, Placing, Progress, Scratch, part_of};
use crate::key::{Key, Packer};
use crate::schemes::{Scheme, UnitKind};
use crate::simd;
use crate::simd::vector::Vector;
use std::sync::Arc;

/// Windows that are unpacked at one go.
pub(crate) const SLICE: usize = 1 << 13;
/// Bits of a hash that each level of partitions has for itself.
const LEVEL_BITS: u32 = 20;

/// What a worker needs to deduplicate and score a partition.
#[derive(Debug, Default)]
pub struct Desk<K> {
    pub(crate) keys: Vec<K>,
    pub(crate) scratch: Scratch,
    narrow: Vec<u64>,
    windows: Table<K>,
    contexts: Table<u64>,
    unit_table: Table<u128>,
}

/// Places windows by their context, so that what shares a context shares a partition; within one
/// that is split further (levels from 1 on) by what makes them the same.
#[derive(Debug, Clone, Copy)]
pub struct ByWindow {
    /// How windows are packed.
    pub packer: Packer,
    /// What makes them the same.
    pub rule: Rule,
    /// 0, or how often the partition was split.
    pub level: u32,
}

impl ByWindow {
    /// The hash that decides on the partition.
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

    /// The same of what makes windows the same.
    fn hash_id<K: Key>(self, id: K) -> u64 {
        match self.rule {
            Rule::Context if self.level == 0 => id.spread(),
            Rule::Context => id.mix().rotate_left(LEVEL_BITS * self.level),
            _ => self.hash(id),
        }
    }

    fn dedup<K: Key>(
        self,
        part: &mut Part<K>,
        desk: &mut Desk<K>,
        (index, bits): (usize, u32),
    ) -> Option<usize> {
        let (packer, distinct) = (self.packer, part.progress.distinct);
        if self.rule == Rule::None {
            part.progress.distinct = part.progress.total;
        }
        if part.progress.distinct == part.progress.total {
            return None;
        }
        part.gather(0, &mut desk.keys);
        let keys = (0..).map(|i| K::default().push(i, 20).push(i, 20).push(i, 20));
        let foreign = foreign(index, bits, keys, |id| self.hash_id(id));
        let context_bits = packer.window_bits() - packer.bits;
        let kept = if self.rule == Rule::Context && K::BITS == 128 && context_bits <= 64 {
            let items = &mut NarrowContexts(&mut desk.keys, packer);
            desk.contexts.distinct(items, distinct, foreign.fold())
        } else if self.rule == Rule::Context {
            let items = &mut Contexts(&mut desk.keys, packer);
            desk.windows.distinct(items, distinct, foreign)
        } else {
            let items = &mut Windows(&mut desk.keys);
            desk.windows.distinct(items, distinct, foreign)
        };
        Some(settle(part, &mut desk.keys, kept))
    }
}

/// Partitions of windows, to be computed side by side.
struct Places<'a, K> {
    placing: ByWindow,
    keys: &'a [K],
    bits: u32,
    out: &'a mut [u16],
}

impl<K: Key> Places<'_, K> {
    #[inline(always)]
    fn compute(self) {
        for (out, &key) in self.out.iter_mut().zip(self.keys) {
            *out = part_of(self.placing.hash(key), self.bits) as u16;
        }
    }
}

impl<K: Key> simd::Job for Places<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        self.compute();
    }
}

/// Places windows by their unit under a scheme. Windows without a key have none: each of them is
/// one of its own, to be counted and not scored.
#[derive(Clone)]
pub struct ByUnit {
    scheme: Arc<dyn Scheme>,
    packer: Packer,
    level: u32,
    /// Whether windows come that are not known to be distinct.
    repeated: bool,
    /// Whether identities are made to fit in 64 bits.
    narrow: bool,
    /// Whether units of one seed share a partition, since they are cheaper to score together.
    by_seed: bool,
}

/// Marks an identity as that of a window without a key.
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
    /// For distinct windows.
    pub fn new(scheme: Arc<dyn Scheme>, packer: Packer, level: u32) -> Self {
        Self {
            narrow: scheme.unit_kind() == UnitKind::SeedAndTarget,
            by_seed: scheme.shares_work_within_contexts(),
            scheme,
            packer,
            level,
            repeated: false,
        }
    }

    /// For any windows; `None` where their keys do not fit beside a mark.
    pub fn of_any(scheme: Arc<dyn Scheme>, packer: Packer) -> Option<Self> {
        let mut placing = Self::new(scheme, packer, 0);
        placing.repeated = true;
        placing.narrow &= packer.window_bits() < 64;
        (packer.window_bits() <= 64).then_some(placing)
    }

    /// Finds the identity of each window.
    fn identify<K: Key>(&self, keys: &[K], scratch: &mut Scratch) {
        let Scratch {
            tokens,
            keyless,
            ids,
            ..
        } = scratch;
        ids.resize(keys.len(), 0);
        for from in (0..keys.len()).step_by(SLICE) {
            let range = from..keys.len().min(from + SLICE);
            let ids = &mut ids[range.clone()];
            self.packer.unpack_into(&keys[range.clone()], tokens);
            self.scheme.units(tokens, ids);
            keyless.resize(ids.len(), false);
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

    /// The hash of a unit that decides on the partition.
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
        part: &mut Part<K>,
        desk: &mut Desk<K>,
        (index, bits): (usize, u32),
    ) -> Option<usize> {
        let Progress {
            total, distinct, ..
        } = *part.progress;
        if distinct == total {
            return None;
        }
        part.gather(0, &mut desk.keys);
        self.identify(&desk.keys, &mut desk.scratch);
        let ids = &mut desk.scratch.ids;
        let units = (0..).map(|seed: u128| seed << 32);
        let foreign = foreign(index, bits, units, |id| self.hash(id));
        let kept = if self.narrow {
            desk.narrow.clear();
            desk.narrow.extend(ids.iter().map(|&id| narrowed(id)));
            let items = &mut Units(&mut desk.narrow, &mut desk.keys);
            desk.contexts.distinct(items, distinct, narrowed(foreign))
        } else {
            let items = &mut Units(ids, &mut desk.keys);
            desk.unit_table.distinct(items, distinct, foreign)
        };
        Some(settle(part, &mut desk.keys, kept))
    }
}

impl<K: Key> Placing<K> for ByWindow {
    fn places(&self, keys: &[K], bits: u32, _: &mut Scratch, out: &mut [u16]) {
        let placing = *self;
        let work = Places {
            placing,
            keys,
            bits,
            out,
        };
        if let Err(work) = simd::run(work) {
            work.compute();
        }
    }
}

impl<K: Key> Placing<K> for ByUnit {
    fn places(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]) {
        for (keys, out) in keys.chunks(SLICE).zip(out.chunks_mut(SLICE)) {
            self.identify(keys, scratch);
            for ((place, &id), key) in out.iter_mut().zip(&scratch.ids).zip(keys) {
                let hash = if id & MARK == 0 {
                    self.hash(id)
                } else {
                    key.mix().rotate_left(LEVEL_BITS * self.level)
                };
                *place = part_of(hash, bits) as u16;
            }
        }
    }
}

/// What makes the windows of a store the same.
#[derive(Clone)]
pub enum Sameness {
    /// Their tokens.
    Window(ByWindow),
    /// What a scheme reads of them.
    Unit(ByUnit),
}

impl Sameness {
    /// Deduplicates a partition, which is at the desk then, and returns how many windows were
    /// removed. `None`, and nothing at the desk, where all were known to be distinct.
    pub fn dedup<K: Key>(
        &self,
        part: &mut Part<K>,
        desk: &mut Desk<K>,
        place: (usize, u32),
    ) -> Option<usize> {
        match self {
            Self::Window(by_window) => by_window.dedup(part, desk, place),
            Self::Unit(by_unit) => by_unit.dedup(part, desk, place),
        }
    }
}

impl<K: Key> Placing<K> for Sameness {
    fn places(&self, keys: &[K], bits: u32, scratch: &mut Scratch, out: &mut [u16]) {
        match self {
            Self::Window(by_window) => by_window.places(keys, bits, scratch, out),
            Self::Unit(by_unit) => by_unit.places(keys, bits, scratch, out),
        }
    }
}

/// The first of some identities whose hash lies in another partition: it is none of this one's.
fn foreign<I: Key>(
    part: usize,
    bits: u32,
    mut ids: impl Iterator<Item = I>,
    hash: impl Fn(I) -> u64,
) -> I {
    ids.find(|&id| part_of(hash(id), bits) != part)
        .unwrap_or_default()
}

/// Writes the distinct windows of a partition back; returns how many were removed.
fn settle<K: Key>(part: &mut Part<K>, keys: &mut Vec<K>, kept: usize) -> usize {
    let Progress {
        total, distinct, ..
    } = *part.progress;
    keys.truncate(kept);
    part.replace(distinct, &keys[distinct..]);
    (part.progress.total, part.progress.distinct) = (kept, kept);
    total - kept
}
