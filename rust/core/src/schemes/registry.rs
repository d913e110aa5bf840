//! Every scheme by its name.
//!
//! A scheme's file has a constructor that takes what it needs out of [`Params`]; its line in
//! [`SCHEMES`] is all that the rest of the core knows of it.

use super::gumbel::GumbelMax;
use super::keyed::Keyed;
use super::kgw::Kgw;
pub use super::params::{Params, Value};
use super::sbw::Sbw;
use super::sglang::SglangGumbel;
use super::synthid::{SynthId, SynthIdDeepMind};
use super::textseal::TextSeal;
use super::vllm::VllmGumbel;
use super::{Scheme, check};
use crate::error::{Error, Result};
use crate::key::MAX_CONTEXT_WIDTH;
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
    match params.left() {
        None => Ok(scheme),
        Some(unknown) => Err(Error::Scheme(format!(
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
