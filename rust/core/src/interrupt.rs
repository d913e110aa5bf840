//! Interrupt checks: how work that takes long lets its caller stop it.
//!
//! A function that may run for more than a moment takes a [`Check`] and calls it between pieces of
//! about [`CHECK_INTERVAL`] each. An error from the check ends the work there and is returned as is;
//! whatever the function promises to keep in that case is whole.

use crate::error::Result;

/// The caller's check; it fails, usually with [`Error::Interrupted`](crate::error::Error), to stop.
pub type Check<'a> = dyn FnMut() -> Result<()> + 'a;

/// Nanoseconds of one core between two checks.
pub const CHECK_INTERVAL: f64 = 1e8;

/// How many items of so many nanoseconds each to work on between two checks: enough to share among
/// threads, few enough to stop soon.
pub fn items_per_check(nanoseconds: f64) -> usize {
    (CHECK_INTERVAL / nanoseconds.max(1.0)).clamp(64.0, 65_536.0) as usize
}
