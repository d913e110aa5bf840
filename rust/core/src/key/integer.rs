//! The integers that hold packed windows.

use crate::recycler::Recycled;
use std::hash::Hash;

/// An unsigned integer that holds a packed window; its order is that of the tokens, oldest first.
pub trait Key: Copy + Eq + Ord + Hash + Default + Send + Sync + Recycled + 'static {
    /// Bits it has.
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
    /// A fixed 64-bit hash of the key: for partitions, never for identity.
    fn mix(self) -> u64;
    /// The key in 64 bits, as it is if it fits: for small tables.
    fn fold(self) -> u64;
    /// A fixed function of the key whose highest bits spread, at the cost of one product: for
    /// partitions only.
    #[inline(always)]
    fn spread(self) -> u64 {
        self.fold().wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
    /// Appends the little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
    /// Reads what [`Key::write`] wrote, from exactly [`Key::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
}
