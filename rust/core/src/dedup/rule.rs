//! What counts as a repetition.

/// The deduplication rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Each distinct unit once.
    Unit,
    /// Each distinct window once.
    Window,
    /// Each distinct context once, with the target of its first occurrence.
    Context,
    /// Every window.
    None,
}
