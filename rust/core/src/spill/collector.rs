//! Documents in, shard files out.

use crate::dedup::identity::{Identity, Workspace};
use crate::dedup::object_pool::ObjectPool;
use crate::dedup::partitions::Partitions;
use crate::dedup::rule::Rule;
use crate::dedup::window_set::{WindowSet, dedup};
use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::input::plan::{WindowShape, with_key};
use crate::input::source::Source;
use crate::input::windows::WindowPlan;
use crate::key::Key;
use crate::recycler::release;
use crate::schemes::Scheme;
use crate::score::options::Options;
use crate::spill::budget::Budget;
use crate::spill::loader::PartitionLoader;
use crate::spill::shard_file::{Configuration, Finished, ShardFile};
use crate::spill::shard_writer::ShardWriter;
use crate::threads::Pool;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most partitions, as bits.
const MOST_BITS: u32 = 16;

/// Cuts documents into windows and writes them to shard files, each window once per file. It needs
/// neither a scheme nor a key.
///
/// All windows since the last file are in memory; the caller writes a file when they are many.
pub struct Collector {
    windows: Box<dyn CollectedWindows>,
    shape: WindowShape,
    pool: Pool,
    tokens: u64,
}

impl Collector {
    /// A collector of windows in `2^bits` partitions. Of the options, `start` and `combine` play no
    /// part. Prompts exclude windows by their contexts, or by what the scheme `seeds` reads of them.
    pub fn new(
        shape: WindowShape,
        seeds: Option<&Arc<dyn Scheme>>,
        options: &Options,
        bits: u32,
    ) -> Result<Self> {
        if !(1..=MOST_BITS).contains(&bits) {
            return Err(Error::Argument(format!(
                "there must be 2 to {} partitions",
                1 << MOST_BITS
            )));
        }
        let windows = with_key!(shape.packer()?, K => {
            let plan = shape.plan(options.role, options.filter.as_deref())?;
            let plan = match seeds {
                Some(scheme) => plan.with_seeds(scheme),
                None => plan,
            };
            Box::new(Collected::<K>::new(plan, options.rule, bits)) as Box<dyn CollectedWindows>
        });
        Ok(Self {
            windows,
            shape,
            pool: Pool::new(options.threads)?,
            tokens: 0,
        })
    }

    /// Size of the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        self.shape.vocab_size
    }

    /// Tokens that were added, over all files.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Bytes of the windows in memory.
    pub fn bytes(&self) -> usize {
        self.windows.bytes()
    }

    /// Adds the windows whose targets are in a range of the source's tokens. What lies around the
    /// range serves as context, and tells how long documents are.
    pub fn add(
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
        let windows = &mut self.windows;
        self.pool.install(|| windows.add(source, range.clone()));
        self.tokens += range.len() as u64;
        check()
    }

    /// Writes the windows in memory to the file of a shard, and forgets them.
    pub fn write_shard(
        &mut self,
        path: &Path,
        configuration: Configuration,
        shard: u64,
    ) -> Result<Finished> {
        self.windows.write(path, configuration, shard, &self.pool)
    }

    /// Merges the files that one shard was written to, in reading order, into one. What is in memory
    /// plays no part.
    pub fn merge_shards(
        &self,
        (paths, configuration): (&[PathBuf], Configuration),
        path: &Path,
        shard: u64,
        budget: &Budget,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Finished> {
        let files = ShardFile::open_all(paths, Some(&configuration), &(0..usize::MAX))?;
        let loader = PartitionLoader {
            budget,
            pool: &self.pool,
            one_by_one: false,
            may_split: false,
        };
        self.windows
            .merge(&files, (path, configuration, shard), &loader, check)
    }
}

/// [`Collected`] windows of any key.
trait CollectedWindows: Send + Sync {
    fn add(&mut self, source: &Source, range: Range<usize>);
    fn bytes(&self) -> usize;
    fn write(
        &mut self,
        path: &Path,
        configuration: Configuration,
        shard: u64,
        pool: &Pool,
    ) -> Result<Finished>;
    fn merge(
        &self,
        files: &[ShardFile],
        target: (&Path, Configuration, u64),
        loader: &PartitionLoader,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Finished>;
}

/// The windows since the last file.
struct Collected<K: Key> {
    plan: WindowPlan<K>,
    windows: WindowSet<K>,
    counts: Counts,
}

impl<K: Key> Collected<K> {
    fn new(plan: WindowPlan<K>, rule: Rule, bits: u32) -> Self {
        release::<K>();
        let identity = Identity::of_windows(plan.packer, rule);
        Self {
            plan,
            windows: WindowSet::new(identity, Partitions::fixed(bits, 0..1 << bits)),
            counts: Counts::default(),
        }
    }
}

impl<K: Key> CollectedWindows for Collected<K> {
    fn add(&mut self, source: &Source, range: Range<usize>) {
        self.counts
            .merge(&self.plan.count_documents(source, &range));
        self.counts
            .merge(&self.windows.add_range(&self.plan, source, range));
    }

    fn bytes(&self) -> usize {
        self.windows.partitions.bytes()
    }

    fn write(
        &mut self,
        path: &Path,
        configuration: Configuration,
        shard: u64,
        pool: &Pool,
    ) -> Result<Finished> {
        let bits = self.windows.partitions.bits();
        let mut writer = ShardWriter::create::<K>(path, configuration, shard, bits)?;
        self.windows.dedup_all(pool);
        pool.install(|| writer.append(&self.windows.partitions))?;
        let finished = writer.finish(self.counts, self.windows.duplicates)?;
        self.windows.partitions.clear();
        (self.counts, self.windows.duplicates) = Default::default();
        Ok(finished)
    }

    fn merge(
        &self,
        files: &[ShardFile],
        (path, configuration, shard): (&Path, Configuration, u64),
        loader: &PartitionLoader,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Finished> {
        let bits = self.windows.partitions.bits();
        let mut writer = ShardWriter::create::<K>(path, configuration, shard, bits)?;
        let (counts, mut duplicates) = counts_of(files);
        let workspaces = ObjectPool::<Workspace<K>>::default();
        loader.for_groups(
            files,
            0..1 << bits,
            &self.windows.identity,
            check,
            &mut |partitions: &mut Partitions<K>, identity, _| {
                let all = 0..partitions.count();
                loader.pool.install(|| {
                    dedup(partitions, all, &workspaces, identity, &mut duplicates);
                    writer.append(partitions)
                })
            },
        )?;
        writer.finish(counts, duplicates)
    }
}

/// What was read to cut the windows of all files, and the repetitions that each left out.
pub(crate) fn counts_of(files: &[ShardFile]) -> (Counts, u64) {
    let (mut total, mut total_duplicates) = (Counts::default(), 0);
    for file in files {
        let (counts, duplicates) = file.counts();
        total.merge(&counts);
        total_duplicates += duplicates;
    }
    (total, total_duplicates)
}
