//! The generators and hashes that watermarks are built from, bit for bit: one at a time, and (`_lanes`)
//! many side by side.

pub mod mt19937;
pub mod mt19937_lanes;
pub mod murmur;
pub mod philox;
pub mod siphash;
pub mod siphash_lanes;
pub mod uniforms;
