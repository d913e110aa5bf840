//! Pieces seen before, and their ids: text repeats itself, so that few pieces have to be merged.
//!
//! Both tables have a fixed size; a new piece displaces an old one. A piece is recognised by its bytes,
//! never by a hash alone.

/// Longest piece whose bytes are its key.
const SHORT: usize = 15;
/// Longest piece that is remembered at all.
const LONGEST: usize = 256;
const SHORT_SLOTS: usize = 1 << 16;
const LONG_SLOTS: usize = 1 << 13;
const NONE: u32 = u32::MAX;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A short piece with at most four ids; two of them fill a cache line.
#[derive(Clone, Copy)]
struct Short {
    key: u128,
    ids: [u32; 4],
}

/// A piece of up to [`LONGEST`] bytes with any number of ids.
#[derive(Clone, Default)]
struct Long {
    piece: Vec<u8>,
    ids: Vec<u32>,
}

/// The memory of one thread: 2 MB of short pieces, and what the long ones take.
pub struct Cache {
    short: Vec<[Short; 2]>,
    long: Vec<Long>,
}

/// Where a piece that was not found belongs.
#[derive(Clone, Copy)]
pub struct Slot {
    key: u128,
    at: usize,
}

impl Default for Cache {
    fn default() -> Self {
        let empty = Short {
            key: 0,
            ids: [NONE; 4],
        };
        Self {
            short: vec![[empty; 2]; SHORT_SLOTS / 2],
            long: vec![Long::default(); LONG_SLOTS],
        }
    }
}

impl Cache {
    /// Appends the ids of a piece; if they are not known, returns the slot for [`Cache::put`].
    #[inline]
    pub fn get(&mut self, piece: &[u8], out: &mut Vec<u32>) -> Option<Slot> {
        let key = key_of(piece);
        if key != 0 {
            let hash = (key as u64 ^ ((key >> 64) as u64).rotate_left(29)).wrapping_mul(FACTOR);
            let at = (hash >> 40) as usize % (SHORT_SLOTS / 2);
            let [first, second] = &self.short[at];
            let found = if first.key == key {
                first
            } else if second.key == key {
                second
            } else {
                return self.get_long(piece, key, at, out);
            };
            let n = found.ids.iter().take_while(|&&id| id != NONE).count();
            out.extend_from_slice(&found.ids[..n]);
            return None;
        }
        self.get_long(piece, key, 0, out)
    }

    fn get_long(&self, piece: &[u8], key: u128, at: usize, out: &mut Vec<u32>) -> Option<Slot> {
        if let Some(known) = self.long.get(long_slot(piece))
            && known.piece == piece
            && !piece.is_empty()
        {
            out.extend_from_slice(&known.ids);
            return None;
        }
        Some(Slot { key, at })
    }

    /// Remembers the ids of a piece that was not found.
    pub fn put(&mut self, slot: Slot, piece: &[u8], ids: &[u32]) {
        if slot.key != 0 && ids.len() <= 4 {
            let mut padded = [NONE; 4];
            padded[..ids.len()].copy_from_slice(ids);
            let slots = &mut self.short[slot.at];
            slots[1] = slots[0];
            slots[0] = Short {
                key: slot.key,
                ids: padded,
            };
        } else if piece.len() <= LONGEST {
            let long = &mut self.long[long_slot(piece)];
            long.piece.clear();
            long.piece.extend_from_slice(piece);
            long.ids.clear();
            long.ids.extend_from_slice(ids);
        }
    }
}

/// The bytes of a short piece and its length, as one number; 0 for an empty or a long one.
#[inline]
fn key_of(piece: &[u8]) -> u128 {
    let n = piece.len();
    let bits = if n > SHORT {
        return 0;
    } else if let (Some(head), Some(tail)) = (piece.first_chunk::<8>(), piece.last_chunk::<8>()) {
        let high = u128::from(u64::from_le_bytes(*tail)) << (8 * (n - 8));
        u128::from(u64::from_le_bytes(*head)) | high
    } else if let (Some(head), Some(tail)) = (piece.first_chunk::<4>(), piece.last_chunk::<4>()) {
        let high = u64::from(u32::from_le_bytes(*tail)) << (8 * (n - 4));
        u128::from(u64::from(u32::from_le_bytes(*head)) | high)
    } else {
        let byte = |i: usize| u128::from(piece[i]) << (8 * i);
        match n {
            0 => return 0,
            1 => byte(0),
            2 => byte(0) | byte(1),
            _ => byte(0) | byte(1) | byte(2),
        }
    };
    bits | (n as u128) << 120
}

fn long_slot(piece: &[u8]) -> usize {
    let mut hash = piece.len() as u64;
    for chunk in piece.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        hash ^= hash >> 29;
    }
    (hash >> 32) as usize % LONG_SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_bytes() {
        let text = b"abcdefghijklmnop";
        for n in 1..=SHORT {
            let mut bytes = [0; 16];
            bytes[..n].copy_from_slice(&text[..n]);
            bytes[15] = n as u8;
            assert_eq!(key_of(&text[..n]), u128::from_le_bytes(bytes));
        }
        assert_eq!((key_of(b""), key_of(text)), (0, 0));
        assert_ne!(key_of(b"a"), key_of(b"a\0"));
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let mut cache = Cache::default();
        for round in 0..2 {
            for n in 0..300usize {
                let piece: Vec<u8> = (0..n).map(|i| (i * 7 + n) as u8).collect();
                let ids: Vec<u32> = (0..n.min(9) as u32).collect();
                let mut out = Vec::new();
                if let Some(slot) = cache.get(&piece, &mut out) {
                    assert!(out.is_empty());
                    cache.put(slot, &piece, &ids);
                } else {
                    assert!(round == 1 && out == ids, "{n}");
                }
            }
        }
    }
}
