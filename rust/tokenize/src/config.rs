//! From a tokenizer.json to a [`Tokenizer`], or the reason why the fast path does not cover it.

use super::added::AddedTokens;
use super::bpe::Merges;
use super::file::{
    Added, Bpe, File, Find, Glimpse, Normalizer, Piece, PostProcessor, PreTokenizer, PrependScheme,
};
use super::matcher::Matcher;
use super::model::{Alphabet, Characters, LACKING, Model, Neighbours};
use super::pattern::Pattern;
use super::stages::Stage;
use super::unicode::is_surely_nfc;
use super::{Guard, Prefix, Tokenizer};
use hashbrown::{HashMap, HashSet};

/// The expression of the pre-tokenizer `ByteLevel`.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const META: char = '▁';

/// What normalizer and pre-tokenizer amount to.
#[derive(Default)]
struct Steps {
    guard: Guard,
    /// Whether spaces become `▁`.
    meta: bool,
    prefix: Prefix,
    stages: Vec<Stage>,
    byte_level: bool,
    /// Whether the normalizer changes the text that normalized added tokens are looked for in.
    changed: bool,
}

impl Tokenizer {
    /// From the text of a tokenizer.json.
    ///
    /// # Errors
    /// What in it is not covered.
    pub fn new(json: &str, add_special_tokens: bool) -> Result<Self, String> {
        let glimpse: Glimpse = serde_json::from_str(json).map_err(unread)?;
        if glimpse.model.name != "BPE" {
            return Err(format!("a model of type {}", glimpse.model.name));
        }
        let file: File = serde_json::from_str(json).map_err(unread)?;
        let mut steps = Steps::default();
        if let Some(normalizer) = &file.normalizer {
            steps.normalizer(normalizer)?;
        }
        if let Some(pre_tokenizer) = &file.pre_tokenizer {
            steps.pre_tokenizer(pre_tokenizer)?;
        }
        if steps.byte_level && (steps.meta || matches!(steps.prefix, Prefix::Always(_))) {
            return Err("a byte-level pre-tokenizer after a change of the text".into());
        }
        if !steps.byte_level && steps.guard != Guard::None {
            return Err("Unicode normalization before a model of characters".into());
        }
        let around = match &file.post_processor {
            Some(processor) => around(processor)?,
            None => [Vec::new(), Vec::new()],
        };
        Ok(Self {
            added: added(&file.added_tokens, &steps)?,
            model: model(file.model, steps.byte_level)?,
            guard: steps.guard,
            meta: steps.meta,
            prefix: steps.prefix,
            stages: steps.stages,
            around: if add_special_tokens {
                around
            } else {
                Default::default()
            },
            workers: Default::default(),
        })
    }
}

/// What in the file is not covered, in the words of the parser.
fn unread(error: serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(", expected").next().unwrap_or(&text);
    text.split(" at line").next().unwrap_or(text).to_owned()
}

impl Steps {
    fn normalizer(&mut self, normalizer: &Normalizer) -> Result<(), String> {
        match normalizer {
            Normalizer::Sequence { normalizers } => normalizers
                .iter()
                .try_for_each(|each| self.normalizer(each)),
            // A second normalization may change what the first leaves as it is.
            Normalizer::Nfc {} if self.guard == Guard::None && !self.meta => {
                self.guard = Guard::Nfc;
                Ok(())
            }
            Normalizer::Nfkc {} if !self.meta => {
                self.guard = Guard::Ascii;
                Ok(())
            }
            Normalizer::Prepend { prepend }
                if *prepend == META.to_string() && matches!(self.prefix, Prefix::Never) =>
            {
                self.prefix = Prefix::Always(META);
                self.changed = true;
                Ok(())
            }
            Normalizer::Replace {
                pattern: Find::String(found),
                content,
            } if found == " " && *content == META.to_string() => {
                self.meta = true;
                self.changed = true;
                Ok(())
            }
            _ => Err("its normalizer".into()),
        }
    }

    fn pre_tokenizer(&mut self, pre_tokenizer: &PreTokenizer) -> Result<(), String> {
        if self.byte_level {
            return Err("a pre-tokenizer after a byte-level one".into());
        }
        match pre_tokenizer {
            PreTokenizer::Sequence { pretokenizers } => {
                return pretokenizers
                    .iter()
                    .try_for_each(|each| self.pre_tokenizer(each));
            }
            PreTokenizer::ByteLevel {
                add_prefix_space,
                use_regex,
                ..
            } => {
                if *add_prefix_space {
                    if !self.stages.is_empty() {
                        return Err("a space put before pieces".into());
                    }
                    self.prefix = match self.prefix {
                        Prefix::Never => Prefix::Missing(' '),
                        _ => return Err("a space put before text".into()),
                    };
                }
                if *use_regex {
                    self.stages.push(pattern(GPT2)?);
                }
                self.byte_level = true;
            }
            PreTokenizer::Digits { individual_digits } => self.stages.push(Stage::Digits {
                individual: *individual_digits,
            }),
            PreTokenizer::Split {
                pattern: Find::Regex(expression),
                behavior,
                invert: false,
            } if behavior == "Isolated" => self.stages.push(pattern(expression)?),
            // There are no spaces left.
            PreTokenizer::Split {
                pattern: Find::String(found),
                ..
            } if found == " " && self.meta => {}
            PreTokenizer::Metaspace {
                replacement: META,
                prepend_scheme,
                split,
            } if !self.meta && self.stages.is_empty() => {
                self.meta = true;
                self.prefix = match (&self.prefix, prepend_scheme) {
                    (Prefix::Never, PrependScheme::Never) => Prefix::Never,
                    (Prefix::Never, PrependScheme::Always) => Prefix::Missing(META),
                    (Prefix::Never, PrependScheme::First) => Prefix::MissingFirst(META),
                    _ => return Err("two ways to put a space before text".into()),
                };
                if *split {
                    self.stages.push(Stage::Before(META));
                }
            }
            _ => return Err("its pre-tokenizer".into()),
        }
        Ok(())
    }
}

/// The stage that cuts at the matches of an expression.
fn pattern(expression: &str) -> Result<Stage, String> {
    let pattern = Pattern::parse(expression)?;
    Ok(Stage::Pattern(Box::new(Matcher::new(pattern))))
}

/// The ids that a post-processor adds before and after a text.
fn around(processor: &PostProcessor) -> Result<[Vec<u32>; 2], String> {
    let mut around = [Vec::new(), Vec::new()];
    match processor {
        PostProcessor::ByteLevel { .. } => {}
        PostProcessor::Sequence { processors } => {
            for processor in processors {
                let [before, after] = self::around(processor)?;
                around[0].splice(0..0, before);
                around[1].extend(after);
            }
        }
        PostProcessor::TemplateProcessing {
            single,
            special_tokens,
            ..
        } => {
            let mut texts = 0;
            for piece in single {
                match piece {
                    Piece::Sequence { id } if id == "A" => texts += 1,
                    Piece::SpecialToken { id } => {
                        let special = special_tokens.get(id);
                        around[texts.min(1)].extend(&special.ok_or("its special tokens")?.ids);
                    }
                    Piece::Sequence { .. } => return Err("its post-processor".into()),
                }
            }
            if texts != 1 {
                return Err("its post-processor".into());
            }
        }
    }
    Ok(around)
}

/// The added tokens, by how they are looked for.
fn added(tokens: &[Added], steps: &Steps) -> Result<AddedTokens, String> {
    let mut passes = [Vec::new(), Vec::new()];
    let mut hard = Vec::new();
    for token in tokens {
        let content = &token.content;
        if content.is_empty() {
            continue;
        }
        let kept = match steps.guard {
            Guard::None => true,
            Guard::Nfc => is_surely_nfc(content),
            Guard::Ascii => content.is_ascii(),
        };
        // The reference looks for what the normalizer makes of it.
        if token.normalized && (!kept || (steps.changed && content.contains([' ', META]))) {
            return Err(format!("its added token {content:?}"));
        }
        if token.single_word || token.lstrip || token.rstrip || (token.normalized && steps.changed)
        {
            hard.push(content.clone());
        } else {
            passes[usize::from(token.normalized)].push((content.clone(), token.id));
        }
    }
    AddedTokens::new(passes, &hard)
}

/// The model, if its merges can be done here.
fn model(model: Bpe, byte_level: bool) -> Result<Model, String> {
    let empty = |affix: &Option<String>| affix.as_ref().is_none_or(String::is_empty);
    if !empty(&model.continuing_subword_prefix) || !empty(&model.end_of_word_suffix) {
        return Err("affixes of subwords".into());
    }
    let ids: HashSet<u32> = model.vocab.values().copied().collect();
    if ids.len() != model.vocab.len() || ids.contains(&LACKING) {
        return Err("a vocabulary with two tokens of one id".into());
    }
    let id = |token: &str| {
        let id = model.vocab.get(token).copied();
        id.ok_or_else(|| format!("a vocabulary without {token:?}"))
    };
    let mut pairs = Vec::with_capacity(model.merges.len());
    let mut neighbours = Neighbours::default();
    let mut product = String::new();
    for (left, right) in &model.merges {
        product.clear();
        product.push_str(left);
        product.push_str(right);
        pairs.push((id(left)?, id(right)?, id(&product)?));
        if !byte_level {
            neighbours.add(&product);
        }
    }
    let merges = Merges::new(&pairs);
    if byte_level {
        let chars = byte_chars();
        let mut bytes = Box::new([0; 256]);
        for (slot, c) in bytes.iter_mut().zip(chars) {
            // Some vocabularies lack bytes that their training text did not have.
            *slot = id(c.encode_utf8(&mut [0; 4])).unwrap_or(LACKING);
        }
        let mut whole = HashMap::new();
        if model.ignore_merges {
            let byte_of: HashMap<char, u8> = chars.into_iter().zip(0..=255).collect();
            for (token, &id) in &model.vocab {
                let bytes: Option<Box<[u8]>> =
                    token.chars().map(|c| byte_of.get(&c).copied()).collect();
                if let Some(bytes) = bytes {
                    whole.insert(bytes, id);
                }
            }
        }
        return Ok(Model {
            alphabet: Alphabet::Bytes(bytes),
            merges,
            whole,
        });
    }
    if model.ignore_merges {
        return Err("a model of characters that ignores its merges".into());
    }
    let mut chars = HashMap::new();
    for (token, &id) in &model.vocab {
        let mut each = token.chars();
        if let (Some(c), None) = (each.next(), each.next()) {
            chars.insert(c, id);
        }
    }
    let mut bytes = None;
    if model.byte_fallback {
        let mut ids = Box::new([0; 256]);
        for (byte, slot) in ids.iter_mut().enumerate() {
            *slot = id(&format!("<0x{byte:02X}>"))?;
        }
        if pairs
            .iter()
            .any(|(left, right, _)| ids.contains(left) || ids.contains(right))
        {
            return Err("merges of bytes".into());
        }
        bytes = Some(ids);
    }
    let characters = Characters::new(&chars, bytes, &neighbours);
    Ok(Model {
        alphabet: Alphabet::Characters(characters),
        merges,
        whole: HashMap::new(),
    })
}

/// The character that stands for each byte in a byte-level vocabulary: itself where it is
/// printable Latin-1, else the next one from U+0100.
fn byte_chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut next = 0x100;
    for (byte, slot) in (0..=255u8).zip(&mut chars) {
        *slot = if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        };
    }
    chars
}
