//! What counts as a repetition.

/// The deduplication rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Each distinct unit counts once.
    Unit,
    /// Each distinct window counts once.
    Window,
    /// Each distinct context counts once, with the target of its first occurrence.
    Context,
    /// Every window counts.
    None,
}
