//! From documents to windows: where they start, what a prompt excludes, what a filter keeps.

use crate::error::{Error, Result};
use crate::input::counts::{Counts, Status};
use crate::input::prompts::{Exclusion, Shown};
use crate::input::source::{PromptRole, Source};
use crate::key::{Key, PADDING, Packer};
use crate::schemes::Scheme;
use hashbrown::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// What the prompts of some documents show, by document.
pub type PromptSets<K> = HashMap<usize, Shown<K>>;

/// Windows cut in one go.
const BLOCK: usize = 1 << 9;

/// Memory that one worker cuts windows in; what it holds between calls means nothing.
#[derive(Debug, Default)]
pub struct WindowBuffer<K> {
    tokens: Vec<u32>,
    keys: Vec<K>,
}

/// Which windows of a document are candidates, which of those are scored, and how they are packed.
///
/// Each candidate belongs to the position of its target, so that token ranges can be worked on apart
/// from each other, in any order.
#[derive(Clone)]
pub struct WindowPlan<K> {
    /// Packs the windows.
    pub packer: Packer,
    start: Option<usize>,
    padding: Option<u32>,
    role: PromptRole,
    filter: Option<Arc<HashSet<K>>>,
    exclusion: Exclusion,
}

impl<K: Key> WindowPlan<K> {
    /// Windows of `packer.width` tokens from position `start` on (without one, from the first
    /// position that has a whole context). A `start` before that needs a `padding`.
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
                exclusion: Exclusion::by_context(packer, padding),
            }),
        }
    }

    /// Lets prompts exclude by the seeds of this scheme.
    #[must_use]
    pub fn with_seeds(mut self, scheme: &Arc<dyn Scheme>) -> Self {
        self.exclusion = self.exclusion.by_seeds_of(scheme);
        self
    }

    /// How many tokens of the first context come from the prompt.
    fn lead(&self, source: &Source, document: usize) -> usize {
        match self.role {
            PromptRole::Context => source.prompt_len(document).min(self.packer.width - 1),
            PromptRole::Exclude => 0,
        }
    }

    /// The position of the first candidate's target.
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

    /// Whether every candidate of a source is scored: then windows are packed without a test of each.
    pub fn keeps_all(&self, source: &Source) -> bool {
        let excludes = self.role == PromptRole::Exclude && source.prompts.is_some();
        self.filter.is_none() && !excludes
    }

    /// How many documents begin in a token range, and how many of them have no window. An empty
    /// document begins where the next one does, or at the end.
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

    /// Calls `visit(document, index of the target among the source's tokens, status, key)` for each
    /// candidate whose target is in the token range, in reading order; returns the counts.
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

    /// Calls `take` with the scored windows only, in reading order, some at a time; returns the counts.
    pub fn key_blocks(
        &self,
        source: &Source,
        range: Range<usize>,
        prompts: &PromptSets<K>,
        buffer: &mut WindowBuffer<K>,
        mut take: impl FnMut(&[K]),
    ) -> Counts {
        let WindowBuffer { tokens, keys } = buffer;
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

    /// Calls `take` with each document that has candidates in a token range, and their positions.
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

    /// The candidates of one document with targets at the positions `span`.
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
        let by_seed = match shown {
            Some(Shown::Seeds(seeds)) => self.exclusion.seen(seeds, scratch),
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

    /// Loads the tokens that the windows of a span read: `width - 1` before it, then the span.
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

    /// What the prompts of documents with more than `most` tokens in a range show: computed once for
    /// all workers, while [`WindowPlan::visit`] computes that of shorter documents itself.
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

    /// What the prompt of a document shows; `None` where it excludes nothing.
    fn shown_by_prompt(
        &self,
        source: &Source,
        document: usize,
        scratch: &mut Vec<u32>,
    ) -> Option<Shown<K>> {
        let prompts = source
            .prompts
            .filter(|_| self.role == PromptRole::Exclude)?;
        scratch.clear();
        prompts.copy_to(document, 0, prompts.document_len(document), scratch);
        self.exclusion.shown(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::documents::{Documents, TokenSlice};

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
