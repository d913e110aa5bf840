//! Sums of f64 without rounding: a fixed-point number wide enough for every finite f64, rounded once
//! when it is read. A sum depends on what was added, never on the order, the threads or the machines (R. M. Neal, "Fast exact summation using small and large superaccumulators", 2015).

/// Limbs of 32 payload bits; limb 0 starts at 2^-1074.
const LIMBS: usize = 68;
/// Additions until a limb of 63 bits could overflow.
const ADDS_BETWEEN_CARRIES: u32 = 1 << 30;

/// An exact sum of finite f64, in 552 bytes. Adding one number touches three limbs.
#[derive(Debug, Clone)]
pub struct ExactSum {
    limbs: [i64; LIMBS],
    adds: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self {
            limbs: [0; LIMBS],
            adds: 0,
        }
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.carried() == other.carried()
    }
}

impl ExactSum {
    /// Adds one finite number (others are a bug of the caller and are ignored in release).
    #[inline]
    pub fn add(&mut self, x: f64) {
        debug_assert!(x.is_finite());
        let bits = x.to_bits();
        let exponent = (bits >> 52) as usize & 0x7FF;
        let mantissa = (bits & ((1 << 52) - 1)) | (u64::from(exponent != 0) << 52);
        let position = exponent.max(1) - 1;
        let wide = u128::from(mantissa) << (position & 31);
        let at = (position >> 5).min(LIMBS - 4);
        let sign = if bits >> 63 == 1 { -1 } else { 1 };
        self.limbs[at] += sign * i64::from(wide as u32);
        self.limbs[at + 1] += sign * i64::from((wide >> 32) as u32);
        self.limbs[at + 2] += sign * i64::from((wide >> 64) as u32);
        self.adds += 1;
        if self.adds >= ADDS_BETWEEN_CARRIES {
            self.carry();
        }
    }

    /// Adds the numbers with these bits.
    pub fn add_all(&mut self, words: &[u64]) {
        crate::simd::sum::add_all(words, |x| self.add(x));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.carry();
        for (limb, more) in self.limbs.iter_mut().zip(other.carried()) {
            *limb += more;
        }
        self.adds = 2;
    }

    fn carry(&mut self) {
        self.limbs = self.carried();
        self.adds = 1;
    }

    /// All limbs but the last in 0..2^32; the last one carries the sign.
    fn carried(&self) -> [i64; LIMBS] {
        let mut limbs = self.limbs;
        for i in 0..LIMBS - 1 {
            limbs[i + 1] += limbs[i] >> 32;
            limbs[i] &= 0xFFFF_FFFF;
        }
        limbs
    }

    /// The sum, rounded once to the nearest f64 (ties to even).
    pub fn value(&self) -> f64 {
        let mut limbs = self.carried();
        let negative = limbs[LIMBS - 1] < 0;
        if negative {
            limbs.iter_mut().for_each(|limb| *limb = -*limb);
            limbs = Self { limbs, adds: 0 }.carried();
        }
        let Some(top) = limbs.iter().rposition(|&limb| limb != 0) else {
            return 0.0;
        };
        // The 128 bits from limb top - 3 to limb top hold at least 97 significant bits (the last
        // limb never exceeds 32 bits for sums of fewer than 2^60 numbers); below is only "sticky".
        let low = top.saturating_sub(3);
        let mut window = limbs[low..=top]
            .iter()
            .rev()
            .fold(0u128, |acc, &l| (acc << 32) | l as u128);
        let sticky = limbs[..low].iter().any(|&limb| limb != 0);
        let length = 128 - window.leading_zeros() as i32;
        // Exponent of the lowest bit of the window, and of the lowest bit that is kept.
        let base = 32 * low as i32 - 1074;
        let keep = (base + length - 53).max(-1074);
        let drop = keep - base;
        if drop > 0 {
            let rest = window & ((1 << drop) - 1);
            let half = 1u128 << (drop - 1);
            window >>= drop;
            if rest > half || (rest == half && (sticky || window & 1 == 1)) {
                window += 1;
            }
        }
        let lowest = if drop > 0 { keep } else { base };
        let magnitude = libm::ldexp(window as f64, lowest);
        if negative { -magnitude } else { magnitude }
    }

    /// Appends the little-endian limbs.
    pub fn write(&self, out: &mut Vec<u8>) {
        for limb in self.carried() {
            out.extend_from_slice(&limb.to_le_bytes());
        }
    }

    /// Bytes that [`ExactSum::write`] writes.
    pub const BYTES: usize = LIMBS * 8;

    /// Reads what [`ExactSum::write`] wrote.
    pub fn read(bytes: &[u8]) -> Self {
        let mut limbs = [0; LIMBS];
        for (limb, raw) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = <u64 as crate::key::Key>::read(raw) as i64;
        }
        Self { limbs, adds: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&x| sum.add(x));
        sum.value()
    }

    #[test]
    fn rounds_once() {
        // Expected values: math.fsum of CPython 3.11.
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 10000000000000002.0);
        assert_eq!(sum(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(sum(&[-1e100, 1.0, 1e100, 5e-324]), 1.0);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[-5e-324]), -5e-324);
        assert_eq!(sum(&[f64::MAX]), f64::MAX);
        assert_eq!(
            sum(&[2.2250738585072014e-308, -5e-324]),
            2.225073858507201e-308
        );
    }

    /// Scores of every size, and what cannot be cut into integers among them.
    #[test]
    fn many_at_once() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 * 2f64.powi(-53)
        };
        for (count, odd) in [
            (0, None),
            (15, None),
            (16, None),
            (40_007, None),
            (1000, Some(5e-324)),
            (1000, Some(1e-12)),
            (1000, Some(-1e300)),
            (1000, Some(-0.0)),
            (1000, Some(2f64.powi(-96) * (1.0 + 2f64.powi(-52)))),
            (1000, Some(1e-100)),
        ] {
            let mut numbers: Vec<f64> = (0..count)
                .map(|i| match i % 50 {
                    0 => 0.0,
                    1 => 4_194_304.0,
                    2 => 2f64.powi(-30) * (1.0 + 2f64.powi(-52)),
                    3 => -uniform() * 1e6,
                    _ => -libm::log(1.0 - uniform()),
                })
                .collect();
            numbers.extend(odd);
            let mut expected = ExactSum::default();
            numbers.iter().for_each(|&x| expected.add(x));
            let words: Vec<u64> = numbers.iter().map(|x| x.to_bits()).collect();
            let mut sum = ExactSum::default();
            sum.add_all(&words);
            assert_eq!(sum, expected, "{count} {odd:?}");
        }
    }

    #[test]
    fn is_one_rounding_of_integers() {
        // Sums of random 60-bit integers: the exact answer is an i128.
        let mut state = 1u64;
        for _ in 0..2000 {
            let mut exact = 0i128;
            let mut sum = ExactSum::default();
            let mut other = ExactSum::default();
            for i in 0..20 {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let x = ((state >> 11) as i64 - (1 << 52)) as f64 * (1u64 << (state & 31)) as f64;
                exact += x as i128;
                if i % 2 == 0 { sum.add(x) } else { other.add(x) }
            }
            sum.merge(&other);
            assert_eq!(sum.value(), exact as f64);
            let mut bytes = Vec::new();
            sum.write(&mut bytes);
            assert_eq!(ExactSum::read(&bytes), sum);
        }
    }
}
