//! Windows with weights, of all schemes of a group.

use crate::dedup::window_set::chunks;
use crate::error::Result;
use crate::input::counts::{Counts, Status};
use crate::input::source::Source;
use crate::input::windows::{PromptSets, WindowPlan};
use crate::key::Key;
use crate::memory;
use crate::schemes::{Scheme, interruptible_scores};
use crate::score::options::Options;
use crate::score::weighted::{Record, WeightedUnits, combine, scheme_units, score_value};
use crate::threads::Pool;
use rayon::prelude::*;
use std::ops::Range;

/// Token positions that one worker cuts in one go.
pub(crate) const CHUNK: usize = 1 << 16;

/// Every window that was added, with its weight and its place in reading order: nothing is combined
/// before a result is asked for, since any weight may still come.
pub(crate) struct WeightedWindows<K> {
    pub(crate) records: Vec<Record<K>>,
    /// The place in reading order of what is added next.
    pub(crate) next_order: u64,
    /// The records combined by window, until more are added.
    combined: Option<Vec<Record<K>>>,
}

impl<K: Key> WeightedWindows<K> {
    pub(crate) fn new(records: Vec<Record<K>>, next_order: u64) -> Self {
        Self {
            records,
            next_order,
            combined: None,
        }
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

    /// Adds records.
    pub(crate) fn push(&mut self, records: &[Record<K>]) {
        self.combined = None;
        memory::extend(&mut self.records, records);
    }

    /// Takes in what another one has read after this one.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let first = self.next_order;
        self.combined = None;
        let moved = other.records.iter().map(|r| Record {
            order: r.order + first,
            ..*r
        });
        memory::append(&mut self.records, moved);
        self.next_order += other.next_order;
    }

    /// The combined weighted units of a scheme, in a fixed order.
    pub(crate) fn units(
        &mut self,
        scheme: &dyn Scheme,
        plan: &WindowPlan<K>,
        options: &Options,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<WeightedUnits> {
        let (packer, rule, how) = (plan.packer, options.rule, options.combine);
        let records = &mut self.records;
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
        Ok(units)
    }
}
