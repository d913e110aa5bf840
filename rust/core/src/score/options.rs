//! How windows are cut, deduplicated and weighed.

use crate::dedup::rule::Rule;
use crate::error::Result;
use crate::input::kgrams::KgramSet;
use crate::input::plan;
use crate::input::source::PromptRole;
use crate::input::windows::WindowPlan;
use crate::key::Key;
use crate::schemes::Scheme;
use crate::score::weighted::Combine;
use std::sync::Arc;

/// How a scorer cuts and deduplicates windows.
#[derive(Clone)]
pub struct Options {
    /// The deduplication rule.
    pub rule: Rule,
    /// How weights of equal units combine.
    pub combine: Combine,
    /// The first position that is scored; `None`: the first with a whole context.
    pub start: Option<usize>,
    /// What prompts are used for.
    pub role: PromptRole,
    /// Only contexts of this set are scored.
    pub filter: Option<Arc<KgramSet>>,
    /// Worker threads; `None`: all cores.
    pub threads: Option<usize>,
}

impl Options {
    /// A plan for one scheme's windows.
    pub fn window_plan<K: Key>(&self, scheme: &Arc<dyn Scheme>) -> Result<WindowPlan<K>> {
        plan::window_plan(scheme, self.start, self.role, self.filter.as_deref())
    }

    /// Bits of one of a scheme's packed windows.
    pub fn window_bits(&self, scheme: &Arc<dyn Scheme>) -> Result<u32> {
        plan::window_bits(scheme, self.start, self.role)
    }
}
