//! What is saved of a scorer. A result never depends on whether a state was saved between.
//!
//! Windows go to the file and come from it some at a time, straight out of the partitions and into
//! them: neither saving nor loading needs the memory of a second copy.

use crate::dedup::partitions::{Partitions, Progress};
use crate::dedup::rule::Rule;
use crate::error::{Error, Result};
use crate::io::files::{FileReader, FileWriter};
use crate::key::{Key, Packer};
use crate::schemes::{Scheme, ScoreKind};
use crate::score::schemes::GroupScores;
use crate::score::tally::Sums;
use crate::score::weighted::{Record, is_weight};
use crate::scorer::backend::DistinctWindows;
use crate::scorer::weighted::WeightedWindows;
use crate::spill::sorted::Item;
use crate::threads::Pool;
use std::ops::Range;

impl<K: Key> DistinctWindows<K> {
    /// Writes the windows; repetitions are removed first. Those that are scored need not be kept where
    /// every window counts.
    pub(crate) fn write(&mut self, out: &mut FileWriter, pool: &Pool) -> Result<()> {
        self.windows.dedup_all(pool);
        out.put_u64(self.windows.duplicates)?;
        let GroupScores {
            schemes,
            packer,
            workspaces,
            ..
        } = &mut self.scores;
        for own in schemes {
            // Of those that wait, some may be known as scored by now.
            pool.install(|| own.dedup_units(*packer, workspaces));
            let mut sums = Vec::new();
            own.sums.write(&mut sums);
            out.put(&sums)?;
            write_keys(out, own.units.as_ref(), |one| one.scored..one.total)?;
        }
        let all = Some(&self.windows.partitions);
        let scored = all.filter(|_| self.rule != Rule::None);
        write_keys(out, scored, |one| 0..one.scored)?;
        write_keys(out, all, |one| one.scored..one.total)
    }

    /// Reads what [`DistinctWindows::write`] wrote, where nothing was added yet, in the current rayon
    /// pool.
    pub(crate) fn read(&mut self, from: &mut FileReader) -> Result<()> {
        let (windows, scores) = (&mut self.windows, &mut self.scores);
        let (packer, workspaces) = (scores.packer, &scores.workspaces);
        let duplicates = from.u64()?;
        let mut saved = Vec::new();
        for own in &mut scores.schemes {
            saved.push(read_sums(from, &*own.scheme)?);
            read_keys(from, packer, |keys| own.push_units(&[keys], packer))?;
            // Those that wait lead for now, and so stay where a window repeats their unit: it was not
            // scored, although it does not wait itself.
            own.dedup_units(packer, workspaces);
            own.units.iter_mut().for_each(Partitions::mark_all_scored);
        }
        let mut count = 0;
        read_keys(from, packer, |keys| {
            count += keys.len();
            windows.push(keys);
            for own in &mut scores.schemes {
                own.push_units(&[keys], packer);
                if own.units.as_ref().is_some_and(Partitions::has_grown) {
                    own.dedup_units(packer, workspaces);
                }
            }
        })?;
        windows.dedup_all(Pool::shared());
        if windows.partitions.len() != count {
            return Err(Error::State("it holds a window twice".into()));
        }
        windows.partitions.mark_all_scored();
        windows.duplicates = duplicates;
        for (own, sums) in scores.schemes.iter_mut().zip(saved) {
            own.dedup_units(packer, workspaces);
            own.units.iter_mut().for_each(Partitions::swap_scored);
            own.sums = sums;
        }
        read_keys(from, packer, |keys| windows.push(keys))
    }
}

impl<K: Key> WeightedWindows<K> {
    /// Writes the records, and where the next ones stand in reading order.
    pub(crate) fn write(&self, out: &mut FileWriter) -> Result<()> {
        out.put_u64(self.next_order)?;
        out.put_u64(self.total())?;
        self.visit_records(|records| out.put_all(records, Item::write))
    }

    /// Reads what [`WeightedWindows::write`] wrote, where nothing was added yet, in the current rayon
    /// pool.
    pub(crate) fn read(&mut self, from: &mut FileReader, packer: Packer) -> Result<()> {
        self.next_order = from.u64()?;
        let bytes = <Record<K> as Item>::BYTES;
        let count = from.count(bytes)?;
        let fits = |record: &Record<K>| {
            packer.is_window(record.key) && is_weight(record.weight) && record.order < 1 << 62
        };
        let later = 0;
        from.records(
            (count, bytes),
            |bytes| Record::read(bytes, later),
            |records| {
                if !records.iter().all(fits) {
                    return Err(other_windows());
                }
                self.push(records);
                Ok(())
            },
        )
    }
}

/// Writes some keys of all partitions, none of which wait in the tail, behind their number.
fn write_keys<K: Key>(
    out: &mut FileWriter,
    partitions: Option<&Partitions<K>>,
    range: impl Fn(&Progress) -> Range<usize>,
) -> Result<()> {
    let Some(all) = partitions else {
        return out.put_u64(0);
    };
    let counts = (0..all.count()).map(|index| range(&all.progress(index)).len());
    out.put_u64(counts.sum::<usize>() as u64)?;
    let mut done = Ok(());
    for index in 0..all.count() {
        all.visit(index, range(&all.progress(index)), |keys| {
            if done.is_ok() {
                done = out.put_all(keys, |key, out| key.write(out));
            }
        });
    }
    done
}

/// Reads what [`write_keys`] wrote; `take` gets some keys at a time.
fn read_keys<K: Key>(
    from: &mut FileReader,
    packer: Packer,
    mut take: impl FnMut(&[K]),
) -> Result<()> {
    let count = from.count(K::BYTES)?;
    from.records((count, K::BYTES), K::read, |keys| {
        if !keys.iter().all(|&key| packer.is_window(key)) {
            return Err(other_windows());
        }
        take(keys);
        Ok(())
    })
}

/// Sums that the scheme may have.
fn read_sums(from: &mut FileReader, scheme: &dyn Scheme) -> Result<Sums> {
    let sums = Sums::read(from)?;
    let depth = match scheme.score_kind() {
        ScoreKind::Depths(depth) => usize::from(depth),
        _ => 0,
    };
    let is = |found: usize, expected: usize| found == 0 || found == expected;
    match is(sums.depths.len(), depth) && is(sums.residues.size(), scheme.residues()) {
        true => Ok(sums),
        false => Err(Error::State("it holds the sums of another scheme".into())),
    }
}

fn other_windows() -> Error {
    Error::State("it holds windows of another vocabulary".into())
}
