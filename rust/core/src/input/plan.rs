//! The windows that a scheme reads of its documents.

use crate::error::{Error, Result};
use crate::input::kgrams::KgramSet;
use crate::input::source::PromptRole;
use crate::input::windows::WindowPlan;
use crate::key::{Key, PADDING, Packer, Widest};
use crate::schemes::Scheme;
use std::sync::Arc;

/// The plan for a scheme's windows, from the position it starts at unless another is given.
///
/// # Errors
/// [`Error::Argument`] if the scheme cannot have that start, role or filter.
pub fn window_plan<K: Key>(
    scheme: &Arc<dyn Scheme>,
    start: Option<usize>,
    role: PromptRole,
    filter: Option<&KgramSet>,
) -> Result<WindowPlan<K>> {
    let (width, vocab_size) = (scheme.window_width(), scheme.vocab_size());
    if role == PromptRole::Context && !scheme.reaches_prompt() {
        return Err(Error::Argument(
            "prompt_role must be 'exclude' for this scheme, not 'context': its contexts never reach \
             into the prompt"
                .into(),
        ));
    }
    let first = start.unwrap_or(scheme.first_position());
    let padding = scheme.padding().filter(|_| first < width - 1);
    let packer = Packer::new(width, vocab_size, padding == Some(PADDING))?;
    let filter = match filter {
        Some(set) if set.width() + 1 != width || set.vocab_size() != vocab_size => {
            return Err(Error::Argument(format!(
                "the filter has {}-grams over {} ids; the scheme's contexts have {} tokens over \
                 {vocab_size} ids",
                set.width(),
                set.vocab_size(),
                width - 1
            )));
        }
        Some(set) => Some(Arc::new(set.lookup(packer))),
        None => None,
    };
    let start = start.or(padding.map(|_| first));
    let plan = WindowPlan::new(packer, start, padding, role, filter)?;
    Ok(plan.with_seeds(scheme))
}

/// Bits of a packed window of a scheme.
pub fn window_bits(
    scheme: &Arc<dyn Scheme>,
    start: Option<usize>,
    role: PromptRole,
) -> Result<u32> {
    let plan = window_plan::<Widest>(scheme, start, role, None)?;
    Ok(plan.packer.window_bits())
}
