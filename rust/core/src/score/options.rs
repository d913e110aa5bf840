//! The rules of a test.

use crate::dedup::rule::Rule;
use crate::error::{Error, Result};
use crate::input::kgrams::KgramSet;
use crate::input::plan::{WindowShape, check_role};
use crate::input::source::PromptRole;
use crate::input::windows::WindowPlan;
use crate::key::Key;
use crate::schemes::Scheme;
use crate::score::weighted::{Combine, Damping};
use std::sync::Arc;

/// How windows are cut, deduplicated and weighed.
#[derive(Clone)]
pub struct Options {
    /// The deduplication rule.
    pub rule: Rule,
    /// How weights of equal units combine.
    pub combine: Combine,
    /// What becomes of them once they are combined.
    pub damping: Damping,
    /// The first position that is scored; `None`: the scheme's own.
    pub start: Option<usize>,
    /// What prompts are used for.
    pub role: PromptRole,
    /// Only windows whose contexts are in this set are scored.
    pub filter: Option<Arc<KgramSet>>,
    /// Worker threads; `None`: all cores.
    pub threads: Option<usize>,
}

impl Options {
    /// The shape of a scheme's windows; an error if the options do not suit the scheme.
    pub fn shape(&self, scheme: &dyn Scheme) -> Result<WindowShape> {
        if self.rule == Rule::Context && scheme.window_width() == 1 {
            return Err(Error::Argument(
                "dedup 'context' needs a scheme that reads a context".into(),
            ));
        }
        check_role(scheme, self.role)?;
        Ok(WindowShape::of(scheme, self.start))
    }

    /// How a scheme's windows are cut.
    pub fn plan<K: Key>(&self, scheme: &Arc<dyn Scheme>) -> Result<WindowPlan<K>> {
        let shape = WindowShape::of(&**scheme, self.start);
        let plan = shape.plan(self.role, self.filter.as_deref())?;
        Ok(plan.with_seeds(scheme))
    }
}
