//! How a context becomes the seed of torch's generator, for every seeding in use.

use super::params::Params;
use super::prf::Prf;
use super::{check, par_map};
use crate::error::{Error, Result};
use crate::prng::mt19937::randperm;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Entries of the hash table of lm-watermarking, transformers and the radioactivity authors.
pub const TABLE_SIZE: u32 = 1_000_003;
/// The seed of lm-watermarking's table.
pub const LM_TABLE_SEED: u32 = 2_971_215_073;

/// How the radioactivity authors' table seedings choose the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableRule {
    /// `table[salt * sum(c)]`.
    Additive,
    /// `table[salt * c[0]]`.
    Skip,
    /// `min_j table[salt * c[j]]`.
    Min,
}

/// What turns the tokens read into a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The radioactivity authors' `hash`: `h = (h * salt_key + x) mod (2^64 - 1)`.
    Hash {
        /// Where the hash starts.
        seed: u64,
        /// The multiplier.
        salt_key: u64,
    },
    /// The radioactivity authors' table seedings.
    Table {
        /// Which entry is the seed.
        rule: TableRule,
        /// The multiplier.
        salt_key: u64,
        /// torch's global seed when the table was drawn.
        table_seed: u64,
    },
    /// lm-watermarking's functions, and transformers' `selfhash` (anchored min-hash with a table
    /// seeded by the key).
    Prf {
        /// The function.
        prf: Prf,
        /// The key K.
        hash_key: u64,
        /// The seed of the table behind `H`.
        table_seed: u64,
    },
    /// transformers' `lefthash`: `K * c[-1]`, whatever the width.
    LastToken {
        /// The key K.
        hash_key: u64,
    },
}

/// A checked rule with the number of tokens it reads.
///
/// Its table, where it has one, is built at the first use (4 MB, some 10 ms) and shared by all seedings
/// with the same one.
#[derive(Debug, Clone)]
pub struct Seeding {
    rule: Rule,
    width: usize,
    self_salt: bool,
    /// Kept from the first use on: the cache is too small for many decoy keys with a table each.
    table: OnceLock<Option<Arc<Vec<u32>>>>,
}

impl Seeding {
    /// A seeding over `context_width` tokens: the preceding ones, or (`self_salt`) the target and
    /// the `context_width - 1` before it.
    ///
    /// # Errors
    /// [`Error::Scheme`] naming the parameter that is out of range.
    pub fn new(rule: Rule, context_width: usize, self_salt: bool) -> Result<Self> {
        check::context_width(context_width)?;
        if self_salt && !matches!(rule, Rule::Prf { .. }) {
            return Err(Error::Scheme(
                "self_salt must be false with this seeding: only lm-watermarking's functions \
                 read the target"
                    .into(),
            ));
        }
        match rule {
            Rule::Hash { .. } => {}
            Rule::Table { salt_key, .. } => check::int64("salt_key", salt_key)?,
            Rule::Prf { prf, hash_key, .. } => {
                check::int64("hash_key", hash_key)?;
                if context_width < prf.least_width() {
                    return Err(Error::Scheme(format!(
                        "context_width must be at least {} for this seeding, not {context_width}",
                        prf.least_width()
                    )));
                }
            }
            Rule::LastToken { hash_key } => check::int64("hash_key", hash_key)?,
        }
        Ok(Self {
            rule,
            width: context_width,
            self_salt,
            table: OnceLock::new(),
        })
    }

    /// From `seeding`, `context_width`, `self_salt`, `key`, `table_seed` where there is a table, and
    /// for the seeding `hash` the `seed`. The names of seedings: the radioactivity authors' `hash`,
    /// `table_additive`, `table_skip` and `table_min`; transformers' `last_token`; those of [`Prf`].
    pub(super) fn from_params(params: &mut Params) -> Result<Self> {
        let seed = params.optional_secret("seed")?.unwrap_or(0);
        let key = params.secret("key")?;
        let table_seed = params.optional_secret("table_seed")?.unwrap_or(0);
        let table = |rule| Rule::Table {
            rule,
            salt_key: key,
            table_seed,
        };
        let rule = match params.text("seeding")?.as_str() {
            "hash" => Rule::Hash {
                seed,
                salt_key: key,
            },
            "table_additive" => table(TableRule::Additive),
            "table_skip" => table(TableRule::Skip),
            "table_min" => table(TableRule::Min),
            "last_token" => Rule::LastToken { hash_key: key },
            name => Rule::Prf {
                prf: Prf::from_name(name)?,
                hash_key: key,
                table_seed,
            },
        };
        let width = params.count("context_width")? as usize;
        Self::new(rule, width, params.flag("self_salt")?)
    }

    /// Tokens of a window.
    #[must_use]
    pub fn window_width(&self) -> usize {
        self.width + usize::from(!self.self_salt)
    }

    /// [`Scheme::least_own`](super::Scheme::least_own).
    #[must_use]
    pub fn least_own(&self) -> usize {
        let read = match self.rule {
            Rule::LastToken { .. }
            | Rule::Table {
                rule: TableRule::Min,
                ..
            } => 1,
            Rule::Prf { prf, .. } => prf.least_tail(self.width),
            Rule::Hash { .. } | Rule::Table { .. } => self.width,
        };
        read - usize::from(self.self_salt)
    }

    /// Whether the target is part of what is hashed.
    #[must_use]
    pub fn self_salt(&self) -> bool {
        self.self_salt
    }

    /// The seeding with its table at hand: cheap, but not meant for every window.
    #[must_use]
    pub fn prepare(&self) -> Seeder<'_> {
        let table_seed = || match self.rule {
            Rule::Table { table_seed, .. } => Some(table_seed),
            Rule::Prf {
                prf, table_seed, ..
            } if prf.hashes() => Some(table_seed),
            _ => None,
        };
        let table = self
            .table
            .get_or_init(|| table_seed().map(|seed| table(low(seed))));
        Seeder {
            seeding: self,
            table: table.as_deref().map(Vec::as_slice),
        }
    }
}

/// A [`Seeding`] ready to seed.
pub struct Seeder<'a> {
    seeding: &'a Seeding,
    table: Option<&'a [u32]>,
}

impl Seeder<'_> {
    /// The low 32 bits of the seed of a window's context: all that torch's generator reads.
    #[must_use]
    pub fn seed(&self, window: &[u32]) -> u32 {
        self.seed_read(&window[..self.seeding.width])
    }

    /// The same, from only the tokens that are read.
    #[must_use]
    pub fn seed_read(&self, read: &[u32]) -> u32 {
        let ids = read.iter().map(|&x| i64::from(x));
        match self.seeding.rule {
            Rule::Hash { seed, salt_key } => {
                let step =
                    |h: u64, &x: &u32| reduce(u128::from(h) * u128::from(salt_key) + u128::from(x));
                low(read.iter().fold(seed, step))
            }
            Rule::Table { rule, salt_key, .. } => {
                let salted = |x: i64| self.entry((salt_key as i64).wrapping_mul(x));
                match rule {
                    TableRule::Additive => salted(ids.sum()),
                    TableRule::Skip => salted(ids.clone().next().unwrap_or(0)),
                    TableRule::Min => ids.map(salted).min().unwrap_or(0),
                }
            }
            Rule::Prf { prf, hash_key, .. } => {
                let hash = |x| i64::from(self.entry(x)) + 1;
                python_seed(prf.unbounded(hash_key as i64, ids, hash))
            }
            Rule::LastToken { hash_key } => {
                let last = read.last().copied().unwrap_or(0);
                python_seed(i128::from(hash_key) * i128::from(last))
            }
        }
    }

    /// [`Scheme::keyless`](super::Scheme::keyless) of windows.
    pub fn keyless(&self, windows: &[u32], out: &mut [bool]) -> bool {
        if matches!(self.seeding.rule, Rule::Hash { .. }) {
            return false;
        }
        let (width, read) = (self.seeding.window_width(), self.seeding.width);
        par_map(windows, width, out, |window| {
            self.reads_no_key(&window[..read])
        });
        true
    }

    /// Seed and target of a window: its unit.
    #[must_use]
    pub fn seed_target(&self, window: &[u32]) -> (u32, u32) {
        (self.seed(window), window[window.len() - 1])
    }

    /// [`Scheme::seeds_of_tails`](super::Scheme::seeds_of_tails).
    pub fn seeds_of_tails(&self, tails: &[u32], own: usize, out: &mut [u128]) {
        let self_salt = self.seeding.self_salt;
        par_map(tails, own + 1, out, |tail| {
            let seed = u128::from(self.seed_read(&tail[..own + usize::from(self_salt)]));
            match self_salt {
                true => (seed << 32) | u128::from(tail[own]),
                false => seed,
            }
        });
    }

    /// [`Scheme::units`](super::Scheme::units) of windows.
    pub fn units(&self, windows: &[u32], out: &mut [u128]) {
        par_map(windows, self.seeding.window_width(), out, |window| {
            let (seed, target) = self.seed_target(window);
            (u128::from(seed) << 32) | u128::from(target)
        });
    }

    fn reads_no_key(&self, read: &[u32]) -> bool {
        let mut ids = read.iter().map(|&x| i64::from(x));
        match self.seeding.rule {
            Rule::Hash { .. } => false,
            Rule::Table { rule, .. } => match rule {
                TableRule::Additive => wraps_to_zero(ids.sum()),
                TableRule::Skip => ids.next().is_some_and(wraps_to_zero),
                TableRule::Min => ids.any(wraps_to_zero),
            },
            Rule::Prf { prf, .. } => {
                prf.is_keyless(ids, |x| i64::from(self.entry(x)) + 1, wraps_to_zero)
            }
            Rule::LastToken { .. } => ids.next_back() == Some(0),
        }
    }

    fn entry(&self, x: i64) -> u32 {
        let index = x.rem_euclid(i64::from(TABLE_SIZE)) as usize;
        self.table.as_ref().map_or(0, |table| table[index])
    }
}

/// What a seeding decides of a scheme whose units are seed and target: these methods of
/// [`Scheme`](super::Scheme) are the same for every such scheme. It has a field `seeding`.
macro_rules! seeded_units {
    () => {
        fn unit_kind(&self) -> UnitKind {
            UnitKind::SeedAndTarget
        }
        fn seed_kind(&self) -> SeedKind {
            match self.seeding.self_salt() {
                true => SeedKind::WithTarget,
                false => SeedKind::KeyedHash,
            }
        }
        fn shares_work_within_contexts(&self) -> bool {
            true
        }
        fn least_own(&self) -> usize {
            self.seeding.least_own()
        }
        fn units(&self, windows: &[u32], out: &mut [u128]) {
            self.seeding.prepare().units(windows, out);
        }
        fn seeds_of_tails(&self, tails: &[u32], own: usize, out: &mut [u128]) {
            self.seeding.prepare().seeds_of_tails(tails, own, out);
        }
        fn keyless(&self, windows: &[u32], out: &mut [bool]) -> bool {
            self.seeding.prepare().keyless(windows, out)
        }
    };
}
pub(super) use seeded_units;

/// Whether the product of an id with any key has the table's entry of 0, unless it overflows.
pub(crate) fn wraps_to_zero(id: i64) -> bool {
    id % i64::from(TABLE_SIZE) == 0
}

/// `manual_seed(value % (2**64 - 1))` with Python's sign rule; the low 32 bits.
fn python_seed(value: i128) -> u32 {
    (value.rem_euclid((1 << 64) - 1) & 0xFFFF_FFFF) as u32
}

/// `x mod (2^64 - 1)` without a division: 2^64 leaves 1, so the halves are added.
fn reduce(x: u128) -> u64 {
    const MASK: u128 = u64::MAX as u128;
    let once = (x >> 64) + (x & MASK);
    let twice = (once >> 64) + (once & MASK);
    if twice == MASK { 0 } else { twice as u64 }
}

fn low(seed: u64) -> u32 {
    (seed & 0xFFFF_FFFF) as u32
}

/// `torch.randperm(1000003)` of a seed, from a small cache: 4 MB each, and transformers'
/// `selfhash` has one for each key.
pub(crate) fn table(seed: u32) -> Arc<Vec<u32>> {
    type Slot = Arc<OnceLock<Arc<Vec<u32>>>>;
    const KEPT: usize = 16;
    static CACHE: Mutex<Vec<(u32, Slot)>> = Mutex::new(Vec::new());
    let slot = {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match cache.iter().position(|(known, _)| *known == seed) {
            Some(found) => cache.remove(found),
            None => (seed, Slot::default()),
        };
        let slot = Arc::clone(&entry.1);
        cache.push(entry);
        if cache.len() > KEPT {
            cache.remove(0);
        }
        slot
    };
    // Built outside the lock: other seeds need not wait.
    Arc::clone(slot.get_or_init(|| Arc::new(randperm(seed, TABLE_SIZE))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_is_the_remainder() {
        let edges = [0, 1, 2, u64::MAX - 2, u64::MAX - 1, u64::MAX].map(u128::from);
        for a in edges {
            for b in edges {
                for x in [a * b, (a << 64) | b, a * b + u128::from(u32::MAX)] {
                    assert_eq!(u128::from(reduce(x)), x % u128::from(u64::MAX));
                }
            }
        }
    }
}
