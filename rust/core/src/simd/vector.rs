//! Vectors of 32-bit words, one word per lane: what the kernels of the generators are written in.

/// A vector of [`Vector::LANES`] words. Arithmetic wraps.
///
/// The methods of an implementation may be called only where its instruction set is enabled:
/// that is, in a [`Job`] that [`run`](super::run) handed this type to.
pub trait Vector: Copy + Send + Sync + 'static {
    /// Words in a vector.
    const LANES: usize;
    /// All lanes the same.
    fn splat(word: u32) -> Self;
    /// The first [`Vector::LANES`] words (of at least so many).
    fn load(words: &[u32]) -> Self;
    /// One lane.
    fn lane(&self, lane: usize) -> u32;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// The low half of the product.
    fn mul(self, other: Self) -> Self;
    /// The smaller of two unsigned words.
    fn min(self, other: Self) -> Self;
    /// Every lane rotated to the right, all by the same number below 32.
    fn rotate_right(self, bits: u32) -> Self;
    /// Bit l is set where lane l is at most `bound`, unsigned.
    fn at_most(self, bound: u32) -> u32;
    /// MT19937's seeding: `1812433253 * (self ^ (self >> 30)) + index`.
    fn seeded(self, index: u32) -> Self;
    /// MT19937's recurrence: the word after `self`, `next`, and `far` 397 words on.
    fn twisted(self, next: Self, far: Self) -> Self;
    /// MT19937's tempering.
    fn tempered(self) -> Self;

    // The same bits as LANES / 2 words of 64 bits, for hashes that compilers do not vectorise well.

    /// All words the same.
    fn splat64(word: u64) -> Self;
    /// The first LANES / 2 words, each in 64 bits.
    fn widened(words: &[u32]) -> Self;
    /// Writes LANES / 2 words.
    fn store64(self, out: &mut [u64]);
    /// `self + other`.
    fn add64(self, other: Self) -> Self;
    /// `self ^ other`.
    fn xor(self, other: Self) -> Self;
    /// Every word rotated to the left by L; R is 64 - L.
    fn rotated64<const L: u32, const R: u32>(self) -> Self;
}

/// Work whose loop is compiled for each instruction set.
pub trait Job {
    /// The result.
    type Output;
    /// Does the job. Implementations, and what they call in their loops, are `#[inline(always)]`:
    /// code that is not inlined is compiled for the processor that all builds must run on.
    fn run<V: Vector>(self) -> Self::Output;
}
