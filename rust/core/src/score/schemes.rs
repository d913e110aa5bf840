//! The schemes that read one stream of windows, and what each has scored of it.

use crate::dedup::identity::{ByUnit, Identity, Workspace};
use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitions::Partitions;
use crate::dedup::rule::Rule;
use crate::dedup::window_set::dedup;
use crate::error::Result;
use crate::input::counts::Counts;
use crate::key::{Key, Packer};
use crate::schemes::Scheme;
use crate::score::pass::ScorePass;
use crate::score::tally::{Sums, Tally};
use crate::threads::Pool;
use std::sync::Arc;

/// One scheme and what it has scored.
pub struct SchemeScores<K: Key> {
    pub(crate) scheme: Arc<dyn Scheme>,
    /// Distinct windows by their unit, if units and not windows count once and other schemes or the
    /// files need the windows.
    pub(crate) units: Option<Partitions<K>>,
    pub(crate) sums: Sums,
    /// The scheme of the group that counts residues for this one too, if that is another.
    counted_by: Option<usize>,
}

impl<K: Key> SchemeScores<K> {
    /// Whether it scores windows as they come.
    fn scores_windows(&self) -> bool {
        self.units.is_none() && self.counted_by.is_none()
    }

    /// Which windows are equal to it; these are distinct already.
    pub fn unit_identity(&self, packer: Packer) -> Identity {
        Identity::Unit(ByUnit::new(Arc::clone(&self.scheme), packer))
    }

    /// Takes distinct windows whose units are to count once.
    pub fn push_units(&mut self, batches: &[&[K]], packer: Packer) {
        let identity = self.unit_identity(packer);
        if let Some(units) = &mut self.units {
            units.push_batches(batches, &identity);
        }
    }

    /// Removes the windows of repeated units, without scoring.
    pub fn dedup_units(&mut self, packer: Packer, workspaces: &ObjectPool<Workspace<K>>) {
        let identity = self.unit_identity(packer);
        if let Some(units) = &mut self.units {
            units.scatter_tail(&identity);
            let removed = &mut self.sums.unit_duplicates;
            dedup(units, 0..units.count(), workspaces, &identity, removed);
        }
    }
}

/// The schemes of a group. New windows are scored by all that count windows, and handed to the units
/// of the others; every window comes once.
pub struct GroupScores<K: Key> {
    /// The schemes.
    pub schemes: Vec<SchemeScores<K>>,
    /// How windows are packed.
    pub packer: Packer,
    rule: Rule,
    pub(crate) workspaces: ObjectPool<Workspace<K>>,
}

impl<K: Key> GroupScores<K> {
    /// Nothing scored yet. Residues do not depend on keys: they are counted once for all schemes
    /// whose tables have one size.
    pub fn new(schemes: &[Arc<dyn Scheme>], packer: Packer, rule: Rule) -> Self {
        let scores = schemes.iter().enumerate().map(|(index, scheme)| {
            let size = scheme.residues();
            let first = schemes.iter().position(|other| other.residues() == size);
            SchemeScores {
                scheme: Arc::clone(scheme),
                units: None,
                sums: Sums::default(),
                counted_by: first.filter(|&first| size > 0 && first < index),
            }
        });
        Self {
            schemes: scores.collect(),
            packer,
            rule,
            workspaces: ObjectPool::default(),
        }
    }

    /// Whether a scheme counts units that are not windows.
    fn counts_units(&self, scheme: &dyn Scheme) -> bool {
        self.rule == Rule::Unit && !scheme.has_distinct_units()
    }

    /// Which windows are equal to all schemes. The units of a single scheme can take the place of
    /// windows if these pack into 64 bits; otherwise [`GroupScores::keep_units`] is called.
    pub fn identity(&mut self) -> Identity {
        let by_unit = match &self.schemes[..] {
            [only] if K::BITS == 64 && self.counts_units(&*only.scheme) => {
                ByUnit::of_repeated(Arc::clone(&only.scheme), self.packer)
            }
            _ => None,
        };
        match by_unit {
            Some(by_unit) => Identity::Unit(by_unit),
            None => {
                self.keep_units(Partitions::default);
                Identity::of_windows(self.packer, self.rule)
            }
        }
    }

    /// From now on windows go to the units of the schemes that do not count windows.
    pub fn keep_units(&mut self, empty: impl Fn() -> Partitions<K>) {
        for index in 0..self.schemes.len() {
            if self.counts_units(&*self.schemes[index].scheme) {
                self.schemes[index].units = Some(empty());
            }
        }
    }

    /// Gives the distinct units of each scheme that keeps some to `take`, with the index of the
    /// scheme, and forgets them.
    pub fn take_units(
        &mut self,
        pool: &Pool,
        mut take: impl FnMut(usize, &Partitions<K>) -> Result<()>,
    ) -> Result<()> {
        for (index, own) in self.schemes.iter_mut().enumerate() {
            pool.install(|| own.dedup_units(self.packer, &self.workspaces));
            if let Some(units) = &mut own.units {
                take(index, units)?;
                units.clear();
            }
        }
        Ok(())
    }

    /// Bytes of the units.
    pub fn unit_bytes(&self) -> usize {
        let units = self.schemes.iter().filter_map(|own| own.units.as_ref());
        units.map(Partitions::bytes).sum()
    }

    /// Nanoseconds of scoring a window by all schemes.
    pub fn nanoseconds(&self) -> f64 {
        let schemes = self.schemes.iter();
        schemes.map(|own| own.scheme.nanoseconds()).sum()
    }

    /// Deduplicates the windows that wait, scores those that count once a window, and hands on those
    /// that count once a unit. If `check` fails, the rest still waits.
    pub fn score_windows(
        &mut self,
        partitions: &mut Partitions<K>,
        identity: &Identity,
        duplicates: &mut u64,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        pool.install(|| partitions.scatter_tail(identity));
        let direct = self.schemes.iter().filter(|own| own.scores_windows());
        let direct: Vec<Arc<dyn Scheme>> = direct.map(|own| Arc::clone(&own.scheme)).collect();
        let direct: Vec<&dyn Scheme> = direct.iter().map(AsRef::as_ref).collect();
        let (packer, schemes) = (self.packer, &mut self.schemes);
        let pass = ScorePass {
            schemes: &direct,
            packer,
            drops_keyless: self.rule == Rule::Unit,
            returns_windows: schemes.iter().any(|own| own.units.is_some()),
            pool,
            workspaces: &self.workspaces,
        };
        if partitions.unscored() > 0 {
            let take = |removed: u64, sums: &[Sums], fresh: &[&[K]]| {
                *duplicates += removed;
                let mut sums = sums.iter();
                for own in schemes.iter_mut() {
                    if own.units.is_some() {
                        pool.install(|| own.push_units(fresh, packer));
                    } else if own.scores_windows() {
                        let more = sums.next();
                        more.into_iter().for_each(|more| own.sums.merge(more));
                    }
                }
            };
            pass.run(partitions, identity, check, take)?;
        }
        if self.rule == Rule::None {
            partitions.clear();
        }
        Ok(())
    }

    /// Scores the units that wait. If `check` fails, the rest still waits.
    pub fn flush_units(
        &mut self,
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for index in 0..self.schemes.len() {
            let Some(mut units) = self.schemes[index].units.take() else {
                continue;
            };
            let identity = self.schemes[index].unit_identity(self.packer);
            let done = self.score_units(index, (&mut units, &identity), pool, check);
            self.schemes[index].units = Some(units);
            done?;
        }
        Ok(())
    }

    /// Deduplicates and scores distinct windows that count once a unit.
    pub fn score_units(
        &mut self,
        scheme: usize,
        (units, identity): (&mut Partitions<K>, &Identity),
        pool: &Pool,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if units.unscored() == 0 {
            return Ok(());
        }
        pool.install(|| units.scatter_tail(identity));
        let SchemeScores { scheme, sums, .. } = &mut self.schemes[scheme];
        let pass = ScorePass {
            schemes: &[scheme.as_ref()],
            packer: self.packer,
            drops_keyless: true,
            returns_windows: false,
            pool,
            workspaces: &self.workspaces,
        };
        pass.run(units, identity, check, |removed, more, _| {
            sums.unit_duplicates += removed;
            more.iter().for_each(|more| sums.merge(more));
        })
    }

    /// The tally of one scheme, with what was counted before the windows came.
    pub fn tally(&self, scheme: usize, counts: Counts, duplicates: u64) -> Tally {
        let own = &self.schemes[scheme];
        let counted_by = own.counted_by.unwrap_or(scheme);
        let mut sums = self.schemes[counted_by].sums.clone();
        // Whether a repetition was found by its window or by its unit depends on the way.
        let by_unit = std::mem::take(&mut sums.unit_duplicates);
        Tally {
            counts,
            duplicates: duplicates + by_unit,
            sums: with_depths(&*own.scheme, sums),
            weights: None,
        }
    }
}

/// Sums with the ones at each depth, which residues decide on if there are any.
pub fn with_depths(scheme: &dyn Scheme, mut sums: Sums) -> Sums {
    if scheme.residues() > 0 {
        sums.depths = scheme.residue_depths(&sums.residues);
    }
    sums
}
