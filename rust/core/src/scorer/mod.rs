//! Documents in, tallies out, for one or many schemes at once.
//!
//! ```text
//!            input               dedup            score
//!  Scorer ──► WindowGroup ──┬──► WindowSet ──► GroupScores ──► Tally     Backend::Memory
//!    one per WindowShape    └──► WeightedWindows ─────────────► Tally     Backend::Weighted
//!
//!  Collector ──► shard files ──► Reducer ──► Tally                       more windows than memory
//! ```
//!
//! Both ways give the same tallies, to the last bit: whatever the threads, the batches, the merges,
//! the partitions and the shards.

mod backend;
mod group;
pub mod reducer;
mod state;
mod weighted;

use crate::error::{Error, Result};
use crate::input::plan::WindowShape;
use crate::input::source::{PromptRole, Source};
use crate::io::files::{FileWriter, SavedFile};
use crate::key::PADDING;
use crate::schemes::{Scheme, SeedKind};
use crate::score::options::Options;
use crate::score::tally::Tally;
use crate::score::weighted::{UnitSource, WeightedUnits, is_weight};
use crate::spill::budget::Budget;
use crate::threads::Pool;
use group::{Group, new_group};
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"RSST";
const VERSION: u32 = 5;
/// Token positions per worker that are cut and partitioned in one go.
const BATCH: usize = 1 << 21;
/// Sources up to this size are taken in whole even if an interrupt check fails.
const ATOMIC: usize = 1 << 24;
/// Places in reading order are below this.
const MOST_ORDERS: u64 = 1 << 60;

/// A point of the curve: tokens seen, and the tally of each scheme.
pub type CurvePoint = (u64, Vec<Tally>);

/// Scores documents. All distinct windows are in memory, 8 bytes each or more; with weights, all
/// windows, 24 bytes each or more, up to a limit if one is set.
pub struct Scorer {
    schemes: Vec<Arc<dyn Scheme>>,
    /// Schemes that read the same windows share a group.
    groups: Vec<Box<dyn Group>>,
    /// Group and index in it of each scheme.
    members: Vec<(usize, usize)>,
    options: Options,
    pool: Pool,
    /// Of memory, for windows with weights.
    limit: Option<Budget>,
    tokens: u64,
    /// Whether anything was added.
    started: bool,
    weighted: bool,
    curve_steps: Vec<u64>,
    curve: Vec<CurvePoint>,
}

impl Scorer {
    /// A scorer for schemes over one vocabulary.
    pub fn new(schemes: Vec<Arc<dyn Scheme>>, options: &Options) -> Result<Self> {
        let Some(first) = schemes.first() else {
            return Err(Error::Argument("a scorer needs at least one scheme".into()));
        };
        let vocab_size = first.vocab_size();
        if let Some(other) = schemes
            .iter()
            .find(|scheme| scheme.vocab_size() != vocab_size)
        {
            return Err(Error::Argument(format!(
                "the schemes have vocabularies of {vocab_size} and {} ids",
                other.vocab_size()
            )));
        }
        let mut shapes: Vec<WindowShape> = Vec::new();
        let mut grouped: Vec<Vec<Arc<dyn Scheme>>> = Vec::new();
        let mut members = Vec::new();
        for scheme in &schemes {
            let shape = options.shape(&**scheme)?;
            let known = shapes.iter().position(|&known| known == shape);
            let group = known.unwrap_or_else(|| {
                shapes.push(shape);
                grouped.push(Vec::new());
                shapes.len() - 1
            });
            members.push((group, grouped[group].len()));
            grouped[group].push(Arc::clone(scheme));
        }
        let groups = grouped
            .into_iter()
            .map(|schemes| new_group(schemes, options));
        Ok(Self {
            groups: groups.collect::<Result<_>>()?,
            members,
            schemes,
            options: options.clone(),
            pool: Pool::new(options.threads)?,
            limit: None,
            tokens: 0,
            started: false,
            weighted: false,
            curve_steps: Vec::new(),
            curve: Vec::new(),
        })
    }

    /// Prompts exclude by seeds, which schemes and keys do not share: before anything is added, each
    /// scheme gets a group of its own.
    fn separate(&mut self) -> Result<()> {
        let has_own_seeds = |scheme: &Arc<dyn Scheme>| scheme.seed_kind() != SeedKind::Context;
        if self.groups.len() == self.schemes.len() || !self.schemes.iter().any(has_own_seeds) {
            return Ok(());
        }
        if self.started {
            return Err(Error::Argument(
                "prompts must be given from the first documents on (empty ones where there are none) \
                 where several schemes or keys are scored whose prompts exclude by seed"
                    .into(),
            ));
        }
        let own = |scheme: &Arc<dyn Scheme>| new_group(vec![Arc::clone(scheme)], &self.options);
        self.groups = self.schemes.iter().map(own).collect::<Result<_>>()?;
        self.members = (0..self.schemes.len()).map(|group| (group, 0)).collect();
        if let Some(limit) = self.limit.take() {
            self.set_limit(limit);
        }
        if self.weighted {
            self.set_weighted();
        }
        Ok(())
    }

    /// Windows with weights beyond a limit go to temporary files.
    pub fn set_limit(&mut self, limit: Budget) {
        let share = Budget {
            memory: limit.memory / self.groups.len(),
            folders: limit.folders.clone(),
        };
        self.groups.iter_mut().for_each(|own| own.set_limit(&share));
        self.limit = Some(limit);
    }

    /// Records the curve when exactly so many tokens were seen (in increasing order).
    pub fn set_curve(&mut self, steps: Vec<u64>) -> Result<()> {
        if !steps.is_sorted_by(|a, b| a < b) || steps.first() == Some(&0) {
            return Err(Error::Argument(
                "curve steps must be positive and increasing".into(),
            ));
        }
        self.curve_steps = steps;
        Ok(())
    }

    /// The schemes.
    pub fn schemes(&self) -> &[Arc<dyn Scheme>] {
        &self.schemes
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        self.schemes[0].vocab_size()
    }

    /// Whether windows carry weights.
    pub fn is_weighted(&self) -> bool {
        self.weighted
    }

    /// Checks weights; the first ones make the scorer weighted.
    fn prepare(&mut self, weights: Option<&[f64]>, expected: usize, what: &str) -> Result<()> {
        if let Some(weights) = weights {
            if weights.len() != expected {
                return Err(Error::Argument(format!(
                    "there are {} weights for {expected} {what}",
                    weights.len()
                )));
            }
            if let Some(at) = weights.iter().position(|weight| !is_weight(*weight)) {
                return Err(Error::Argument(format!(
                    "weight {at} is {}; weights are numbers of at most 1e100",
                    weights[at]
                )));
            }
            if !self.weighted && self.started {
                return Err(Error::Argument(
                    "weights must be given from the first windows on, or combine='sum'".into(),
                ));
            }
            self.set_weighted();
        }
        self.started |= expected > 0;
        Ok(())
    }

    /// From now on windows carry weights (1 where none is given).
    pub fn set_weighted(&mut self) {
        self.weighted = true;
        self.groups
            .iter_mut()
            .for_each(|group| group.set_weighted());
    }

    /// Adds documents. `weights` has one finite number for each token of the documents, in order: the
    /// weight of the window that ends there. If `check` fails, a source of up to 2^24 tokens has been
    /// taken in whole nevertheless, a larger one up to the token that [`Scorer::tokens`] tells.
    pub fn add(
        &mut self,
        source: &Source,
        weights: Option<&[f64]>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let total = source.documents.n_tokens();
        if source.prompts.is_some() && self.options.role == PromptRole::Exclude {
            self.separate()?;
        }
        self.prepare(weights, total, "tokens")?;
        self.record_step(check)?;
        let mut done = Ok(());
        let batch = BATCH * self.pool.threads();
        let mut from = 0;
        loop {
            let step = self.next_step().map_or(u64::MAX, |step| step - self.tokens);
            let to = total
                .min(from + batch)
                .min(from.saturating_add(step as usize));
            self.for_groups(|group| group.add_range(source, from..to, weights));
            self.tokens += (to - from) as u64;
            from = to;
            if done.is_ok() {
                done = self.after_batch(check);
            }
            // A step of the curve that is passed cannot be recorded later.
            let give_up = done.is_err() && (total > ATOMIC || self.next_step().is_some());
            if from == total || give_up {
                break;
            }
        }
        self.groups
            .iter_mut()
            .for_each(|group| group.advance(total as u64));
        done
    }

    /// Adds windows, as rows of `width` token ids. `orders` are their places in reading order, which
    /// several rows may share.
    pub fn add_windows(
        &mut self,
        windows: &[u32],
        width: usize,
        weights: Option<&[f64]>,
        orders: Option<&[u64]>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if let Some(scheme) = self
            .schemes
            .iter()
            .find(|scheme| scheme.window_width() != width)
        {
            return Err(Error::Argument(format!(
                "the windows have {width} tokens, the scheme's {}",
                scheme.window_width()
            )));
        }
        let rows = windows.len() / width;
        let vocab_size = self.vocab_size();
        let padded = self.groups.iter().all(|group| group.is_padded());
        let is_padding =
            |(at, &token): (usize, &u32)| padded && token == PADDING && at % width != width - 1;
        let outside = |item: &(usize, &u32)| *item.1 >= vocab_size && !is_padding(*item);
        if let Some((at, _)) = windows.iter().enumerate().find(outside) {
            return Err(Error::Tokens(format!(
                "token id {} of pair {} is outside the vocabulary of {}",
                windows[at],
                at / width,
                vocab_size
            )));
        }
        if let Some(orders) = orders {
            if orders.len() != rows {
                return Err(Error::Argument(format!(
                    "occurrences must have {rows} entries, not {}",
                    orders.len()
                )));
            }
            if let Some(order) = orders.iter().find(|&&order| order >= MOST_ORDERS) {
                return Err(Error::Argument(format!(
                    "occurrences must be below 2^60, not {order}"
                )));
            }
        }
        self.prepare(weights, rows, "pairs")?;
        self.record_step(check)?;
        self.for_groups(|group| group.add_windows(windows, weights, orders));
        self.after_batch(check)
    }

    fn for_groups(&mut self, run: impl Fn(&mut dyn Group) + Send + Sync) {
        let groups = &mut self.groups;
        self.pool
            .install(|| groups.iter_mut().for_each(|group| run(&mut **group)));
    }

    fn next_step(&self) -> Option<u64> {
        let passed = self
            .curve_steps
            .partition_point(|&step| step <= self.tokens);
        self.curve_steps.get(passed).copied()
    }

    fn after_batch(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        check()?;
        self.record_step(check)?;
        let pool = &self.pool;
        for group in &mut self.groups {
            if group.is_due(pool) {
                group.flush(pool, check)?;
                pool.install(|| group.reclaim());
            }
        }
        Ok(())
    }

    /// Records the point of the curve that is due, if one is.
    fn record_step(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let recorded = self.curve.last().map(|point| point.0) == Some(self.tokens);
        if !recorded && self.curve_steps.binary_search(&self.tokens).is_ok() {
            let tallies = self.tallies_now(check)?;
            self.curve.push((self.tokens, tallies));
        }
        Ok(())
    }

    /// Scores everything that waits. After an error of `check` it can be called again.
    pub fn flush(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let (groups, pool) = (&mut self.groups, &self.pool);
        groups
            .iter_mut()
            .try_for_each(|group| group.flush(pool, check))
    }

    /// The tally of each scheme.
    pub fn tallies(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Tally>> {
        self.record_step(check)?;
        self.tallies_now(check)
    }

    fn tallies_now(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Tally>> {
        self.flush(check)?;
        let mut by_group = Vec::with_capacity(self.groups.len());
        for group in &mut self.groups {
            check()?;
            by_group.push(group.tallies(&self.pool, check)?);
        }
        let tally = |&(group, index): &(usize, usize)| std::mem::take(&mut by_group[group][index]);
        Ok(self.members.iter().map(tally).collect())
    }

    /// The combined weighted units of one scheme, with their scores if wanted; `None` if windows carry
    /// no weights.
    pub fn weighted_units(
        &mut self,
        scheme: usize,
        scores: bool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<WeightedUnits>> {
        let mut all = self.weighted.then(WeightedUnits::default);
        self.visit_units(scheme, scores, check, &mut |units| {
            match &mut all {
                Some(all) if all.weights.is_empty() => *all = units,
                Some(all) => all.extend(&units),
                None => {}
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Gives the combined weighted units of one scheme to `take`, in order: all at once where the windows
    /// are in memory, some at a time where they are in files.
    pub fn visit_units(
        &mut self,
        scheme: usize,
        scores: bool,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut dyn FnMut(WeightedUnits) -> Result<()>,
    ) -> Result<()> {
        let (group, index) = self.members[scheme];
        self.groups[group].visit_units(index, scores, &self.pool, check, take)
    }

    /// The first scheme whose weighted units are the same as one's, whatever the keys.
    pub fn units_like(&self, scheme: usize) -> usize {
        let source = |index: usize| {
            let source = UnitSource::of(
                &*self.schemes[index],
                self.options.rule,
                self.options.combine,
            );
            (self.members[index].0, source)
        };
        let own = source(scheme);
        let first = (0..scheme).find(|&index| source(index) == own);
        first
            .filter(|_| own.1 != UnitSource::Keyed)
            .unwrap_or(scheme)
    }

    /// Whether windows are in files.
    pub fn is_in_files(&self) -> bool {
        self.groups.iter().any(|group| group.is_in_files())
    }

    /// The recorded points of the curve.
    pub fn curve(&self) -> &[CurvePoint] {
        &self.curve
    }

    /// Tokens seen so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Takes in what another scorer of the same configuration has read after this one; scorers
    /// that record a curve cannot be merged.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let differs = || Error::Argument("the scorers differ in schemes or rules".into());
        if !self.curve_steps.is_empty() {
            return Err(Error::Argument(
                "scorers that record a curve cannot be merged".into(),
            ));
        }
        if !self.started && other.groups.len() > self.groups.len() {
            self.separate()?;
        }
        let same = |(mine, theirs): (&dyn Group, &dyn Group)| mine.reads_like(theirs);
        let pairs = self.groups.iter().zip(&other.groups);
        if self.options.rule != other.options.rule
            || self.members != other.members
            || !pairs.map(|(mine, theirs)| (&**mine, &**theirs)).all(same)
        {
            return Err(differs());
        }
        match (self.weighted, other.weighted) {
            (false, true) if !self.started => self.set_weighted(),
            (false, true) => return Err(differs()),
            (true, false) if other.started => return Err(differs()),
            _ => {}
        }
        let groups = self.groups.iter_mut().zip(&other.groups);
        self.pool
            .install(|| groups.for_each(|(mine, theirs)| mine.absorb(&**theirs)));
        self.tokens += other.tokens;
        self.started |= other.started;
        Ok(())
    }

    /// Saves the state, behind a header that [`Scorer::open`] reads. What waits to be scored is saved
    /// unscored. Whatever goes wrong, the scorer is as it was.
    pub fn save(&mut self, path: &Path, header: &[u8]) -> Result<()> {
        FileWriter::save(path, MAGIC, VERSION, |out| {
            out.put_u64(header.len() as u64)?;
            out.put(header)?;
            out.seal()?;
            let (started, weighted) = (self.started.into(), self.weighted.into());
            for field in [self.groups.len() as u64, self.tokens, started, weighted] {
                out.put_u64(field)?;
            }
            for group in &mut self.groups {
                group.write(out, &self.pool)?;
            }
            out.put_u64(self.curve.len() as u64)?;
            for (tokens, point) in &self.curve {
                out.put_u64(*tokens)?;
                for tally in point {
                    let mut bytes = Vec::new();
                    tally.write(&mut bytes);
                    out.put(&bytes)?;
                }
            }
            Ok(())
        })
    }

    /// Opens what [`Scorer::save`] wrote, up to its header.
    pub fn open(path: &Path) -> Result<(Vec<u8>, SavedFile)> {
        let mut file = SavedFile::open(path, MAGIC, VERSION, "scorer state")?;
        let header = file.sealed()?;
        Ok((header, file))
    }

    /// Restores the rest of the file into a new scorer of the same configuration, which is worth
    /// nothing after an error.
    pub fn restore(&mut self, file: SavedFile) -> Result<()> {
        file.read(|from| {
            let count = from.u64()?;
            if count > self.groups.len() as u64 {
                self.separate()?;
            }
            if count != self.groups.len() as u64 {
                return Err(Error::State("it is of other schemes".into()));
            }
            self.tokens = from.u64()?;
            if self.tokens >= MOST_ORDERS {
                return Err(Error::State("it has an impossible count".into()));
            }
            self.started = from.u64()? == 1;
            if from.u64()? == 1 {
                self.set_weighted();
            }
            let groups = &mut self.groups;
            let read = || groups.iter_mut().try_for_each(|group| group.read(from));
            self.pool.install(read)?;
            for _ in 0..from.u64()? {
                let tokens = from.u64()?;
                let point = self.schemes.iter().map(|_| Tally::read(from));
                self.curve.push((tokens, point.collect::<Result<_>>()?));
            }
            Ok(())
        })
    }
}
