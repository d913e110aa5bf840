//! Which windows documents are cut into.

use crate::error::{Error, Result};
use crate::input::kgrams::KgramSet;
use crate::input::source::PromptRole;
use crate::input::windows::WindowPlan;
use crate::key::{Key, PADDING, Packer};
use crate::schemes::Scheme;
use std::sync::Arc;

/// Everything about a scheme that decides how documents are cut into windows. Schemes of one shape
/// can share their windows, whatever their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowShape {
    /// Tokens of a window.
    pub width: usize,
    /// Every token id is below it.
    pub vocab_size: u32,
    /// The first position that is a target; `None`: the first with a whole context.
    pub start: Option<usize>,
    /// The id that stands left of a document's first token, if `start` needs one.
    pub padding: Option<u32>,
}

impl WindowShape {
    /// The shape of a scheme's windows from position `start` on, by default the scheme's own.
    pub fn of(scheme: &dyn Scheme, start: Option<usize>) -> Self {
        let width = scheme.window_width();
        let first = start.unwrap_or(scheme.first_position());
        let padding = scheme.padding().filter(|_| first < width - 1);
        Self {
            width,
            vocab_size: scheme.vocab_size(),
            start: start.or(padding.map(|_| first)),
            padding,
        }
    }

    /// How the windows are packed.
    pub fn packer(&self) -> Result<Packer> {
        Packer::new(self.width, self.vocab_size, self.padding == Some(PADDING))
    }

    /// How they are cut. Prompts exclude by contexts; see [`WindowPlan::with_seeds`] for other seeds.
    pub fn plan<K: Key>(
        &self,
        role: PromptRole,
        filter: Option<&KgramSet>,
    ) -> Result<WindowPlan<K>> {
        let (width, vocab_size, packer) = (self.width, self.vocab_size, self.packer()?);
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
        WindowPlan::new(packer, self.start, self.padding, role, filter)
    }
}

/// Fails if prompts cannot play their role for a scheme.
pub fn check_role(scheme: &dyn Scheme, role: PromptRole) -> Result<()> {
    if role == PromptRole::Context && !scheme.reaches_prompt() {
        return Err(Error::Argument(
            "prompt_role must be 'exclude' for this scheme, not 'context': its contexts never reach \
             into the prompt"
                .into(),
        ));
    }
    Ok(())
}

/// Evaluates an expression with `$key` as the narrowest key that windows of a packer fit.
macro_rules! with_key {
    ($packer:expr, $key:ident => $body:expr) => {
        match $packer.window_bits() {
            ..=64 => {
                type $key = u64;
                $body
            }
            65..=128 => {
                type $key = u128;
                $body
            }
            129..=384 => {
                type $key = $crate::key::Wide;
                $body
            }
            _ => {
                type $key = $crate::key::Widest;
                $body
            }
        }
    };
}
pub(crate) use with_key;
