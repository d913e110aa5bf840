//! From text to token ids, by the rules of Hugging Face's `tokenizers` and with the same ids.
//!
//! Exactness is a matter of what is refused. A configuration that is not wholly covered is refused
//! when a [`Tokenizer`] is made. A text that one cannot be sure of (it may not be in normal form,
//! it holds an added token of a difficult kind, or a character that the model does not know) is
//! handed back, for `tokenizers` itself to encode. All else is encoded here, in these steps: added
//! tokens are found, spaces replaced or put before, the text is cut by stages into pieces, and
//! each piece's symbols are merged, or its ids remembered from before.

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

use added::{AddedTokens, Part};
use model::{Model, Worker};
use radscore_core::threads::Pool;
use rayon::prelude::*;
use stages::{Stage, cut};
use std::sync::{Mutex, PoisonError};

pub use unicode_data::TOKENIZERS_VERSION;

/// About how many bytes of text a thread takes at once.
const PORTION: usize = 1 << 16;

/// Which texts are sure to be left as they are by the normalizer.
#[derive(Clone, Copy, Default, PartialEq)]
enum Guard {
    #[default]
    None,
    Nfc,
    Ascii,
}

/// What is put before a text.
#[derive(Clone, Copy, Default)]
enum Prefix {
    #[default]
    Never,
    Always(char),
    /// Unless the text begins with it.
    Missing(char),
    /// The same, at the start of a document only.
    MissingFirst(char),
}

/// A tokenizer that the fast path covers.
pub struct Tokenizer {
    added: AddedTokens,
    guard: Guard,
    /// Whether spaces become `▁`.
    meta: bool,
    prefix: Prefix,
    stages: Vec<Stage>,
    model: Model,
    /// Ids before and after each text.
    around: [Vec<u32>; 2],
    /// What threads that are done have left for the next ones.
    workers: Mutex<Vec<Worker>>,
}

/// The ids of some texts.
#[derive(Debug, Default, PartialEq)]
pub struct Encoded {
    /// The ids of all texts, one after the other.
    pub ids: Vec<u32>,
    /// Where each text's ids begin, and where the last one's end.
    pub offsets: Vec<i64>,
    /// Texts that are for the reference to encode; they have no ids here.
    pub refused: Vec<i64>,
}

impl Tokenizer {
    /// The ids of each text; the threads of the shared pool share the work.
    pub fn encode(&self, texts: &[&str]) -> Encoded {
        let mut portions = Vec::new();
        let (mut first, mut size) = (0, 0);
        for (i, text) in texts.iter().enumerate() {
            size += text.len();
            if size >= PORTION || i + 1 == texts.len() {
                portions.push(&texts[first..=i]);
                (first, size) = (i + 1, 0);
            }
        }
        let parts: Vec<(Vec<u32>, Vec<Option<usize>>)> = Pool::shared().install(|| {
            let each = portions.par_iter().map(|portion| self.portion(portion));
            each.collect()
        });
        let mut encoded = Encoded {
            ids: Vec::with_capacity(parts.iter().map(|(ids, _)| ids.len()).sum()),
            offsets: vec![0],
            refused: Vec::new(),
        };
        for (ids, lengths) in parts {
            encoded.ids.extend(ids);
            for length in lengths {
                let document = encoded.offsets.len() - 1;
                if length.is_none() {
                    encoded.refused.push(document as i64);
                }
                let end = encoded.offsets[document] + length.unwrap_or(0) as i64;
                encoded.offsets.push(end);
            }
        }
        encoded
    }

    fn portion(&self, texts: &[&str]) -> (Vec<u32>, Vec<Option<usize>>) {
        let locked = || self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = locked().pop().unwrap_or_default();
        let mut ids = Vec::with_capacity(PORTION / 3);
        let lengths = texts.iter().map(|text| {
            let before = ids.len();
            let done = self.document(text, &mut worker, &mut ids);
            if !done {
                ids.truncate(before);
            }
            done.then_some(ids.len() - before)
        });
        let lengths = lengths.collect();
        locked().push(worker);
        (ids, lengths)
    }

    /// Appends the ids of one text; `false` where it is one for the reference.
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
        out.extend(&self.around[0]);
        self.added.split(text, &mut |part| match part {
            Part::Token(id) => out.push(id),
            Part::Text(text, offset) => self.segment(text, offset, worker, out),
        });
        out.extend(&self.around[1]);
        !worker.unknown
    }

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
        let mut normal = std::mem::take(&mut worker.normal);
        normal.clear();
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

    /// Texts that hold the borders of all classes of characters: who encodes these alike has the
    /// same classes.
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
