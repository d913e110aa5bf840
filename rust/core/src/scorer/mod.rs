//! The scorer: documents in, tallies out, for one or many schemes at once.

pub mod frame;
pub mod outofcore;
pub mod reduction;

use crate::dedup::rule::Rule;
use crate::error::{Error, Result};
use crate::input::source::{PromptRole, Source};
use crate::io::records::Reader;
use crate::key::PADDING;
use crate::key::{Wide, Widest};
use crate::schemes::{Scheme, SeedKind};
use crate::score::options::Options;
use crate::score::tally::Tally;
use crate::score::weighted::WeightedUnits;
use crate::score::weighted::is_weight;
use crate::scorer::frame::Frame;
use crate::scorer::reduction::{Limited, weights_in_memory};
use crate::threads::Pool;
use std::sync::Arc;

/// Token positions a worker that are packed and partitioned in one go.
const BATCH: usize = 1 << 21;
/// Sources up to this size are taken in whole even when the caller wants to stop.
const ATOMIC: usize = 1 << 24;

/// Places of reading are numbered below this.
const MOST_PLACES: u64 = 1 << 60;

/// A point of the curve: tokens seen, and the tally of each scheme.
pub type CurvePoint = (u64, Vec<Tally>);

pub(crate) enum AnyFrame {
    Narrow(Frame<u64>),
    Medium(Frame<u128>),
    Wide(Frame<Wide>),
    Widest(Frame<Widest>),
}

macro_rules! each {
    ($frame:expr, $inner:ident => $body:expr) => {
        match $frame {
            AnyFrame::Narrow($inner) => $body,
            AnyFrame::Medium($inner) => $body,
            AnyFrame::Wide($inner) => $body,
            AnyFrame::Widest($inner) => $body,
        }
    };
}
pub(crate) use each;

/// See the module.
pub struct Scorer {
    schemes: Vec<Arc<dyn Scheme>>,
    pub(crate) frames: Vec<AnyFrame>,
    /// Frame and index in it of each scheme.
    pub(crate) places: Vec<(usize, usize)>,
    pub(crate) rule: Rule,
    pub(crate) pool: Pool,
    pub(crate) tokens: u64,
    pub(crate) started: bool,
    options: Options,
    pub(crate) weighted: bool,
    /// Whether windows are collected only, for files.
    pub(crate) collecting: bool,
    pub(crate) limited: Option<Limited>,
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
        // Schemes share a frame when they cut the same windows.
        let mut kinds: Vec<(usize, Option<u32>, bool)> = Vec::new();
        let mut members: Vec<Vec<Arc<dyn Scheme>>> = Vec::new();
        let mut places = Vec::new();
        for scheme in &schemes {
            if options.rule == Rule::Context && scheme.window_width() == 1 {
                return Err(Error::Argument(
                    "dedup 'context' needs a scheme that reads a context".into(),
                ));
            }
            let width = scheme.window_width();
            let kind = (width, scheme.padding(), scheme.reaches_prompt());
            let frame = kinds
                .iter()
                .position(|&known| known == kind)
                .unwrap_or_else(|| {
                    kinds.push(kind);
                    members.push(Vec::new());
                    kinds.len() - 1
                });
            places.push((frame, members[frame].len()));
            members[frame].push(Arc::clone(scheme));
        }
        let frames = members
            .into_iter()
            .map(|members| new_frame(members, options));
        Ok(Self {
            frames: frames.collect::<Result<_>>()?,
            places,
            schemes,
            rule: options.rule,
            pool: Pool::new(options.threads)?,
            tokens: 0,
            options: options.clone(),
            started: false,
            weighted: false,
            collecting: false,
            limited: None,
            curve_steps: Vec::new(),
            curve: Vec::new(),
        })
    }

    /// Prompts exclude windows by their seeds, which schemes and keys do not share: each scheme gets
    /// a frame of its own, before anything is added.
    fn separate(&mut self) -> Result<()> {
        let has_own_seeds = |scheme: &Arc<dyn Scheme>| scheme.seed_kind() != SeedKind::Context;
        if self.frames.len() == self.schemes.len() || !self.schemes.iter().any(has_own_seeds) {
            return Ok(());
        }
        if self.started || self.collecting {
            let why = match self.collecting {
                true => "prompts do not go with a memory limit",
                false => {
                    "prompts must be given from the first documents on (empty ones where there are none)"
                }
            };
            return Err(Error::Argument(format!(
                "{why} where several schemes or keys are scored whose prompts exclude by seed"
            )));
        }
        let own = |scheme: &Arc<dyn Scheme>| new_frame(vec![Arc::clone(scheme)], &self.options);
        self.frames = self.schemes.iter().map(own).collect::<Result<_>>()?;
        self.places = (0..self.schemes.len()).map(|frame| (frame, 0)).collect();
        if self.weighted {
            self.set_weighted();
        }
        Ok(())
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

    /// Makes a scorer weighted before anything is added, or checks that it is what `weights` say.
    fn prepare(&mut self, weights: Option<&[f64]>, expected: usize, what: &str) -> Result<()> {
        if let Some(weights) = weights {
            if self.collecting {
                return Err(weights_in_memory());
            }
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
        self.frames
            .iter_mut()
            .for_each(|frame| each!(frame, f => f.set_weighted()));
    }

    /// Adds documents. `weights` has one finite number for each token of the documents, in order:
    /// the weight of the window that ends there. When `check` fails, sources of up to 2^24 tokens
    /// have been taken in whole nevertheless, larger ones up to the token that the counts tell.
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
        let mut wanted = Ok(());
        let batch = BATCH * self.pool.threads();
        let mut from = 0;
        loop {
            let step = self.next_step().map_or(u64::MAX, |step| step - self.tokens);
            let to = total
                .min(from + batch)
                .min(from.saturating_add(step as usize));
            self.for_frames(|frame| each!(frame, f => f.add_range(source, from..to, weights)));
            self.tokens += (to - from) as u64;
            from = to;
            if wanted.is_ok() {
                wanted = self.after_batch(check);
            }
            // A step of the curve that is passed cannot be recorded later.
            let give_up = wanted.is_err() && (total > ATOMIC || self.next_step().is_some());
            if from == total || give_up {
                break;
            }
        }
        self.frames
            .iter_mut()
            .for_each(|frame| each!(frame, f => f.advance(total as u64)));
        wanted
    }

    /// Adds windows (rows of token ids) of one width directly. `orders` are their places in
    /// reading order; rows of one place share it.
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
        let padded = (self.frames.iter()).all(|frame| each!(frame, f => f.plan.packer.is_padded()));
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
            if let Some(order) = orders.iter().find(|&&order| order >= MOST_PLACES) {
                return Err(Error::Argument(format!(
                    "occurrences must be below 2^60, not {order}"
                )));
            }
        }
        self.prepare(weights, rows, "pairs")?;
        self.record_step(check)?;
        self.for_frames(|frame| each!(frame, f => f.add_windows(windows, weights, orders)));
        self.after_batch(check)
    }

    pub(crate) fn for_frames(&mut self, run: impl Fn(&mut AnyFrame) + Send + Sync) {
        let frames = &mut self.frames;
        self.pool.install(|| frames.iter_mut().for_each(run));
    }

    fn next_step(&self) -> Option<u64> {
        let passed = self
            .curve_steps
            .partition_point(|&step| step <= self.tokens);
        self.curve_steps.get(passed).copied()
    }

    pub(crate) fn after_batch(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        check()?;
        self.record_step(check)?;
        if self.collecting {
            return self.spill_if_full();
        }
        let pool = &self.pool;
        for frame in &mut self.frames {
            if each!(frame, f => f.is_due(pool)) {
                each!(frame, f => f.flush(pool, check))?;
                pool.install(|| each!(frame, f => f.reclaim()));
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
        let pool = &self.pool;
        for frame in &mut self.frames {
            each!(frame, f => f.flush(pool, check))?;
        }
        Ok(())
    }

    /// The tally of each scheme.
    pub fn tallies(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Tally>> {
        self.record_step(check)?;
        self.tallies_now(check)
    }

    fn tallies_now(&mut self, check: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Tally>> {
        if let Some(tallies) = self.tallies_of_spilled(check)? {
            return Ok(tallies);
        }
        self.flush(check)?;
        let (frames, places, pool) = (&mut self.frames, &self.places, &self.pool);
        let mut tallies = Vec::with_capacity(places.len());
        for &(frame, index) in places {
            check()?;
            let frame = &mut frames[frame];
            tallies.push(each!(frame, f => f.tally(index, pool, check))?);
        }
        Ok(tallies)
    }

    /// The combined weighted units of one scheme; `None` where windows carry no weights.
    pub fn weighted_units(
        &mut self,
        scheme: usize,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<WeightedUnits>> {
        let (frame, index) = self.places[scheme];
        let frame = &mut self.frames[frame];
        each!(frame, f => f.weighted_units(index, &self.pool, check))
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
        if self.collecting || other.collecting {
            return Err(Error::Argument(
                "scorers with a memory limit cannot be merged".into(),
            ));
        }
        if !self.started && other.frames.len() > self.frames.len() {
            self.separate()?;
        }
        if self.rule != other.rule || self.places != other.places {
            return Err(differs());
        }
        match (self.weighted, other.weighted) {
            (false, true) if !self.started => self.set_weighted(),
            (false, true) => return Err(differs()),
            (true, false) if other.started => return Err(differs()),
            _ => {}
        }
        let mut pairs = Vec::new();
        for pair in self.frames.iter_mut().zip(&other.frames) {
            match pair {
                (AnyFrame::Narrow(_), AnyFrame::Narrow(_))
                | (AnyFrame::Medium(_), AnyFrame::Medium(_))
                | (AnyFrame::Wide(_), AnyFrame::Wide(_))
                | (AnyFrame::Widest(_), AnyFrame::Widest(_)) => pairs.push(pair),
                _ => return Err(differs()),
            }
        }
        self.pool.install(|| {
            for pair in pairs {
                match pair {
                    (AnyFrame::Narrow(mine), AnyFrame::Narrow(theirs)) => mine.absorb(theirs),
                    (AnyFrame::Medium(mine), AnyFrame::Medium(theirs)) => mine.absorb(theirs),
                    (AnyFrame::Wide(mine), AnyFrame::Wide(theirs)) => mine.absorb(theirs),
                    (AnyFrame::Widest(mine), AnyFrame::Widest(theirs)) => mine.absorb(theirs),
                    _ => {}
                }
            }
        });
        self.tokens += other.tokens;
        self.started |= other.started;
        Ok(())
    }

    /// The state as bytes. What waits to be scored is saved unscored.
    pub fn state(&mut self) -> Result<Vec<u8>> {
        if self.collecting {
            return Err(Error::Argument(
                "a scorer with a memory limit cannot be saved".into(),
            ));
        }
        let mut out = Vec::new();
        crate::io::records::put_u64(&mut out, self.frames.len() as u64);
        crate::io::records::put_u64(&mut out, self.tokens);
        crate::io::records::put_u64(&mut out, u64::from(self.started));
        crate::io::records::put_u64(&mut out, u64::from(self.weighted));
        let pool = &self.pool;
        for frame in &mut self.frames {
            each!(frame, f => f.write(&mut out, pool));
        }
        crate::io::records::put_u64(&mut out, self.curve.len() as u64);
        for (tokens, point) in &self.curve {
            crate::io::records::put_u64(&mut out, *tokens);
            point.iter().for_each(|tally| tally.write(&mut out));
        }
        Ok(out)
    }

    /// Restores what [`Scorer::state`] gave, into a new scorer of the same configuration.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes);
        let frames = reader.u64()?;
        if frames > self.frames.len() as u64 {
            self.separate()?;
        }
        if frames != self.frames.len() as u64 {
            return Err(Error::State("the state is of other schemes".into()));
        }
        self.tokens = reader.u64()?;
        if self.tokens >= MOST_PLACES {
            return Err(Error::State("the state has an impossible count".into()));
        }
        self.started = reader.u64()? == 1;
        self.weighted = reader.u64()? == 1;
        let frames = &mut self.frames;
        let mut read = || {
            frames
                .iter_mut()
                .try_for_each(|frame| each!(frame, f => f.read(&mut reader)))
        };
        self.pool.install(&mut read)?;
        for _ in 0..reader.u64()? {
            let tokens = reader.u64()?;
            let point = self.schemes.iter().map(|_| Tally::read(&mut reader));
            self.curve.push((tokens, point.collect::<Result<_>>()?));
        }
        reader.finish()
    }
}

fn new_frame(schemes: Vec<Arc<dyn Scheme>>, options: &Options) -> Result<AnyFrame> {
    let first = &Arc::clone(&schemes[0]);
    let (rule, how) = (options.rule, options.combine);
    Ok(match options.window_bits(first)? {
        ..=64 => AnyFrame::Narrow(Frame::new(options.window_plan(first)?, rule, how, schemes)),
        65..=128 => AnyFrame::Medium(Frame::new(options.window_plan(first)?, rule, how, schemes)),
        129..=384 => AnyFrame::Wide(Frame::new(options.window_plan(first)?, rule, how, schemes)),
        _ => AnyFrame::Widest(Frame::new(options.window_plan(first)?, rule, how, schemes)),
    })
}
