//! The map from errors of the core to Python's exceptions, and the way to run without the interpreter.

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::False;
use pyo3::{PyClass, PyRef, PyRefMut};
use radscore_core::{Check, Error, Result, memory};
use std::cell::Cell;

mod classes {
    #![allow(missing_docs)]
    pyo3::import_exception!(radscore.errors, ArgumentError);
    pyo3::import_exception!(radscore.errors, DamagedWindowsError);
    pyo3::import_exception!(radscore.errors, RadscoreError);
    pyo3::import_exception!(radscore.errors, SchemeError);
    pyo3::import_exception!(radscore.errors, StateError);
    pyo3::import_exception!(radscore.errors, StorageError);
    pyo3::import_exception!(radscore.errors, TokenError);
}

/// The Python exception of a core error.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Argument(text) => classes::ArgumentError::new_err(text),
        Error::Scheme(text) => classes::SchemeError::new_err(text),
        Error::Tokens(text) => classes::TokenError::new_err(text),
        Error::State(text) => classes::StateError::new_err(text),
        Error::Storage(text) => classes::StorageError::new_err(text),
        Error::Damaged { path, what } => classes::DamagedWindowsError::new_err((path, what)),
        Error::Threads(_) => classes::RadscoreError::new_err(error.to_string()),
        Error::Memory(_) => PyMemoryError::new_err(error.to_string()),
        Error::Internal(_) => PyRuntimeError::new_err(error.to_string()),
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

/// A `SchemeError`.
pub fn scheme_error(text: impl Into<String>) -> PyErr {
    classes::SchemeError::new_err(text.into())
}

/// Whether radscore raised an exception on purpose.
pub fn is_ours(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<classes::RadscoreError>(py)
}

/// An empty vector with room for as many values as the product of `factors`; a `MemoryError` that says
/// what is too large if there is no room.
pub fn reserve<T>(what: &str, factors: &[(usize, &str)]) -> PyResult<Vec<T>> {
    let mut out = Vec::new();
    let length = factors
        .iter()
        .try_fold(1usize, |product, &(factor, _)| product.checked_mul(factor));
    match length {
        Some(length) if out.try_reserve_exact(length).is_ok() => Ok(out),
        _ => {
            let sizes: Vec<String> = factors
                .iter()
                .map(|(factor, name)| format!("{factor} {name}"))
                .collect();
            Err(PyMemoryError::new_err(format!(
                "{what} do not fit into memory: {} x {} bytes",
                sizes.join(" x "),
                size_of::<T>()
            )))
        }
    }
}

/// Mutable access to an object; an `ArgumentError` while another call uses it.
pub fn borrow_mut<'py, T>(object: &Bound<'py, T>, what: &str) -> PyResult<PyRefMut<'py, T>>
where
    T: PyClass<Frozen = False>,
{
    object.try_borrow_mut().map_err(|_| busy(what))
}

/// Shared access to an object; an `ArgumentError` while another call changes it.
pub fn borrow<'py, T: PyClass>(object: &Bound<'py, T>, what: &str) -> PyResult<PyRef<'py, T>> {
    object.try_borrow().map_err(|_| busy(what))
}

thread_local! {
    /// Whether the last work on this thread has unwound.
    static UNWOUND: Cell<bool> = const { Cell::new(false) };
}

/// A value that changes call by call. One that ran out of memory, or ended in a bug, may have left it
/// half changed: then it can only be dropped.
pub struct Whole<T> {
    value: T,
    broken: bool,
}

impl<T> Whole<T> {
    /// A value that is whole.
    pub fn new(value: T) -> Self {
        Self {
            value,
            broken: false,
        }
    }

    /// The value, for calls that cannot leave it half changed.
    pub fn get(&mut self, what: &str) -> PyResult<&mut T> {
        self.check(what).map(|()| &mut self.value)
    }

    /// The value, to look at.
    pub fn see(&self, what: &str) -> PyResult<&T> {
        self.check(what).map(|()| &self.value)
    }

    /// Lets `work` change it.
    pub fn change<R>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut T) -> PyResult<R>,
    ) -> PyResult<R> {
        UNWOUND.set(false);
        let done = work(self.get(what)?);
        self.broken = UNWOUND.get();
        done
    }

    fn check(&self, what: &str) -> PyResult<()> {
        match self.broken {
            true => Err(classes::StateError::new_err(format!(
                "the {what} is incomplete, since a call on it has failed for lack of memory: load \
                 what was saved last, or begin anew"
            ))),
            false => Ok(()),
        }
    }
}

fn busy(what: &str) -> PyErr {
    argument_error(format!(
        "the {what} is busy: another call on it, from a thread or interrupted by a signal, has not \
         ended"
    ))
}

/// Runs `work` without holding the interpreter. Its interrupt check lets Python's signal handlers run,
/// and fails once one of them has raised; then that exception is raised here.
pub fn detached<R: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut Check<'_>) -> Result<R> + Send,
) -> PyResult<R> {
    detached_unless(py, |_| Ok(()), work)
}

/// [`detached`], where `failed` may raise too: before `work`, whenever it lets signal handlers run,
/// and after it.
pub fn detached_unless<R: Send>(
    py: Python<'_>,
    failed: impl Fn(Python<'_>) -> PyResult<()> + Sync,
    work: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<R> + Send,
) -> PyResult<R> {
    failed(py)?;
    let mut raised = None;
    let done = py.detach(|| {
        memory::caught(|| {
            work(
                &mut || match Python::attach(|py| py.check_signals().and_then(|()| failed(py))) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        raised = Some(error);
                        Err(Error::Interrupted)
                    }
                },
            )
        })
    });
    UNWOUND.set(matches!(done, Err(Error::Memory(_) | Error::Internal(_))));
    match (done, raised) {
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (done, _) => {
            failed(py)?;
            done.map_err(to_py)
        }
    }
}
