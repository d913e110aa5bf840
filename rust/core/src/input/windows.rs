//! From documents to windows: where they start, what a prompt excludes, what a filter keeps.

use crate::error::{Error, Result};
use crate::input::documents::Documents;
use crate::input::shown::{SEEDED, Shown, met};
use crate::io::records::{Reader, put_u64};
use crate::key::PADDING;
use crate::key::{Key, Packer};
use crate::schemes::{Scheme, SeedKind};
use hashbrown::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// What a document's own prompt is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptRole {
    /// A window whose draw may have been met in the prompt is not scored (closed model): its seed
    /// occurs there, or its unit where there is no seed without the target. Padded contexts occur
    /// where their own tokens do, as marked text may begin anywhere.
    #[default]
    Exclude,
    /// The prompt stands before the document: the first contexts reach into it.
    Context,
}

/// Why a candidate window is scored or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Scored.
    Scored = 0,
    /// Before the first position that has a whole context, or before `start`.
    NoContext = 1,
    /// Its draw may have been met in the document's prompt.
    Excluded = 2,
    /// Its context is not in the filter.
    Filtered = 3,
    /// A repetition under the deduplication rule.
    Duplicate = 4,
    /// Its random draw does not depend on the key.
    Keyless = 5,
    /// Evidence of earlier documents of the corpus.
    Shared = 6,
}

/// How many windows each rule saw and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents.
    pub documents: u64,
    /// Documents without a single window.
    pub short_documents: u64,
    /// Tokens.
    pub tokens: u64,
    /// Candidate windows.
    pub windows: u64,
    /// Removed: the draw may have been met in the document's prompt.
    pub excluded: u64,
    /// Removed: the context is not in the filter.
    pub filtered: u64,
}

impl Counts {
    /// Appends the counts.
    pub fn write(&self, out: &mut Vec<u8>) {
        let counts = [
            self.documents,
            self.short_documents,
            self.tokens,
            self.windows,
            self.excluded,
            self.filtered,
        ];
        counts.iter().for_each(|&count| put_u64(out, count));
    }

    /// Reads what [`Counts::write`] wrote.
    pub fn read(reader: &mut Reader) -> Result<Self> {
        Ok(Self {
            documents: reader.u64()?,
            short_documents: reader.u64()?,
            tokens: reader.u64()?,
            windows: reader.u64()?,
            excluded: reader.u64()?,
            filtered: reader.u64()?,
        })
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Self) {
        self.documents += other.documents;
        self.short_documents += other.short_documents;
        self.tokens += other.tokens;
        self.windows += other.windows;
        self.excluded += other.excluded;
        self.filtered += other.filtered;
    }
}

/// Documents and, where there are any, the prompt of each.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The documents.
    pub documents: Documents<'a>,
    /// One prompt a document.
    pub prompts: Option<Documents<'a>>,
}

impl<'a> Source<'a> {
    /// Checks that there are as many prompts as documents.
    pub fn new(documents: Documents<'a>, prompts: Option<Documents<'a>>) -> Result<Self> {
        match prompts {
            Some(prompts) if prompts.len() != documents.len() => Err(Error::Argument(format!(
                "there are {} prompts for {} documents",
                prompts.len(),
                documents.len()
            ))),
            _ => Ok(Self { documents, prompts }),
        }
    }

    fn prompt_len(&self, document: usize) -> usize {
        self.prompts
            .map_or(0, |prompts| prompts.document_len(document))
    }
}

/// What the prompts of some documents exclude.
pub type PromptSets<K> = HashMap<usize, Shown<K>>;

/// Windows that are cut at one go.
const BLOCK: usize = 1 << 9;

/// What a worker needs to cut windows.
#[derive(Debug, Default)]
pub struct Cutter<K> {
    tokens: Vec<u32>,
    keys: Vec<K>,
}

/// Which windows of a document are candidates, and how they are packed.
#[derive(Clone)]
pub struct WindowPlan<K> {
    /// Packs the windows.
    pub packer: Packer,
    start: Option<usize>,
    padding: Option<u32>,
    role: PromptRole,
    filter: Option<Arc<HashSet<K>>>,
    /// Where contexts are not what the random function reads: the scheme that tells.
    seeds: Option<Arc<dyn Scheme>>,
}

impl<K: Key> WindowPlan<K> {
    /// Windows of `packer.width` tokens from position `start` on (the first with a whole context
    /// where `None`). A `start` without a whole context needs a `padding` to stand before it.
    pub fn new(
        packer: Packer,
        start: Option<usize>,
        padding: Option<u32>,
        role: PromptRole,
        filter: Option<Arc<HashSet<K>>>,
    ) -> Result<Self> {
        match start {
            Some(start)
                if start < packer.width - 1 && padding.is_none() && role == PromptRole::Exclude =>
            {
                Err(Error::Argument(format!(
                    "start must be at least {} (the first position with a whole context), not {start}",
                    packer.width - 1
                )))
            }
            _ => Ok(Self {
                packer,
                start,
                padding,
                role,
                filter,
                seeds: None,
            }),
        }
    }

    /// Prompts exclude by the seeds of this scheme.
    #[must_use]
    pub fn with_seeds(mut self, scheme: &Arc<dyn Scheme>) -> Self {
        self.seeds = match scheme.seed_kind() {
            SeedKind::Context => None,
            _ => Some(Arc::clone(scheme)),
        };
        self
    }

    /// Context tokens that a document does not hold itself.
    fn lead(&self, source: &Source, document: usize) -> usize {
        match self.role {
            PromptRole::Context => source.prompt_len(document).min(self.packer.width - 1),
            PromptRole::Exclude => 0,
        }
    }

    /// The first position of a document that is a candidate's target.
    pub fn first_position(&self, source: &Source, document: usize) -> usize {
        let whole = self.packer.width - 1 - self.lead(source, document);
        match self.start {
            Some(start) if self.padding.is_some() => start,
            Some(start) => start.max(whole),
            None => whole,
        }
    }

    /// Whether the filter keeps a window.
    pub fn keeps(&self, window: K) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|set| set.contains(&self.packer.context(window)))
    }

    /// Whether every candidate of a source is scored, so that cutting windows costs next to nothing.
    pub fn keeps_all(&self, source: &Source) -> bool {
        let excludes = self.role == PromptRole::Exclude && source.prompts.is_some();
        self.filter.is_none() && !excludes
    }

    /// How many documents begin in a token range (those without a token with the next one, or at
    /// the end), and how many of them have no window.
    pub fn count_documents(&self, source: &Source, range: &Range<usize>) -> Counts {
        let documents = &source.documents;
        let first = documents.begin_from(range.start);
        let last = match range.end == documents.n_tokens() {
            true => documents.len(),
            false => documents.begin_from(range.end),
        };
        let short = (first..last)
            .filter(|&i| self.first_position(source, i) >= documents.document_len(i))
            .count();
        Counts {
            documents: (last - first) as u64,
            short_documents: short as u64,
            ..Counts::default()
        }
    }

    /// Calls `visit(document, token index from the source's first token, status, key)` for each
    /// candidate window whose target is in the token range, in reading order, and counts.
    pub fn visit(
        &self,
        source: &Source,
        range: Range<usize>,
        prompts: &PromptSets<K>,
        scratch: &mut Vec<u32>,
        mut visit: impl FnMut(usize, usize, Status, K),
    ) -> Counts {
        let documents = &source.documents;
        let base = documents.start(0);
        let mut counts = Counts {
            tokens: range.len() as u64,
            ..Counts::default()
        };
        self.for_spans(source, range, |document, span| {
            let begin = documents.start(document) - base;
            let more = self.visit_span(
                source,
                document,
                span,
                prompts,
                scratch,
                &mut |at, status, key| visit(document, begin + at, status, key),
            );
            counts.merge(&more);
        });
        counts
    }

    /// The windows that are scored alone, in reading order, block by block.
    pub fn key_blocks(
        &self,
        source: &Source,
        range: Range<usize>,
        prompts: &PromptSets<K>,
        cutter: &mut Cutter<K>,
        mut take: impl FnMut(&[K]),
    ) -> Counts {
        let Cutter { tokens, keys } = cutter;
        keys.clear();
        if !self.keeps_all(source) {
            let counts = self.visit(source, range, prompts, tokens, |_, _, status, key| {
                if status == Status::Scored {
                    keys.push(key);
                    if keys.len() == BLOCK {
                        take(keys);
                        keys.clear();
                    }
                }
            });
            take(keys);
            return counts;
        }
        let mut counts = Counts {
            tokens: range.len() as u64,
            ..Counts::default()
        };
        self.for_spans(source, range, |document, span| {
            counts.windows += span.len() as u64;
            for from in span.clone().step_by(BLOCK) {
                let block = from..span.end.min(from + BLOCK);
                if keys.len() + block.len() > BLOCK {
                    take(keys);
                    keys.clear();
                }
                self.load(source, document, &block, tokens);
                self.packer.pack_all(tokens, keys);
            }
        });
        take(keys);
        counts
    }

    /// Calls `take` with each document of a token range that has candidates there, and the range of
    /// their positions.
    fn for_spans(
        &self,
        source: &Source,
        range: Range<usize>,
        mut take: impl FnMut(usize, Range<usize>),
    ) {
        let documents = &source.documents;
        let base = documents.start(0);
        let mut document = documents.document_at(base + range.start);
        while document < documents.len() && documents.start(document) - base < range.end {
            let begin = documents.start(document) - base;
            let to = documents.document_len(document).min(range.end - begin);
            let from = range.start.saturating_sub(begin);
            if from < to {
                let first = self.first_position(source, document).max(from);
                if first < to {
                    take(document, first..to);
                }
            }
            document += 1;
        }
    }

    fn visit_span(
        &self,
        source: &Source,
        document: usize,
        span: Range<usize>,
        prompts: &PromptSets<K>,
        scratch: &mut Vec<u32>,
        visit: &mut impl FnMut(usize, Status, K),
    ) -> Counts {
        let Packer { width, bits, .. } = self.packer;
        let own = match prompts.contains_key(&document) {
            true => None,
            false => self.shown_by_prompt(source, document, scratch),
        };
        let shown = prompts.get(&document).or(own.as_ref());
        self.load(source, document, &span, scratch);
        let window_bits = self.packer.window_bits();
        let mut key: K = self.packer.pack(&scratch[..width - 1]);
        let mut counts = Counts {
            windows: span.len() as u64,
            ..Counts::default()
        };
        if shown.is_none() && self.filter.is_none() {
            for (at, &token) in span.zip(&scratch[width - 1..]) {
                key = key.push(self.packer.code(token), bits).mask(window_bits);
                visit(at, Status::Scored, key);
            }
            return counts;
        }
        let by_seed = match (shown, &self.seeds) {
            (Some(Shown::Seeds(set)), Some(scheme)) => met(scheme.as_ref(), set, scratch),
            _ => Vec::new(),
        };
        for (index, (at, &token)) in span.zip(&scratch[width - 1..]).enumerate() {
            key = key.push(self.packer.code(token), bits).mask(window_bits);
            let excluded = match shown {
                Some(Shown::Contexts(set)) => set.contains(&self.packer.context(key)),
                Some(Shown::Seeds(_)) => by_seed[index],
                None => false,
            };
            let status = if excluded {
                counts.excluded += 1;
                Status::Excluded
            } else if !self.keeps(key) {
                counts.filtered += 1;
                Status::Filtered
            } else {
                Status::Scored
            };
            visit(at, status, key);
        }
        counts
    }

    /// The tokens that the windows of a span read: `width - 1` before it, then the span.
    fn load(&self, source: &Source, document: usize, span: &Range<usize>, scratch: &mut Vec<u32>) {
        scratch.clear();
        let before = self.packer.width - 1;
        if span.start < before {
            let missing = before - span.start;
            let lead = self.lead(source, document).min(missing);
            scratch.resize(missing - lead, self.padding.unwrap_or(PADDING));
            if let Some(prompts) = source.prompts.filter(|_| lead > 0) {
                let len = prompts.document_len(document);
                prompts.copy_to(document, len - lead, len, scratch);
            }
        }
        source.documents.copy_to(
            document,
            span.start.saturating_sub(before),
            span.end,
            scratch,
        );
    }

    /// What the prompts exclude of documents that have more than `most` tokens in a range:
    /// made once, while `visit` makes those of shorter documents itself.
    pub fn prompt_sets(&self, source: &Source, range: &Range<usize>, most: usize) -> PromptSets<K> {
        let documents = &source.documents;
        let base = documents.start(0);
        let first = documents.document_at(base + range.start);
        (first..documents.len())
            .take_while(|&i| documents.start(i) - base < range.end)
            .filter(|&i| documents.document_len(i) > most)
            .filter_map(|i| Some((i, self.shown_by_prompt(source, i, &mut Vec::new())?)))
            .collect()
    }

    /// What the prompt shows, which excludes windows; `None` where nothing is excluded. Where
    /// contexts are padded, marked text may begin anywhere in a prompt.
    fn shown_by_prompt(
        &self,
        source: &Source,
        document: usize,
        scratch: &mut Vec<u32>,
    ) -> Option<Shown<K>> {
        let context_width = self.packer.width - 1;
        let prompts = source
            .prompts
            .filter(|_| self.role == PromptRole::Exclude)?;
        let len = prompts.document_len(document);
        let with_target = matches!(&self.seeds, Some(s) if s.seed_kind() == SeedKind::WithTarget);
        if len == 0 || (context_width == 0 && !with_target) {
            return None;
        }
        scratch.clear();
        prompts.copy_to(document, 0, len, scratch);
        let Some(scheme) = &self.seeds else {
            let mut contexts: HashSet<K> = HashSet::new();
            self.for_prompt_windows(scratch, false, |rows| {
                for row in rows.chunks_exact(context_width + 1) {
                    contexts.insert(self.packer.pack(&row[..context_width]));
                }
            });
            return Some(Shown::Contexts(contexts));
        };
        let (mut set, mut seeds) = (HashSet::new(), Vec::new());
        self.for_prompt_windows(scratch, with_target, |rows| {
            seeds.resize(rows.len() / (context_width + 1), 0);
            scheme.seeds(rows, &mut seeds);
            for &seed in &seeds {
                set.insert(seed);
                if scheme.seeds_reach_neighbours() {
                    set.insert(seed.wrapping_add(1));
                    set.insert(seed.wrapping_sub(1));
                }
            }
        });
        // Marked text may begin anywhere in it, after a context that nobody sees.
        let mut tails = Vec::new();
        for own in scheme.least_own()..context_width {
            tails.clear();
            for run in scratch.windows((own + usize::from(with_target)).max(1)) {
                tails.extend_from_slice(run);
                tails.extend((!with_target).then_some(0));
            }
            seeds.resize(tails.len() / (own + 1), 0);
            scheme.seeds_of_tails(&tails, own, &mut seeds);
            set.extend(&seeds);
        }
        Some(Shown::Seeds(set))
    }

    /// Calls `take` with rows of the windows that a prompt may hold, the target 0 where it does not
    /// matter.
    fn for_prompt_windows(&self, prompt: &[u32], with_target: bool, mut take: impl FnMut(&[u32])) {
        let context_width = self.packer.width - 1;
        let mut rows = Vec::new();
        let mut push = |own: usize, run: &[u32]| {
            let padding = self.padding.unwrap_or(PADDING);
            rows.extend(std::iter::repeat_n(padding, context_width - own));
            rows.extend_from_slice(run);
            if !with_target {
                rows.push(0);
            }
            if rows.len() >= SEEDED * (context_width + 1) {
                take(&rows);
                rows.clear();
            }
        };
        for own in self.padding.map_or(context_width, |_| 0)..=context_width {
            match own + usize::from(with_target) {
                0 => push(0, &[]),
                run => prompt.windows(run).for_each(|run| push(own, run)),
            }
        }
        take(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::documents::TokenSlice;

    type Seen = Vec<(usize, usize, Status, Vec<u32>)>;

    fn windows(
        width: usize,
        start: Option<usize>,
        role: PromptRole,
        prompts: Option<(&[u8], &[i64])>,
        range: Range<usize>,
    ) -> Result<(Seen, Counts)> {
        let padded = start.is_some_and(|start| start + 1 < width);
        let packer = Packer::new(width, 100, padded)?;
        let padding = padded.then_some(PADDING);
        let plan = WindowPlan::<u64>::new(packer, start, padding, role, None)?;
        let values = [9u8, 1, 2, 3, 4, 5, 6, 1, 2, 7];
        let documents = Documents::new(TokenSlice::U8(&values), &[1, 6, 6, 7, 10], 100)?;
        let prompts = match prompts {
            Some((ids, offsets)) => Some(Documents::new(TokenSlice::U8(ids), offsets, 100)?),
            None => None,
        };
        let source = Source::new(documents, prompts)?;
        let mut seen = Vec::new();
        let mut counts = plan.count_documents(&source, &range);
        counts.merge(&plan.visit(
            &source,
            range,
            &PromptSets::new(),
            &mut Vec::new(),
            |document, at, status, key| {
                let mut tokens = vec![0; width];
                packer.unpack(key, &mut tokens);
                seen.push((document, at, status, tokens));
            },
        ));
        Ok((seen, counts))
    }

    #[test]
    fn never_crosses_documents_and_splits_anywhere() -> Result<()> {
        let (seen, counts) = windows(3, None, PromptRole::Exclude, None, 0..9)?;
        let tokens: Vec<_> = seen.iter().map(|(_, at, _, t)| (*at, t.clone())).collect();
        let expected = [
            (2, [1, 2, 3]),
            (3, [2, 3, 4]),
            (4, [3, 4, 5]),
            (8, [1, 2, 7]),
        ];
        assert_eq!(tokens, expected.map(|(at, t)| (at, t.to_vec())));
        assert_eq!(
            (counts.documents, counts.short_documents, counts.windows),
            (4, 2, 4)
        );
        for cut in 0..=9 {
            let (mut left, mut total) = windows(3, None, PromptRole::Exclude, None, 0..cut)?;
            let (right, more) = windows(3, None, PromptRole::Exclude, None, cut..9)?;
            left.extend(right);
            total.merge(&more);
            assert_eq!((left, total.windows, total.tokens), (seen.clone(), 4, 9));
        }
        Ok(())
    }

    #[test]
    fn pads_or_reaches_into_the_prompt() -> Result<()> {
        let (seen, _) = windows(3, Some(0), PromptRole::Exclude, None, 0..9)?;
        assert_eq!(seen[0].3, [PADDING, PADDING, 1]);
        assert_eq!(seen[5].3, [PADDING, PADDING, 6]);
        let prompts: (&[u8], &[i64]) = (&[50, 51, 52, 60], &[0, 3, 3, 3, 4]);
        let (seen, _) = windows(3, None, PromptRole::Context, Some(prompts), 0..9)?;
        let tokens: Vec<_> = seen.into_iter().map(|(_, _, _, t)| t).collect();
        assert_eq!(tokens[..2], [[51, 52, 1], [52, 1, 2]]);
        assert_eq!(tokens[5..], [[60, 1, 2], [1, 2, 7]]);
        assert!(windows(3, Some(1), PromptRole::Exclude, None, 0..9).is_ok());
        Ok(())
    }

    #[test]
    fn a_prompt_excludes_its_contexts() -> Result<()> {
        let prompts: (&[u8], &[i64]) = (&[8, 2, 3, 8, 1, 2], &[0, 4, 4, 4, 6]);
        let (seen, counts) = windows(3, None, PromptRole::Exclude, Some(prompts), 0..9)?;
        let status: Vec<_> = seen.iter().map(|s| s.2).collect();
        assert_eq!(
            status,
            [
                Status::Scored,
                Status::Excluded,
                Status::Scored,
                Status::Excluded
            ]
        );
        assert_eq!(counts.excluded, 2);
        Ok(())
    }
}
