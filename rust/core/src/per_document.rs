//! Each document as a test of its own, and the fate of every position.

use crate::error::{Error, Result};
use crate::exact_sum::ExactSum;
use crate::frame::Rule;
use crate::key::{Key, Wide, Widest};
use crate::partition::Identity;
use crate::pool::Pool;
use crate::schemes::{Scheme, ScoreKind, patient_scores};
use crate::scorer::{Options, window_bits, window_plan};
use crate::weighted::score_value;
use crate::windows::{PromptSets, Source, Status, WindowPlan};
use hashbrown::HashSet;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Tokens of a group of documents that one worker takes.
const GROUP: usize = 1 << 15;
/// Groups between two looks at the caller's wish to stop.
const ROUND: usize = 16;

/// What is known of one document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DocumentTally {
    /// Candidate windows.
    pub windows: u64,
    /// Removed by the document's prompt.
    pub excluded: u64,
    /// Removed by the filter, or after the first `max_contexts` contexts.
    pub filtered: u64,
    /// Removed as repetitions.
    pub duplicates: u64,
    /// Removed: the draw does not depend on the key.
    pub keyless: u64,
    /// Units scored.
    pub scored: u64,
    /// Green units, sum of scores, or ones over all depths.
    pub statistic: f64,
    /// Ones a depth, for tournament schemes.
    pub depths: Vec<u64>,
}

/// The fate of every position of some documents.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    /// [`Status`] of each token as a target.
    pub status: Vec<u8>,
    /// Score of each position that was scored, else NaN.
    pub scores: Vec<f64>,
}

/// One candidate window.
struct Row<K> {
    document: usize,
    at: usize,
    status: Status,
    key: K,
}

/// How documents are read, beside the scorer's options.
#[derive(Clone, Copy)]
struct Reading<'a> {
    scheme: &'a Arc<dyn Scheme>,
    rule: Rule,
    /// Only the first so many distinct contexts of a document are scored.
    max_contexts: Option<usize>,
}

impl Reading<'_> {
    /// The candidates of a token range with whole documents, and the tokens of those to score.
    fn scan<K: Key>(
        &self,
        plan: &WindowPlan<K>,
        source: &Source,
        range: Range<usize>,
    ) -> (Vec<Row<K>>, Vec<u32>) {
        let mut rows = Vec::with_capacity(range.len());
        plan.visit(
            source,
            range,
            &PromptSets::new(),
            &mut Vec::new(),
            |document, at, status, key| {
                rows.push(Row {
                    document,
                    at,
                    status,
                    key,
                });
            },
        );
        if let Some(most) = self.max_contexts {
            limit_contexts(&mut rows, plan, most);
        }
        self.deduplicate(&mut rows, plan);
        let windows = plan.packer.unpack_all(&scored_keys(&rows));
        (rows, windows)
    }

    fn deduplicate<K: Key>(&self, rows: &mut [Row<K>], plan: &WindowPlan<K>) {
        match self.rule {
            Rule::None => {}
            Rule::Unit if !self.scheme.unit_is_window() => {
                // First by window: only distinct windows count as keyless, as in a scorer.
                mark_duplicates(rows, |key| key);
                let tokens = plan.packer.unpack_all(&scored_keys(rows));
                let mut units = vec![0u128; tokens.len() / plan.packer.width];
                self.scheme.units(&tokens, &mut units);
                let mut keyless = vec![false; units.len()];
                self.scheme.keyless(&tokens, &mut keyless);
                let scored = rows.iter_mut().filter(|row| row.status == Status::Scored);
                for (row, keyless) in scored.zip(&keyless) {
                    if *keyless {
                        row.status = Status::Keyless;
                    }
                }
                let mut units = units
                    .into_iter()
                    .zip(keyless)
                    .filter(|(_, keyless)| !keyless);
                mark_duplicates(rows, |_| units.next().map_or(0, |(unit, _)| unit));
            }
            Rule::Unit | Rule::Window => mark_duplicates(rows, |key| key),
            Rule::Context => {
                let identity = Identity::Context(plan.packer);
                mark_duplicates(rows, |key| identity.of(key));
            }
        }
    }
}

fn scored_keys<K: Key>(rows: &[Row<K>]) -> Vec<K> {
    rows.iter()
        .filter(|row| row.status == Status::Scored)
        .map(|row| row.key)
        .collect()
}

/// Marks the rows whose identity an earlier row of the same document had.
fn mark_duplicates<K: Key, I: Key>(rows: &mut [Row<K>], mut identity: impl FnMut(K) -> I) {
    let mut seen = HashSet::new();
    let mut document = usize::MAX;
    for row in rows.iter_mut().filter(|row| row.status == Status::Scored) {
        if row.document != document {
            document = row.document;
            seen.clear();
        }
        if !seen.insert(identity(row.key)) {
            row.status = Status::Duplicate;
        }
    }
}

fn limit_contexts<K: Key>(rows: &mut [Row<K>], plan: &WindowPlan<K>, most: usize) {
    let mut seen = HashSet::new();
    let mut document = usize::MAX;
    for row in rows.iter_mut() {
        if row.document != document {
            document = row.document;
            seen.clear();
        }
        let context = plan.packer.context(row.key);
        if seen.len() < most {
            seen.insert(context);
        } else if row.status == Status::Scored && !seen.contains(&context) {
            row.status = Status::Filtered;
        }
    }
}

/// Token ranges of whole documents.
fn groups(source: &Source) -> Vec<Range<usize>> {
    let documents = &source.documents;
    let mut groups = Vec::new();
    let (mut from, mut to) = (0, 0);
    for i in 0..documents.len() {
        to += documents.document_len(i);
        if to - from >= GROUP {
            groups.push(from..to);
            from = to;
        }
    }
    if from < to {
        groups.push(from..to);
    }
    groups
}

/// Calls `take` with the candidates of each group of documents and the score words of those that
/// are scored, in order.
fn for_groups<K: Key>(
    reading: Reading,
    options: &Options,
    source: &Source,
    check: &mut dyn FnMut() -> Result<()>,
    mut take: impl FnMut(&[Row<K>], &[u64]),
) -> Result<()> {
    let plan: WindowPlan<K> = window_plan(reading.scheme, options)?;
    let pool = Pool::new(options.threads)?;
    for round in groups(source).chunks(ROUND) {
        check()?;
        let scanned: Vec<_> = pool.install(|| {
            let groups = round.par_iter();
            groups
                .map(|range| reading.scan(&plan, source, range.clone()))
                .collect()
        });
        let (rows, windows): (Vec<Vec<Row<K>>>, Vec<Vec<u32>>) = scanned.into_iter().unzip();
        let words = patient_scores(reading.scheme.as_ref(), &windows.concat(), &pool, check)?;
        let mut rest = &words[..];
        for (rows, windows) in rows.iter().zip(&windows) {
            let (own, others) = rest.split_at(windows.len() / plan.packer.width);
            take(rows, own);
            rest = others;
        }
    }
    Ok(())
}

macro_rules! by_bits {
    ($reading:expr, $options:expr, $run:ident ( $($argument:expr),* )) => {
        match window_bits($reading.scheme, $options)? {
            ..=64 => $run::<u64>($($argument),*),
            65..=128 => $run::<u128>($($argument),*),
            129..=384 => $run::<Wide>($($argument),*),
            _ => $run::<Widest>($($argument),*),
        }
    };
}

fn reading<'a>(
    scheme: &'a Arc<dyn Scheme>,
    options: &Options,
    max_contexts: Option<usize>,
) -> Result<Reading<'a>> {
    if max_contexts == Some(0) {
        return Err(Error::Argument(
            "max_contexts must be at least 1, not 0".into(),
        ));
    }
    if options.rule == Rule::Context && scheme.window_width() == 1 {
        return Err(Error::Argument(
            "dedup 'context' needs a scheme that reads a context".into(),
        ));
    }
    Ok(Reading {
        scheme,
        rule: options.rule,
        max_contexts,
    })
}

/// Scores each document on its own: repetitions count once within a document.
pub fn score_documents(
    scheme: &Arc<dyn Scheme>,
    options: &Options,
    source: &Source,
    max_contexts: Option<usize>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let reading = reading(scheme, options, max_contexts)?;
    by_bits!(
        reading,
        options,
        score_documents_as(reading, options, source, check)
    )
}

fn score_documents_as<K: Key>(
    reading: Reading,
    options: &Options,
    source: &Source,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let kind = reading.scheme.score_kind();
    let mut tallies = vec![DocumentTally::default(); source.documents.len()];
    if let ScoreKind::Depths(depth) = kind {
        tallies
            .iter_mut()
            .for_each(|tally| tally.depths = vec![0; depth.into()]);
    }
    for_groups::<K>(reading, options, source, check, |rows, words| {
        fold_documents(kind, rows, words, &mut tallies);
    })?;
    Ok(tallies)
}

fn fold_documents<K>(
    kind: ScoreKind,
    rows: &[Row<K>],
    words: &[u64],
    tallies: &mut [DocumentTally],
) {
    let mut words = words.iter().copied();
    for run in rows.chunk_by(|a, b| a.document == b.document) {
        let tally = &mut tallies[run[0].document];
        let mut sum = ExactSum::default();
        tally.windows = run.len() as u64;
        for row in run {
            match row.status {
                Status::Scored => {
                    tally.scored += 1;
                    let word = words.next().unwrap_or_default();
                    match kind {
                        ScoreKind::Green => tally.statistic += word as f64,
                        ScoreKind::Real => sum.add(f64::from_bits(word)),
                        ScoreKind::Depths(_) => {
                            for (depth, ones) in tally.depths.iter_mut().enumerate() {
                                *ones += word >> depth & 1;
                            }
                            tally.statistic += f64::from(word.count_ones());
                        }
                    }
                }
                Status::Excluded => tally.excluded += 1,
                Status::Filtered => tally.filtered += 1,
                Status::Duplicate => tally.duplicates += 1,
                Status::Keyless => tally.keyless += 1,
                Status::NoContext => {}
            }
        }
        if kind == ScoreKind::Real {
            tally.statistic = sum.value();
        }
    }
}

/// The fate and score of every token of the documents as a target; each document on its own.
pub fn positions(
    scheme: &Arc<dyn Scheme>,
    options: &Options,
    source: &Source,
    max_contexts: Option<usize>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Positions> {
    let reading = reading(scheme, options, max_contexts)?;
    by_bits!(
        reading,
        options,
        positions_as(reading, options, source, check)
    )
}

fn positions_as<K: Key>(
    reading: Reading,
    options: &Options,
    source: &Source,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Positions> {
    let kind = reading.scheme.score_kind();
    let tokens = source.documents.n_tokens();
    let mut all = Positions {
        status: vec![Status::NoContext as u8; tokens],
        scores: vec![f64::NAN; tokens],
    };
    for_groups::<K>(reading, options, source, check, |rows, words| {
        let mut words = words.iter().copied();
        for row in rows {
            all.status[row.at] = row.status as u8;
            if row.status == Status::Scored {
                all.scores[row.at] = score_value(kind, words.next().unwrap_or_default());
            }
        }
    })?;
    Ok(all)
}
