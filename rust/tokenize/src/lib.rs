//! From text to token ids, by the rules of Hugging Face's `tokenizers` and with the same ids.
//!
//! Exactness is a matter of what is refused. A configuration that is not covered completely is refused
//! when a [`Tokenizer`] is made. A text that leaves any doubt (it may not be in normal form, it holds an
//! added token of a difficult kind, or a character that the model does not know) is handed back for
//! `tokenizers` itself to encode. Everything else is encoded here, step by step: added tokens split the
//! text into segments, spaces are replaced or added in front, stages cut the segments into pieces, and
//! the symbols of each piece are merged, unless its ids are remembered from before.

mod added;
mod bpe;
mod cache;
mod config;
mod file;
mod matcher;
mod model;
mod pattern;
mod stages;
mod unicode;
mod unicode_data;

use added::{AddedTokens, Segment};
use model::{Model, Worker};
use radscore_core::{Pool, memory};
use rayon::prelude::*;
use stages::{Stage, cut};
use std::sync::{Mutex, PoisonError};

pub use unicode_data::TOKENIZERS_VERSION;

/// About how many bytes of text a thread takes at a time.
const PORTION: usize = 1 << 16;

/// Which texts the normalizer is sure to leave as they are.
#[derive(Clone, Copy, Default, PartialEq)]
enum Guard {
    /// All: there is no Unicode normalization.
    #[default]
    None,
    /// Those that are certainly in NFC.
    Nfc,
    /// ASCII only.
    Ascii,
}

/// What is put in front of a segment.
#[derive(Clone, Copy, Default)]
enum Prefix {
    /// Nothing.
    #[default]
    Never,
    /// This, always.
    Always(char),
    /// This, unless the segment begins with it.
    Missing(char),
    /// The same, but only at the start of a text.
    MissingFirst(char),
}

/// A tokenizer that the fast path covers: for every text that it does not refuse, the ids are those of
/// `tokenizers`. Texts that repeat themselves cost mostly look-ups; see [`cache`].
pub struct Tokenizer {
    added: AddedTokens,
    guard: Guard,
    /// Whether spaces become `▁`.
    meta: bool,
    prefix: Prefix,
    stages: Vec<Stage>,
    model: Model,
    /// Ids put before and after each text.
    around: [Vec<u32>; 2],
    /// What threads have left for the next ones.
    workers: Mutex<Vec<Worker>>,
}

/// The ids of some texts.
#[derive(Debug, Default, PartialEq)]
pub struct Encoded {
    /// The ids of all texts, one text after the other.
    pub ids: Vec<u32>,
    /// Where the ids of each text begin, and where the last ones end.
    pub offsets: Vec<i64>,
    /// Texts that the reference must encode; they have no ids here.
    pub refused: Vec<i64>,
}

impl Tokenizer {
    /// The ids of each text. The threads of the shared pool do it, a portion each.
    pub fn encode(&self, texts: &[&str]) -> Encoded {
        let mut portions = Vec::new();
        let (mut first, mut size) = (0, 0);
        for (i, text) in texts.iter().enumerate() {
            size += text.len();
            if size >= PORTION || i + 1 == texts.len() {
                memory::push(&mut portions, &texts[first..=i]);
                (first, size) = (i + 1, 0);
            }
        }
        let done: Vec<(Vec<u32>, Vec<Option<usize>>)> = Pool::shared().install(|| {
            let each = portions.par_iter().map(|portion| self.portion(portion));
            each.collect()
        });
        let mut encoded = Encoded {
            ids: memory::vec(done.iter().map(|(ids, _)| ids.len()).sum()),
            offsets: memory::vec(texts.len() + 1),
            refused: Vec::new(),
        };
        encoded.offsets.push(0);
        for (ids, lengths) in done {
            encoded.ids.extend(ids);
            for length in lengths {
                let document = encoded.offsets.len() - 1;
                if length.is_none() {
                    memory::push(&mut encoded.refused, document as i64);
                }
                let end = encoded.offsets[document] + length.unwrap_or(0) as i64;
                encoded.offsets.push(end);
            }
        }
        encoded
    }

    /// The ids of some texts, and how many each has; `None` where it is refused.
    fn portion(&self, texts: &[&str]) -> (Vec<u32>, Vec<Option<usize>>) {
        let locked = || self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = locked().pop().unwrap_or_default();
        let mut ids = memory::vec(PORTION / 3);
        let lengths = texts.iter().map(|text| {
            let before = ids.len();
            let done = self.document(text, &mut worker, &mut ids);
            if !done {
                ids.truncate(before);
            }
            done.then_some(ids.len() - before)
        });
        let lengths = memory::collect(lengths);
        locked().push(worker);
        (ids, lengths)
    }

    /// Appends the ids of one text; `false` if the reference must encode it.
    fn document(&self, text: &str, worker: &mut Worker, out: &mut Vec<u32>) -> bool {
        let sure = match self.guard {
            Guard::None => true,
            Guard::Nfc => unicode::is_surely_nfc(text),
            Guard::Ascii => text.is_ascii(),
        };
        if !sure || self.added.hard_in(text) {
            return false;
        }
        worker.unknown = false;
        memory::extend(out, &self.around[0]);
        self.added.split(text, &mut |segment| match segment {
            Segment::Token(id) => memory::push(out, id),
            Segment::Text(text, offset) => self.segment(text, offset, worker, out),
        });
        memory::extend(out, &self.around[1]);
        !worker.unknown
    }

    /// Appends the ids of a segment of a text, which begins at `offset` in it.
    fn segment(&self, text: &str, offset: usize, worker: &mut Worker, out: &mut Vec<u32>) {
        let begins_with = |c: char| text.starts_with(c) || (self.meta && text.starts_with(' '));
        let prefix = match self.prefix {
            Prefix::Always(c) => Some(c),
            Prefix::Missing(c) if !begins_with(c) => Some(c),
            Prefix::MissingFirst(c) if offset == 0 && !begins_with(c) => Some(c),
            _ => None,
        };
        if prefix.is_none() && !self.meta {
            cut(&self.stages, text, &mut |piece| {
                self.model.encode(piece, worker, out);
            });
            return;
        }
        let mut normal = std::mem::take(&mut worker.normal).into_bytes();
        normal.clear();
        // A space becomes three bytes.
        memory::reserve(&mut normal, 3 * text.len() + 4);
        let mut normal = String::from_utf8(normal).unwrap_or_default();
        normal.extend(prefix);
        if self.meta {
            for (i, word) in text.split(' ').enumerate() {
                if i > 0 {
                    normal.push('▁');
                }
                normal.push_str(word);
            }
        } else {
            normal.push_str(text);
        }
        cut(&self.stages, &normal, &mut |piece| {
            self.model.encode(piece, worker, out);
        });
        worker.normal = normal;
    }

    /// Texts with the characters at the borders of all classes: tokenizers that encode these alike have
    /// the same classes.
    pub fn probe() -> Vec<String> {
        let mut texts: Vec<String> = unicode::borders()
            .map(|c| format!("{c}a{c} {c}1{c}{c}. {c}"))
            .collect();
        texts.dedup();
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 9, "content": "<e>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false,
            "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3, "c": 4},
            "merges": [["a", "b"], ["ab", "a"]]}}"#;

    #[test]
    fn finds_added_tokens_merges_and_hands_back_what_it_does_not_know() -> Result<(), String> {
        let tokenizer = Tokenizer::new(FILE, false)?;
        for _ in 0..2 {
            let encoded = tokenizer.encode(&["abac", "ab<e>a", "abx", "", "c"]);
            assert_eq!(encoded.ids, [3, 4, 2, 9, 0, 4]);
            assert_eq!(encoded.offsets, [0, 2, 5, 5, 5, 6]);
            assert_eq!(encoded.refused, [2]);
        }
        Ok(())
    }

    #[test]
    fn dropout_is_switched_off() -> Result<(), String> {
        let dropped = FILE.replacen(r#""dropout": null"#, r#""dropout": 1.0"#, 1);
        let encoded = Tokenizer::new(&dropped, false)?.encode(&["abac"]);
        assert_eq!(encoded.ids, [3, 4]);
        Ok(())
    }

    #[test]
    fn refuses_settings_that_it_does_not_know() {
        for (old, new) in [
            (r#""truncation": null"#, r#""truncation": null, "new": 1"#),
            (r#""type": "BPE""#, r#""type": "Unigram""#),
            (r#""normalizer": null"#, r#""normalizer": {"type": "NFC"}"#),
            (r#""c": 4"#, r#""c": 3"#),
            ("{", "["),
        ] {
            assert!(
                Tokenizer::new(&FILE.replacen(old, new, 1), false).is_err(),
                "{new}"
            );
        }
    }
}
