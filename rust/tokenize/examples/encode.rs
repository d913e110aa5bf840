//! Some megabytes of made-up text through a small byte-level tokenizer, on fixed data, to count its
//! instructions: `RAYON_NUM_THREADS=1 valgrind --tool=callgrind target/release/examples/encode`.
//! Prints a checksum of the ids, which a change of layout or of speed must leave as it is.
use radscore_tokenize::Tokenizer;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of text.
const SIZE: usize = 4 << 20;

struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn word(&mut self) -> String {
        let letters = b"etaoinshrdlucmfwygpbvk";
        let length = 2 + self.below(8);
        (0..length)
            .map(|_| {
                let near = 1 + self.below(letters.len());
                char::from(letters[self.below(near)])
            })
            .collect()
    }
}

/// A tokenizer.json whose merges build the words from their beginnings, each after a space (`Ġ`).
fn file(words: &[String]) -> String {
    let mut tokens: BTreeMap<String, usize> = BTreeMap::new();
    let mut merges: Vec<[String; 2]> = Vec::new();
    let mut add = |token: &str| {
        let id = tokens.len();
        let new = !tokens.contains_key(token);
        tokens.entry(token.to_owned()).or_insert(id);
        new
    };
    for c in ('!'..='~').chain(['Ġ', 'Ċ']) {
        add(&c.to_string());
    }
    let longest = words.iter().map(String::len).max().unwrap_or_default();
    for length in 1..=longest {
        let starts: BTreeSet<&str> = words.iter().filter_map(|word| word.get(..length)).collect();
        for start in starts {
            let (before, last) = start.split_at(length - 1);
            if add(&format!("Ġ{start}")) {
                merges.push([format!("Ġ{before}"), last.to_owned()]);
            }
        }
    }
    let vocab = serde_json::to_string(&tokens).unwrap_or_default();
    let merges = serde_json::to_string(&merges).unwrap_or_default();
    format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": true}}, "post_processor": null, "decoder": null,
        "model": {{"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
        "byte_fallback": false, "ignore_merges": false, "vocab": {vocab}, "merges": {merges}}}}}"#
    )
}

fn main() -> Result<(), String> {
    let mut random = Lcg(1);
    let words: Vec<String> = (0..2000).map(|_| random.word()).collect();
    let tokenizer = Tokenizer::new(&file(&words), false)?;
    let mut texts: Vec<String> = Vec::new();
    let mut size = 0;
    while size < SIZE {
        let mut text = String::new();
        for _ in 0..200 + random.below(800) {
            match random.below(20) {
                0 => text += &format!(" {}", random.word()),
                1 => text += &format!(" {}", random.below(10_000)),
                2 => text += ".\n",
                _ => {
                    let near = 1 + random.below(words.len());
                    text += &format!(" {}", words[random.below(near)]);
                }
            }
        }
        size += text.len();
        texts.push(text);
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let encoded = tokenizer.encode(&texts);
    let (ids, refused) = (encoded.ids.len(), encoded.refused.len());
    let sum = encoded.ids.iter().fold(0u64, |sum, &id| {
        sum.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(id)
    });
    println!(
        "encode {sum:016x}: {ids} ids, {refused} of {} texts refused",
        texts.len()
    );
    Ok(())
}
