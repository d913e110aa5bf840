//! Files that appear under their name only once they are whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// A file being written beside its final place, under a temporary name.
///
/// Nothing stands under the final name before [`AtomicFile::commit`], which replaces an older file
/// in one step. A file dropped without it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    temporary: TempPath,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file, in the folder of `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        let name = path.file_name().unwrap_or_default();
        let mut prefix = name.to_owned();
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // As any new file: readable by whom the umask allows, not by the owner alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, temporary) = builder.tempfile_in(folder).map(NamedTempFile::into_parts)?;
        let path = path.to_owned();
        Ok(Self {
            file,
            temporary,
            path,
        })
    }

    /// The open file; several threads may write to it, each at its own offset.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name. `durable` waits until content and name are on the disk; leave it out
    /// only for files that need not survive a crash.
    pub fn commit(self, durable: bool) -> io::Result<()> {
        if durable {
            self.file.sync_all()?;
        }
        self.temporary
            .persist(&self.path)
            .map_err(|error| error.error)?;
        #[cfg(unix)]
        if durable {
            File::open(folder_of(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn appears_whole_or_not_at_all() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a");
        fs::write(&path, b"old")?;
        let files = || fs::read_dir(folder.path()).map(Iterator::count);

        let mut file = AtomicFile::create(&path)?;
        file.write_all(b"half")?;
        assert_eq!((fs::read(&path)?, files()?), (b"old".to_vec(), 2));
        drop(file);
        assert_eq!((fs::read(&path)?, files()?), (b"old".to_vec(), 1));

        for durable in [false, true] {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(b"new")?;
            file.commit(durable)?;
            assert_eq!((fs::read(&path)?, files()?), (b"new".to_vec(), 1));
        }
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn has_the_permissions_of_any_new_file() -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        AtomicFile::create(&ours)?.commit(true)?;
        File::create(&plain)?;
        let mode = |path| fs::metadata(path).map(|found| found.permissions().mode());
        assert_eq!(mode(&ours)?, mode(&plain)?);
        Ok(())
    }
}
