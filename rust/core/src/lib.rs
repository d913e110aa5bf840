//! The exact core of radscore: token ids become windows, windows become units, a keyed scheme
//! scores each unit once, a tally adds. No Python anywhere.
//!
//! Each module uses only those above it in this list (`tests/layers.rs` checks it):
//! `error`, `memory`, `interrupt`, `threads`, `recycler`, `io`, `key`, `simd`, `prng`, `schemes`, `input`,
//! `dedup`, `score`, `spill`, `scorer`.

mod dedup;
mod error;
mod input;
mod interrupt;
mod io;
mod key;
pub mod memory;
mod prng;
mod recycler;
pub mod schemes;
mod score;
mod scorer;
pub mod simd;
mod spill;
mod threads;

pub use dedup::rule::Rule;
pub use dedup::sharing::Sharing;
pub use error::{Error, Result};
pub use input::documents::{Documents, TokenSlice};
pub use input::kgrams::{KgramCounts, KgramSet};
pub use input::plan::WindowShape;
pub use input::source::{PromptRole, Source};
pub use interrupt::Check;
pub use io::files::SavedFile;
pub use io::records::Reader;
pub use key::PADDING;
pub use recycler::BlockRecycler;
pub use score::matched::matched;
pub use score::options::Options;
pub use score::per_document::{
    DocumentTally, Positions, positions, score_documents, score_sharing,
};
pub use score::tally::Tally;
pub use score::weighted::{Combine, Damping};
pub use scorer::Scorer;
pub use scorer::reducer::{Exchange, Reducer};
pub use spill::budget::Budget;
pub use spill::collector::Collector;
pub use spill::shard_file::{Finished, ShardFile};
pub use threads::Pool;
