//! Shard files in, tallies out.

use crate::dedup::identity::Identity;
use crate::dedup::partitions::Partitions;
use crate::dedup::rule::Rule;
use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::input::plan::with_key;
use crate::key::{Key, Packer};
use crate::recycler::release;
use crate::schemes::Scheme;
use crate::score::options::Options;
use crate::score::schemes::GroupScores;
use crate::score::tally::Tally;
use crate::spill::budget::{Budget, removed_unless_kept, unique_suffix};
use crate::spill::collector::counts_of;
use crate::spill::loader::PartitionLoader;
use crate::spill::shard_file::{Configuration, NO_SHARD, ShardFile};
use crate::spill::shard_writer::ShardWriter;
use crate::threads::Pool;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// A file of distinct windows that wait to be deduplicated by unit, with the index of their scheme.
pub type Exchange = (usize, PathBuf);

/// Scores partitions of shard files. Ranges of partitions are independent: the tallies of all of them
/// add up to that of a scorer in memory.
///
/// Schemes whose units are not windows need a second stage: windows of one unit may be in different
/// partitions, so the first stage hands the distinct windows on, partitioned by unit.
pub struct Reducer {
    schemes: Vec<Arc<dyn Scheme>>,
    packer: Packer,
    rule: Rule,
    pool: Pool,
}

impl Reducer {
    /// A reducer for schemes that read the same windows. Of the options, `combine` and `filter` play
    /// no part.
    pub fn new(schemes: Vec<Arc<dyn Scheme>>, options: &Options) -> Result<Self> {
        let shapes = schemes.iter().map(|scheme| options.shape(&**scheme));
        let shapes = shapes.collect::<Result<Vec<_>>>()?;
        let Some(first) = shapes
            .first()
            .filter(|first| shapes.iter().all(|s| s == *first))
        else {
            return Err(Error::Argument(
                "a reducer needs schemes that read the same windows".into(),
            ));
        };
        Ok(Self {
            packer: first.packer()?,
            schemes,
            rule: options.rule,
            pool: Pool::new(options.threads)?,
        })
    }

    /// Scores some partitions of the files of all shards, from the first on. What was counted when
    /// the windows were cut comes with partition 0. Windows that count once a unit are written to
    /// files whose names begin with `exchange`, for [`Reducer::reduce_units`].
    pub fn reduce(
        &self,
        (paths, configuration): (&[PathBuf], &Configuration),
        range: Range<usize>,
        exchange: &Path,
        budget: &Budget,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Vec<Tally>, Vec<Exchange>)> {
        let files = ShardFile::open_all(paths, Some(configuration), &range)?;
        for (shard, file) in (0..).zip(&files) {
            if file.shard() != shard {
                return Err(Error::Damaged {
                    path: file.path().to_owned(),
                    what: format!("it is the file of shard {}, not of {shard}", file.shard()),
                });
            }
        }
        let exchange = ExchangeFiles::new(exchange);
        with_key!(self.packer, K => {
            self.reduce_files::<K>(&files, range, exchange, &budget.beside(&files), check)
        })
    }

    fn reduce_files<K: Key>(
        &self,
        files: &[ShardFile],
        range: Range<usize>,
        mut exchange: ExchangeFiles,
        budget: &Budget,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Vec<Tally>, Vec<Exchange>)> {
        let mut scores = GroupScores::<K>::new(&self.schemes, self.packer, self.rule);
        let (counts, mut duplicates) = match range.start {
            0 => counts_of(files),
            _ => (Counts::default(), 0),
        };
        if let Some(first) = files.first() {
            let bits = first.bits();
            check_range(&range, bits)?;
            if let Some(other) = files.iter().find(|file| file.bits() != bits) {
                return Err(Error::Storage(format!(
                    "{} has another number of partitions",
                    other.path().display()
                )));
            }
            release::<K>();
            scores.keep_units(|| Partitions::fixed(bits, 0..1 << bits));
            let pool = &self.pool;
            // Each window that is loaded may become a unit of every scheme.
            let units = scores.schemes.iter().filter(|own| own.units.is_some());
            let share = Budget {
                memory: budget.memory / units.count().max(1),
                folders: budget.folders.clone(),
            };
            let loader = PartitionLoader {
                budget: &share,
                pool,
                one_by_one: self.rule == Rule::None,
                may_split: true,
            };
            let identity = Identity::of_windows(self.packer, self.rule);
            loader.for_groups(
                files,
                range,
                &identity,
                check,
                &mut |partitions: &mut Partitions<K>, identity, check| {
                    scores.score_windows(partitions, identity, &mut duplicates, pool, check)?;
                    if 2 * scores.unit_bytes() > budget.memory {
                        exchange.write(&mut scores, pool)?;
                    }
                    Ok(())
                },
            )?;
            exchange.write(&mut scores, pool)?;
        }
        Ok((self.tallies(&scores, counts, duplicates), exchange.keep()?))
    }

    /// Scores some partitions of all files that [`Reducer::reduce`] handed on.
    pub fn reduce_units(
        &self,
        exchange: &[Exchange],
        range: Range<usize>,
        budget: &Budget,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Tally>> {
        with_key!(self.packer, K => {
            self.reduce_exchange::<K>(exchange, &range, budget, check)
        })
    }

    fn reduce_exchange<K: Key>(
        &self,
        exchange: &[Exchange],
        range: &Range<usize>,
        budget: &Budget,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Tally>> {
        let mut scores = GroupScores::<K>::new(&self.schemes, self.packer, self.rule);
        for scheme in 0..self.schemes.len() {
            let own = exchange.iter().filter(|(index, _)| *index == scheme);
            let paths: Vec<PathBuf> = own.map(|(_, path)| path.clone()).collect();
            let files = ShardFile::open_all(&paths, None, range)?;
            let Some(first) = files.first() else {
                continue;
            };
            check_range(range, first.bits())?;
            let loader = PartitionLoader {
                budget: &budget.beside(&files),
                pool: &self.pool,
                one_by_one: false,
                may_split: true,
            };
            let identity = scores.schemes[scheme].unit_identity(self.packer);
            loader.for_groups(
                &files,
                range.clone(),
                &identity,
                check,
                &mut |units: &mut Partitions<K>, identity, check| {
                    scores.score_units(scheme, (units, identity), &self.pool, check)
                },
            )?;
        }
        Ok(self.tallies(&scores, Counts::default(), 0))
    }

    fn tallies<K: Key>(
        &self,
        scores: &GroupScores<K>,
        counts: Counts,
        duplicates: u64,
    ) -> Vec<Tally> {
        let schemes = 0..self.schemes.len();
        schemes
            .map(|scheme| scores.tally(scheme, counts, duplicates))
            .collect()
    }
}

/// Files that are handed to the second stage; they are removed unless [`ExchangeFiles::keep`] is
/// called.
struct ExchangeFiles {
    prefix: PathBuf,
    written: Vec<(usize, TempPath)>,
}

impl ExchangeFiles {
    fn new(prefix: &Path) -> Self {
        Self {
            prefix: prefix.to_owned(),
            written: Vec::new(),
        }
    }

    /// Writes the units of each scheme that keeps some to a file, and forgets them.
    fn write<K: Key>(&mut self, scores: &mut GroupScores<K>, pool: &Pool) -> Result<()> {
        scores.take_units(pool, |scheme, units| {
            let mut name = self.prefix.as_os_str().to_owned();
            name.push(format!(".{scheme}.{}.rsx", unique_suffix()));
            let path = removed_unless_kept(name.into())?;
            let mut writer = ShardWriter::create::<K>(&path, [0; 32], NO_SHARD, units.bits())?;
            pool.install(|| writer.append(units))?;
            writer.finish(Counts::default(), 0)?;
            self.written.push((scheme, path));
            Ok(())
        })
    }

    fn keep(self) -> Result<Vec<Exchange>> {
        let keep = |(scheme, path): (usize, TempPath)| {
            let kept = path.keep();
            kept.map(|path| (scheme, path))
                .map_err(|error| Error::Storage(error.to_string()))
        };
        self.written.into_iter().map(keep).collect()
    }
}

fn check_range(range: &Range<usize>, bits: u32) -> Result<()> {
    if range.start <= range.end && range.end <= 1 << bits {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "partitions {range:?} are not among the {} of the files",
        1usize << bits
    )))
}
