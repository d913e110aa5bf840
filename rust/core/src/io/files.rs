//! Saved files: `magic, version, payload, SHA-256`, written whole or not at all.
//!
//! Magic and version come first, so that a file of another kind, or of another release, is named as
//! such; the digest shows any damage to what follows.

use super::atomic::AtomicFile;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a SHA-256.
const DIGEST: usize = 32;

/// Saves a payload, in place of an older file of that name.
///
/// # Errors
/// [`Error::State`] naming the file that cannot be written.
pub fn write_file(path: &Path, magic: [u8; 4], version: u32, payload: &[u8]) -> Result<()> {
    let written = (|| {
        let mut file = AtomicFile::create(path)?;
        let mut digest = Sha256::new();
        for bytes in [&magic[..], &version.to_le_bytes(), payload] {
            digest.update(bytes);
            file.write_all(bytes)?;
        }
        file.write_all(&digest.finalize())?;
        file.commit(true)
    })();
    written.map_err(|error| Error::State(format!("cannot write {}: {error}", path.display())))
}

/// Reads the payload that [`write_file`] saved; `what` names the kind of file.
///
/// # Errors
/// [`Error::State`] naming the file: it cannot be read, is of another kind or version, or damaged.
pub fn read_file(path: &Path, magic: [u8; 4], version: u32, what: &str) -> Result<Vec<u8>> {
    let name = path.display();
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::State(format!("{name} does not exist")),
        _ => Error::State(format!("cannot read {name}: {error}")),
    };
    let mut file = File::open(path).map_err(fail)?;
    let mut head = [0; 8];
    // Only these are read before the kind is known: other files may be of any size.
    let known = match file.read_exact(&mut head) {
        Ok(()) => head[..4] == magic,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(fail(error)),
    };
    if !known {
        return Err(Error::State(format!("{name} is not a radscore {what}")));
    }
    let found = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if found != version {
        return Err(Error::State(format!(
            "{name} is a {what} of version {found}; this radscore reads version {version}"
        )));
    }
    let mut payload = Vec::new();
    file.read_to_end(&mut payload).map_err(fail)?;
    let end = payload.len().checked_sub(DIGEST);
    let mut digest = Sha256::new_with_prefix(head);
    digest.update(&payload[..end.unwrap_or(0)]);
    match end {
        Some(end) if digest.finalize()[..] == payload[end..] => {
            payload.truncate(end);
            Ok(payload)
        }
        _ => Err(Error::State(format!(
            "{name} is damaged: its checksum does not match"
        ))),
    }
}

/// Part of a file name that nothing else has, in this process or another, on this machine or another.
pub(crate) fn unique_suffix() -> String {
    static NAMED: AtomicU64 = AtomicU64::new(0);
    static RANDOM: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    let number = NAMED.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:016x}-{number}", std::process::id(), *RANDOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_may_save_to_one_path() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::State(error.to_string()))?;
        let path = folder.path().join("saved");
        let save = |fill: u8| {
            let payload = vec![fill; 1 << 16];
            (0..20).try_for_each(|_| write_file(&path, *b"TEST", 1, &payload))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|fill| scope.spawn(move || save(fill))).collect();
            for thread in threads {
                assert_eq!(thread.join().ok(), Some(Ok(())));
            }
        });
        let payload = read_file(&path, *b"TEST", 1, "test")?;
        assert_eq!(payload, vec![payload[0]; 1 << 16]);
        let other = read_file(&path, *b"OTHR", 1, "test");
        assert!(matches!(other, Err(Error::State(text)) if text.ends_with("not a radscore test")));
        let newer = read_file(&path, *b"TEST", 2, "test");
        assert!(matches!(newer, Err(Error::State(text)) if text.contains("of version 1;")));
        Ok(())
    }
}
