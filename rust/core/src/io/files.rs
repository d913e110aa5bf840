//! Saved files: `magic, version, payload, SHA-256`, written whole or not at all.
//!
//! Magic and version come first, so that a file of another kind, or of another release, is named as
//! such; the digest shows any damage to what follows. The payload is never in memory as a whole.

use super::atomic::AtomicFile;
use super::records::Reader;
use crate::error::{Error, Result};
use crate::memory;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// Bytes of a SHA-256.
const DIGEST: usize = 32;
/// Bytes that are written or read in one go.
const BUFFER: usize = 1 << 18;

/// Writes a payload and computes its digest.
pub struct Writer<W> {
    out: W,
    digest: Sha256,
    buffer: Vec<u8>,
    name: String,
}

/// Writes a saved file.
pub type FileWriter = Writer<AtomicFile>;

impl FileWriter {
    /// Saves a file, in place of an older one of that name; `write` writes the payload.
    ///
    /// # Errors
    /// [`Error::State`] naming the file that cannot be written.
    pub fn save(
        path: &Path,
        magic: [u8; 4],
        version: u32,
        write: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let name = path.display().to_string();
        let file = AtomicFile::create(path).map_err(|error| unwritten(&name, &error))?;
        let mut writer = Self::to(file, name);
        writer.put(&magic)?;
        writer.put(&version.to_le_bytes())?;
        write(&mut writer)?;
        writer.seal()?;
        let Self { out, name, .. } = writer;
        out.commit(true).map_err(|error| unwritten(&name, &error))
    }
}

impl Writer<io::Sink> {
    /// The SHA-256 of what `write` writes, in hexadecimal digits.
    pub fn fingerprint(write: impl FnOnce(&mut Self) -> Result<()>) -> Result<String> {
        let mut writer = Self::to(io::sink(), String::new());
        write(&mut writer)?;
        writer.flush()?;
        let digest = writer.digest.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl<W: Write> Writer<W> {
    fn to(out: W, name: String) -> Self {
        Self {
            out,
            digest: Sha256::new(),
            buffer: memory::vec(BUFFER),
            name,
        }
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        memory::extend(&mut self.buffer, bytes);
        Ok(())
    }

    /// Appends a u64.
    pub fn put_u64(&mut self, value: u64) -> Result<()> {
        self.put(&value.to_le_bytes())
    }

    /// Appends what `write` makes of each item.
    pub fn put_all<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(T, &mut Vec<u8>),
    ) -> Result<()> {
        for item in items {
            write(item, &mut self.buffer);
            if self.buffer.len() + 512 > BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends the digest of all before it: what precedes it can be trusted before the rest is read.
    pub fn seal(&mut self) -> Result<()> {
        self.flush()?;
        let digest = self.digest.clone().finalize();
        self.put(&digest)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.digest.update(&self.buffer);
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| unwritten(&self.name, &error))
    }
}

fn unwritten(name: &str, error: &io::Error) -> Error {
    Error::State(format!("cannot write {name}: {error}"))
}

/// The bytes of a file, whose digest is computed as they are read.
pub struct Hashed {
    file: BufReader<File>,
    digest: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.digest.update(&out[..read]);
        Ok(read)
    }
}

/// A saved file whose payload is being read.
pub struct SavedFile {
    name: String,
    reader: Reader<Hashed>,
}

/// Reads the payload of a [`SavedFile`].
pub type FileReader = Reader<Hashed>;

impl SavedFile {
    /// Opens what [`FileWriter::save`] wrote; `what` names the kind of file.
    ///
    /// # Errors
    /// [`Error::State`] naming the file: it cannot be read, or is of another kind or version.
    pub fn open(path: &Path, magic: [u8; 4], version: u32, what: &str) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => Error::State(format!("{name} does not exist")),
            _ => Error::State(format!("cannot read {name}: {error}")),
        };
        let mut file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let mut head = [0; 8];
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
        let payload = length.saturating_sub((head.len() + DIGEST) as u64);
        let source = Hashed {
            file: BufReader::with_capacity(BUFFER, file),
            digest: Sha256::new_with_prefix(head),
        };
        Ok(Self {
            name,
            reader: Reader::of(source, payload),
        })
    }

    /// Bytes behind their count, which [`Writer::seal`] has sealed.
    pub fn sealed(&mut self) -> Result<Vec<u8>> {
        let read = (|| {
            let count = self.reader.u64()?;
            let bytes = self.reader.bytes(count)?;
            let expected = self.reader.source().digest.clone().finalize();
            Ok((bytes, self.reader.array::<DIGEST>()? == expected[..]))
        })();
        match read {
            Ok((bytes, true)) => Ok(bytes),
            Err(error @ Error::Memory(_)) => Err(error),
            _ => Err(self.damaged("its checksum does not match")),
        }
    }

    /// What `read` makes of the rest of the payload. Any damage is an error that names the file, also
    /// where `read` has not noticed it: what it made is worth nothing before this returns.
    pub fn read<T>(mut self, read: impl FnOnce(&mut FileReader) -> Result<T>) -> Result<T> {
        let value = read(&mut self.reader).and_then(|value| {
            self.reader.finish()?;
            Ok(value)
        });
        if let Err(error @ (Error::Memory(_) | Error::Interrupted)) = value {
            return Err(error);
        }
        let intact = self.is_intact();
        let intact =
            intact.map_err(|error| self.damaged(&format!("it cannot be read: {error}")))?;
        match value {
            _ if !intact => Err(self.damaged("its checksum does not match")),
            Err(error) => Err(self.damaged(&error.to_string())),
            Ok(value) => Ok(value),
        }
    }

    /// Whether the file ends with the digest of all before it.
    fn is_intact(&mut self) -> io::Result<bool> {
        let left = self.reader.left();
        let source = self.reader.source();
        io::copy(&mut source.by_ref().take(left), &mut io::sink())?;
        let mut digest = [0; DIGEST];
        let expected = source.digest.clone().finalize();
        match source.read_exact(&mut digest) {
            Ok(()) => Ok(digest == expected[..] && source.read(&mut [0])? == 0),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn damaged(&self, what: &str) -> Error {
        Error::State(format!("{} is damaged: {what}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &Path, magic: [u8; 4], version: u32) -> Result<Vec<u8>> {
        let file = SavedFile::open(path, magic, version, "test")?;
        file.read(|reader| reader.list(1, |byte| byte[0]))
    }

    #[test]
    fn threads_may_save_to_one_path() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|error| Error::State(error.to_string()))?;
        let path = folder.path().join("saved");
        let save = |fill: u8| {
            (0..20).try_for_each(|_| {
                FileWriter::save(&path, *b"TEST", 1, |out| {
                    out.put_u64(1 << 20)?;
                    out.put(&vec![fill; 1 << 19])?;
                    out.put_all(0..1 << 19, |_, out| out.push(fill))
                })
            })
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|fill| scope.spawn(move || save(fill))).collect();
            for thread in threads {
                assert_eq!(thread.join().ok(), Some(Ok(())));
            }
        });
        let payload = load(&path, *b"TEST", 1)?;
        assert_eq!(payload, vec![payload[0]; 1 << 20]);
        let other = load(&path, *b"OTHR", 1);
        assert!(matches!(other, Err(Error::State(text)) if text.ends_with("not a radscore test")));
        let newer = load(&path, *b"TEST", 2);
        assert!(matches!(newer, Err(Error::State(text)) if text.contains("of version 1;")));
        Ok(())
    }
}
