//! What work on files may use.

use crate::error::Result;
use crate::spill::header::storage;
use crate::spill::shard_file::ShardFile;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tempfile::TempPath;

/// Memory for windows, and folders for what does not fit.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Bytes of windows that are held at once.
    pub memory: usize,
    /// Folders for temporary files, used in turn; there is at least one.
    pub folders: Vec<PathBuf>,
}

impl Budget {
    /// What the tables of some files leave of it, but at least half of the memory.
    pub(crate) fn beside(&self, files: &[ShardFile]) -> Self {
        let tables: usize = files.iter().map(ShardFile::table_bytes).sum();
        Self {
            memory: self.memory - tables.min(self.memory / 2),
            folders: self.folders.clone(),
        }
    }

    /// The path of a new temporary file, which is removed when this is dropped.
    pub(crate) fn temporary(&self) -> Result<TempPath> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = &self.folders[number % self.folders.len()];
        removed_unless_kept(folder.join(format!("radscore-{}.rsw", unique_suffix())))
    }
}

/// The path of a file to come, which is removed when this is dropped.
pub(crate) fn removed_unless_kept(path: PathBuf) -> Result<TempPath> {
    let found = TempPath::try_from_path(&path);
    found.map_err(|error| storage("write", &path, &error))
}

/// Part of a file name that nothing else has, in this process or another, on this machine or another.
pub(crate) fn unique_suffix() -> String {
    static NAMED: AtomicU64 = AtomicU64::new(0);
    static RANDOM: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    let number = NAMED.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:016x}-{number}", std::process::id(), *RANDOM)
}
