//! The named parameters that a scheme is made from.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The value of a parameter. There is no `Debug`: it may be a key.
pub enum Value {
    /// Any integer of at most 64 bits, signed or not.
    Integer(i128),
    /// A number that is no integer.
    Float(f64),
    /// A switch.
    Flag(bool),
    /// A word.
    Text(String),
    /// A key of bytes.
    Bytes(Vec<u8>),
    /// Several keys.
    Integers(Vec<i128>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Integers(_) => "a list of integers",
        }
    }
}

/// Parameters by name. A constructor takes each that it knows; what is left is an error.
///
/// Messages name the parameter and what is allowed. They show the value of those that are never
/// secret (counts, shares, words), and of no other.
#[derive(Default)]
pub struct Params(BTreeMap<String, Value>);

impl Params {
    /// Adds a parameter, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// A public count or width.
    pub(super) fn count(&mut self, name: &str) -> Result<u32> {
        match self.take(name)? {
            Value::Integer(value) => u32::try_from(value).map_err(|_| {
                Error::Scheme(format!("{name} must be from 0 to 4294967295, not {value}"))
            }),
            other => Err(mistyped(name, "an integer", &other)),
        }
    }

    /// A number.
    pub(super) fn number(&mut self, name: &str) -> Result<f64> {
        match self.take(name)? {
            Value::Float(value) => Ok(value),
            Value::Integer(value) => Ok(value as f64),
            other => Err(mistyped(name, "a number", &other)),
        }
    }

    /// A number that may be left out.
    pub(super) fn optional_number(&mut self, name: &str) -> Result<Option<f64>> {
        self.0
            .contains_key(name)
            .then(|| self.number(name))
            .transpose()
    }

    /// A switch.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name)? {
            Value::Flag(value) => Ok(value),
            other => Err(mistyped(name, "true or false", &other)),
        }
    }

    /// A word.
    pub(super) fn text(&mut self, name: &str) -> Result<String> {
        match self.take(name)? {
            Value::Text(value) => Ok(value),
            other => Err(mistyped(name, "text", &other)),
        }
    }

    /// A word that may be left out.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>> {
        self.0
            .contains_key(name)
            .then(|| self.text(name))
            .transpose()
    }

    /// An unsigned key or seed.
    pub(super) fn secret(&mut self, name: &str) -> Result<u64> {
        match self.take(name)? {
            Value::Integer(value) => {
                u64::try_from(value).map_err(|_| hidden(name, "0 to 2^64 - 1"))
            }
            other => Err(mistyped(name, "an integer", &other)),
        }
    }

    /// An unsigned key or seed that may be left out.
    pub(super) fn optional_secret(&mut self, name: &str) -> Result<Option<u64>> {
        self.0
            .contains_key(name)
            .then(|| self.secret(name))
            .transpose()
    }

    /// A signed key.
    pub(super) fn signed_secret(&mut self, name: &str) -> Result<i64> {
        match self.take(name)? {
            Value::Integer(value) => signed(name, value),
            other => Err(mistyped(name, "an integer", &other)),
        }
    }

    /// Signed keys.
    pub(super) fn signed_secrets(&mut self, name: &str) -> Result<Vec<i64>> {
        match self.take(name)? {
            Value::Integers(values) => values
                .into_iter()
                .map(|value| signed(name, value))
                .collect(),
            other => Err(mistyped(name, "a list of integers", &other)),
        }
    }

    /// A key of bytes.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        match self.take(name)? {
            Value::Bytes(value) => Ok(value),
            other => Err(mistyped(name, "bytes", &other)),
        }
    }

    /// One that no constructor has taken.
    pub(super) fn left(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }

    fn take(&mut self, name: &str) -> Result<Value> {
        self.0
            .remove(name)
            .ok_or_else(|| Error::Scheme(format!("the parameter {name} is missing")))
    }
}

fn signed(name: &str, value: i128) -> Result<i64> {
    i64::try_from(value).map_err(|_| hidden(name, "-2^63 to 2^63 - 1"))
}

fn mistyped(name: &str, wanted: &str, given: &Value) -> Error {
    Error::Scheme(format!("{name} must be {wanted}, not {}", given.kind()))
}

fn hidden(name: &str, range: &str) -> Error {
    Error::Scheme(format!(
        "{name} must be from {range} (its value is a secret and not shown)"
    ))
}
