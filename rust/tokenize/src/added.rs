//! Added tokens: strings that are found in a text before anything else happens to it.

use aho_corasick::{AhoCorasick, MatchKind};

/// The strings of one pass, and the id of each.
struct Finder {
    search: AhoCorasick,
    ids: Vec<u32>,
}

/// The added tokens of a tokenizer. A text costs one walk through an automaton per pass.
#[derive(Default)]
pub struct AddedTokens {
    /// Each looks in what the one before has left between its finds.
    passes: Vec<Finder>,
    /// Strings whose presence leaves a text to the reference.
    hard: Option<AhoCorasick>,
}

impl AddedTokens {
    /// From the tokens of each pass, and the strings that are not covered.
    pub fn new(passes: [Vec<(String, u32)>; 2], hard: &[String]) -> Result<Self, String> {
        let build = |strings: &[&str], kind| {
            let built = AhoCorasick::builder().match_kind(kind).build(strings);
            built.map_err(|error| format!("its added tokens: {error}"))
        };
        let mut finders = Vec::new();
        for tokens in passes {
            if !tokens.is_empty() {
                let strings: Vec<&str> = tokens.iter().map(|(string, _)| &**string).collect();
                finders.push(Finder {
                    search: build(&strings, MatchKind::LeftmostLongest)?,
                    ids: tokens.iter().map(|&(_, id)| id).collect(),
                });
            }
        }
        let strings: Vec<&str> = hard.iter().map(|string| &**string).collect();
        let hard = match &strings[..] {
            [] => None,
            strings => Some(build(strings, MatchKind::Standard)?),
        };
        Ok(Self {
            passes: finders,
            hard,
        })
    }

    /// Whether a text holds an added token that is not covered.
    pub fn hard_in(&self, text: &str) -> bool {
        self.hard.as_ref().is_some_and(|hard| hard.is_match(text))
    }

    /// Gives the segments of a text to `sink`, in order.
    pub fn split(&self, text: &str, sink: &mut dyn FnMut(Segment<'_>)) {
        split(&self.passes, text, 0, sink);
    }
}

/// A segment of a text. None is empty.
pub enum Segment<'a> {
    /// Text without added tokens, and where in the whole it begins.
    Text(&'a str, usize),
    /// An added token.
    Token(u32),
}

fn split(passes: &[Finder], text: &str, offset: usize, sink: &mut dyn FnMut(Segment<'_>)) {
    let Some((pass, later)) = passes.split_first() else {
        if !text.is_empty() {
            sink(Segment::Text(text, offset));
        }
        return;
    };
    let mut start = 0;
    for found in pass.search.find_iter(text) {
        split(later, &text[start..found.start()], offset + start, sink);
        sink(Segment::Token(pass.ids[found.pattern().as_usize()]));
        start = found.end();
    }
    split(later, &text[start..], offset + start, sink);
}
