//! Finds the matches of a [`Pattern`] by backtracking, as the engine of `tokenizers` does.
//!
//! One look-up gives the classes of a code point as a word of bits, so that each character of a span
//! costs a look-up and a test, and a branch that cannot begin here is passed over by one test.

use super::pattern::{Node, Pattern};
use super::unicode::{self, PerCodePoint};

/// A pattern ready to be matched. Making one walks all code points; it is done once per tokenizer.
pub struct Matcher {
    /// The classes of each code point.
    classes: PerCodePoint<u32>,
    /// The same for ASCII, in one short array.
    ascii: [u32; 128],
    branches: Vec<Branch>,
}

/// One alternative of the pattern.
struct Branch {
    /// The classes of which the first character must be in one; all bits if it is not that simple.
    first: u32,
    nodes: Vec<Node>,
}

/// What remains to be matched after a sequence of nodes.
struct Rest<'a> {
    nodes: &'a [Node],
    then: Option<&'a Rest<'a>>,
}

impl Matcher {
    /// Prepares a pattern.
    pub fn new(pattern: Pattern) -> Self {
        let Pattern { classes, branches } = pattern;
        let mut by_kind = [0; 32];
        let mut ranges = Vec::new();
        for (i, class) in classes.iter().enumerate() {
            for (kind, bits) in (0..).zip(&mut by_kind) {
                *bits |= u32::from(class.has_kind(kind)) << i;
            }
            let (named, inside) = class.ranges();
            ranges.extend(named.iter().map(|&range| (range, i, inside)));
        }
        let last = ranges.iter().map(|&((_, high), ..)| high).max();
        let table = PerCodePoint::new(|code_point| {
            let mut bits = by_kind[usize::from(unicode::kind(code_point))];
            if last >= Some(code_point) {
                for &((low, high), i, inside) in &ranges {
                    if low <= code_point && code_point <= high {
                        bits = bits & !(1 << i) | u32::from(inside) << i;
                    }
                }
            }
            bits
        });
        let mut ascii = [0; 128];
        for (code_point, bits) in (0..).zip(&mut ascii) {
            *bits = table.get(code_point);
        }
        let branches = branches.into_iter().map(|nodes| Branch {
            first: first_of(&nodes),
            nodes,
        });
        Self {
            classes: table,
            ascii,
            branches: branches.collect(),
        }
    }

    /// The end of the match that begins at `start`, if there is one.
    #[inline]
    pub fn match_at(&self, text: &str, start: usize) -> Option<usize> {
        let (bits, _) = self.bits_at(text.as_bytes(), start)?;
        self.branches
            .iter()
            .filter(|branch| branch.first & bits != 0)
            .find_map(|branch| self.go(text.as_bytes(), start, &branch.nodes, None))
    }

    /// The classes of the character at `at`, and its length in bytes.
    #[inline]
    fn bits_at(&self, text: &[u8], at: usize) -> Option<(u32, usize)> {
        let &lead = text.get(at)?;
        if lead < 0x80 {
            return Some((self.ascii[usize::from(lead)], 1));
        }
        let (code_point, length) = decode(text, at, lead);
        Some((self.classes.get(code_point), length))
    }

    /// The end of a match of `nodes`, then of `then`, that begins at `at`: the first in the order of
    /// preference of the expression.
    fn go(&self, text: &[u8], at: usize, nodes: &[Node], then: Option<&Rest<'_>>) -> Option<usize> {
        let Some((node, nodes)) = nodes.split_first() else {
            return match then {
                None => Some(at),
                Some(rest) => self.go(text, at, rest.nodes, rest.then),
            };
        };
        match *node {
            Node::Span {
                class,
                min,
                max,
                possessive,
            } => {
                let (mut end, mut count) = self.span(text, at, class, max);
                if count < min {
                    return None;
                }
                if nodes.is_empty() && then.is_none() {
                    return Some(end);
                }
                loop {
                    let found = self.go(text, end, nodes, then);
                    if found.is_some() || possessive || count == min {
                        return found;
                    }
                    count -= 1;
                    end -= 1;
                    while text[end] & 0xc0 == 0x80 {
                        end -= 1;
                    }
                }
            }
            Node::Either {
                ref branches,
                optional,
            } => {
                let rest = Rest { nodes, then };
                let found = branches
                    .iter()
                    .find_map(|branch| self.go(text, at, branch, Some(&rest)));
                match found {
                    None if optional => self.go(text, at, nodes, then),
                    found => found,
                }
            }
            Node::Look { class, negative } => {
                let there =
                    matches!(self.bits_at(text, at), Some((bits, _)) if bits >> class & 1 == 1);
                (there != negative)
                    .then(|| self.go(text, at, nodes, then))
                    .flatten()
            }
        }
    }

    /// The end of the longest run of a class from `at` on, of at most `max` characters, and its length
    /// in characters.
    #[inline]
    fn span(&self, text: &[u8], mut at: usize, class: u8, max: u32) -> (usize, u32) {
        let mut count = 0;
        while count < max {
            match self.bits_at(text, at) {
                Some((bits, length)) if bits >> class & 1 == 1 => at += length,
                _ => break,
            }
            count += 1;
        }
        (at, count)
    }
}

/// The character of valid UTF-8 that begins at `at` with the byte `lead`, which is not ASCII.
#[inline]
pub fn decode(text: &[u8], at: usize, lead: u8) -> (u32, usize) {
    let tail = |i: usize| text.get(at + i).map_or(0, |&byte| u32::from(byte & 0x3f));
    let lead = u32::from(lead);
    if lead < 0xe0 {
        ((lead & 0x1f) << 6 | tail(1), 2)
    } else if lead < 0xf0 {
        ((lead & 0x0f) << 12 | tail(1) << 6 | tail(2), 3)
    } else {
        let high = (lead & 0x07) << 18 | tail(1) << 12;
        (high | tail(2) << 6 | tail(3), 4)
    }
}

/// The classes that a match of `nodes` can begin with, as bits.
fn first_of(nodes: &[Node]) -> u32 {
    let mut first = 0;
    for node in nodes {
        match node {
            Node::Span { class, min, .. } => {
                first |= 1 << class;
                if *min > 0 {
                    return first;
                }
            }
            Node::Either { branches, optional } => {
                let each = branches.iter().map(|branch| first_of(branch));
                first |= each.fold(0, |a, b| a | b);
                if !optional {
                    return first;
                }
            }
            Node::Look { .. } => return u32::MAX,
        }
    }
    // Nothing here is required: what follows decides.
    u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'a>(expression: &str, text: &'a str) -> Result<Vec<&'a str>, String> {
        let matcher = Matcher::new(Pattern::parse(expression)?);
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            match matcher.match_at(text, at) {
                Some(end) => {
                    found.push(&text[at..end]);
                    at = end;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        Ok(found)
    }

    #[test]
    fn backtracks() -> Result<(), String> {
        assert_eq!(pieces(r"\s+(?!\S)|\s+", "a   b ")?, ["  ", " ", " "]);
        assert_eq!(pieces(r"a++a|b", "aaab")?, ["b"]);
        assert_eq!(pieces(r"a+a|b", "aaab")?, ["aaa", "b"]);
        assert_eq!(pieces(r"\p{N}{1,3}", "1234567")?, ["123", "456", "7"]);
        assert_eq!(pieces(r"é*(?:éx|y)?z", "éééxz ééyz")?, ["éééxz", "ééyz"]);
        assert_eq!(
            pieces(r"(?i:'s|'re)|\p{L}+(?=\p{L})", "'S'ſ'Reabc")?,
            ["'S", "'ſ", "'Re", "ab"]
        );
        Ok(())
    }
}
