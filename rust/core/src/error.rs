//! The errors of the core, by cause.

/// Everything that can go wrong in the core.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument of a call is outside what is allowed; the text names argument, value and range.
    #[error("{0}")]
    Argument(String),
    /// A scheme's parameter is outside what is allowed.
    #[error("{0}")]
    Scheme(String),
    /// Token ids are outside the vocabulary, or offsets are malformed.
    #[error("{0}")]
    Tokens(String),
    /// A saved state or k-gram file is damaged or belongs to something else.
    #[error("{0}")]
    State(String),
    /// A file of windows cannot be written or read, or is damaged; the text names what to redo.
    #[error("{0}")]
    Storage(String),
    /// A file of windows does not hold what was written to it: which file, and what is wrong.
    #[error("{} is damaged: {what}; remove it, and run the same again", path.display())]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

/// The result of a core function.
pub type Result<T> = std::result::Result<T, Error>;
