//! Each document as a test of its own, and what became of every position.
//!
//! Documents are taken in groups, a round of groups at a time, so that memory does not grow with the
//! corpus. What documents share is judged in reading order, between cutting and scoring.

use crate::dedup::rule::Rule;
use crate::dedup::sharing::Sharing;
use crate::error::{Error, Result};
use crate::input::counts::Status;
use crate::input::plan::with_key;
use crate::input::source::Source;
use crate::input::windows::WindowPlan;
use crate::key::Key;
use crate::memory;
use crate::schemes::{Scheme, ScoreKind, interruptible_scores};
use crate::score::candidates::{Candidates, Judging, Row, scored_keys, share};
use crate::score::exact_sum::ExactSum;
use crate::score::options::Options;
use crate::score::weighted::score_value;
use crate::threads::Pool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Tokens of a group of documents that one worker takes.
const GROUP: usize = 1 << 15;
/// Groups between two interrupt checks.
const ROUND: usize = 16;

/// What is known of one document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DocumentTally {
    /// Candidate windows.
    pub windows: u64,
    /// Removed: met in the document's prompt.
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
    /// Ones at each depth, for tournament schemes.
    pub depths: Vec<u64>,
}

/// What became of every position of some documents.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    /// [`Status`] of each token as a target.
    pub status: Vec<u8>,
    /// Score of each position that was scored, else NaN.
    pub scores: Vec<f64>,
}

/// Token ranges of whole documents.
fn groups(source: &Source) -> Vec<Range<usize>> {
    let documents = &source.documents;
    let mut groups = Vec::new();
    let (mut from, mut to) = (0, 0);
    for i in 0..documents.len() {
        to += documents.document_len(i);
        if to - from >= GROUP {
            memory::push(&mut groups, from..to);
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
    judging: Judging,
    options: &Options,
    source: &Source,
    mut sharing: Option<&mut Sharing>,
    check: &mut dyn FnMut() -> Result<()>,
    mut take: impl FnMut(&Candidates<K>, &[u64]),
) -> Result<()> {
    let plan: WindowPlan<K> = options.plan(judging.scheme)?;
    let pool = Pool::new(options.threads)?;
    for round in groups(source).chunks(ROUND) {
        check()?;
        let mut groups: Vec<Candidates<K>> = pool.install(|| {
            let ranges = round.par_iter();
            ranges
                .map(|range| judging.scan(&plan, source, range.clone()))
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
        let mut all = memory::vec(windows.iter().map(Vec::len).sum());
        windows.iter().for_each(|own| all.extend_from_slice(own));
        let words = interruptible_scores(judging.scheme.as_ref(), &all, &pool, check)?;
        let mut rest = &words[..];
        for (group, windows) in groups.iter().zip(&windows) {
            let (own, others) = rest.split_at(windows.len() / plan.packer.width);
            take(group, own);
            rest = others;
        }
    }
    Ok(())
}

fn judging<'a>(
    scheme: &'a Arc<dyn Scheme>,
    options: &Options,
    max_contexts: Option<usize>,
) -> Result<Judging<'a>> {
    if max_contexts == Some(0) {
        return Err(Error::Argument(
            "max_contexts must be at least 1, not 0".into(),
        ));
    }
    options.shape(&**scheme)?;
    Ok(Judging {
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
    let judging = judging(scheme, options, max_contexts)?;
    with_key!(options.shape(&**scheme)?.packer()?, K => {
        score_documents_as::<K>(judging, options, source, None, check)
    })
}

/// [`score_documents`], but a unit is evidence only in the first documents of the corpus that hold it,
/// and documents with the same units are one test: copies are not scored. After an error `sharing` is
/// as it was before. Under the rule `None`, which knows no evidence, nothing is shared.
pub fn score_sharing(
    scheme: &Arc<dyn Scheme>,
    options: &Options,
    source: &Source,
    max_contexts: Option<usize>,
    sharing: &mut Sharing,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let mut judging = judging(scheme, options, max_contexts)?;
    let packer = options.shape(&**scheme)?.packer()?;
    judging.sharing = judging.rule != Rule::None;
    sharing.begin();
    let table = judging.sharing.then_some(&mut *sharing);
    let found = with_key!(packer, K => {
        score_documents_as::<K>(judging, options, source, table, check)
    });
    match &found {
        Ok(_) => sharing.end(source.documents.len()),
        Err(_) => sharing.undo(),
    }
    found
}

fn score_documents_as<K: Key>(
    judging: Judging,
    options: &Options,
    source: &Source,
    sharing: Option<&mut Sharing>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<DocumentTally>> {
    let kind = judging.scheme.score_kind();
    let mut tallies = memory::filled(DocumentTally::default(), source.documents.len());
    if let ScoreKind::Depths(depth) = kind {
        tallies
            .iter_mut()
            .for_each(|tally| tally.depths = memory::filled(0, depth.into()));
    }
    for_groups::<K>(judging, options, source, sharing, check, |group, words| {
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
    for own in rows.chunk_by(|a, b| a.document == b.document) {
        let tally = &mut tallies[own[0].document];
        let mut sum = ExactSum::default();
        tally.windows = own.len() as u64;
        for row in own {
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

/// The status and score of every token as a target; each document on its own.
pub fn positions(
    scheme: &Arc<dyn Scheme>,
    options: &Options,
    source: &Source,
    max_contexts: Option<usize>,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Positions> {
    let judging = judging(scheme, options, max_contexts)?;
    with_key!(options.shape(&**scheme)?.packer()?, K => {
        positions_as::<K>(judging, options, source, check)
    })
}

fn positions_as<K: Key>(
    judging: Judging,
    options: &Options,
    source: &Source,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Positions> {
    let kind = judging.scheme.score_kind();
    let tokens = source.documents.n_tokens();
    let mut all = Positions {
        status: memory::filled(Status::NoContext as u8, tokens),
        scores: memory::filled(f64::NAN, tokens),
    };
    for_groups::<K>(judging, options, source, None, check, |group, words| {
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
