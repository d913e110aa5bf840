//! Documents together with their prompts.

use crate::error::{Error, Result};
use crate::input::documents::Documents;

/// What a document's own prompt is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptRole {
    /// A window whose draw may have been seen in the prompt is not scored (closed model): its seed
    /// occurs there, or its unit where the seed cannot be known without the target. Padded contexts
    /// occur where their own tokens do, since marked text may begin anywhere.
    #[default]
    Exclude,
    /// The prompt stands before the document: the first contexts reach into it.
    Context,
}

/// Documents and, if there are any, the prompt of each.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The documents.
    pub documents: Documents<'a>,
    /// One prompt per document.
    pub prompts: Option<Documents<'a>>,
}

impl<'a> Source<'a> {
    /// Checks that there are as many prompts as documents.
    pub fn new(documents: Documents<'a>, prompts: Option<Documents<'a>>) -> Result<Self> {
        match prompts {
            Some(prompts) if prompts.len() != documents.len() => Err(Error::Argument(format!(
                "there are {} prompts for {} documents",
                prompts.len(),
                documents.len()
            ))),
            _ => Ok(Self { documents, prompts }),
        }
    }

    /// Tokens of a document's prompt.
    pub fn prompt_len(&self, document: usize) -> usize {
        self.prompts
            .map_or(0, |prompts| prompts.document_len(document))
    }
}
