//! Files that appear under their name only when they are whole: `magic, version, payload, SHA-256`.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

const CHECKSUM: usize = 32;
/// Files begun in this process, so that threads that save to one path write different ones.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Writes `magic`, a version, the payload and a checksum: first to a file beside it, then renamed,
/// so that an older file is never lost to a half-written one.
pub fn write_file(path: &Path, magic: [u8; 4], version: u32, payload: &[u8]) -> Result<()> {
    let fail =
        |error: std::io::Error| Error::State(format!("cannot write {}: {error}", path.display()));
    let mut name = path.file_name().map(ToOwned::to_owned).unwrap_or_default();
    let number = BEGUN.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{number}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        let mut digest = Sha256::new();
        for part in [&magic[..], &version.to_le_bytes(), payload] {
            digest.update(part);
            file.write_all(part)?;
        }
        file.write_all(&digest.finalize())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        fail(error)
    })
}

/// Reads what [`write_file`] wrote and returns the payload; `what` names the kind of file.
pub fn read_file(path: &Path, magic: [u8; 4], version: u32, what: &str) -> Result<Vec<u8>> {
    let place = path.display();
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::State(format!("{place} does not exist")),
        _ => Error::State(format!("cannot read {place}: {error}")),
    };
    let mut file = File::open(path).map_err(fail)?;
    let mut head = [0; 8];
    // The magic comes first: files of other kinds may be of any size.
    let known = match file.read_exact(&mut head) {
        Ok(()) => head[..4] == magic,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(fail(error)),
    };
    if !known {
        return Err(Error::State(format!("{place} is not a {what} of radscore")));
    }
    let found = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if found != version {
        return Err(Error::State(format!(
            "{place} is a {what} of version {found}; this radscore reads version {version}"
        )));
    }
    let mut payload = Vec::new();
    file.read_to_end(&mut payload).map_err(fail)?;
    let end = payload.len().checked_sub(CHECKSUM);
    let mut digest = Sha256::new_with_prefix(head);
    digest.update(&payload[..end.unwrap_or(0)]);
    match end {
        Some(end) if digest.finalize()[..] == payload[end..] => {
            payload.truncate(end);
            Ok(payload)
        }
        _ => Err(Error::State(format!(
            "{place} is damaged: its checksum does not fit"
        ))),
    }
}

/// A name that nothing else has, in this process or another, on this machine or another.
pub(crate) fn attempt() -> String {
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
        let name = format!("radscore-bytes-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
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
        assert!(
            matches!(other, Err(Error::State(text)) if text.ends_with("not a test of radscore"))
        );
        let newer = read_file(&path, *b"TEST", 2, "test");
        assert!(matches!(newer, Err(Error::State(text)) if text.contains("of version 1;")));
        let _ = fs::remove_file(&path);
        Ok(())
    }
}
