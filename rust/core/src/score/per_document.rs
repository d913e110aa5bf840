//! Each document as a test of its own, and the fate of every position.

use crate::dedup::rule::Rule;
use crate::dedup::sharing::{Sharing, Span, Verdict, fingerprint};
use crate::error::{Error, Result};
use crate::input::counts::Status;
use crate::input::source::Source;
use crate::input::windows::{PromptSets, WindowPlan};
use crate::key::{Key, Wide, Widest};
use crate::schemes::{Scheme, ScoreKind, UnitKind, interruptible_scores};
use crate::score::exact_sum::ExactSum;
use crate::score::options::Options;
use crate::score::weighted::score_value;
use crate::threads::Pool;
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
    /// Removed: evidence of earlier documents.
    pub shared: u64,
    /// Units scored.
    pub scored: u64,
    /// Units scored that earlier documents hold too.
    pub common: u64,
    /// The earlier document with the same units, counted over all calls.
    pub copy_of: Option<u64>,
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

/// The candidates of some whole documents.
struct Group<K> {
    rows: Vec<Row<K>>,
    /// Fingerprints of the units that are scored, where sharing is looked for.
    prints: Vec<u64>,
    /// What sharing found, in the order of documents that have a unit.
    found: Vec<Found>,
}

/// What one document shares with earlier ones.
struct Found {
    document: usize,
    common: u64,
    copy_of: Option<u64>,
}

/// How documents are read, beside the scorer's options.
#[derive(Clone, Copy)]
struct Reading<'a> {
    scheme: &'a Arc<dyn Scheme>,
    rule: Rule,
    /// Only the first so many distinct contexts of a document are scored.
    max_contexts: Option<usize>,
    /// Whether fingerprints of units are needed.
    sharing: bool,
}

impl Reading<'_> {
    /// The candidates of a token range with whole documents.
    fn scan<K: Key>(&self, plan: &WindowPlan<K>, source: &Source, range: Range<usize>) -> Group<K> {
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
        let mut prints = self.deduplicate(&mut rows, plan);
        if self.sharing && prints.is_empty() {
            prints = scored_keys(&rows).into_iter().map(fingerprint).collect();
        }
        Group {
            rows,
            prints,
            found: Vec::new(),
        }
    }

    /// Marks what is no evidence of its own within its document; returns fingerprints of units,
    /// where they are needed and are not the windows that are left.
    fn deduplicate<K: Key>(&self, rows: &mut [Row<K>], plan: &WindowPlan<K>) -> Vec<u64> {
        let mut prints = Vec::new();
        match self.rule {
            Rule::None => {}
            Rule::Unit if self.scheme.unit_kind() != UnitKind::Window => {
                // First by window: only distinct windows count as keyless, as in a scorer.
                mark_duplicates(rows, |key| key, |_| ());
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
                let unit_of = |_| units.next().map_or(0, |(unit, _)| unit);
                mark_duplicates(rows, unit_of, |unit| {
                    if self.sharing {
                        prints.push(fingerprint(unit));
                    }
                });
            }
            Rule::Unit | Rule::Window => mark_duplicates(rows, |key| key, |_| ()),
            Rule::Context => {
                mark_duplicates(rows, |key| plan.packer.context(key), |_| ());
            }
        }
        prints
    }
}

fn scored_keys<K: Key>(rows: &[Row<K>]) -> Vec<K> {
    rows.iter()
        .filter(|row| row.status == Status::Scored)
        .map(|row| row.key)
        .collect()
}

/// Marks the rows whose identity an earlier row of the same document had; `keep` gets the others'.
fn mark_duplicates<K: Key, I: Key>(
    rows: &mut [Row<K>],
    mut identity: impl FnMut(K) -> I,
    mut keep: impl FnMut(I),
) {
    let mut seen = HashSet::new();
    let mut document = usize::MAX;
    for row in rows.iter_mut().filter(|row| row.status == Status::Scored) {
        if row.document != document {
            document = row.document;
            seen.clear();
        }
        let own = identity(row.key);
        if seen.insert(own) {
            keep(own);
        } else {
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

/// Marks what earlier documents used, over all groups in reading order.
fn share<K: Key>(groups: &mut [Group<K>], sharing: &mut Sharing, pool: &Pool) {
    let spans: Vec<_> = groups.iter().flat_map(|group| spans(&group.rows)).collect();
    let prints: Vec<_> = groups
        .iter()
        .flat_map(|group| group.prints.iter().copied())
        .collect();
    let (verdicts, copies) = sharing.judge(pool, &spans, &prints);
    let (mut verdicts, mut copies) = (verdicts.into_iter(), copies.into_iter());
    for group in groups {
        for run in group.rows.chunk_by_mut(|a, b| a.document == b.document) {
            let mut common = 0;
            for row in run.iter_mut().filter(|row| row.status == Status::Scored) {
                match verdicts.next() {
                    Some(Verdict::Shared) => row.status = Status::Shared,
                    Some(Verdict::Common) => common += 1,
                    _ => {}
                }
            }
            group.found.push(Found {
                document: run[0].document,
                common,
                copy_of: copies.next().flatten(),
            });
        }
    }
}

/// How many units each document has, in order.
fn spans<K>(rows: &[Row<K>]) -> impl Iterator<Item = Span> {
    rows.chunk_by(|a, b| a.document == b.document)
        .map(|run| Span {
            document: run[0].document,
            units: run
                .iter()
                .filter(|row| row.status == Status::Scored)
                .count(),
        })
}

/// Calls `take` with the candidates of each group of documents and the score words of those that
/// are scored, in order.
fn for_groups<K: Key>(
    reading: Reading,
    options: &Options,
    source: &Source,
    mut sharing: Option<&mut Sharing>,
    check: &mut dyn FnMut() -> Result<()>,
    mut take: impl FnMut(&Group<K>, &[u64]),
) -> Result<()> {
    let plan: WindowPlan<K> = options.window_plan(reading.scheme)?;
    let pool = Pool::new(options.threads)?;
    for round in groups(source).chunks(ROUND) {
        check()?;
        let mut groups: Vec<Group<K>> = pool.install(|| {
            let ranges = round.par_iter();
            ranges
                .map(|range| reading.scan(&plan, source, range.clone()))
                .collect()
        });
        if let Some(sharing) = sharing.as_deref_mut() {
            share(&mut groups, sharing, &pool);
        }
        let windows: Vec<Vec<u32>> = pool.install(|| {
            let groups = groups.par_iter();
            groups
                .map(|group| plan.packer.unpack_all(&scored_keys(&group.rows)))
                .collect()
        });
        let words = interruptible_scores(reading.scheme.as_ref(), &windows.concat(), &pool, check)?;
        let mut rest = &words[..];
        for (group, windows) in groups.iter().zip(&windows) {
            let (own, others) = rest.split_at(windows.len() / plan.packer.width);
            take(group, own);
            rest = others;
        }
    }
    Ok(())
}

macro_rules! by_bits {
    ($reading:expr, $options:expr, $run:ident ( $($argument:expr),* )) => {
        match $options.window_bits($reading.scheme)? {
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
        sharing: false,
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
        score_documents_as(reading, options, source, None, check)
    )
}

/// [`score_documents`], where a unit is evidence in the first documents of the corpus only, and
/// documents with the same units are one test: copies are not scored. After an error `sharing` is
/// as it was before. Under the rule `None`, which has no evidence, nothing is looked for.
pub fn score_sharing(
    scheme: &Arc<dyn Scheme>,
    options: &Options,
    source: &Source,
    max_contexts: Option<usize>,
    sharing: &mut Sharing,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let mut reading = reading(scheme, options, max_contexts)?;
    reading.sharing = reading.rule != Rule::None;
    sharing.begin();
    let table = reading.sharing.then_some(&mut *sharing);
    let found = by_bits!(
        reading,
        options,
        score_documents_as(reading, options, source, table, check)
    );
    match &found {
        Ok(_) => sharing.end(source.documents.len()),
        Err(_) => sharing.undo(),
    }
    found
}

fn score_documents_as<K: Key>(
    reading: Reading,
    options: &Options,
    source: &Source,
    sharing: Option<&mut Sharing>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let kind = reading.scheme.score_kind();
    let mut tallies = vec![DocumentTally::default(); source.documents.len()];
    if let ScoreKind::Depths(depth) = kind {
        tallies
            .iter_mut()
            .for_each(|tally| tally.depths = vec![0; depth.into()]);
    }
    for_groups::<K>(reading, options, source, sharing, check, |group, words| {
        fold_documents(kind, &group.rows, words, &mut tallies);
        for found in &group.found {
            let tally = &mut tallies[found.document];
            (tally.common, tally.copy_of) = (found.common, found.copy_of);
        }
    })?;
    Ok(tallies)
}

#[inline(never)] // inside its caller, its loop has too few registers
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
                Status::Shared => tally.shared += 1,
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
    for_groups::<K>(reading, options, source, None, check, |group, words| {
        let mut words = words.iter().copied();
        for row in &group.rows {
            all.status[row.at] = row.status as u8;
            if row.status == Status::Scored {
                all.scores[row.at] = score_value(kind, words.next().unwrap_or_default());
            }
        }
    })?;
    Ok(all)
}
