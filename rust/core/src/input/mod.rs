//! From documents to windows: ragged token ids, which windows are candidates, and sets of k-grams.

pub mod counts;
pub mod documents;
pub mod kgrams;
pub mod partition;
pub mod plan;
pub mod prompts;
pub mod source;
pub mod windows;
