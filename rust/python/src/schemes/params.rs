//! A scheme's named parameters, from Python's keyword arguments.

use crate::errors::scheme_error;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use radscore_core::schemes::registry::{Params, Value};

/// The named parameters of a scheme; those that are None are left out.
pub fn params(values: Option<&Bound<'_, PyDict>>) -> PyResult<Params> {
    let mut params = Params::default();
    for (name, value) in values.into_iter().flatten() {
        let name: String = name.extract()?;
        if let Some(value) = parameter(&name, &value)? {
            params.insert(name, value);
        }
    }
    Ok(params)
}

/// The value of a parameter. It may be a key, so no message shows it.
fn parameter(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
    let integer = |value: &Bound<'_, PyAny>| {
        let wide = || scheme_error(format!("{name} must be an integer of at most 64 bits"));
        value.extract::<i128>().map_err(|_| wide())
    };
    Ok(Some(if value.is_none() {
        return Ok(None);
    } else if let Ok(flag) = value.cast::<PyBool>() {
        Value::Flag(flag.is_true())
    } else if value.is_instance_of::<PyInt>() {
        Value::Integer(integer(value)?)
    } else if value.is_instance_of::<PyFloat>() {
        Value::Float(value.extract()?)
    } else if value.is_instance_of::<PyString>() {
        Value::Text(value.extract()?)
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().to_vec())
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let values = value.try_iter()?.map(|item| integer(&item?));
        Value::Integers(values.collect::<PyResult<_>>()?)
    } else {
        return Err(scheme_error(format!(
            "{name} must be a number, text, bytes, true or false, or a list of integers, not {}",
            value.get_type().name()?
        )));
    }))
}
