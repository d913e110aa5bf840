//! What is saved of a group, as bytes. A result never depends on whether a state was saved between.

use crate::error::{Error, Result};
use crate::input::counts::Counts;
use crate::io::records::{Reader, put_u64};
use crate::key::{Key, Packer};
use crate::score::tally::Sums;
use crate::score::weighted::{Record, is_weight};
use std::borrow::Cow;

/// The saved state of a group.
pub(crate) struct GroupState<'a, K: Key> {
    pub(crate) counts: Counts,
    pub(crate) windows: WindowsState<'a, K>,
}

/// The state of its windows.
pub(crate) enum WindowsState<'a, K: Key> {
    /// Of windows that count once.
    Memory(MemoryState<K>),
    /// Of windows with weights: where the next ones stand in reading order, and the records.
    Weighted(u64, Cow<'a, [Record<K>]>),
}

/// The saved state of windows that count once.
pub(crate) struct MemoryState<K> {
    /// Repetitions that were removed.
    pub(crate) duplicates: u64,
    /// Distinct windows, sorted; none if every window counts.
    pub(crate) seen: Vec<K>,
    /// Those that are not scored.
    pub(crate) waiting: Vec<K>,
    /// For each scheme the windows whose units wait to be scored, and what is scored.
    pub(crate) schemes: Vec<(Vec<K>, Sums)>,
}

impl<K: Key> GroupState<'_, K> {
    /// Appends the state of windows of `width` tokens.
    pub(crate) fn write(&self, width: usize, out: &mut Vec<u8>) {
        put_u64(out, width as u64);
        self.counts.write(out);
        match &self.windows {
            WindowsState::Memory(state) => {
                put_u64(out, 0);
                put_u64(out, state.duplicates);
                write_keys(&state.seen, out);
                write_keys(&state.waiting, out);
                for (waiting, sums) in &state.schemes {
                    write_keys(waiting, out);
                    sums.write(out);
                }
            }
            WindowsState::Weighted(next_order, records) => {
                put_u64(out, 1);
                put_u64(out, *next_order);
                put_u64(out, records.len() as u64);
                for record in records.iter() {
                    record.key.write(out);
                    put_u64(out, record.order);
                    put_u64(out, record.weight.to_bits());
                }
            }
        }
    }

    /// Reads what [`GroupState::write`] wrote, for a group of so many schemes; an error if that
    /// cannot be a state of its windows.
    pub(crate) fn read(reader: &mut Reader, packer: Packer, schemes: usize) -> Result<Self> {
        let width = reader.u64()?;
        if width != packer.width as u64 {
            return Err(Error::State(format!(
                "the state has windows of {width} tokens, not {}",
                packer.width
            )));
        }
        let counts = Counts::read(reader)?;
        let windows = match reader.u64()? {
            0 => {
                let duplicates = reader.u64()?;
                let (seen, waiting) = (read_keys(reader, packer)?, read_keys(reader, packer)?);
                let own = |_| Ok((read_keys(reader, packer)?, Sums::read(reader)?));
                WindowsState::Memory(MemoryState {
                    duplicates,
                    seen,
                    waiting,
                    schemes: (0..schemes).map(own).collect::<Result<_>>()?,
                })
            }
            _ => WindowsState::Weighted(reader.u64()?, read_records(reader, packer)?.into()),
        };
        Ok(Self { counts, windows })
    }
}

fn write_keys<K: Key>(keys: &[K], out: &mut Vec<u8>) {
    put_u64(out, keys.len() as u64);
    keys.iter().for_each(|key| key.write(out));
}

fn read_keys<K: Key>(reader: &mut Reader, packer: Packer) -> Result<Vec<K>> {
    let keys: Vec<K> = reader.records(K::BYTES)?.map(K::read).collect();
    match keys.iter().all(|&key| packer.is_window(key)) {
        true => Ok(keys),
        false => Err(other_windows()),
    }
}

fn read_records<K: Key>(reader: &mut Reader, packer: Packer) -> Result<Vec<Record<K>>> {
    let records = reader.records(K::BYTES + 16)?.map(|bytes| Record {
        key: K::read(&bytes[..K::BYTES]),
        order: <u64 as Key>::read(&bytes[K::BYTES..K::BYTES + 8]),
        weight: f64::from_bits(<u64 as Key>::read(&bytes[K::BYTES + 8..])),
    });
    let records: Vec<Record<K>> = records.collect();
    let fits = |record: &Record<K>| {
        packer.is_window(record.key) && is_weight(record.weight) && record.order < 1 << 62
    };
    match records.iter().all(fits) {
        true => Ok(records),
        false => Err(other_windows()),
    }
}

fn other_windows() -> Error {
    Error::State("the state holds windows of another vocabulary".into())
}
