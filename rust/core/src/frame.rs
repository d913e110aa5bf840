//! All schemes of a scorer that read windows of one width share a frame: windows are packed,
//! filtered and deduplicated once, then every scheme scores what is new.

use crate::bytes::{Reader, put_u64};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::partition::{DistinctSet, Identity, Scattered, partition_of};
use crate::pool::Pool;
use crate::schemes::{Scheme, patient_scores, slice_len};
use crate::scorer::is_weight;
use crate::tally::{Sums, Tally};
use crate::weighted::{Combine, Record, WeightedUnits, combine, scheme_units, score_value};
use crate::windows::{Counts, PromptSets, Source, Status, WindowPlan};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The deduplication rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Each distinct unit once.
    Unit,
    /// Each distinct window once.
    Window,
    /// Each distinct context once, with the target of its first occurrence.
    Context,
    /// Every window.
    None,
}

/// Token positions of a chunk of work.
const CHUNK: usize = 1 << 16;
/// Windows whose units are recovered in one go.
const SLICE: usize = 1 << 16;

/// One scheme with what it has scored.
struct SchemeState {
    scheme: Arc<dyn Scheme>,
    /// Units below 2^64, and the others.
    small_units: DistinctSet<u64>,
    large_units: DistinctSet<u128>,
    sums: Sums,
}

/// See the module.
pub struct Frame<K> {
    plan: WindowPlan<K>,
    rule: Rule,
    combine: Combine,
    schemes: Vec<SchemeState>,
    counts: Counts,
    duplicates: u64,
    seen: DistinctSet<K>,
    /// Distinct windows that are not scored yet.
    pending: Vec<K>,
    /// Windows with weights; a frame has either these or the two above.
    records: Option<Vec<Record<K>>>,
    /// The records combined by window, until more are added.
    combined: Option<Vec<Record<K>>>,
    next_order: u64,
}

impl<K: Key> Frame<K> {
    /// An empty frame.
    pub fn new(
        plan: WindowPlan<K>,
        rule: Rule,
        combine: Combine,
        schemes: Vec<Arc<dyn Scheme>>,
    ) -> Self {
        let identity = match rule {
            Rule::Context => Identity::Context(plan.packer),
            _ => Identity::Whole,
        };
        let state = |scheme| SchemeState {
            scheme,
            small_units: DistinctSet::new(Identity::Whole),
            large_units: DistinctSet::new(Identity::Whole),
            sums: Sums::default(),
        };
        Self {
            plan,
            rule,
            combine,
            schemes: schemes.into_iter().map(state).collect(),
            counts: Counts::default(),
            duplicates: 0,
            seen: DistinctSet::new(identity),
            pending: Vec::new(),
            records: None,
            combined: None,
            next_order: 0,
        }
    }

    /// From now on windows carry weights; nothing may have been added.
    pub fn set_weighted(&mut self) {
        self.records.get_or_insert_default();
    }

    /// Windows that wait to be scored.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Adds the windows whose targets are in a token range of the source. `weights` has one number
    /// for each token of the source.
    pub fn add_range(&mut self, source: &Source, range: Range<usize>, weights: Option<&[f64]>) {
        self.counts
            .merge(&self.plan.count_documents(source, &range));
        let chunks: Vec<Range<usize>> = range
            .clone()
            .step_by(CHUNK)
            .map(|from| from..range.end.min(from + CHUNK))
            .collect();
        let prompts = self.plan.prompt_sets(source, &range, CHUNK);
        if self.records.is_some() {
            self.add_weighted(source, &chunks, &prompts, weights);
        } else {
            self.add_plain(source, &chunks, &prompts);
        }
    }

    fn add_plain(&mut self, source: &Source, chunks: &[Range<usize>], prompts: &PromptSets<K>) {
        let plan = &self.plan;
        let (batches, counts): (Vec<_>, Vec<_>) = chunks
            .par_iter()
            .map_init(Vec::new, |scratch, chunk| {
                let mut keys = Vec::with_capacity(chunk.len());
                let counts = plan.visit(
                    source,
                    chunk.clone(),
                    prompts,
                    scratch,
                    |_, _, status, key| {
                        if status == Status::Scored {
                            keys.push(key);
                        }
                    },
                );
                (keys, counts)
            })
            .unzip();
        counts.iter().for_each(|more| self.counts.merge(more));
        self.insert(&batches);
    }

    /// Deduplicates windows in reading order and keeps the new ones for scoring.
    fn insert(&mut self, batches: &[Vec<K>]) {
        if self.rule == Rule::None {
            batches
                .iter()
                .for_each(|keys| self.pending.extend_from_slice(keys));
            return;
        }
        let packer = self.plan.packer;
        let scattered: Vec<_> = batches
            .par_iter()
            .map(|keys| Scattered::new(keys, |&key| partition_of(packer.context(key).mix())))
            .collect();
        let fresh = self.seen.insert(&scattered, |&key| key);
        let total: usize = batches.iter().map(Vec::len).sum();
        let new: usize = fresh.iter().map(Vec::len).sum();
        self.duplicates += (total - new) as u64;
        fresh
            .iter()
            .for_each(|keys| self.pending.extend_from_slice(keys));
    }

    fn add_weighted(
        &mut self,
        source: &Source,
        chunks: &[Range<usize>],
        prompts: &PromptSets<K>,
        weights: Option<&[f64]>,
    ) {
        let (plan, first) = (&self.plan, self.next_order);
        let (batches, counts): (Vec<_>, Vec<_>) = chunks
            .par_iter()
            .map_init(Vec::new, |scratch, chunk| {
                let mut records = Vec::with_capacity(chunk.len());
                let counts = plan.visit(
                    source,
                    chunk.clone(),
                    prompts,
                    scratch,
                    |_, at, status, key| {
                        if status == Status::Scored {
                            let weight = weights.map_or(1.0, |weights| weights[at]);
                            records.push(Record {
                                key,
                                order: first + at as u64,
                                weight,
                            });
                        }
                    },
                );
                (records, counts)
            })
            .unzip();
        counts.iter().for_each(|more| self.counts.merge(more));
        self.combined = None;
        let records = self.records.get_or_insert_default();
        batches
            .iter()
            .for_each(|batch| records.extend_from_slice(batch));
    }

    /// Closes a source: what is added next comes later in reading order.
    pub fn advance(&mut self, positions: u64) {
        self.next_order += positions;
    }

    /// Adds windows (rows of token ids) directly. `orders` are their places of reading, from 0.
    pub fn add_windows(
        &mut self,
        windows: &[u32],
        weights: Option<&[f64]>,
        orders: Option<&[u64]>,
    ) {
        let packer = self.plan.packer;
        let rows = windows.len() / packer.width;
        self.counts.windows += rows as u64;
        let order = |row: usize| orders.map_or(row as u64, |orders| orders[row]);
        let mut kept = Vec::with_capacity(rows);
        for (row, tokens) in windows.chunks_exact(packer.width).enumerate() {
            let key: K = packer.pack(tokens);
            if self.plan.keeps(key) {
                let weight = weights.map_or(1.0, |weights| weights[row]);
                kept.push(Record {
                    key,
                    order: self.next_order + order(row),
                    weight,
                });
            } else {
                self.counts.filtered += 1;
            }
        }
        let last = (0..rows).map(order).max().map_or(0, |last| last + 1);
        match &mut self.records {
            Some(records) => {
                self.combined = None;
                records.append(&mut kept);
            }
            None => {
                if orders.is_some() {
                    kept.sort_by_key(|record| record.order);
                }
                self.insert(&[kept.iter().map(|record| record.key).collect()]);
            }
        }
        self.next_order += last;
    }

    /// Scores what is pending. When `check` fails, the rest stays pending and nothing is lost.
    pub fn flush(&mut self, pool: &Pool, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let (pending, schemes) = (&mut self.pending, &self.schemes);
        if schemes
            .iter()
            .any(|state| state.scheme.shares_work_within_contexts())
        {
            // Sorted, windows of one context are in one slice.
            pool.install(|| pending.par_sort_unstable());
        }
        let slice = slice_len(self.schemes.iter().map(|state| state.scheme.as_ref()));
        while !self.pending.is_empty() {
            check()?;
            let start = self.pending.len().saturating_sub(slice);
            let windows = self.plan.packer.unpack_all(&self.pending[start..]);
            let (width, rule) = (self.plan.packer.width, self.rule);
            let schemes = &mut self.schemes;
            pool.install(|| {
                schemes
                    .par_iter_mut()
                    .for_each(|state| state.score(&windows, width, rule));
            });
            self.pending.truncate(start);
        }
        if self.pending.capacity() > 1 << 22 {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// The tally of one scheme; everything must have been scored.
    pub fn tally(
        &mut self,
        scheme: usize,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tally> {
        let mut tally = Tally {
            counts: self.counts,
            duplicates: self.duplicates,
            sums: self.schemes[scheme].sums.clone(),
            weights: None,
        };
        if let Some(units) = self.weighted_units(scheme, pool, check)? {
            units.tally_into(&mut tally);
        }
        Ok(tally)
    }

    /// The combined weighted units of one scheme, in a fixed order; `None` without weights.
    pub fn weighted_units(
        &mut self,
        scheme: usize,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<WeightedUnits>> {
        let Some(records) = &mut self.records else {
            return Ok(None);
        };
        let (packer, rule, how) = (self.plan.packer, self.rule, self.combine);
        let scheme = self.schemes[scheme].scheme.as_ref();
        let total = records.len() as u64;
        let windows = match &mut self.combined {
            Some(combined) => combined,
            empty => empty.insert(pool.install(|| combine(records, packer, rule, how))),
        };
        check()?;
        let (mut units, tokens) = pool.install(|| scheme_units(scheme, windows, packer, rule, how));
        let words = patient_scores(scheme, &tokens, pool, check)?;
        let kind = scheme.score_kind();
        units.scores = words
            .into_iter()
            .map(|word| score_value(kind, word))
            .collect();
        let kept = units.weights.len() as u64 + units.zero + units.keyless;
        units.merged = total - kept;
        Ok(Some(units))
    }

    /// Takes in what another frame of the same configuration has read after this one.
    pub fn absorb(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        if let (Some(mine), Some(theirs)) = (&mut self.records, &other.records) {
            let first = self.next_order;
            self.combined = None;
            mine.extend(theirs.iter().map(|r| Record {
                order: r.order + first,
                ..*r
            }));
        }
        self.next_order += other.next_order;
        if self.rule == Rule::None {
            self.pending.extend_from_slice(&other.pending);
            for (mine, theirs) in self.schemes.iter_mut().zip(&other.schemes) {
                mine.sums.merge(&theirs.sums);
            }
            return;
        }
        self.duplicates += other.duplicates;
        self.insert(&[other.seen.sorted()]);
    }

    /// Appends the state.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_u64(out, self.plan.packer.width as u64);
        self.counts.write(out);
        put_u64(out, self.duplicates);
        put_u64(out, self.next_order);
        put_u64(out, u64::from(self.records.is_some()));
        let mut keys = |keys: &[K]| {
            put_u64(out, keys.len() as u64);
            keys.iter().for_each(|key| key.write(out));
        };
        keys(&self.seen.sorted());
        keys(&self.pending);
        let records = self.records.as_deref().unwrap_or_default();
        put_u64(out, records.len() as u64);
        for record in records {
            record.key.write(out);
            put_u64(out, record.order);
            put_u64(out, record.weight.to_bits());
        }
        self.schemes.iter().for_each(|state| state.sums.write(out));
    }

    /// Replaces the state of an empty frame by what [`Frame::write`] wrote.
    pub fn read(&mut self, reader: &mut Reader) -> Result<()> {
        let width = reader.u64()?;
        if width != self.plan.packer.width as u64 {
            return Err(Error::State(format!(
                "the state has windows of {width} tokens, not {}",
                self.plan.packer.width
            )));
        }
        self.counts = Counts::read(reader)?;
        self.duplicates = reader.u64()?;
        self.next_order = reader.u64()?;
        let weighted = reader.u64()? == 1;
        let seen: Vec<K> = reader.records(K::BYTES)?.map(K::read).collect();
        let mut pending: Vec<K> = reader.records(K::BYTES)?.map(K::read).collect();
        let records = reader.records(K::BYTES + 16)?.map(|bytes| Record {
            key: K::read(&bytes[..K::BYTES]),
            order: <u64 as Key>::read(&bytes[K::BYTES..K::BYTES + 8]),
            weight: f64::from_bits(<u64 as Key>::read(&bytes[K::BYTES + 8..])),
        });
        self.records = weighted.then(|| records.collect());
        let known = |key: &K| self.plan.packer.is_window(*key);
        let records_known =
            self.records.iter().flatten().all(|record| {
                known(&record.key) && is_weight(record.weight) && record.order < 1 << 62
            });
        if !(seen.iter().all(known) && pending.iter().all(known) && records_known) {
            return Err(Error::State(
                "the state holds windows of another vocabulary".into(),
            ));
        }
        let duplicates = self.duplicates;
        self.insert(&[seen]);
        self.duplicates = duplicates;
        pending.sort_unstable();
        if self.rule != Rule::None {
            let mut scored = std::mem::take(&mut self.pending);
            scored.retain(|key| pending.binary_search(key).is_err());
            self.recover_units(&scored);
        }
        self.pending = pending;
        for state in &mut self.schemes {
            state.sums = Sums::read(reader)?;
        }
        Ok(())
    }

    /// Fills the unit sets from the windows that were scored.
    fn recover_units(&mut self, scored: &[K]) {
        let (packer, rule) = (self.plan.packer, self.rule);
        for keys in scored.chunks(SLICE) {
            let windows = packer.unpack_all(keys);
            for state in self
                .schemes
                .iter_mut()
                .filter(|state| state.dedups_units(rule))
            {
                state.fresh_units(&windows, packer.width);
            }
        }
    }
}

impl SchemeState {
    fn dedups_units(&self, rule: Rule) -> bool {
        rule == Rule::Unit && !self.scheme.unit_is_window()
    }

    /// Scores windows (those whose unit is new, where the rule is by unit) and adds them up.
    fn score(&mut self, windows: &[u32], width: usize, rule: Rule) {
        if !self.dedups_units(rule) {
            return self.add(windows, width);
        }
        let (fresh, keyless) = self.fresh_units(windows, width);
        let rows = windows.len() / width;
        self.sums.keyless += keyless as u64;
        self.sums.unit_duplicates += (rows - fresh.len() - keyless) as u64;
        if fresh.len() == rows {
            return self.add(windows, width);
        }
        let kept: Vec<u32> = fresh
            .iter()
            .flat_map(|&row| &windows[row * width..][..width])
            .copied()
            .collect();
        self.add(&kept, width);
    }

    fn add(&mut self, windows: &[u32], width: usize) {
        let kind = self.scheme.score_kind();
        let mut words = vec![0; windows.len() / width];
        self.scheme.scores(windows, &mut words);
        let parts: Vec<Sums> = words
            .par_chunks(1 << 13)
            .map(|words| {
                let mut sums = Sums::default();
                sums.add(kind, words);
                sums
            })
            .collect();
        parts.iter().for_each(|part| self.sums.merge(part));
    }

    /// Rows whose unit was not seen before, in order (they are seen from now on), and the number
    /// of rows that do not depend on the key.
    fn fresh_units(&mut self, windows: &[u32], width: usize) -> (Vec<usize>, usize) {
        let mut units = vec![0u128; windows.len() / width];
        self.scheme.units(windows, &mut units);
        let mut keyless = vec![false; units.len()];
        self.scheme.keyless(windows, &mut keyless);
        let (small, large): (Vec<_>, Vec<_>) = units
            .into_iter()
            .enumerate()
            .filter(|&(row, _)| !keyless[row])
            .partition(|&(_, unit)| unit >> 64 == 0);
        let small: Vec<(usize, u64)> = small
            .into_iter()
            .map(|(i, unit)| (i, unit as u64))
            .collect();
        let mut fresh = insert_units(&mut self.small_units, &small);
        fresh.extend(insert_units(&mut self.large_units, &large));
        fresh.par_sort_unstable();
        (fresh, keyless.iter().filter(|&&constant| constant).count())
    }
}

fn insert_units<U: Key>(set: &mut DistinctSet<U>, units: &[(usize, U)]) -> Vec<usize> {
    let batch = Scattered::new(units, |(_, unit)| partition_of(unit.mix()));
    let fresh = set.insert(&[batch], |&(_, unit)| unit);
    fresh.iter().flatten().map(|&(row, _)| row).collect()
}
