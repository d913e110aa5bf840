//! Value stability: vectors made by the tools that write the watermarks.

use super::{HASH, KEY, scores, units};
use radscore_core::PADDING as P;
use radscore_core::schemes::{
    GreenListKernel, GumbelMax, Keyed, Kgw, LM_TABLE_SEED, Prf, Sbw, Scheme, ScoreKind, Seeding,
    SeedingRule, SglangGumbel, Share, SynthId, SynthIdDeepMind, TableRule, TextSeal, VllmGumbel,
};
use radscore_core::{Error, Result};

fn seeds(scheme: &dyn Scheme, windows: &[u32]) -> Vec<u128> {
    units(scheme, windows)
        .iter()
        .map(|unit| unit >> 32)
        .collect()
}

type Seeds = (&'static str, bool, &'static [u32], [u128; 4]);

/// Package sbw 1.0.0 (its copy of lm-watermarking's functions) with torch 2.15.0; `multiplicative`
/// multiplies the key in outside of the tensor, as lm-watermarking does.
#[rustfmt::skip]
const LM_WATERMARKING: [Seeds; 22] = [
    ("multiplicative", false, &[17611, 74606, 8271, 33432, 15455, 64937, 99740, 58915, 61898, 85405, 49756, 27519, 12302, 63944, 3715, 51093, 56723, 79618, 99913, 276], [3914213715, 4147520856, 4097976402, 1293774934]),
    ("multiplicative", true, &[91204, 58377, 34908, 94573, 29984, 77483, 13399, 41606, 4009, 2925, 3335, 85137, 70964, 1206, 49965, 89978], [3569987225, 952459628, 1789749632, 258536648]),
    ("additive", false, &[28390, 55327, 95138, 3806, 69157, 29057, 57394, 64987, 72464, 30550, 45311, 30260, 88715, 28676, 99738, 60241, 37982, 2816, 54549, 72935], [2574740675, 1277089554, 3180825486, 4232766684]),
    ("additive", true, &[84186, 13107, 24367, 82490, 94848, 38848, 15845, 97405, 43607, 94566, 93217, 65640, 55326, 66547, 87858, 24883], [343001594, 1651030958, 4150880170, 3952896762]),
    ("minfunc", false, &[39763, 37245, 77015, 65452, 66228, 51557, 77201, 4525, 62944, 31816, 97482, 52990, 54304, 87129, 22676, 48119, 71932, 92148, 88406, 96759], [1245349771, 1354053339, 257126834, 2134899489]),
    ("minfunc", true, &[49113, 11333, 57535, 87000, 66640, 14146, 21456, 68280, 51544, 48565, 64185, 96045, 3876, 61514, 5699, 40439], [3702593539, 19685902, 451659795, 4188630140]),
    ("simple_skip", false, &[92193, 80584, 77749, 75782, 51589, 84824, 22328, 22097, 65829, 29745, 1612, 26151, 70728, 71871, 30431, 53012, 67341, 45065, 75732, 46304], [3249285646, 194828939, 1526986894, 2671852920]),
    ("simple_skip", true, &[60179, 35294, 86404, 71826, 79815, 95603, 748, 50290, 97059, 67174, 16940, 67984, 73578, 26933, 55848, 7356], [1193681703, 4020520600, 2528751467, 3631736440]),
    ("skipgram", false, &[63058, 47806, 74710, 72666, 26193, 66154, 54185, 63560, 46765, 54319, 45361, 207, 70579, 70793, 81722, 80275, 43402, 60050, 78624, 3666], [944170, 930120, 157048, 394070]),
    ("skipgram", true, &[30094, 83279, 23227, 72188, 76606, 23695, 12006, 72224, 33461, 4254, 88226, 9234, 10909, 2187, 59375, 1908], [11797, 894579, 737018, 516940]),
    ("anchored_skipgram", false, &[98847, 99036, 36857, 32710, 35211, 14350, 81894, 24197, 45144, 38048, 9111, 21950, 20922, 33451, 69124, 22039, 86069, 35771, 84961, 93269], [2742991700, 3606012352, 2384951605, 376585896]),
    ("anchored_skipgram", true, &[38599, 59598, 92094, 42205, 65076, 62098, 14967, 3097, 40895, 50666, 45002, 55170, 24646, 33871, 14255, 33221], [1945123293, 1787278347, 1552639940, 1722090624]),
    ("minhash", false, &[95702, 66861, 27405, 79383, 56577, 2728, 29540, 2341, 52076, 19197, 4630, 94219, 21001, 58414, 92354, 66362, 88889, 55923, 71395, 28914], [38981, 27002, 172072, 232359]),
    ("minhash", true, &[82676, 91101, 67711, 59093, 29254, 68668, 85001, 4023, 51760, 88460, 75477, 42106, 86484, 82699, 55875, 7705], [285674, 102958, 165248, 131870]),
    ("anchored_minhash", false, &[96659, 39138, 16473, 27804, 6218, 40158, 9270, 10019, 40679, 39043, 97496, 20736, 54548, 74047, 33077, 17090, 1111, 73494, 4969, 77409], [1111998208, 3642272221, 3954966279, 4213016325]),
    ("anchored_minhash", true, &[28520, 74747, 60404, 22481, 92277, 81652, 66699, 4905, 49541, 26267, 45472, 12979, 26969, 75154, 88362, 56747], [3551760889, 474064078, 4244691094, 3395068988]),
    ("minskipgram", false, &[77517, 25443, 64533, 13687, 87288, 51126, 38806, 66074, 65509, 2254, 42643, 80232, 52733, 36877, 2371, 20573, 26326, 42957, 73838, 17713], [82838326, 160914846, 3348713944, 474096988]),
    ("minskipgram", true, &[44445, 56261, 27922, 34935, 88402, 12636, 49706, 71778, 45069, 90060, 70035, 63504, 69798, 30754, 8561, 95088], [4134260122, 841783468, 3955631014, 1773785913]),
    ("noncomm", false, &[5295, 11099, 17434, 22242, 21830, 70544, 27914, 35128, 99498, 43546, 78670, 66307, 33461, 48248, 44413, 44601, 14930, 38170, 30826, 79165], [3853013088, 3334880034, 2393891928, 2251043226]),
    ("noncomm", true, &[93730, 64067, 17740, 76016, 72243, 13667, 42038, 5129, 53293, 9593, 49837, 19310, 16386, 44682, 15032, 80633], [2941562666, 1635812950, 2550254880, 3193599824]),
    ("position", false, &[76992, 49550, 10046, 74813, 72125, 29322, 74182, 10714, 34960, 47827, 38738, 73983, 70031, 14983, 60000, 36330, 14120, 5996, 38762, 1622], [2394587654, 3251950524, 3326552911, 3041958602]),
    ("position", true, &[80435, 87872, 1906, 12017, 54202, 15086, 5245, 24631, 31409, 76912, 55183, 21236, 15146, 59101, 21939, 89245], [2597055163, 806841343, 199519522, 975849655]),
];

#[test]
fn lm_watermarking_seeds() -> Result<()> {
    for (name, self_salt, windows, expected) in LM_WATERMARKING {
        let rule = SeedingRule::Prf {
            prf: Prf::from_name(name)?,
            hash_key: KEY,
            table_seed: LM_TABLE_SEED.into(),
        };
        let scheme = Kgw::new(100_000, 0.25, Seeding::new(rule, 4, self_salt)?, false)?;
        assert_eq!(seeds(&scheme, windows), expected, "{name} {self_salt}");
    }
    Ok(())
}

type HfSeeds = (&'static str, usize, &'static [u32], [u128; 4]);

/// transformers 5.23, WatermarkLogitsProcessor.set_seed, hashing_key 15485863, torch 2.15.0 CPU.
#[rustfmt::skip]
const TRANSFORMERS: [HfSeeds; 6] = [
    ("lefthash", 1, &[31643, 20833, 97518, 13478, 57029, 49581, 71162, 38538], [392891165, 2616867138, 2674985347, 2493355030]),
    ("lefthash", 2, &[72117, 33214, 93272, 62522, 41216, 13124, 27212, 85465, 41604, 5193, 3573, 1377], [3246345458, 2610169600, 649354127, 3791380947]),
    ("lefthash", 4, &[38738, 95221, 78193, 41975, 58962, 51284, 41062, 52239, 8252, 8413, 41595, 78832, 59750, 14596, 32776, 28205, 80977, 71160, 90202, 61462], [1479037729, 3235289892, 2693356956, 991443126]),
    ("selfhash", 1, &[86747, 46638, 33958, 24015], [1544014203, 4266019630, 3007424671, 444986823]),
    ("selfhash", 2, &[70988, 27241, 40281, 26111, 32293, 47246, 10665, 36803], [918205787, 1654797552, 1181539151, 2471466752]),
    ("selfhash", 4, &[11719, 98734, 58707, 11860, 85460, 75282, 84340, 44418, 29809, 51180, 40210, 5380, 42892, 24485, 41515, 75891], [3453941031, 505199340, 1336339484, 825949516]),
];

#[test]
fn transformers_seeds() -> Result<()> {
    for (name, width, windows, expected) in TRANSFORMERS {
        let seeding = if name == "lefthash" {
            Seeding::new(SeedingRule::LastToken { hash_key: KEY }, width, false)?
        } else {
            let rule = SeedingRule::Prf {
                prf: Prf::AnchoredMinHash,
                hash_key: KEY,
                table_seed: KEY,
            };
            Seeding::new(rule, width, true)?
        };
        let scheme = Kgw::new(100_000, 0.25, seeding.clone(), false)?;
        assert_eq!(seeds(&scheme, windows), expected, "{name} {width}");
    }
    Ok(())
}

/// torch 2.15.0 CPU: `torch.manual_seed(0); table = torch.randperm(1000003)`, salt key 35317.
#[test]
#[rustfmt::skip]
fn radioactivity_table_seeds() -> Result<()> {
    let cases: [(&str, [u32; 16], [u128; 4]); 3] = [
    ("additive", [39689, 32223, 43821, 0, 13231, 71332, 80136, 0, 75888, 78114, 12064, 0, 32125, 28856, 2670, 0], [384427, 307598, 798924, 619462]),
    ("skip", [31950, 52661, 9480, 0, 35135, 72247, 9295, 0, 95573, 9847, 2819, 0, 83280, 1299, 38118, 0], [398835, 64984, 413948, 999334]),
    ("min", [98399, 47079, 64652, 0, 61451, 20208, 13229, 0, 65723, 43003, 10106, 0, 66751, 87195, 22707, 0], [182999, 119475, 148585, 18525]),
    ];
    for (name, windows, expected) in cases {
        let rule = match name {
            "additive" => TableRule::Additive,
            "skip" => TableRule::Skip,
            _ => TableRule::Min,
        };
        let rule = SeedingRule::Table { rule, salt_key: 35_317, table_seed: 0 };
        let scheme = Kgw::new(100_000, 0.25, Seeding::new(rule, 3, false)?, false)?;
        assert_eq!(seeds(&scheme, &windows), expected, "{name}");
    }
    Ok(())
}

const WINDOWS: [u32; 24] = [
    151, 555, 205, 279, 318, 599, 775, 256, 852, 699, 457, 810, 881, 828, 875, 996, 172, 558, 365,
    502, 430, 876, 124, 787,
];

/// torch 2.15.0 CPU: `randperm(1000)` and `rand(1000)` after `manual_seed(h)`, h the radioactivity
/// authors' hash with seed 3 and salt key 35317.
#[test]
fn green_lists_and_uniforms_are_torchs() -> Result<()> {
    let seeding = Seeding::new(HASH, 2, false)?;
    for kernel in [
        GreenListKernel::Auto,
        GreenListKernel::Scalar,
        GreenListKernel::Tracking,
        GreenListKernel::Bitmap,
    ] {
        let scheme = Kgw::new(1000, 0.25, seeding.clone(), false)?.with_kernel(kernel);
        assert_eq!(scores(&scheme, &WINDOWS), [0, 0, 1, 1, 0, 1, 0, 0]);
    }
    let draws = [
        8_684_895, 11_314_173, 12_060_574, 3_475_521, 11_762_667, 10_402_898, 13_591_740,
        12_145_894,
    ];
    let scheme = GumbelMax::new(1000, seeding.clone())?;
    for (score, draw) in scores(&scheme, &WINDOWS).into_iter().zip(draws) {
        let expected = -(1.0 - f64::from(draw) / f64::from(1 << 24)).ln();
        assert!((f64::from_bits(score) - expected).abs() < 1e-14);
    }
    Ok(())
}

/// transformers 5.23, SynthIDTextWatermarkLogitsProcessor.compute_g_values, ngram_len 5, ten keys,
/// default table, torch 2.15.0 CPU.
#[test]
fn synthid_is_transformers() -> Result<()> {
    let keys = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29];
    let scheme = SynthId::new(&keys, 32_000, 5, 65_536, 0)?;
    let tokens = [6846, 18_695, 28_800, 12_558, 6711, 9307, 26_560, 3543];
    let windows: Vec<u32> = tokens.windows(5).flatten().copied().collect();
    assert_eq!(scores(&scheme, &windows), [310, 801, 879, 134]);
    assert_eq!(scheme.score_kind(), ScoreKind::Depths(10));
    let share = Share {
        num: 32_743,
        den: 65_536,
    };
    assert_eq!(scheme.share(), Some(share));
    Ok(())
}

/// Package textseal 0.0.5, common/watermark/pseudorandom.py, `_hash`.
#[test]
fn textseal_is_the_package() -> Result<()> {
    let cases = [
        ([105_847, 3165, 15_475, 74_620], 28_979_283_525, 7324),
        ([71_471, 38_851, 126_477, 88_331], 163_795_424_067, 6020),
        ([65_584, 48_985, 75_048, 105_575], 959_114_521_845, 5991),
        ([65_933, 88_770, 46_768, 99_432], 710_939_038_656, 4817),
    ];
    for (window, key, value) in cases {
        let gumbel = TextSeal::gumbel(key, 128_000, 3)?;
        let expected = -(1.0 - f64::from(value) / 8191.0).ln();
        let score = f64::from_bits(scores(&gumbel, &window)[0]);
        assert!((score - expected).abs() < 1e-14);
        let at = |gamma| Ok::<_, Error>(scores(&TextSeal::green(key, 128_000, 3, gamma)?, &window));
        assert_eq!(at(f64::from(value) / 8191.0 - 1e-5)?, [0]);
        assert_eq!(at(f64::from(value) / 8191.0 + 1e-5)?, [1]);
    }
    let share = TextSeal::green(1, 128_000, 3, 0.5)?.share();
    assert_eq!(
        share,
        Some(Share {
            num: 4096,
            den: 8191
        })
    );
    Ok(())
}

type VllmCase = (u64, &'static [u32], u32, u32);

/// vLLM 0.33.0 (tests/golden/vllm_gumbel.json): key, context, target, 16777217 u.
#[rustfmt::skip]
const VLLM: [VllmCase; 4] = [
    (3198550308811703425, &[P, 94, 83, 0, 93, P, 84, 0, 60, P, 0], 3, 14160587),
    (18398229700975358010, &[0, 78380, P, 0, P, 0, P, 146662, 8967, P, 0, 0, P, P, 80823, 105871], 0, 10263792),
    (42, &[59, 62, P, 0], 0, 16247690),
    (42, &[P, 0, 12533, P, 20930], 2, 5758670),
];

#[test]
fn vllm_gumbel_is_vllms() -> Result<()> {
    for (key, context, target, numerator) in VLLM {
        let scheme = VllmGumbel::single(key, 200_000, context.len())?;
        let window = [context, &[target]].concat();
        let u = f64::from((f64::from(numerator) / 16_777_217.0) as f32);
        let score = f64::from_bits(scores(&scheme, &window)[0]);
        assert!((score + (1.0 - u).ln()).abs() < 1e-14);
        let mut all = vec![0.0; 200_000];
        scheme.uniforms(context, &mut all)?;
        assert_eq!(all[target as usize], u);
    }
    Ok(())
}

/// vLLM 0.33.0 (tests/golden/vllm_gumbel.json): both detectors' sums over one text, contexts
/// padded with -1 at its start.
#[test]
fn vllm_detectors_sums() -> Result<()> {
    #[rustfmt::skip]
    let tokens: [u32; 50] = [22903, 105936, 19573, 33592, 111884, 82341, 67239, 47348, 13166, 119593, 11040, 150274, 25180, 133114, 149658, 71185, 66195, 35406, 142354, 120878, 45173, 134953, 38772, 105248, 132549, 5707, 6075, 57370, 8792, 61195, 134766, 85466, 84786, 47236, 46090, 113488, 16705, 93761, 83972, 68805, 100053, 42266, 81172, 37479, 151300, 73073, 44651, 98041, 121609, 36174];
    let padded = [&[P; 2][..], &tokens].concat();
    let windows: Vec<u32> = padded.windows(3).flatten().copied().collect();
    let sum = |scheme: &dyn Scheme| -> f64 {
        let all = scores(scheme, &windows);
        all.into_iter().map(f64::from_bits).sum()
    };
    let single = VllmGumbel::single(6844987682730725700, 200_000, 2)?;
    assert!((sum(&single) - 39.68143499144384).abs() < 1e-9);
    let dual = VllmGumbel::dual(6844987682730725700, 200_000, 2, 0.5)?;
    assert!((sum(&dual) - 47.231746757887144).abs() < 1e-9);
    Ok(())
}

type SglangCase = (u64, u64, &'static [u32], u32, u32, u32, u32);

/// SGLang 0.5.23 (tests/golden/sglang_gumbel.json): key, key_b, context, target, context hash,
/// token hash, coin.
#[rustfmt::skip]
const SGLANG: [SglangCase; 4] = [
    (0xffffffffffffffff, 0xab617048cc2d7e52, &[8155, 5337, 30127, 21060, 26963], 3138, 3567367229, 3442450895, 1340142686),
    (0x1, 0x22a1d6114df68ae7, &[111689, 60058, 73223, 59812, 31391, 17534, 78161, 65658, 127700, 145444, 150035, 144298, 136612, 21744, 62954, 115729], 94142, 84346622, 4259849335, 1716353660),
    (0x1, 0x3b46f0e590dca36d, &[89730], 74179, 584680302, 10754924, 1731379032),
    (0x3acb0acfa84b09a, 0x9e0e00e60a94be6d, &[22023], 9237, 1650613960, 3945568089, 3821773940),
];

#[test]
fn sglang_is_sglangs() -> Result<()> {
    for (key, key_b, context, target, context_hash, token_hash, coin) in SGLANG {
        let window = [context, &[target]].concat();
        let single = SglangGumbel::new(key, None, 200_000, context.len())?;
        let unit = (u128::from(context_hash) << 32) | u128::from(target);
        assert_eq!(units(&single, &window), [unit]);
        let u = (f64::from(token_hash) + 0.5) / f64::from(1u32 << 31) / 2.0;
        let score = f64::from_bits(scores(&single, &window)[0]);
        assert!((score + (1.0 - u).ln()).abs() < 1e-14);
        // The coin chooses the key: just above it key A, at it key B.
        let other = scores(
            &SglangGumbel::new(key_b, None, 200_000, context.len())?,
            &window,
        );
        let dual = |threshold: f64| {
            let mixing = Some((key_b, threshold / 2f64.powi(32)));
            let scheme = SglangGumbel::new(key, mixing, 200_000, context.len())?;
            Ok::<_, Error>(scores(&scheme, &window))
        };
        assert_eq!(dual(f64::from(coin) + 1.0)?, scores(&single, &window));
        assert_eq!(dual(f64::from(coin))?, other);
    }
    Ok(())
}

type SbwCase = (u64, f64, &'static [u32], u32, (i64, bool), (i64, bool));

/// Package sbw 1.0.0 (tests/golden/sbw.json): key, gamma, context, target, (seed, green) of
/// lefthash and selfhash.
#[rustfmt::skip]
const SBW: [SbwCase; 5] = [
    (922633273224, 0.1, &[10, 4, 87, 74], 17, (161460822814200, true), (1082735238942469256, false)),
    (15485863, 0.1, &[17942, 78465, 44123, 136344], 138648, (4287632832262, false), (-6762701089246128642, true)),
    (15485863, 0.25, &[29, 57, 95, 9], 52, (2942313970, true), (-8867608660096209348, true)),
    (42, 0.5, &[78605, 150498, 134955, 96620], 61035, (19348476, false), (-6892317087885478232, false)),
    (15485863, 0.1, &[89847, 130346, 94300, 124528], 38173, (6798619060123, false), (-5413301273744765481, false)),
];

#[test]
fn sbw_is_the_package() -> Result<()> {
    for (key, gamma, context, target, left, selfhash) in SBW {
        let window = [context, &[target]].concat();
        let unit = |seed: i64| (u128::from(seed as u64) << 32) | u128::from(target);
        let additive = Sbw::new(key, 200_000, gamma, Prf::Additive, 4, false, false)?;
        assert_eq!(units(&additive, &window), [unit(left.0)]);
        assert_eq!(scores(&additive, &window), [u64::from(left.1)]);
        let salted = Sbw::new(key, 200_000, gamma, Prf::AnchoredMinHash, 4, true, false)?;
        assert_eq!(units(&salted, &window[1..]), [unit(selfhash.0)]);
        assert_eq!(scores(&salted, &window[1..]), [u64::from(selfhash.1)]);
    }
    Ok(())
}

/// The published definition (synthid-text since 2025), evaluated in plain Python integers.
#[test]
fn deepminds_synthid() -> Result<()> {
    let keys = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29];
    let scheme = SynthIdDeepMind::new(&keys, 32_000, 5)?;
    let tokens = [6846, 18_695, 28_800, 12_558, 6711, 9307, 26_560, 3543];
    let windows: Vec<u32> = tokens.windows(5).flatten().copied().collect();
    assert_eq!(scores(&scheme, &windows), [262, 511, 642, 477]);
    Ok(())
}

/// SipHash-2-4 in plain Python integers (itself checked on the reference vectors) over
/// `u32 0x52534B00 + context_width`, then the window, little-endian; key 00 01 .. 0f.
#[test]
fn keyed_hashes() -> Result<()> {
    let key = std::array::from_fn(|i| i as u8);
    let cases: [(&[u32], u64); 3] = [
        (&[1, 2, 3], 672_596_666_115_283_373),
        (&[7, 8, 9, 10, 11], 17_809_544_481_271_331_807),
        (&[31_999, 0, 1], 6_378_739_872_366_797_857),
    ];
    for (window, hash) in cases {
        let scheme = Keyed::gumbel(key, 32_000, window.len() - 1)?;
        let u = (hash >> 11) as f64 * 2f64.powi(-53);
        let score = f64::from_bits(scores(&scheme, window)[0]);
        assert!((score + (1.0 - u).ln()).abs() < 1e-14);
        let share = hash as f64 / 2f64.powi(64);
        for (gamma, green) in [(share * 0.999, 0), (share * 1.001, 1)] {
            let scheme = Keyed::green(key, 32_000, window.len() - 1, gamma)?;
            assert_eq!(scores(&scheme, window), [green]);
        }
    }
    let quarter = Keyed::green(key, 32_000, 2, 0.25)?.share();
    assert_eq!(
        quarter,
        Some(Share {
            num: 1 << 62,
            den: 1 << 64
        })
    );
    Ok(())
}
