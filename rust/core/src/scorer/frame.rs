//! All schemes of a scorer that read windows of one width share a frame: windows are packed,
//! filtered and deduplicated once, then every scheme scores what is new.

use crate::dedup::placing::{ByUnit, ByWindow, Desk, Sameness};
use crate::dedup::rule::Rule;
use crate::dedup::scatter::Run;
use crate::dedup::store::{Bench, Sorting, Store};
use crate::error::{Error, Result};
use crate::input::counts::{Counts, Status};
use crate::input::source::Source;
use crate::input::windows::{PromptSets, WindowBuffer, WindowPlan};
use crate::io::records::{Reader, put_u64};
use crate::key::Key;
use crate::schemes::{Scheme, interruptible_scores};
use crate::score::scoring::{SchemeState, Work, dedup};
use crate::score::tally::{Sums, Tally};
use crate::score::weighted::is_weight;
use crate::score::weighted::{Combine, Record, WeightedUnits, combine, scheme_units, score_value};
use crate::threads::Pool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Token positions of a chunk of work.
const CHUNK: usize = 1 << 16;
/// Token positions that are cut and partitioned without a stop between.
const STRETCH: usize = 1 << 21;
/// Token positions from which windows are partitioned at once.
const DIRECT: usize = 1 << 17;
/// Windows that wait at most where scoring takes most of the time, or nothing is deduplicated.
const PENDING: usize = 1 << 22;
/// Bytes of windows that may wait before it is asked whether deduplication would free memory.
const WAITING: usize = 1 << 30;
/// Nanoseconds of scoring a window beside which partitioning costs nothing.
const SLOW: f64 = 300.0;

/// See the module.
pub struct Frame<K: Key> {
    pub(crate) plan: WindowPlan<K>,
    pub(crate) rule: Rule,
    combine: Combine,
    /// Where the store's windows count once a unit, and so are the units.
    by_unit: Option<ByUnit>,
    pub(crate) schemes: Vec<SchemeState<K>>,
    pub(crate) counts: Counts,
    pub(crate) duplicates: u64,
    /// The windows to score; a frame has either these or records.
    pub(crate) store: Store<K>,
    /// How often the store's partitions were split.
    pub(crate) level: u32,
    /// Windows that may wait in the store.
    patience: usize,
    pub(crate) desks: Bench<Desk<K>>,
    sortings: Bench<Sorting<K>>,
    /// Windows with weights.
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
        let mut frame = Self {
            plan,
            rule,
            combine,
            by_unit: None,
            schemes: schemes.into_iter().map(SchemeState::new).collect(),
            counts: Counts::default(),
            duplicates: 0,
            store: Store::default(),
            level: 0,
            patience: WAITING / K::BYTES,
            desks: Bench::default(),
            sortings: Bench::default(),
            records: None,
            combined: None,
            next_order: 0,
        };
        // Residues do not depend on keys: they are counted once for all tables of one size.
        for at in 1..frame.schemes.len() {
            let size = frame.schemes[at].scheme.residues();
            let same = |state: &SchemeState<K>| state.scheme.residues() == size;
            let first = frame.schemes.iter().position(same);
            frame.schemes[at].counted_by = first.filter(|&first| size > 0 && first < at);
        }
        // The units of one scheme can be deduplicated at once, without the windows.
        frame.by_unit = match &frame.schemes[..] {
            [only] if frame.counts_units(only) && K::BITS == 64 => {
                ByUnit::of_any(Arc::clone(&only.scheme), frame.plan.packer)
            }
            _ => None,
        };
        if frame.by_unit.is_none() {
            frame.separate_units();
        }
        frame
    }

    /// Whether a scheme counts units that are not windows.
    fn counts_units(&self, state: &SchemeState<K>) -> bool {
        self.rule == Rule::Unit && !state.scheme.has_distinct_units()
    }

    /// From now on the store holds windows, and those that count once a unit are handed on; nothing
    /// may have been added.
    pub(crate) fn separate_units(&mut self) {
        self.by_unit = None;
        for at in 0..self.schemes.len() {
            if self.counts_units(&self.schemes[at]) {
                self.schemes[at].units = Some(Store::default());
            }
        }
    }

    /// From now on windows carry weights; nothing may have been added.
    pub fn set_weighted(&mut self) {
        self.records.get_or_insert_default();
    }

    /// Adds the windows whose targets are in a token range of the source. `weights` has one number
    /// for each token of the source.
    pub fn add_range(&mut self, source: &Source, range: Range<usize>, weights: Option<&[f64]>) {
        self.counts
            .merge(&self.plan.count_documents(source, &range));
        if self.records.is_none() && range.len() >= DIRECT {
            return self.add_direct(source, range);
        }
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
        let (plan, sameness) = (&self.plan, self.sameness());
        let cut = |chunk: &Range<usize>, cutter: &mut WindowBuffer<K>| {
            let mut all = Vec::with_capacity(chunk.len());
            let counts = plan.key_blocks(source, chunk.clone(), prompts, cutter, |keys| {
                all.extend_from_slice(keys);
            });
            (all, counts)
        };
        let batches: Vec<(Vec<K>, Counts)> = chunks
            .par_iter()
            .map_init(WindowBuffer::default, |cutter, chunk| cut(chunk, cutter))
            .collect();
        for (keys, counts) in &batches {
            self.counts.merge(counts);
            self.store.push(keys, &sameness);
        }
    }

    /// Cuts and partitions many windows at once: each worker takes a long stretch, finds the partition
    /// of each window, then cuts them again and scatters them. Cutting twice is cheaper than writing
    /// the windows down in between, unless each is looked up in sets.
    fn add_direct(&mut self, source: &Source, range: Range<usize>) {
        let sameness = self.sameness();
        self.store.settle(&sameness);
        self.store.grow(range.len(), &sameness);
        let threads = rayon::current_num_threads();
        let count = range.len().div_ceil(STRETCH).next_multiple_of(threads);
        let stretch = range.len().div_ceil(count);
        let chunks: Vec<Range<usize>> = range
            .clone()
            .step_by(stretch)
            .map(|from| from..range.end.min(from + stretch))
            .collect();
        let targets = self.store.targets(chunks.iter().map(Range::len));
        let prompts = self.plan.prompt_sets(source, &range, stretch);
        let (plan, bits, cut_twice) = (&self.plan, self.store.bits(), self.plan.keeps_all(source));
        let work = |(chunk, target): (Range<usize>, Vec<K>), cutter: &mut WindowBuffer<K>| {
            self.sortings.with(|sorting| {
                let mut all = std::mem::take(&mut sorting.keys);
                all.clear();
                sorting.begin(bits);
                let cut = chunk.clone();
                let counts = plan.key_blocks(source, cut, &prompts, cutter, |keys| {
                    sorting.place(keys, &sameness);
                    if !cut_twice {
                        all.extend_from_slice(keys);
                    }
                });
                let run = sorting.scatter(target, |push| {
                    if cut_twice {
                        plan.key_blocks(source, chunk, &prompts, cutter, push);
                    } else {
                        push(&all);
                    }
                });
                sorting.keys = all;
                (run, counts)
            })
        };
        let runs: Vec<(Run<K>, Counts)> = chunks
            .into_par_iter()
            .zip(targets)
            .map_init(WindowBuffer::default, |cutter, stretch| {
                work(stretch, cutter)
            })
            .collect();
        for (run, counts) in runs {
            self.counts.merge(&counts);
            self.store.add(run);
        }
    }

    /// Whether so much waits that it should be scored before more is read.
    pub fn is_due(&mut self, pool: &Pool) -> bool {
        let waiting = self.store.unscored();
        if waiting < PENDING {
            return false;
        }
        let cost: f64 = self
            .schemes
            .iter()
            .map(|state| state.scheme.nanoseconds())
            .sum();
        if self.rule == Rule::None || cost > SLOW {
            return self.rule == Rule::None || waiting >= self.store.len() / 4;
        }
        if self.store.len() < self.patience {
            return false;
        }
        // Where a sample of the partitions is hardly smaller without its repetitions, nothing is
        // won now, and later all that is distinct would have to be gone through once more.
        let sample = 0..self.store.parts() / 64;
        let total = |store: &Store<K>| -> usize {
            sample.clone().map(|part| store.progress(part).total).sum()
        };
        let before = total(&self.store);
        self.dedup(sample.clone(), pool);
        let frees = 2 * total(&self.store) <= before;
        if !frees {
            self.patience = 2 * self.store.len();
        }
        frees
    }

    /// What makes the windows of the store the same.
    pub(crate) fn sameness(&self) -> Sameness {
        match &self.by_unit {
            Some(by_unit) => Sameness::Unit(by_unit.clone()),
            None => Sameness::Window(ByWindow {
                packer: self.plan.packer,
                rule: self.rule,
                level: self.level,
            }),
        }
    }

    fn dedup(&mut self, parts: Range<usize>, pool: &Pool) {
        let sameness = self.sameness();
        let (store, desks) = (&mut self.store, &self.desks);
        self.duplicates += pool.install(|| dedup(store, parts, desks, &sameness));
    }

    /// Deduplicates all windows, without scoring them.
    pub(crate) fn dedup_all(&mut self, pool: &Pool) {
        let sameness = self.sameness();
        pool.install(|| self.store.settle(&sameness));
        self.dedup(0..self.store.parts(), pool);
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
        let sameness = self.sameness();
        match &mut self.records {
            Some(records) => {
                self.combined = None;
                records.append(&mut kept);
            }
            None => {
                if orders.is_some() {
                    kept.sort_by_key(|record| record.order);
                }
                let keys: Vec<K> = kept.iter().map(|record| record.key).collect();
                self.store.push(&keys, &sameness);
            }
        }
        self.next_order += last;
    }

    /// Deduplicates and scores what waits. When `check` fails, the rest waits on and nothing is
    /// lost.
    pub fn flush(&mut self, pool: &Pool, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.flush_windows(pool, check)?;
        for state in &mut self.schemes {
            state.flush_units(pool, &self.desks, self.plan.packer, check)?;
        }
        Ok(())
    }

    /// Deduplicates the windows that wait, and scores those that count once a window.
    pub(crate) fn flush_windows(
        &mut self,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let sameness = self.sameness();
        pool.install(|| self.store.settle(&sameness));
        let direct = self.schemes.iter().filter(|state| state.scores_windows());
        let direct: Vec<Arc<dyn Scheme>> = direct.map(|state| Arc::clone(&state.scheme)).collect();
        let schemes: Vec<&dyn Scheme> = direct.iter().map(AsRef::as_ref).collect();
        let packer = self.plan.packer;
        let work = Work {
            schemes: &schemes,
            packer,
            drops_keyless: self.rule == Rule::Unit,
            hands_on: self.has_units(),
            pool,
            desks: &self.desks,
        };
        let (duplicates, states) = (&mut self.duplicates, &mut self.schemes);
        if self.store.unscored() > 0 {
            let take = |removed: u64, sums: &[Sums], fresh: &[&[K]]| {
                *duplicates += removed;
                let mut sums = sums.iter();
                for state in states.iter_mut() {
                    if state.units.is_some() {
                        pool.install(|| state.push_units(fresh, packer));
                    } else if state.scores_windows() {
                        let more = sums.next();
                        more.into_iter().for_each(|more| state.sums.merge(more));
                    }
                }
            };
            work.dedup_and_score(&mut self.store, &sameness, check, take)?;
        }
        if self.rule == Rule::None {
            self.store.clear();
        }
        Ok(())
    }

    /// Returns memory that is not needed now to the system.
    pub fn reclaim(&mut self) {
        self.store.shrink();
        self.patience = (WAITING / K::BYTES).max(2 * self.store.len());
    }

    /// The sums of one scheme so far.
    pub(crate) fn partial(&self, scheme: usize) -> Tally {
        let state = &self.schemes[scheme];
        let mut sums = self.schemes[state.counted_by.unwrap_or(scheme)]
            .sums
            .clone();
        if state.scheme.residues() > 0 {
            sums.depths = state.scheme.residue_depths(&sums.residues);
        }
        // Whether a repetition was found by its window or by its unit depends on the way.
        let by_unit = std::mem::take(&mut sums.unit_duplicates);
        Tally {
            counts: self.counts,
            duplicates: self.duplicates + by_unit,
            sums,
            weights: None,
        }
    }

    /// The tally of one scheme; everything must have been scored.
    pub fn tally(
        &mut self,
        scheme: usize,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tally> {
        let mut tally = self.partial(scheme);
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
        let words = interruptible_scores(scheme, &tokens, pool, check)?;
        let kind = scheme.score_kind();
        units.scores = words
            .into_iter()
            .map(|word| score_value(kind, word))
            .collect();
        let kept = units.scored + units.zero + units.keyless;
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
        let sameness = self.sameness();
        if self.rule == Rule::None {
            for (mine, theirs) in self.schemes.iter_mut().zip(&other.schemes) {
                mine.sums.merge(&theirs.sums);
            }
            self.store
                .push(&other.store.export(|part| part.scored), &sameness);
            return;
        }
        self.duplicates += other.duplicates;
        self.store.push(&other.store.export(|_| 0), &sameness);
    }

    /// Appends the state.
    pub fn write(&mut self, out: &mut Vec<u8>, pool: &Pool) {
        self.dedup_all(pool);
        put_u64(out, self.plan.packer.width as u64);
        self.counts.write(out);
        put_u64(out, self.duplicates);
        put_u64(out, self.next_order);
        put_u64(out, u64::from(self.records.is_some()));
        let mut keys = |keys: &[K]| {
            put_u64(out, keys.len() as u64);
            keys.iter().for_each(|key| key.write(out));
        };
        let mut seen = match self.rule {
            Rule::None => Vec::new(),
            _ => self.store.export(|_| 0),
        };
        pool.install(|| seen.par_sort_unstable());
        keys(&seen);
        keys(&self.store.export(|part| part.scored));
        let records = self.records.as_deref().unwrap_or_default();
        put_u64(out, records.len() as u64);
        for record in records {
            record.key.write(out);
            put_u64(out, record.order);
            put_u64(out, record.weight.to_bits());
        }
        for state in &self.schemes {
            let waiting = state
                .units
                .as_ref()
                .map(|store| store.export(|part| part.scored));
            let waiting = waiting.unwrap_or_default();
            put_u64(out, waiting.len() as u64);
            waiting.iter().for_each(|key| key.write(out));
            state.sums.write(out);
        }
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
            return Err(foreign_windows());
        }
        let (duplicates, sameness) = (self.duplicates, self.sameness());
        pending.sort_unstable();
        if self.rule != Rule::None {
            let mut scored = seen;
            scored.retain(|key| pending.binary_search(key).is_err());
            self.store.push(&scored, &sameness);
            self.dedup_all(Pool::shared());
            self.store.mark_scored();
            self.duplicates = duplicates;
            self.read_schemes(reader, &scored)?;
        } else {
            self.read_schemes(reader, &[])?;
        }
        self.store.push(&pending, &sameness);
        Ok(())
    }

    /// Reads the schemes' sums, and fills the stores of units from the windows that were scored.
    fn read_schemes(&mut self, reader: &mut Reader, scored: &[K]) -> Result<()> {
        let packer = self.plan.packer;
        for state in &mut self.schemes {
            let mut waiting: Vec<K> = reader.records(K::BYTES)?.map(K::read).collect();
            if !waiting.iter().all(|&key| packer.is_window(key)) {
                return Err(foreign_windows());
            }
            if state.units.is_some() {
                waiting.sort_unstable();
                // A window of a unit that waits is none that was scored, although it is no window
                // that waits: it was found to be a repetition.
                state.push_units(&[&waiting], packer);
                state.dedup_units(&self.desks, packer);
                state.push_units(&[scored], packer);
                state.dedup_units(&self.desks, packer);
                let units = state.units.replace(Store::default());
                let mut own = units.map_or_else(Vec::new, |units| units.export(|_| 0));
                own.retain(|key| waiting.binary_search(key).is_err());
                state.push_units(&[&own], packer);
                state.dedup_units(&self.desks, packer);
                state.units.iter_mut().for_each(Store::mark_scored);
            }
            state.sums = Sums::read(reader)?;
            state.push_units(&[&waiting], packer);
        }
        Ok(())
    }
}

fn foreign_windows() -> Error {
    Error::State("the state holds windows of another vocabulary".into())
}
