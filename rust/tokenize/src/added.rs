//! Added tokens: strings that are found in the text before anything else is done with it.

use aho_corasick::{AhoCorasick, MatchKind};

/// What one pass looks for, and what each find is.
struct Finder {
    search: AhoCorasick,
    ids: Vec<u32>,
}

/// The added tokens of a tokenizer.
#[derive(Default)]
pub struct AddedTokens {
    /// Looked for in the text, then in what is left between the finds.
    passes: Vec<Finder>,
    /// Strings whose occurrence makes a text one for the reference.
    hard: Option<AhoCorasick>,
}

impl AddedTokens {
    /// Tokens of each pass, and strings that are not covered.
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

    /// Whether a text has an added token that is not covered.
    pub fn hard_in(&self, text: &str) -> bool {
        self.hard.as_ref().is_some_and(|hard| hard.is_match(text))
    }

    /// Gives what stands between the tokens, with its place, and the tokens' ids to `sink`.
    pub fn split(&self, text: &str, sink: &mut dyn FnMut(Part<'_>)) {
        split(&self.passes, text, 0, sink);
    }
}

/// A part of a text.
pub enum Part<'a> {
    /// Text without added tokens, and where in the document it begins.
    Text(&'a str, usize),
    /// An added token.
    Token(u32),
}

fn split(passes: &[Finder], text: &str, offset: usize, sink: &mut dyn FnMut(Part<'_>)) {
    let Some((pass, later)) = passes.split_first() else {
        if !text.is_empty() {
            sink(Part::Text(text, offset));
        }
        return;
    };
    let mut start = 0;
    for found in pass.search.find_iter(text) {
        split(later, &text[start..found.start()], offset + start, sink);
        sink(Part::Token(pass.ids[found.pattern().as_usize()]));
        start = found.end();
    }
    split(later, &text[start..], offset + start, sink);
}
