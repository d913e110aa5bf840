//! Checks of parameters that schemes share. Messages never show a key.

use crate::error::{Error, Result};
use crate::key::MAX_CONTEXT_WIDTH;

/// Vocabularies of 2 to 2^20 entries.
pub(crate) fn vocab_size(value: u32) -> Result<()> {
    if (2..=1 << 20).contains(&value) {
        return Ok(());
    }
    Err(Error::Scheme(format!(
        "vocab_size must be from 2 to 1048576, not {value}"
    )))
}

/// Contexts of 1 to 64 tokens.
pub(crate) fn context_width(value: usize) -> Result<()> {
    width("context_width", value, 1, MAX_CONTEXT_WIDTH)
}

/// A width within its range.
pub(crate) fn width(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::Scheme(format!(
        "{name} must be from {low} to {high}, not {value}"
    )))
}

/// A share of the vocabulary strictly between 0 and 1.
pub(crate) fn share(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(Error::Scheme(format!(
        "{name} must be above 0 and below 1, not {value}"
    )))
}

/// A key that must fit torch's int64; the value stays unsaid.
pub(crate) fn int64(name: &str, value: u64) -> Result<()> {
    if i64::try_from(value).is_ok() {
        return Ok(());
    }
    Err(Error::Scheme(format!(
        "{name} must be below 2^63 (its value is a secret and not shown)"
    )))
}

/// `int(gamma * vocab_size)`, the length of a green list.
pub(crate) fn green_list(gamma: f64, vocab: u32) -> Result<u32> {
    share("gamma", gamma)?;
    let green = (gamma * f64::from(vocab)) as u32;
    if (1..vocab).contains(&green) {
        return Ok(green);
    }
    Err(Error::Scheme(format!(
        "gamma = {gamma} leaves {green} green tokens of {vocab}; at least 1 must be green and 1 red"
    )))
}

/// A share that may be 0 or 1.
pub(crate) fn closed_share(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::Scheme(format!(
        "{name} must be from 0 to 1, not {value}"
    )))
}

/// The only key of a scheme.
pub(crate) fn one_key(index: usize) -> Result<()> {
    match index {
        0 => Ok(()),
        _ => Err(key_index(index, 1)),
    }
}

/// The error of a key index that the scheme does not have.
pub(crate) fn key_index(index: usize, count: usize) -> Error {
    Error::Argument(format!(
        "key_index must be from 0 to {}, not {index}",
        count - 1
    ))
}
