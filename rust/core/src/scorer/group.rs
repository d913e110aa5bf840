//! The windows that schemes of one shape share: cut, filtered and deduplicated once for all of them.

use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::input::plan::with_key;
use crate::input::source::Source;
use crate::input::windows::WindowPlan;
use crate::io::files::{FileReader, FileWriter};
use crate::key::Key;
use crate::memory;
use crate::schemes::Scheme;
use crate::score::options::Options;
use crate::score::schemes::with_depths;
use crate::score::tally::Tally;
use crate::score::weighted::{Record, WeightedUnits};
use crate::scorer::backend::{Backend, DistinctWindows};
use crate::scorer::weighted::{Rules, WeightedWindows};
use crate::spill::budget::Budget;
use crate::threads::Pool;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// A [`WindowGroup`] of any key. Schemes are named by their index in the group.
pub(crate) trait Group: Send + Sync {
    /// From now on windows carry weights; nothing may have been added.
    fn set_weighted(&mut self);
    /// Windows with weights beyond a limit will go to files.
    fn set_limit(&mut self, limit: &Budget);
    /// Whether windows are in files.
    fn is_in_files(&self) -> bool;
    /// Whether contexts may be padded with an id that is not in the vocabulary.
    fn is_padded(&self) -> bool;
    /// Adds the windows whose targets are in a token range of the source, in the current rayon pool.
    /// `weights` has one number for each token of the source.
    fn add_range(&mut self, source: &Source, range: Range<usize>, weights: Option<&[f64]>);
    /// Closes a source of so many tokens: what is added next comes later in reading order.
    fn advance(&mut self, tokens: u64);
    /// Adds windows, as rows of token ids. `orders` are their places in reading order, from 0.
    fn add_windows(&mut self, windows: &[u32], weights: Option<&[f64]>, orders: Option<&[u64]>);
    /// Whether the backlog should be scored before more is read.
    fn is_due(&mut self, pool: &Pool) -> bool;
    /// Scores what waits. If `check` fails, the rest still waits and nothing is lost.
    fn flush(&mut self, pool: &Pool, check: &mut dyn FnMut() -> Result<()>) -> Result<()>;
    /// Returns memory that is not needed now to the system.
    fn reclaim(&mut self);
    /// The tally of each scheme; everything must have been scored.
    fn tallies(&mut self, pool: &Pool, check: &mut dyn FnMut() -> Result<()>)
    -> Result<Vec<Tally>>;
    /// Gives the combined weighted units of a scheme, with their scores if wanted, to `take`: all at
    /// once where the windows are in memory, and none without weights.
    fn visit_units(
        &mut self,
        scheme: usize,
        scores: bool,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut dyn FnMut(WeightedUnits) -> Result<()>,
    ) -> Result<()>;
    /// Whether another group packs its windows the same way.
    fn reads_like(&self, other: &dyn Group) -> bool;
    /// Takes in what another group of the same schemes and options has read after this one.
    fn absorb(&mut self, other: &dyn Group);
    /// Writes the state. Whether it is written or not, nothing is lost.
    fn write(&mut self, out: &mut FileWriter, pool: &Pool) -> Result<()>;
    /// Restores the state that [`Group::write`] wrote, in the current rayon pool; nothing may have
    /// been added.
    fn read(&mut self, from: &mut FileReader) -> Result<()>;
    /// To find out what key it has.
    fn as_any(&self) -> &dyn Any;
}

/// An empty group of schemes of one shape.
pub(crate) fn new_group(
    schemes: Vec<Arc<dyn Scheme>>,
    options: &Options,
) -> Result<Box<dyn Group>> {
    let packer = options.shape(&*schemes[0])?.packer()?;
    Ok(with_key!(packer, K => Box::new(WindowGroup::<K>::new(schemes, options)?)))
}

/// Windows packed into keys `K`, and the schemes that read them.
struct WindowGroup<K: Key> {
    plan: WindowPlan<K>,
    options: Options,
    schemes: Vec<Arc<dyn Scheme>>,
    counts: Counts,
    backend: Backend<K>,
    limit: Option<Budget>,
}

impl<K: Key> WindowGroup<K> {
    fn new(schemes: Vec<Arc<dyn Scheme>>, options: &Options) -> Result<Self> {
        let plan: WindowPlan<K> = options.plan(&schemes[0])?;
        let windows = DistinctWindows::new(&schemes, plan.packer, options.rule);
        Ok(Self {
            plan,
            options: options.clone(),
            schemes,
            counts: Counts::default(),
            backend: Backend::Memory(Box::new(windows)),
            limit: None,
        })
    }
}

impl<K: Key> Group for WindowGroup<K> {
    fn set_weighted(&mut self) {
        if let Backend::Memory(_) = self.backend {
            self.backend = Backend::Weighted(WeightedWindows::new(self.limit.clone()));
        }
    }

    fn set_limit(&mut self, limit: &Budget) {
        self.limit = Some(limit.clone());
        if let Backend::Weighted(own) = &mut self.backend {
            own.set_limit(limit);
        }
    }

    fn is_in_files(&self) -> bool {
        matches!(&self.backend, Backend::Weighted(own) if own.is_in_files())
    }

    fn is_padded(&self) -> bool {
        self.plan.packer.is_padded()
    }

    fn add_range(&mut self, source: &Source, range: Range<usize>, weights: Option<&[f64]>) {
        let plan = &self.plan;
        self.counts.merge(&plan.count_documents(source, &range));
        let counts = match &mut self.backend {
            Backend::Memory(own) => own.windows.add_range(plan, source, range),
            Backend::Weighted(own) => own.add_range(plan, source, &range, weights),
        };
        self.counts.merge(&counts);
    }

    fn advance(&mut self, tokens: u64) {
        if let Backend::Weighted(own) = &mut self.backend {
            own.next_order += tokens;
        }
    }

    fn add_windows(&mut self, windows: &[u32], weights: Option<&[f64]>, orders: Option<&[u64]>) {
        let packer = self.plan.packer;
        let rows = windows.len() / packer.width;
        let first = match &self.backend {
            Backend::Memory(_) => 0,
            Backend::Weighted(own) => own.next_order,
        };
        self.counts.windows += rows as u64;
        let order = |row: usize| orders.map_or(row as u64, |orders| orders[row]);
        let mut kept = memory::vec(rows);
        for (row, tokens) in windows.chunks_exact(packer.width).enumerate() {
            let key: K = packer.pack(tokens);
            if self.plan.keeps(key) {
                kept.push(Record {
                    key,
                    order: first + order(row),
                    weight: weights.map_or(1.0, |weights| weights[row]),
                });
            } else {
                self.counts.filtered += 1;
            }
        }
        match &mut self.backend {
            Backend::Memory(own) => {
                if orders.is_some() {
                    memory::ensure(size_of_val(&kept[..])); // for sorting
                    kept.sort_by_key(|record| record.order);
                }
                let keys: Vec<K> = memory::collect(kept.iter().map(|record| record.key));
                own.windows.push(&keys);
            }
            Backend::Weighted(own) => {
                own.push(&kept);
                own.next_order += (0..rows).map(order).max().map_or(0, |last| last + 1);
            }
        }
    }

    fn is_due(&mut self, pool: &Pool) -> bool {
        match &mut self.backend {
            Backend::Memory(own) => own.is_due(pool),
            Backend::Weighted(_) => false,
        }
    }

    fn flush(&mut self, pool: &Pool, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        match &mut self.backend {
            Backend::Memory(own) => own.flush(pool, check),
            Backend::Weighted(_) => Ok(()),
        }
    }

    fn reclaim(&mut self) {
        if let Backend::Memory(own) = &mut self.backend {
            own.reclaim();
        }
    }

    fn tallies(
        &mut self,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Tally>> {
        let counts = self.counts;
        let mut tallies = match &mut self.backend {
            Backend::Memory(own) => {
                let tally = |index| own.scores.tally(index, counts, own.windows.duplicates);
                return Ok((0..self.schemes.len()).map(tally).collect());
            }
            Backend::Weighted(own) => {
                let (plan, options) = (&self.plan, &self.options);
                let rules = Rules {
                    plan,
                    options,
                    pool,
                };
                own.tallies(&self.schemes, &rules, check)?
            }
        };
        for (tally, scheme) in tallies.iter_mut().zip(&self.schemes) {
            tally.counts = counts;
            tally.sums = with_depths(&**scheme, std::mem::take(&mut tally.sums));
        }
        Ok(tallies)
    }

    fn visit_units(
        &mut self,
        scheme: usize,
        scores: bool,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
        take: &mut dyn FnMut(WeightedUnits) -> Result<()>,
    ) -> Result<()> {
        let Backend::Weighted(own) = &mut self.backend else {
            return Ok(());
        };
        let rules = Rules {
            plan: &self.plan,
            options: &self.options,
            pool,
        };
        own.visit_units(&*self.schemes[scheme], scores, &rules, check, take)
    }

    fn reads_like(&self, other: &dyn Group) -> bool {
        let other = other.as_any().downcast_ref::<Self>();
        other.is_some_and(|other| other.plan.packer == self.plan.packer)
    }

    fn absorb(&mut self, other: &dyn Group) {
        let Some(other) = other.as_any().downcast_ref::<Self>() else {
            return;
        };
        self.counts.merge(&other.counts);
        match (&mut self.backend, &other.backend) {
            (Backend::Memory(mine), Backend::Memory(theirs)) => mine.absorb(theirs),
            (Backend::Weighted(mine), Backend::Weighted(theirs)) => mine.absorb(theirs),
            // Only one that is empty may be of the other kind.
            _ => {}
        }
    }

    fn write(&mut self, out: &mut FileWriter, pool: &Pool) -> Result<()> {
        out.put_u64(self.plan.packer.width as u64)?;
        let mut counts = Vec::new();
        self.counts.write(&mut counts);
        out.put(&counts)?;
        match &mut self.backend {
            Backend::Memory(own) => own.write(out, pool),
            Backend::Weighted(own) => own.write(out),
        }
    }

    fn read(&mut self, from: &mut FileReader) -> Result<()> {
        let (width, packer) = (from.u64()?, self.plan.packer);
        if width != packer.width as u64 {
            let text = format!("it has windows of {width} tokens, not {}", packer.width);
            return Err(Error::State(text));
        }
        self.counts = Counts::read(from)?;
        match &mut self.backend {
            Backend::Memory(own) => own.read(from)?,
            Backend::Weighted(own) => own.read(from, packer)?,
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
