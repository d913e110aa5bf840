//! The errors of the core, by cause.

/// Everything that can go wrong in the core.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument is out of range; the text names the argument, its value and what is allowed.
    #[error("{0}")]
    Argument(String),
    /// A scheme's parameter is out of range.
    #[error("{0}")]
    Scheme(String),
    /// Token ids are outside the vocabulary, or offsets are malformed.
    #[error("{0}")]
    Tokens(String),
    /// A saved state or k-gram file is damaged or belongs to something else.
    #[error("{0}")]
    State(String),
    /// A shard file cannot be written or read; the text says what to redo.
    #[error("{0}")]
    Storage(String),
    /// A shard file does not hold what was written to it.
    #[error("{} is damaged: {what}; remove it and rerun the command", path.display())]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system gives no more memory: so many bytes were asked for.
    #[error("out of memory: the system refused {0} bytes; free some, or give less at once")]
    Memory(usize),
    /// The system starts no more threads.
    #[error(
        "no worker thread can be started ({0}); end other processes, or raise the limit (ulimit -u)"
    )]
    Threads(String),
    /// A bug.
    #[error("internal error, please report it: {0}")]
    Internal(String),
    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

/// The result of a core function.
pub type Result<T> = std::result::Result<T, Error>;
