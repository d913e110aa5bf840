//! The Python module `radscore._core`: conversion between Python and the Rust crates, no arithmetic.
#![allow(missing_docs)] // The public interface is Python's; `_core.pyi` documents it.

use pyo3::prelude::*;

mod allocator;
mod documents;
mod errors;
mod kernels;
mod kgrams;
mod per_document;
mod schemes;
mod scorer;
mod shards;
mod tally;
mod tokenize;

#[pymodule]
mod _core {
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    use crate::kernels::{available_kernels, kernel, set_kernel};
    #[pymodule_export]
    use crate::kgrams::{KgramCounts, KgramSet};
    #[pymodule_export]
    use crate::per_document::{Sharing, score_documents, score_positions};
    #[pymodule_export]
    use crate::schemes::Scheme;
    #[pymodule_export]
    use crate::scorer::{Scorer, StateFile};
    #[pymodule_export]
    use crate::shards::{Reducer, WindowCollector, read_shard_header};
    #[pymodule_export]
    use crate::tally::Tally;
    #[pymodule_export]
    use crate::tokenize::FastTokenizer;

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::kernels::init()
    }
}
