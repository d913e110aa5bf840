//! The classes of code points, as `tokenizers` has them.

use super::unicode_data::RUNS;
use hashbrown::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;

/// The general categories, in the order of their numbers in the table.
pub const CATEGORIES: [&str; 30] = [
    "Lu",
    "Ll",
    "Lt",
    "Lm",
    "Lo",
    "Mn",
    "Mc",
    "Me",
    "Nd",
    "Nl",
    "No",
    "Pc",
    "Pd",
    "Ps",
    "Pe",
    "Pi",
    "Pf",
    "Po",
    "Sm",
    "Sc",
    "Sk",
    "So",
    "Zs",
    "Zl",
    "Zp",
    "Cc",
    "Cf",
    "Cn",
    "Co",
    "space control",
];
/// The number of the control characters that are white space, a class of its own.
const SPACE_CONTROL: usize = 29;
const KIND: u8 = 0x1f;
const NUMERIC: u8 = 1 << 5;
const REORDERS: u8 = 1 << 6;
const UNSTABLE: u8 = 1 << 7;

const BLOCK: usize = 128;
const N_BLOCKS: usize = 0x11_0000 / BLOCK;

/// A value for every code point: a look-up of the block, then one within it. Equal blocks are stored
/// once.
pub struct PerCodePoint<T> {
    block_of: Vec<u16>,
    values: Vec<T>,
}

impl<T: Copy + Eq + Hash> PerCodePoint<T> {
    /// The table of what `value` says of each code point.
    pub fn new(mut value: impl FnMut(u32) -> T) -> Self {
        let mut block_of = Vec::with_capacity(N_BLOCKS);
        let mut values: Vec<T> = Vec::new();
        let mut known: HashMap<Vec<T>, u16> = HashMap::new();
        for block in 0..N_BLOCKS {
            let first = (block * BLOCK) as u32;
            let new: Vec<T> = (first..first + BLOCK as u32).map(&mut value).collect();
            let at = known.get(&new).copied().unwrap_or_else(|| {
                let at = (values.len() / BLOCK) as u16;
                values.extend(&new);
                known.insert(new, at);
                at
            });
            block_of.push(at);
        }
        Self { block_of, values }
    }

    /// The value of a code point.
    #[inline]
    pub fn get(&self, code_point: u32) -> T {
        let block = usize::from(self.block_of[code_point as usize / BLOCK]);
        self.values[block * BLOCK + code_point as usize % BLOCK]
    }
}

fn table() -> &'static PerCodePoint<u8> {
    static TABLE: OnceLock<PerCodePoint<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut run = 0;
        PerCodePoint::new(|code_point| {
            while RUNS.get(run + 1).is_some_and(|next| next.0 <= code_point) {
                run += 1;
            }
            RUNS[run].1
        })
    })
}

/// The number of a code point's general category; control characters that are white space have one of
/// their own.
pub fn kind(code_point: u32) -> u8 {
    table().get(code_point) & KIND
}

/// The categories that `\p{name}` stands for, as a set of bits.
pub fn property(name: &str) -> Option<u32> {
    let mut bits = 0;
    for (i, category) in CATEGORIES[..SPACE_CONTROL].iter().enumerate() {
        if *category == name || (name.len() == 1 && category.starts_with(name)) {
            bits |= 1 << i;
        }
    }
    if bits & category_bit("Cc") != 0 {
        bits |= 1 << SPACE_CONTROL;
    }
    (bits != 0).then_some(bits)
}

/// The categories of white space (`\s`).
pub fn white_space() -> u32 {
    category_bit("Zs") | category_bit("Zl") | category_bit("Zp") | 1 << SPACE_CONTROL
}

fn category_bit(name: &str) -> u32 {
    CATEGORIES
        .iter()
        .position(|category| *category == name)
        .map_or(0, |i| 1 << i)
}

/// Whether the pre-tokenizer `Digits` takes a character to be a number.
pub fn is_numeric(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    table().get(u32::from(c)) & NUMERIC != 0
}

/// Whether NFC certainly leaves a text as it is; `false` says nothing.
pub fn is_surely_nfc(text: &str) -> bool {
    if text.is_ascii() {
        return true;
    }
    let table = table();
    let mut after_mark = false;
    for c in text.chars() {
        let flags = table.get(u32::from(c));
        // Marks may be sorted where two with a combining class meet.
        let mark = flags & REORDERS != 0;
        if flags & UNSTABLE != 0 || (mark && after_mark) {
            return false;
        }
        after_mark = mark;
    }
    true
}

/// The code points on either side of every border between classes.
pub fn borders() -> impl Iterator<Item = char> {
    RUNS.iter()
        .flat_map(|&(start, _)| [start.wrapping_sub(1), start])
        .filter_map(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_runs_it_is_made_of() {
        for (i, &(start, kind)) in RUNS.iter().enumerate() {
            let end = RUNS.get(i + 1).map_or(0x11_0000, |next| next.0);
            assert_eq!(table().get(start), kind);
            assert_eq!(table().get(end - 1), kind);
        }
    }

    #[test]
    fn knows_a_few_characters() {
        let is = |c: char, name: &str| {
            property(name).is_some_and(|bits| bits >> kind(c.into()) & 1 == 1)
        };
        assert!(is('a', "L") && is('a', "Ll") && !is('a', "Lu"));
        assert!(
            is('\n', "Cc") && is('\n', "C") && is('語', "Lo") && is('٣', "Nd") && is('€', "Sc")
        );
        assert!(property("Han").is_none() && property("").is_none());
        assert!(is_numeric('½') && !is_numeric('a'));
        assert!(white_space() >> kind(0x3000) & 1 == 1 && white_space() >> kind(0x200b) & 1 == 0);
        assert!(is_surely_nfc(
            "\u{e9} \u{8a9e}\u{d55c} \u{938}\u{94d}\u{924}"
        ));
        for text in [
            "e\u{301}",
            "\u{212b}",
            "\u{1112}\u{1161}",
            "a\u{334}\u{345}",
        ] {
            assert!(!is_surely_nfc(text), "{text}");
        }
    }
}
