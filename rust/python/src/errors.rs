//! The one map from errors of the core to Python's exceptions, and the one way to run detached.

use pyo3::prelude::*;
use radscore_core::{Error, Result};

mod classes {
    #![allow(missing_docs)]
    pyo3::import_exception!(radscore.errors, ArgumentError);
    pyo3::import_exception!(radscore.errors, SchemeError);
    pyo3::import_exception!(radscore.errors, StateError);
    pyo3::import_exception!(radscore.errors, TokenError);
}

/// The Python exception of a core error.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Argument(text) => classes::ArgumentError::new_err(text),
        Error::Scheme(text) => classes::SchemeError::new_err(text),
        Error::Tokens(text) => classes::TokenError::new_err(text),
        Error::State(text) => classes::StateError::new_err(text),
        Error::Interrupted => pyo3::exceptions::PyKeyboardInterrupt::new_err(()),
    }
}

/// A `TokenError`.
pub fn token_error(text: impl Into<String>) -> PyErr {
    classes::TokenError::new_err(text.into())
}

/// An `ArgumentError`.
pub fn argument_error(text: impl Into<String>) -> PyErr {
    classes::ArgumentError::new_err(text.into())
}

/// Runs `work` without holding the interpreter. The function that `work` gets lets Python's signal
/// handlers run, and fails once one of them raised; that exception is what is raised here then.
pub fn detached<R: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<R> + Send,
) -> PyResult<R> {
    let mut raised = None;
    let done = py.detach(|| {
        work(&mut || match Python::attach(|py| py.check_signals()) {
            Ok(()) => Ok(()),
            Err(error) => {
                raised = Some(error);
                Err(Error::Interrupted)
            }
        })
    });
    done.map_err(|error| match (error, raised) {
        (Error::Interrupted, Some(raised)) => raised,
        (error, _) => to_py(error),
    })
}
