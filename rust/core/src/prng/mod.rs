//! The generators and hashes that watermarks of the field are built from, bit for bit.

pub mod mt19937;
pub mod mt19937_lanes;
pub mod murmur;
pub mod philox;
pub mod siphash;
pub mod siphash_lanes;
pub mod uniforms;
