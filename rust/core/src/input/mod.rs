//! From documents to windows: ragged token ids, which windows are candidates, and sets of k-grams.

pub mod documents;
pub mod kgrams;
pub mod partition;
pub mod plan;
pub mod shown;
pub mod windows;
