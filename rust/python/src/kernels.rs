//! `_core.kernel`, `_core.set_kernel`, `_core.available_kernels`: which instruction set computes.

use crate::errors::to_py;
use pyo3::prelude::*;
use radscore_core::simd::{self, Kernel};

/// The kernel in force.
#[pyfunction]
pub fn kernel() -> &'static str {
    simd::active().name()
}

/// Puts a kernel in force, or the fastest (`auto`).
#[pyfunction]
pub fn set_kernel(name: &str) -> PyResult<()> {
    let set = Kernel::from_name("kernel", name).and_then(simd::set);
    set.map_err(to_py)
}

/// The kernels that this processor runs, slowest first.
#[pyfunction]
pub fn available_kernels() -> Vec<&'static str> {
    Kernel::available()
        .iter()
        .map(|kernel| kernel.name())
        .collect()
}

/// Puts in force the kernel that the environment asks for, or says why not.
pub fn init() -> PyResult<()> {
    let set = Kernel::from_environment().and_then(simd::set);
    set.map_err(to_py)
}
