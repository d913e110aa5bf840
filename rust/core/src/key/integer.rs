//! What the integers that hold a packed window can do.

use crate::recycler::Lasting;
use std::hash::Hash;

/// An unsigned integer that holds a packed window.
pub trait Key: Copy + Eq + Ord + Hash + Default + Send + Sync + Lasting + 'static {
    /// Bits that fit.
    const BITS: u32;
    /// Bytes of the little-endian form.
    const BYTES: usize = Self::BITS as usize / 8;
    /// `self * 2^bits + code`, without a mask.
    fn push(self, code: u32, bits: u32) -> Self;
    /// The lowest `bits` bits of the number.
    fn mask(self, bits: u32) -> Self;
    /// The number without its lowest `bits` bits.
    fn pop(self, bits: u32) -> Self;
    /// The lowest 32 bits.
    fn low(self) -> u32;
    /// A well-mixed fixed 64-bit function of the key (for partitions only, never for identity).
    fn mix(self) -> u64;
    /// All bits in 64, unmixed where they fit: for small tables.
    fn fold(self) -> u64;
    /// A fixed function of the key whose highest bits spread (for partitions only), at the cost of
    /// one product.
    #[inline(always)]
    fn spread(self) -> u64 {
        self.fold().wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
    /// Appends the little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
    /// Reads what [`Key::write`] wrote, from exactly [`Key::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
}
