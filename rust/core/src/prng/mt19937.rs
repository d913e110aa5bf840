//! MT19937 as torch's CPU generator seeds and reads it (Matsumoto and Nishimura 1998).

/// Words of state, and so of one block of output.
pub const WORDS: usize = 624;
/// How far ahead the second word of the recurrence lies.
pub(crate) const SHIFT: usize = 397;

/// One block of tempered output.
pub type Block = [u32; WORDS];

/// The generator, advanced a whole block at a time: 624 words of state, which [`Mt19937::twist`]
/// replaces by the next 624.
///
/// The loops leave it to the compiler to use whatever vector instructions the calling function
/// enables; hence `inline(always)`.
#[derive(Clone)]
pub struct Mt19937 {
    state: [u32; WORDS],
}

impl Mt19937 {
    /// `torch.Generator().manual_seed(seed)`: only the low 32 bits of torch's seed matter.
    #[inline(always)]
    #[must_use]
    pub fn new(seed: u32) -> Self {
        let mut state = [0; WORDS];
        let mut word = seed;
        for (j, slot) in (0u32..).zip(state.iter_mut()) {
            if j > 0 {
                word = 1_812_433_253u32
                    .wrapping_mul(word ^ (word >> 30))
                    .wrapping_add(j);
            }
            *slot = word;
        }
        Self { state }
    }

    /// Advances to the next 624 words; called before the first of them is read.
    #[inline(always)]
    pub fn twist(&mut self) {
        let state = &mut self.state;
        let mut low = [0u32; WORDS - SHIFT];
        for (i, out) in low.iter_mut().enumerate() {
            *out = state[i + SHIFT] ^ mix(state[i], state[i + 1]);
        }
        let mut middle = [0u32; WORDS - SHIFT];
        for (i, out) in middle.iter_mut().enumerate() {
            *out = low[i] ^ mix(state[i + 227], state[i + 228]);
        }
        state[..227].copy_from_slice(&low);
        state[227..454].copy_from_slice(&middle);
        let (fresh, high) = state.split_at_mut(454);
        for i in 0..169 {
            high[i] = fresh[i + 227] ^ mix(high[i], high[i + 1]);
        }
        state[623] = state[396] ^ mix(state[623], state[0]);
    }

    /// Tempers the current block.
    #[inline(always)]
    pub fn temper(&self, block: &mut Block) {
        for (out, &word) in block.iter_mut().zip(&self.state) {
            *out = temper(word);
        }
    }

    /// Word `index` (below 624) of the current block, tempered.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, index: usize) -> u32 {
        temper(self.state[index])
    }
}

#[inline(always)]
fn mix(high: u32, low: u32) -> u32 {
    let joined = (high & 0x8000_0000) | (low & 0x7fff_ffff);
    (joined >> 1) ^ ((low & 1).wrapping_neg() & 0x9908_b0df)
}

/// The output made of a word of state.
#[inline(always)]
pub(crate) fn temper(mut y: u32) -> u32 {
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^ (y >> 18)
}

/// The words one by one: for few of them, and the oracle of what works block by block.
pub struct Words {
    generator: Mt19937,
    next: usize,
}

impl Words {
    /// All draws of a generator seeded with `seed`.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self {
            generator: Mt19937::new(seed),
            next: WORDS,
        }
    }

    /// `next_u32`.
    pub fn draw(&mut self) -> u32 {
        if self.next == WORDS {
            self.generator.twist();
            self.next = 0;
        }
        self.next += 1;
        self.generator.word(self.next - 1)
    }
}

/// `torch.randperm(n, generator=g)` for a fresh CPU generator seeded with `seed`.
#[must_use]
pub fn randperm(seed: u32, n: u32) -> Vec<u32> {
    let mut words = Words::new(seed);
    let mut entries: Vec<u32> = (0..n).collect();
    for i in 0..n.saturating_sub(1) {
        let z = words.draw() % (n - i);
        entries.swap(i as usize, (i + z) as usize);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matsumoto and Nishimura's mt19937ar.c, init_genrand(5489): the 10,000th output
    /// (also fixed by the C++ standard, [rand.predef]).
    #[test]
    fn ten_thousandth_output() {
        let mut words = Words::new(5489);
        let last = (0..10_000).map(|_| words.draw()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    /// The crate `rand_mt`, on random seeds: word by word, and block by block.
    #[test]
    fn agrees_with_rand_mt() {
        let mut random = rand_mt::Mt64::new(3);
        for seed in (0..40).map(|_| random.next_u32()).chain([0, 1, u32::MAX]) {
            let mut oracle = rand_mt::Mt::new(seed);
            let expected: Vec<u32> = (0..3 * WORDS).map(|_| oracle.next_u32()).collect();
            let mut words = Words::new(seed);
            assert!(expected.iter().all(|&word| word == words.draw()), "{seed}");
            let mut generator = Mt19937::new(seed);
            for expected in expected.chunks(WORDS) {
                let mut block = [0; WORDS];
                generator.twist();
                generator.temper(&mut block);
                assert_eq!(block, expected, "{seed}");
                assert_eq!(
                    generator.word(seed as usize % WORDS),
                    expected[seed as usize % WORDS]
                );
            }
        }
    }

    /// torch 2.15.0, CPU: torch.randperm(10, generator=torch.Generator().manual_seed(s)).
    #[test]
    fn randperm_is_torchs() {
        assert_eq!(randperm(0, 10), RANDPERM_0);
        assert_eq!(randperm(42, 10), RANDPERM_42);
    }
    const RANDPERM_0: [u32; 10] = [4, 1, 7, 5, 3, 9, 0, 8, 6, 2];
    const RANDPERM_42: [u32; 10] = [2, 6, 1, 8, 4, 5, 0, 9, 3, 7];
}
