//! What work on files may use.

use crate::error::Result;
use crate::spill::header::storage;
use crate::spill::shard_file::ShardFile;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
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

    /// A new temporary file, which is removed when this is dropped.
    pub(crate) fn temporary(&self) -> Result<TempPath> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = &self.folders[number % self.folders.len()];
        temporary(folder, "radscore-", ".rsw")
    }
}

/// A new file in a folder, which is removed when this is dropped.
pub(crate) fn temporary(
    folder: &Path,
    prefix: impl AsRef<OsStr>,
    suffix: &str,
) -> Result<TempPath> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(prefix.as_ref()).suffix(suffix);
    let file = builder.tempfile_in(folder);
    let file = file.map_err(|error| storage("write in", folder, &error))?;
    Ok(file.into_temp_path())
}
