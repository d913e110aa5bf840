//! Every scheme by its name, and the named parameters that it is made from.
//!
//! A scheme's file has a constructor that takes what it needs out of [`Params`]; its line in
//! [`SCHEMES`] is all that the rest of the core knows of it.

use super::gumbel::GumbelMax;
use super::keyed::Keyed;
use super::kgw::Kgw;
use super::sbw::Sbw;
use super::sglang::SglangGumbel;
use super::synthid::{SynthId, SynthIdDeepMind};
use super::textseal::TextSeal;
use super::vllm::VllmGumbel;
use super::{Scheme, check};
use crate::error::{Error, Result};
use crate::key::MAX_CONTEXT_WIDTH;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes a scheme from the parameters that it takes.
type Constructor = fn(&mut Params) -> Result<Arc<dyn Scheme>>;

/// The schemes, one line each.
const SCHEMES: &[(&str, Constructor)] = &[
    ("kgw", Kgw::from_params),
    ("gumbel_max", GumbelMax::from_params),
    ("synthid", SynthId::from_params),
    ("synthid_deepmind", SynthIdDeepMind::from_params),
    ("textseal", TextSeal::from_params),
    ("vllm_gumbel", VllmGumbel::from_params),
    ("vllm_dual_key_gumbel", VllmGumbel::dual_from_params),
    ("sglang_gumbel", SglangGumbel::from_params),
    ("sbw", Sbw::from_params),
    ("keyed", Keyed::from_params),
];

/// The names of all schemes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|&(name, _)| name)
}

/// The scheme of that name.
///
/// # Errors
/// [`Error::Scheme`] if there is no such scheme, or a parameter is missing, unknown, of the wrong
/// type or out of range.
pub fn build(name: &str, mut params: Params) -> Result<Arc<dyn Scheme>> {
    let Some(&(_, make)) = SCHEMES.iter().find(|&&(known, _)| known == name) else {
        let known: Vec<_> = names().collect();
        return Err(Error::Scheme(format!(
            "there is no compiled scheme {name:?}; there are {}",
            known.join(", ")
        )));
    };
    let scheme = make(&mut params)?;
    match params.0.first_key_value() {
        None => Ok(scheme),
        Some((unknown, _)) => Err(Error::Scheme(format!(
            "the compiled scheme {name} has no parameter {unknown}"
        ))),
    }
}

/// Checks the windows of a scheme that is computed elsewhere.
///
/// # Errors
/// [`Error::Scheme`] if the vocabulary or the width is out of range.
pub fn check_windows(vocab_size: u32, window_width: usize) -> Result<()> {
    check::vocab_size(vocab_size)?;
    check::width("window_width", window_width, 2, MAX_CONTEXT_WIDTH + 1)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: i128 = 7_312_345_678_901_234_567;

    fn params(values: impl IntoIterator<Item = (&'static str, Value)>) -> Params {
        let mut params = Params::default();
        for (name, value) in values {
            params.insert(name, value);
        }
        params
    }

    fn refused(name: &str, changed: (&'static str, Value)) -> String {
        let mut values = params([
            ("vocab_size", Value::Integer(500)),
            ("context_width", Value::Integer(2)),
            ("key", Value::Integer(SECRET)),
            ("alpha", Value::Float(0.1)),
        ]);
        values.insert(changed.0, changed.1);
        match build(name, values) {
            Ok(_) => "nothing".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wrong_parameter_is_named_and_a_key_never_shown() {
        let name = "vllm_dual_key_gumbel";
        let cases = [
            (("alpha", Value::Float(0.5)), "nothing"),
            (("alpha", Value::Integer(1)), "nothing"),
            (
                ("alpha", Value::Float(1.5)),
                "alpha must be from 0 to 1, not 1.5",
            ),
            (
                ("alpha", Value::Text("x".into())),
                "alpha must be a number, not text",
            ),
            (
                ("vocab_size", Value::Integer(-1)),
                "vocab_size must be from 0 to 4294967295, not -1",
            ),
            (
                ("vocab_size", Value::Float(9.0)),
                "vocab_size must be an integer, not a number",
            ),
            (
                ("key", Value::Integer(-SECRET)),
                "key must be from 0 to 2^64 - 1 (its value is a secret and not shown)",
            ),
            (
                ("key", Value::Integers(vec![SECRET])),
                "key must be an integer, not a list of integers",
            ),
            (
                ("gamma", Value::Float(0.5)),
                "the compiled scheme vllm_dual_key_gumbel has no parameter gamma",
            ),
        ];
        for (changed, expected) in cases {
            assert_eq!(refused(name, changed), expected);
        }
    }

    #[test]
    fn a_missing_parameter_and_an_unknown_scheme_are_named() {
        for name in names() {
            let error = build(name, Params::default()).err().map(|e| e.to_string());
            let missing = error.is_some_and(|error| error.contains(" is missing"));
            assert!(missing, "{name}");
        }
        let unknown = refused("kwg", ("alpha", Value::Float(0.5)));
        assert!(
            unknown.starts_with("there is no compiled scheme \"kwg\"; there are kgw, gumbel_max")
        );
    }
}
