//! The two kinds of byte-pair models: over bytes, and over characters, with bytes for those that the
//! vocabulary lacks.

use super::bpe::{Merges, Scratch};
use super::cache::Cache;
use super::matcher::decode;
use hashbrown::{HashMap, HashSet};
use radscore_core::memory;

/// Turns pieces of text into ids.
pub struct Model {
    /// What the pieces are made of.
    pub alphabet: Alphabet,
    /// How symbols merge.
    pub merges: Merges,
    /// Pieces that are one token whatever the merges say.
    pub whole: HashMap<Box<[u8]>, u32>,
}

/// The symbols that merging starts from.
pub enum Alphabet {
    /// Every byte is a symbol; [`LACKING`] if the vocabulary has none for it.
    Bytes(Box<[u32; 256]>),
    /// Every character of the vocabulary is a symbol.
    Characters(Characters),
}

/// The symbols of characters.
pub struct Characters {
    /// The id of each character, [`LACKING`] if the vocabulary lacks it: of all below 65,536 ...
    low: Vec<u32>,
    /// ... and of the others.
    high: HashMap<u32, u32>,
    /// The ids of the bytes that stand for a missing character.
    bytes: Option<Box<[u32; 256]>>,
    /// Which characters stand side by side in some token, one bit for each hash: no merge joins others,
    /// so that text can be cut between those. A false positive only makes a piece longer.
    neighbours: Vec<u64>,
}

/// The memory of one thread.
#[derive(Default)]
pub struct Worker {
    cache: Cache,
    scratch: Scratch,
    /// A segment as the model reads it: prefix added, spaces replaced.
    pub normal: String,
    /// Whether the current text has a character that the model does not know.
    pub unknown: bool,
}

/// Stands for an id that the vocabulary lacks.
pub const LACKING: u32 = u32::MAX;

/// Characters that stand side by side in a token, by hash.
#[derive(Default)]
pub struct Neighbours(HashSet<u64>);

impl Neighbours {
    /// Adds those in a token that a merge makes.
    pub fn add(&mut self, token: &str) {
        let pairs = token.chars().zip(token.chars().skip(1));
        self.0.extend(pairs.map(|(a, b)| hash(a.into(), b.into())));
    }
}

impl Characters {
    /// From the ids of characters and bytes, and the neighbours in all tokens that merges make.
    pub fn new(
        ids: &HashMap<char, u32>,
        bytes: Option<Box<[u32; 256]>>,
        joined: &Neighbours,
    ) -> Self {
        let mut low = vec![LACKING; 1 << 16];
        let mut high = HashMap::new();
        for (&c, &id) in ids {
            match low.get_mut(c as usize) {
                Some(slot) => *slot = id,
                None => drop(high.insert(c.into(), id)),
            }
        }
        let mut neighbours = vec![0; (joined.0.len() / 4).next_power_of_two().max(64)];
        for &pair in &joined.0 {
            let (word, bit) = bit_of(&neighbours, pair);
            neighbours[word] |= bit;
        }
        Self {
            low,
            high,
            bytes,
            neighbours,
        }
    }

    fn id(&self, c: u32) -> u32 {
        match self.low.get(c as usize) {
            Some(&id) => id,
            None => self.high.get(&c).copied().unwrap_or(LACKING),
        }
    }

    /// Whether a merge may join two neighbours.
    #[inline]
    fn may_join(&self, left: u32, right: u32) -> bool {
        let (word, bit) = bit_of(&self.neighbours, hash(left, right));
        self.neighbours[word] & bit != 0
    }
}

#[inline]
fn hash(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The word and bit of a hash in a table whose length is a power of two.
#[inline]
fn bit_of(table: &[u64], hash: u64) -> (usize, u64) {
    ((hash >> 38) as usize & (table.len() - 1), 1 << (hash >> 58))
}

impl Model {
    /// Appends the ids of a piece.
    #[inline]
    pub fn encode(&self, piece: &str, worker: &mut Worker, out: &mut Vec<u32>) {
        match &self.alphabet {
            Alphabet::Bytes(_) => self.merged(piece.as_bytes(), worker, out),
            Alphabet::Characters(characters) => {
                self.encode_characters(characters, piece, worker, out);
            }
        }
    }

    /// Cuts the piece wherever no merge can join, and merges each run.
    fn encode_characters(
        &self,
        characters: &Characters,
        piece: &str,
        worker: &mut Worker,
        out: &mut Vec<u32>,
    ) {
        let text = piece.as_bytes();
        let (mut start, mut at, mut left) = (0, 0, None);
        while let Some(&lead) = text.get(at) {
            let (c, length) = if lead < 0x80 {
                (u32::from(lead), 1)
            } else {
                decode(text, at, lead)
            };
            if left.is_some_and(|left| !characters.may_join(left, c)) {
                self.merged(&text[start..at], worker, out);
                start = at;
            }
            left = Some(c);
            at += length;
        }
        if start < at {
            self.merged(&text[start..], worker, out);
        }
    }

    /// Appends the ids of a run, from the cache or by merging.
    #[inline]
    fn merged(&self, run: &[u8], worker: &mut Worker, out: &mut Vec<u32>) {
        memory::reserve(out, run.len()); // an id has a byte or more
        let Some(slot) = worker.cache.get(run, out) else {
            return;
        };
        let first = out.len();
        if let Some(&id) = self.whole.get(run) {
            out.push(id);
        } else {
            self.symbols(run, worker);
            worker.scratch.merge(&self.merges);
            out.extend_from_slice(&worker.scratch.symbols);
        }
        if !worker.unknown {
            worker.cache.put(slot, run, &out[first..]);
        }
    }

    /// Replaces the symbols of the scratch by those of a run.
    fn symbols(&self, run: &[u8], worker: &mut Worker) {
        let symbols = &mut worker.scratch.symbols;
        symbols.clear();
        memory::reserve(symbols, run.len());
        match &self.alphabet {
            Alphabet::Bytes(ids) => {
                symbols.extend(run.iter().map(|&byte| ids[usize::from(byte)]));
                worker.unknown |= symbols.contains(&LACKING);
            }
            Alphabet::Characters(characters) => {
                let mut at = 0;
                while let Some(&lead) = run.get(at) {
                    let (c, length) = if lead < 0x80 {
                        (u32::from(lead), 1)
                    } else {
                        decode(run, at, lead)
                    };
                    match (characters.id(c), &characters.bytes) {
                        (LACKING, Some(ids)) => {
                            let bytes = run[at..at + length].iter();
                            symbols.extend(bytes.map(|&byte| ids[usize::from(byte)]));
                        }
                        (LACKING, None) => worker.unknown = true,
                        (id, _) => symbols.push(id),
                    }
                    at += length;
                }
            }
        }
    }
}
