//! A scorer whose windows lie in files: it collects work units, and reduces them to sums.

use crate::error::{Error, Result};
use crate::input::source::Source;
use crate::io::files::unique_suffix;
use crate::score::tally::Tally;
use crate::scorer::outofcore::{Limits, Loading, Temporary, one_by_one, open_units};
use crate::scorer::{AnyFrame, Scorer, each};
use crate::spill::shard_file::{Configuration, Finished, UnitFile, Writer};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Partitions of the files of a scorer that ran out of memory, as bits.
const BITS: u32 = 12;
/// Most partitions, as bits.
const MOST_BITS: u32 = 16;

/// What a scorer that may use so much memory has written.
pub(crate) struct Limited {
    limits: Limits,
    spilled: Vec<Temporary>,
    /// Bytes that it held when it was last looked at.
    seen: usize,
}

/// Windows that wait to be deduplicated by unit: the frame they are of, and their file.
pub type Exchange = (usize, PathBuf);

impl Scorer {
    /// From now on windows go to files in `folders` when they fill `memory` bytes; nothing may have
    /// been added. Every result reads them all.
    pub fn set_limit(&mut self, limits: Limits) -> Result<()> {
        if self.weighted {
            return Err(weights_in_memory());
        }
        self.collect_only(BITS)?;
        self.limited = Some(Limited {
            limits,
            spilled: Vec::new(),
            seen: 0,
        });
        Ok(())
    }

    /// From now on windows are collected only, in `2^bits` partitions.
    pub fn collect_only(&mut self, bits: u32) -> Result<()> {
        if self.weighted {
            return Err(weights_in_memory());
        }
        if !(1..=MOST_BITS).contains(&bits) {
            return Err(Error::Argument(format!(
                "there must be 2 to {} partitions",
                1 << MOST_BITS
            )));
        }
        self.collecting = true;
        self.frames
            .iter_mut()
            .for_each(|frame| each!(frame, f => f.collect_only(bits)));
        Ok(())
    }

    /// Bytes of windows that it holds.
    pub fn bytes(&self) -> usize {
        self.frames
            .iter()
            .map(|frame| each!(frame, f => f.bytes()))
            .sum()
    }

    /// Adds the windows whose targets are in a range of the source's tokens. What lies around the
    /// range is there for contexts, and to tell how long documents are.
    pub fn add_part(
        &mut self,
        source: &Source,
        range: Range<usize>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let total = source.documents.n_tokens();
        if range.start > range.end || range.end > total {
            return Err(Error::Argument(format!(
                "the range {range:?} is outside of {total} tokens"
            )));
        }
        check()?;
        self.for_frames(|frame| each!(frame, f => f.add_range(source, range.clone(), None)));
        self.tokens += range.len() as u64;
        self.started |= !range.is_empty();
        self.after_batch(check)
    }

    /// Writes what was collected to the file of a work unit, and forgets it.
    pub fn write_unit(
        &mut self,
        path: &Path,
        configuration: Configuration,
        unit: u64,
    ) -> Result<Finished> {
        let writer = Writer::create(path, configuration, unit, &self.sections())?;
        self.write(writer)
    }

    fn write(&mut self, mut writer: Writer) -> Result<Finished> {
        for frame in &mut self.frames {
            each!(frame, f => f.spill(&mut writer, &self.pool))?;
        }
        let finished = writer.finish()?;
        self.frames
            .iter_mut()
            .for_each(|frame| each!(frame, f => f.forget()));
        Ok(finished)
    }

    fn sections(&self) -> Vec<(u64, u32)> {
        self.frames
            .iter()
            .map(|frame| each!(frame, f => f.section()))
            .collect()
    }

    /// Joins the files that one work unit was written to, in reading order, into one.
    pub fn join_units(
        &mut self,
        (paths, configuration): (&[PathBuf], Configuration),
        path: &Path,
        unit: u64,
        limits: &Limits,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Finished> {
        let files = open_units(paths, Some(&configuration), &(0..usize::MAX))?;
        let mut writer = Writer::create(path, configuration, unit, &self.sections())?;
        let loading = Loading {
            limits,
            pool: &self.pool,
            one_by_one: false,
            may_split: false,
        };
        for (index, frame) in self.frames.iter_mut().enumerate() {
            each!(frame, f => f.join(&mut writer, (index, &files), &loading, check))?;
        }
        writer.finish()
    }

    /// Reduces some partitions of the files of all work units, from the first on, to sums. With the
    /// first partition come the counts of what was read. Windows that count once a unit are written
    /// to files that begin with `exchange`, for [`Scorer::reduce_units`].
    pub fn reduce(
        &mut self,
        (paths, configuration): (&[PathBuf], &Configuration),
        parts: Range<usize>,
        exchange: &Path,
        limits: &Limits,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Exchange>> {
        let files = open_units(paths, Some(configuration), &parts)?;
        for (unit, file) in (0..).zip(&files) {
            if file.unit() != unit {
                return Err(Error::Damaged {
                    path: file.path().to_owned(),
                    what: format!("it is the file of work unit {}, not of {unit}", file.unit()),
                });
            }
        }
        self.reduce_files(&files, parts, exchange, limits, check)
    }

    fn reduce_files(
        &mut self,
        files: &[UnitFile],
        parts: Range<usize>,
        exchange: &Path,
        limits: &Limits,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Exchange>> {
        let mut written = Vec::new();
        let limits = limits.beside(files);
        let done = self.reduce_to(files, parts, exchange, &limits, &mut written, check);
        if done.is_err() {
            written
                .iter()
                .for_each(|(_, path)| drop(Temporary::of(path)));
        }
        done.map(|()| written)
    }

    fn reduce_to(
        &mut self,
        files: &[UnitFile],
        parts: Range<usize>,
        exchange: &Path,
        limits: &Limits,
        written: &mut Vec<Exchange>,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (index, frame) in self.frames.iter_mut().enumerate() {
            let bits = files.first().map_or(Ok(BITS), |file| file.bits(index))?;
            check_parts(&parts, bits)?;
            for file in files {
                if file.bits(index)? != bits {
                    return Err(Error::Storage(format!(
                        "{} has another number of partitions",
                        file.path().display()
                    )));
                }
            }
            let mut next = || {
                let mut name = exchange.as_os_str().to_owned();
                name.push(format!(".{index}.{}.rsx", unique_suffix()));
                written.push((index, PathBuf::from(&name)));
                PathBuf::from(name)
            };
            let loading = Loading {
                limits,
                pool: &self.pool,
                one_by_one: one_by_one(self.rule),
                may_split: true,
            };
            each!(frame, f => {
                f.reset(bits);
                if parts.start == 0 {
                    f.add_counts(index, files)?;
                }
                f.reduce((index, files), parts.clone(), &loading, &mut next, check)?;
                if f.has_units() {
                    f.write_units(&next(), &self.pool)?;
                }
            });
        }
        Ok(())
    }

    /// Reduces some partitions of all that [`Scorer::reduce`] handed on to sums.
    pub fn reduce_units(
        &mut self,
        exchange: &[Exchange],
        parts: Range<usize>,
        limits: &Limits,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for (index, frame) in self.frames.iter_mut().enumerate() {
            let own = exchange.iter().filter(|(frame, _)| *frame == index);
            let paths: Vec<PathBuf> = own.map(|(_, path)| path.clone()).collect();
            let files = open_units(&paths, None, &parts)?;
            let Some(first) = files.first() else {
                continue;
            };
            check_parts(&parts, first.bits(0)?)?;
            let loading = Loading {
                limits: &limits.beside(&files),
                pool: &self.pool,
                one_by_one: false,
                may_split: true,
            };
            each!(frame, f => f.reduce_units(&files, &parts, &loading, check))?;
        }
        Ok(())
    }

    /// The sums so far, without looking at what waits.
    pub fn partial(&self) -> Vec<Tally> {
        let frames = &self.frames;
        let tally = |&(frame, index): &(usize, usize)| each!(&frames[frame], f => f.partial(index));
        self.places.iter().map(tally).collect()
    }

    /// Writes what was collected to a temporary file where as much as came last would not fit the
    /// memory once more.
    pub(crate) fn spill_if_full(&mut self) -> Result<()> {
        let bytes = self.bytes();
        let Some(limited) = self.limited.as_mut() else {
            return Ok(());
        };
        let last = bytes.saturating_sub(limited.seen);
        limited.seen = bytes;
        if bytes + last <= limited.limits.memory {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> Result<()> {
        let Some(mut limited) = self.limited.take() else {
            return Ok(());
        };
        let temporary = limited.limits.temporary();
        let number = limited.spilled.len() as u64;
        let writer = Writer::create(temporary.path(), [0; 32], number, &self.sections());
        let written = writer.and_then(|writer| self.write(writer.temporary()));
        if written.is_ok() {
            limited.spilled.push(temporary);
            limited.seen = 0;
        }
        self.limited = Some(limited);
        written.map(drop)
    }

    /// The tallies of all that was written; `None` where all is in memory.
    pub(crate) fn tallies_of_spilled(
        &mut self,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Vec<Tally>>> {
        if self
            .limited
            .as_ref()
            .is_none_or(|limited| limited.spilled.is_empty())
        {
            return Ok(None);
        }
        self.spill()?;
        let Some(limited) = self.limited.take() else {
            return Ok(None);
        };
        let tallies = self.reduce_spilled(&limited, check);
        self.limited = Some(limited);
        for frame in &mut self.frames {
            each!(frame, f => f.reset(BITS));
        }
        tallies.map(Some)
    }

    fn reduce_spilled(
        &mut self,
        limited: &Limited,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Tally>> {
        let paths = limited.spilled.iter().map(|file| file.path().to_owned());
        let parts = 0..1 << BITS;
        let files = open_units(&paths.collect::<Vec<_>>(), None, &parts)?;
        let exchange = limited.limits.temporary();
        let limits = &limited.limits;
        let written = self.reduce_files(&files, parts.clone(), exchange.path(), limits, check);
        let guards: Vec<Temporary> = written
            .iter()
            .flatten()
            .map(|(_, path)| Temporary::of(path))
            .collect();
        self.reduce_units(&written?, parts, limits, check)?;
        drop(guards);
        Ok(self.partial())
    }
}

fn check_parts(parts: &Range<usize>, bits: u32) -> Result<()> {
    if parts.start <= parts.end && parts.end <= 1 << bits {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "partitions {parts:?} are not among the {} of the files",
        1usize << bits
    )))
}

pub(crate) fn weights_in_memory() -> Error {
    Error::Argument(
        "windows with weights are held in memory: a scorer of weights takes no memory limit".into(),
    )
}
