//! What of a tokenizer.json is covered. Anything not named here is an error, so that no tokenizer is
//! mistaken for another.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;

/// The kind of the model, read before everything else.
#[derive(Deserialize)]
pub struct Glimpse {
    pub model: Kind,
}

/// The type of the model.
#[derive(Deserialize)]
pub struct Kind {
    #[serde(rename = "type")]
    pub name: String,
}

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(rename = "version")]
    _version: IgnoredAny,
    /// Both are switched off in the reference too.
    #[serde(rename = "truncation")]
    _truncation: IgnoredAny,
    #[serde(rename = "padding")]
    _padding: IgnoredAny,
    pub added_tokens: Vec<Added>,
    pub normalizer: Option<Normalizer>,
    pub pre_tokenizer: Option<PreTokenizer>,
    pub post_processor: Option<PostProcessor>,
    #[serde(rename = "decoder")]
    _decoder: IgnoredAny,
    pub model: Bpe,
}

/// An added token, and how it is looked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    pub id: u32,
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: bool,
    #[serde(rename = "special")]
    _special: bool,
}

/// How a text is changed first.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    #[serde(rename = "NFC")]
    Nfc {},
    #[serde(rename = "NFKC")]
    Nfkc {},
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: Find,
        content: String,
    },
}

/// What to look for.
#[derive(Deserialize)]
pub enum Find {
    String(String),
    Regex(String),
}

/// How a text is cut into pieces.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    ByteLevel {
        add_prefix_space: bool,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Digits {
        individual_digits: bool,
    },
    Split {
        pattern: Find,
        behavior: String,
        invert: bool,
    },
    Metaspace {
        replacement: char,
        prepend_scheme: PrependScheme,
        split: bool,
    },
}

fn yes() -> bool {
    true
}

/// When `Metaspace` puts a space in front.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PrependScheme {
    First,
    Never,
    Always,
}

/// What is added around the ids.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PostProcessor {
    Sequence {
        processors: Vec<PostProcessor>,
    },
    ByteLevel {
        #[serde(rename = "add_prefix_space")]
        _add_prefix_space: bool,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(rename = "use_regex", default = "yes")]
        _use_regex: bool,
    },
    TemplateProcessing {
        single: Vec<Piece>,
        #[serde(rename = "pair")]
        _pair: IgnoredAny,
        special_tokens: HashMap<String, Special>,
    },
}

/// An item of a template.
#[derive(Deserialize)]
pub enum Piece {
    SpecialToken { id: String },
    Sequence { id: String },
}

/// The ids of a special token.
#[derive(Deserialize)]
pub struct Special {
    pub ids: Vec<u32>,
}

/// The model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bpe {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    /// For training; switched off in the reference too.
    #[serde(rename = "dropout")]
    _dropout: IgnoredAny,
    #[serde(rename = "unk_token")]
    _unk_token: IgnoredAny,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    #[serde(rename = "fuse_unk")]
    _fuse_unk: IgnoredAny,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    pub vocab: HashMap<String, u32, hashbrown::DefaultHashBuilder>,
    pub merges: Vec<(String, String)>,
}
