//! Windows with weights, of all schemes of a group.

use crate::dedup::rule::Rule;
use crate::dedup::window_set::chunks;
use crate::error::{Error, Result};
use crate::input::counts::{Counts, Status};
use crate::input::source::Source;
use crate::input::windows::{PromptSets, WindowPlan};
use crate::interrupt::Check;
use crate::key::Key;
use crate::memory;
use crate::schemes::{Scheme, interruptible_scores};
use crate::score::exact_sum::ExactSum;
use crate::score::options::Options;
use crate::score::products::Means;
use crate::score::tally::{Sums, Tally, WeightSums};
use crate::score::weighted::{
    Evidence, Record, Row, UnitCounts, UnitSource, WeightedUnits, combine, fold_units, lone_units,
    rows_of, score_value,
};
use crate::spill::budget::Budget;
use crate::spill::sorted::{SortedFile, Spill, for_ranges};
use crate::threads::Pool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Token positions that one worker cuts in one go.
pub(crate) const CHUNK: usize = 1 << 16;

/// Every window that was added, with its weight and its place in reading order: nothing is combined
/// before a result is asked for, since any weight may still come.
pub(crate) struct WeightedWindows<K> {
    /// Those in memory.
    records: Vec<Record<K>>,
    /// Those in files.
    files: Vec<SortedFile<Record<K>>>,
    /// The place in reading order of what is added next.
    pub(crate) next_order: u64,
    limit: Option<Budget>,
    /// What was found of them, until more are added.
    found: Option<Found<K>>,
}

/// What keys share, and the tallies.
struct Found<K> {
    /// The records combined by window.
    windows: Option<Vec<Record<K>>>,
    evidence: Vec<(UnitSource, Evidence<K>)>,
    tallies: Option<Vec<Tally>>,
}

impl<K> Default for Found<K> {
    fn default() -> Self {
        Self {
            windows: None,
            evidence: Vec::new(),
            tallies: None,
        }
    }
}

/// Takes some of a scheme's units, in order.
type Take<'a, K> = dyn FnMut(&Evidence<K>, &mut Check<'_>) -> Result<()> + 'a;

impl<K: Key> WeightedWindows<K> {
    pub(crate) fn new(limit: Option<Budget>) -> Self {
        Self {
            records: Vec::new(),
            files: Vec::new(),
            next_order: 0,
            limit,
            found: None,
        }
    }

    /// What is added beyond a limit goes to files.
    pub(crate) fn set_limit(&mut self, limit: &Budget) {
        self.limit = Some(limit.clone());
    }

    /// Adds the windows whose targets are in a token range of the source. `weights` has one number
    /// for each token of the source; 1 if there are none.
    pub(crate) fn add_range(
        &mut self,
        plan: &WindowPlan<K>,
        source: &Source,
        range: &Range<usize>,
        weights: Option<&[f64]>,
    ) -> Counts {
        let first = self.next_order;
        let prompts: PromptSets<K> = plan.prompt_sets(source, range, CHUNK);
        let cut = |scratch: &mut Vec<u32>, chunk: &Range<usize>| {
            let mut records = memory::vec(chunk.len());
            let take = |_, at: usize, status: Status, key: K| {
                if status == Status::Scored {
                    records.push(Record {
                        key,
                        order: first + at as u64,
                        weight: weights.map_or(1.0, |weights| weights[at]),
                    });
                }
            };
            let counts = plan.visit(source, chunk.clone(), &prompts, scratch, take);
            (records, counts)
        };
        let batches: Vec<(Vec<Record<K>>, Counts)> = chunks(range, CHUNK)
            .par_iter()
            .map_init(Vec::new, cut)
            .collect();
        let mut total = Counts::default();
        for (records, counts) in &batches {
            total.merge(counts);
            self.push(records);
        }
        total
    }

    /// Adds records, in the current rayon pool; beyond the limit they go to files.
    pub(crate) fn push(&mut self, records: &[Record<K>]) {
        self.found = None;
        let Some(limit) = &self.limit else {
            return memory::extend(&mut self.records, records);
        };
        let mut spill = Spill::resume(limit, limit.memory / 2, std::mem::take(&mut self.records));
        let pushed = spill.push(records);
        let (rest, files) = spill.pause();
        self.records = rest;
        memory::append(&mut self.files, files);
        pushed.unwrap_or_else(|error| memory::refuse(error));
    }

    /// Records that were added.
    pub(crate) fn total(&self) -> u64 {
        let filed: usize = self.files.iter().map(SortedFile::count).sum();
        (self.records.len() + filed) as u64
    }

    /// Takes in what another one has read after this one.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let first = self.next_order;
        let limited = self.limit.is_some();
        let mut push = |records: &[Record<K>]| {
            let moved = records.iter().map(|r| Record {
                order: r.order + first,
                ..*r
            });
            self.push(&memory::collect(moved));
            Ok(())
        };
        let visited = match limited {
            true => other.records.chunks(CHUNK).try_for_each(&mut push),
            false => other.visit_records(&mut push),
        };
        visited.unwrap_or_else(|error| memory::refuse(error));
        if limited {
            let later = other.files.iter().map(|file| file.later(first));
            memory::append(&mut self.files, later);
        }
        self.found = None;
        self.next_order += other.next_order;
    }

    /// Gives all records, some at a time, to `take`.
    pub(crate) fn visit_records(
        &self,
        mut take: impl FnMut(&[Record<K>]) -> Result<()>,
    ) -> Result<()> {
        for file in &self.files {
            file.visit(&mut take)?;
        }
        take(&self.records)
    }

    /// The tally of each of some schemes.
    pub(crate) fn tallies(
        &mut self,
        schemes: &[Arc<dyn Scheme>],
        rules: &Rules<K>,
        check: &mut Check<'_>,
    ) -> Result<Vec<Tally>> {
        if let Some(tallies) = self.found.as_ref().and_then(|found| found.tallies.as_ref()) {
            return Ok(tallies.clone());
        }
        let (total, means) = (self.total(), rules.means());
        let source = |scheme: &Arc<dyn Scheme>| rules.source(&**scheme);
        let sources: Vec<UnitSource> = schemes.iter().map(source).collect();
        let mut tallies = vec![Tally::default(); schemes.len()];
        for (index, &source) in sources.iter().enumerate() {
            if source == UnitSource::Keyed && self.files.is_empty() {
                let windows = self.windows(rules);
                check()?;
                let how = rules.options.combine;
                let (counts, sums) = means.keyed(&*schemes[index], windows, how, check)?;
                tallies[index] = tally_of(counts, sums, total);
                continue;
            }
            let like = |&other: &usize| match source {
                UnitSource::Keyed => other == index,
                _ => sources[other] == source,
            };
            let alike: Vec<usize> = (0..schemes.len()).filter(like).collect();
            if alike[0] < index {
                continue; // they came with another
            }
            let keys: Vec<&dyn Scheme> = alike.iter().map(|&other| &*schemes[other]).collect();
            let (mut counts, mut sums) = (UnitCounts::default(), WeightSums::default());
            let mut products = vec![ExactSum::default(); alike.len()];
            self.visit(keys[0], rules, check, &mut |evidence, check| {
                counts.merge(&evidence.counts);
                sums.merge(&means.weight_sums(&evidence.weights, check)?);
                let more = means.products(&keys, evidence, check)?;
                let pairs = products.iter_mut().zip(&more);
                pairs.for_each(|(product, more)| product.merge(more));
                Ok(())
            })?;
            for (other, product) in alike.into_iter().zip(products) {
                let sums = WeightSums {
                    product,
                    ..sums.clone()
                };
                tallies[other] = tally_of(counts, sums, total);
            }
        }
        let found = self.found.get_or_insert_default();
        if !sources.contains(&UnitSource::Keyed) {
            found.windows = None; // the evidence has all of them
        }
        found.tallies = Some(tallies.clone());
        Ok(tallies)
    }

    /// The records combined by window, where all are in memory.
    fn windows(&mut self, rules: &Rules<K>) -> &[Record<K>] {
        let records = &mut self.records;
        let found = self.found.get_or_insert_default();
        found.windows.get_or_insert_with(|| rules.combine(records))
    }

    /// Gives the units of a scheme, in order, to `take`: all at once where all records are in memory.
    fn visit(
        &mut self,
        scheme: &dyn Scheme,
        rules: &Rules<K>,
        check: &mut Check<'_>,
        take: &mut Take<K>,
    ) -> Result<()> {
        let source = rules.source(scheme);
        if !self.files.is_empty() {
            return self.visit_files(scheme, source, rules, check, take);
        }
        let known = self.found.iter().flat_map(|found| &found.evidence);
        if let Some((_, evidence)) = known.into_iter().find(|(own, _)| *own == source) {
            return take(evidence, check);
        }
        let windows = self.windows(rules);
        let (how, damping) = (rules.options.combine, rules.options.damping);
        let evidence = rules.pool.install(|| match source {
            UnitSource::Windows => lone_units(windows, damping),
            _ => {
                let (mut rows, keyless) = rows_of(scheme, windows, rules.plan.packer);
                let mut evidence = fold_units(&mut rows, source, how, damping);
                evidence.counts.keyless = keyless;
                evidence
            }
        });
        check()?;
        take(&evidence, check)?;
        if source != UnitSource::Keyed {
            let found = self.found.get_or_insert_default();
            memory::push(&mut found.evidence, (source, evidence));
        }
        Ok(())
    }

    /// [`WeightedWindows::visit`] where records are in files.
    fn visit_files(
        &mut self,
        scheme: &dyn Scheme,
        source: UnitSource,
        rules: &Rules<K>,
        check: &mut Check<'_>,
        take: &mut Take<K>,
    ) -> Result<()> {
        let Some(limit) = self.limit.clone() else {
            return Err(Error::Internal("records in files without a limit".into()));
        };
        let records = std::mem::take(&mut self.records);
        let own = Spill::resume(&limit, limit.memory / 2, records);
        memory::append(&mut self.files, rules.pool.install(|| own.finish())?);
        let (packer, how, damping) = (
            rules.plan.packer,
            rules.options.combine,
            rules.options.damping,
        );
        let by_context = rules.options.rule == Rule::Context || damping.frequency > 0.0;
        let id = |record: &Record<K>| match by_context {
            true => packer.context(record.key),
            false => record.key,
        };
        // In memory at once: a range, combined, its units, and rows that wait.
        let bytes = 2 * size_of::<Record<K>>() + size_of::<Row<K>>() + K::BYTES + 8;
        let most = limit.memory / 2 / bytes;
        if source == UnitSource::Windows {
            return for_ranges(&self.files, most, id, check, &mut |records, check| {
                let windows = rules.combine(records);
                take(&lone_units(&windows, damping), check)
            });
        }
        let mut rows = Spill::new(&limit, limit.memory / 4);
        let mut keyless = 0;
        for_ranges(&self.files, most, id, check, &mut |records, _| {
            let windows = rules.combine(records);
            rules.pool.install(|| {
                let (more, constant) = rows_of(scheme, &windows, packer);
                keyless += constant;
                rows.push(&more)
            })
        })?;
        let files = rules.pool.install(|| rows.finish())?;
        let mut first = Evidence::default();
        first.counts.keyless = keyless;
        take(&first, check)?;
        let most = limit.memory / 2 / (2 * size_of::<Row<K>>());
        let unit = |row: &Row<K>| row.unit;
        for_ranges(&files, most, unit, check, &mut |rows, check| {
            let fold = || fold_units(rows, source, how, damping);
            take(&rules.pool.install(fold), check)
        })
    }

    /// Gives the weighted units of a scheme, in a fixed order, to `take`: all at once where all records
    /// are in memory; with their scores if these are wanted.
    pub(crate) fn visit_units(
        &mut self,
        scheme: &dyn Scheme,
        scores: bool,
        rules: &Rules<K>,
        check: &mut Check<'_>,
        take: &mut dyn FnMut(WeightedUnits) -> Result<()>,
    ) -> Result<()> {
        let (source, packer) = (rules.source(scheme), rules.plan.packer);
        self.visit(scheme, rules, check, &mut |evidence, check| {
            let make = || WeightedUnits::of(evidence, scheme, source, packer);
            let (mut units, tokens) = rules.pool.install(make);
            if scores {
                let words = interruptible_scores(scheme, &tokens, rules.pool, check)?;
                let kind = scheme.score_kind();
                let values = words.into_iter().map(|word| score_value(kind, word));
                units.scores = memory::collect(values);
            }
            take(units)
        })
    }

    /// Whether records are in files.
    pub(crate) fn is_in_files(&self) -> bool {
        !self.files.is_empty()
    }
}

/// Under which rules a group weighs its windows.
pub(crate) struct Rules<'a, K: Key> {
    pub(crate) plan: &'a WindowPlan<K>,
    pub(crate) options: &'a Options,
    pub(crate) pool: &'a Pool,
}

impl<K: Key> Rules<'_, K> {
    fn source(&self, scheme: &dyn Scheme) -> UnitSource {
        UnitSource::of(scheme, self.options.rule, self.options.combine)
    }

    fn combine(&self, records: &mut [Record<K>]) -> Vec<Record<K>> {
        let (packer, options) = (self.plan.packer, self.options);
        let (rule, how) = (options.rule, options.combine);
        let combine = || combine(records, packer, rule, how, options.damping);
        self.pool.install(combine)
    }

    fn means(&self) -> Means<'_> {
        Means {
            packer: self.plan.packer,
            pool: self.pool,
            damping: self.options.damping,
        }
    }
}

/// The tally of units, of which so many windows were added, without what was counted before.
fn tally_of(counts: UnitCounts, sums: WeightSums, total: u64) -> Tally {
    let UnitCounts {
        scored,
        keyless,
        zero,
    } = counts;
    Tally {
        duplicates: total - scored - keyless - zero,
        sums: Sums {
            scored,
            keyless,
            ..Sums::default()
        },
        weights: Some(WeightSums { zero, ..sums }),
        ..Tally::default()
    }
}
