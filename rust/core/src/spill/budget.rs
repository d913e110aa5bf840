//! What work on files may use.

use crate::io::files::unique_suffix;
use crate::spill::shard_file::ShardFile;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// The path of a new temporary file.
    pub(crate) fn temporary(&self) -> TemporaryFile {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = &self.folders[number % self.folders.len()];
        TemporaryFile(folder.join(format!("radscore-{}.rsw", unique_suffix())))
    }
}

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
