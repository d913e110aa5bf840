//! The candidate windows of whole documents, and which of them are evidence within their document.

use crate::dedup::rule::Rule;
use crate::dedup::sharing::{Sharing, Span, Verdict, fingerprint};
use crate::input::counts::Status;
use crate::input::source::Source;
use crate::input::windows::{PromptSets, WindowPlan};
use crate::key::Key;
use crate::memory;
use crate::schemes::{Scheme, UnitKind};
use crate::threads::Pool;
use hashbrown::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// One candidate window.
pub(crate) struct Row<K> {
    pub(crate) document: usize,
    /// Its target's index among the source's tokens.
    pub(crate) at: usize,
    pub(crate) status: Status,
    key: K,
}

/// What one document shares with earlier ones.
pub(crate) struct Found {
    pub(crate) document: usize,
    /// Units that are scored here too although earlier documents hold them.
    pub(crate) common: u64,
    /// The earlier document with the same units.
    pub(crate) copy_of: Option<u64>,
}

/// The candidates of some whole documents, in reading order.
pub(crate) struct Candidates<K> {
    pub(crate) rows: Vec<Row<K>>,
    /// Fingerprints of the units that are scored, if sharing matters.
    prints: Vec<u64>,
    /// What the documents share, in the order of those that have a unit.
    pub(crate) found: Vec<Found>,
}

/// How the candidates of a document are judged.
#[derive(Clone, Copy)]
pub(crate) struct Judging<'a> {
    pub(crate) scheme: &'a Arc<dyn Scheme>,
    pub(crate) rule: Rule,
    /// Only the first so many distinct contexts of a document are scored.
    pub(crate) max_contexts: Option<usize>,
    /// Whether fingerprints of units are needed.
    pub(crate) sharing: bool,
}

impl Judging<'_> {
    /// The candidates of a token range that holds whole documents.
    pub(crate) fn scan<K: Key>(
        &self,
        plan: &WindowPlan<K>,
        source: &Source,
        range: Range<usize>,
    ) -> Candidates<K> {
        let mut rows = memory::vec(range.len());
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
            prints = memory::collect(scored_keys(&rows).into_iter().map(fingerprint));
        }
        Candidates {
            rows,
            prints,
            found: Vec::new(),
        }
    }

    /// Marks what is no evidence of its own within its document. Returns the fingerprints of units if
    /// they are needed and units are not the windows that are left.
    fn deduplicate<K: Key>(&self, rows: &mut [Row<K>], plan: &WindowPlan<K>) -> Vec<u64> {
        let mut prints = Vec::new();
        match self.rule {
            Rule::None => {}
            Rule::Unit if self.scheme.unit_kind() != UnitKind::Window => {
                // First by window: only distinct windows count as keyless, as in a scorer.
                mark_duplicates(rows, |key| key, |_| ());
                let tokens = plan.packer.unpack_all(&scored_keys(rows));
                let mut units = memory::filled(0u128, tokens.len() / plan.packer.width);
                self.scheme.units(&tokens, &mut units);
                let mut keyless = memory::filled(false, units.len());
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
                        memory::push(&mut prints, fingerprint(unit));
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

/// The windows that are scored.
pub(crate) fn scored_keys<K: Key>(rows: &[Row<K>]) -> Vec<K> {
    let scored = rows.iter().filter(|row| row.status == Status::Scored);
    memory::collect(scored.map(|row| row.key))
}

/// Marks the rows whose identity an earlier row of the same document has; `keep` gets the others'.
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
        memory::reserve_members(&mut seen, 1);
        if seen.insert(own) {
            keep(own);
        } else {
            row.status = Status::Duplicate;
        }
    }
}

/// Marks what comes after the first `most` distinct contexts of its document.
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
            memory::reserve_members(&mut seen, 1);
            seen.insert(context);
        } else if row.status == Status::Scored && !seen.contains(&context) {
            row.status = Status::Filtered;
        }
    }
}

/// Marks what earlier documents used, over groups in reading order.
pub(crate) fn share<K: Key>(groups: &mut [Candidates<K>], sharing: &mut Sharing, pool: &Pool) {
    let spans: Vec<_> = memory::collect(groups.iter().flat_map(|group| spans(&group.rows)));
    let prints = groups.iter().flat_map(|group| group.prints.iter().copied());
    let prints: Vec<_> = memory::collect(prints);
    let (verdicts, copies) = sharing.judge(pool, &spans, &prints);
    let (mut verdicts, mut copies) = (verdicts.into_iter(), copies.into_iter());
    for group in groups {
        for rows in group.rows.chunk_by_mut(|a, b| a.document == b.document) {
            let mut common = 0;
            for row in rows.iter_mut().filter(|row| row.status == Status::Scored) {
                match verdicts.next() {
                    Some(Verdict::Shared) => row.status = Status::Shared,
                    Some(Verdict::Common) => common += 1,
                    _ => {}
                }
            }
            let document = rows[0].document;
            let copy_of = copies.next().flatten();
            memory::push(
                &mut group.found,
                Found {
                    document,
                    common,
                    copy_of,
                },
            );
        }
    }
}

/// How many units each document has, in order.
fn spans<K>(rows: &[Row<K>]) -> impl Iterator<Item = Span> {
    rows.chunk_by(|a, b| a.document == b.document)
        .map(|rows| Span {
            document: rows[0].document,
            units: rows
                .iter()
                .filter(|row| row.status == Status::Scored)
                .count(),
        })
}
