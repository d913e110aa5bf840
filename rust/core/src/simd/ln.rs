//! The natural logarithm of scores, for many numbers at once and to the same bit.
//!
//! It is FreeBSD's `e_log.c`, as in the crate `libm`, without the cases that do not occur. Each
//! operation is an IEEE addition, multiplication or division, in the same order (Rust never fuses
//! them), so that vectors round as the scalar function does. Tests compare the two.

use super::lanes::Lanes;

const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
const LG: [f64; 7] = [
    f64::from_bits(0x3fe5_5555_5555_5593),
    f64::from_bits(0x3fd9_9999_9997_fa04),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fc2_f112_df3e_5244),
];

/// `libm::log(x)` for normal positive numbers.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const SQRT_HALF: u64 = 0x3fe6_a09e;
    let bits = x.to_bits();
    // x = 2^k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2).
    let high = (bits >> 32) + (0x3ff0_0000 - SQRT_HALF);
    let k = f64::from((high >> 20) as i32 - 0x3ff);
    let high = (high & 0x000f_ffff) + SQRT_HALF;
    let f = f64::from_bits((high << 32) | (bits & 0xffff_ffff)) - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (LG[1] + w * (LG[3] + w * LG[5]));
    let odd = z * (LG[0] + w * (LG[2] + w * (LG[4] + w * LG[6])));
    let r = odd + even;
    s * (half_square + r) + k * LN2_LO - half_square + f + k * LN2_HI
}

/// The Gumbel-max scores `-ln(1 - u)` of uniforms below 1.
#[inline(always)]
pub fn exponentials(uniforms: Lanes<f64>) -> Lanes<f64> {
    uniforms.map(|u| 0.0 - ln(1.0 - u))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every uniform of 24 bits (vLLM's, torch's), and many of 53 and 32 bits.
    #[test]
    fn is_libms() {
        let check = |x: f64| assert_eq!(ln(x).to_bits(), libm::log(x).to_bits(), "{x}");
        for n in 0..1u32 << 24 {
            check(1.0 - f64::from(n) * 2f64.powi(-24));
            check(1.0 - f64::from((f64::from(n + 1) / 16_777_217.0) as f32));
        }
        let mut state = 1u64;
        for _ in 0..1 << 22 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            check(1.0 - (state >> 11) as f64 * 2f64.powi(-53));
            check(1.0 - ((state >> 32) as f64 + 0.5) * 2f64.powi(-32));
        }
        for n in 1..1000 {
            check(f64::from(n) * 2f64.powi(-53));
            check(1.0 - f64::from(n) * 2f64.powi(-53));
        }
    }
}
