//! What a prompt shows of the random function, and which windows that excludes.

use crate::key::{Key, PADDING, Packer};
use crate::memory;
use crate::schemes::{Scheme, SeedKind};
use hashbrown::HashSet;
use std::sync::Arc;

/// Windows whose seeds are computed in one go.
const BATCH: usize = 1 << 11;

/// What a prompt shows of the random function.
pub enum Shown<K> {
    /// Contexts, where they are the seeds.
    Contexts(HashSet<K>),
    /// Seeds, along with those that may share a draw with them; units where the seed cannot be known
    /// without the target.
    Seeds(HashSet<u128>),
}

/// Which windows the prompt of their document excludes: those whose random draw it may have shown.
#[derive(Clone)]
pub struct Exclusion {
    packer: Packer,
    padding: Option<u32>,
    /// The scheme that tells the seeds; `None` where contexts are the seeds.
    scheme: Option<Arc<dyn Scheme>>,
}

impl Exclusion {
    /// Compares contexts; `padding` may stand left of a document's first token.
    pub fn by_context(packer: Packer, padding: Option<u32>) -> Self {
        Self {
            packer,
            padding,
            scheme: None,
        }
    }

    /// Compares what `scheme` reads of a context.
    #[must_use]
    pub fn by_seeds_of(mut self, scheme: &Arc<dyn Scheme>) -> Self {
        self.scheme = match scheme.seed_kind() {
            SeedKind::Context => None,
            _ => Some(Arc::clone(scheme)),
        };
        self
    }

    /// What a prompt shows; `None` if nothing. Marked text may begin anywhere in it, with padding or
    /// with tokens before it that nobody sees.
    pub fn shown<K: Key>(&self, prompt: &[u32]) -> Option<Shown<K>> {
        let width = self.packer.width;
        let with_target = matches!(&self.scheme, Some(s) if s.seed_kind() == SeedKind::WithTarget);
        if prompt.is_empty() || (width == 1 && !with_target) {
            return None;
        }
        let Some(scheme) = &self.scheme else {
            let mut contexts: HashSet<K> = HashSet::new();
            self.for_windows(prompt, false, |rows| {
                memory::reserve_members(&mut contexts, rows.len() / width);
                for row in rows.chunks_exact(width) {
                    contexts.insert(self.packer.pack(&row[..width - 1]));
                }
            });
            return Some(Shown::Contexts(contexts));
        };
        let (mut set, mut seeds) = (HashSet::new(), Vec::new());
        self.for_windows(prompt, with_target, |rows| {
            memory::resize(&mut seeds, rows.len() / width, 0);
            scheme.seeds(rows, &mut seeds);
            memory::reserve_members(&mut set, 3 * seeds.len());
            for &seed in &seeds {
                set.insert(seed);
                if scheme.seeds_reach_neighbours() {
                    set.insert(seed.wrapping_add(1));
                    set.insert(seed.wrapping_sub(1));
                }
            }
        });
        // After a context of which only the last tokens are in the prompt.
        let mut tails = Vec::new();
        for own in scheme.least_own()..width - 1 {
            tails.clear();
            for_runs(prompt, own + usize::from(with_target), |run| {
                memory::extend(&mut tails, run);
                memory::append(&mut tails, (!with_target).then_some(0));
            });
            memory::resize(&mut seeds, tails.len() / (own + 1), 0);
            scheme.seeds_of_tails(&tails, own, &mut seeds);
            memory::reserve_members(&mut set, seeds.len());
            set.extend(&seeds);
        }
        Some(Shown::Seeds(set))
    }

    /// Calls `take` with rows of the windows that a prompt may hold, some at a time; the target is 0
    /// where it does not matter.
    fn for_windows(&self, prompt: &[u32], with_target: bool, mut take: impl FnMut(&[u32])) {
        let context_width = self.packer.width - 1;
        let padding = self.padding.unwrap_or(PADDING);
        let mut rows = Vec::new();
        for own in self.padding.map_or(context_width, |_| 0)..=context_width {
            for_runs(prompt, own + usize::from(with_target), |run| {
                rows.extend(std::iter::repeat_n(padding, context_width - own));
                rows.extend_from_slice(run);
                if !with_target {
                    rows.push(0);
                }
                if rows.len() >= BATCH * (context_width + 1) {
                    take(&rows);
                    rows.clear();
                }
            });
        }
        take(&rows);
    }

    /// Which windows of a run of tokens have a seed among `shown`.
    pub fn seen(&self, shown: &HashSet<u128>, tokens: &[u32]) -> Vec<bool> {
        let mut seen = memory::vec(tokens.len());
        let Some(scheme) = &self.scheme else {
            return seen;
        };
        let width = self.packer.width;
        let (mut rows, mut seeds) = (Vec::new(), Vec::new());
        for from in (0..(tokens.len() + 1).saturating_sub(width)).step_by(BATCH) {
            let to = tokens.len().min(from + BATCH + width - 1);
            rows.clear();
            for window in tokens[from..to].windows(width) {
                rows.extend_from_slice(window);
            }
            memory::resize(&mut seeds, rows.len() / width, 0);
            scheme.seeds(&rows, &mut seeds);
            seen.extend(seeds.iter().map(|seed| shown.contains(seed)));
        }
        seen
    }
}

/// Calls `take` with every run of `length` tokens; with one empty run where that is 0.
fn for_runs(tokens: &[u32], length: usize, take: impl FnMut(&[u32])) {
    match length {
        0 => [&[][..]].into_iter().for_each(take),
        length => tokens.windows(length).for_each(take),
    }
}
