//! Instruction sets: the one in force is chosen once, and code is compiled for each.
//!
//! The seam is [`Job`]: work whose hot loop is `#[inline(always)]`. [`run`] calls it inside a function
//! that enables the instruction set in force, so that the loop is compiled once for each set, and
//! nothing outside this folder needs `unsafe` or knows of processors. A job that needs particular
//! instructions uses the [`Vector`](vector::Vector) that it is given; one on plain arrays leaves the
//! choice to the compiler.
//!
//! Every kernel gives the same bits. [`Kernel::Scalar`] is the readable definition: schemes answer
//! one window at a time then, by the functions in `prng` and `schemes`, and tests hold the
//! others to it. Another instruction set (NEON, say) is one more `Vector`, one more name and one more
//! arm in [`run`]; until then other processors run the scalar kernel.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod lanes;
pub(crate) mod ln;
pub(crate) mod sum;
pub(crate) mod vector;

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use vector::Job;

/// The environment variable that forces a kernel.
pub const VARIABLE: &str = "RADSCORE_KERNEL";

/// An instruction set to compute with, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kernel {
    /// One window at a time: the oracle of the others.
    Scalar = 1,
    /// 256-bit vectors.
    Avx2 = 2,
    /// 512-bit vectors (AVX-512 F, DQ, BW and VL).
    Avx512 = 3,
}

impl Kernel {
    /// All kernels that are known, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Scalar => true,
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            Self::Avx512 => {
                std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Scalar
        }
    }

    /// The kernels that this processor runs, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = Self::ALL.into_iter();
        all.filter(|kernel| kernel.is_available()).collect()
    }

    /// The kernel of that name; `auto` is the fastest that this processor runs.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `what` if there is none of that name, or the processor lacks it.
    pub fn from_name(what: &str, name: &str) -> Result<Self> {
        let available = Self::available();
        if name == "auto" {
            return Ok(available.last().copied().unwrap_or(Self::Scalar));
        }
        let Some(kernel) = Self::ALL.into_iter().find(|kernel| kernel.name() == name) else {
            return Err(Error::Argument(format!(
                "{what} must be auto, scalar, avx2 or avx512, not {name:?}"
            )));
        };
        if !kernel.is_available() {
            let names: Vec<_> = available.iter().map(|kernel| kernel.name()).collect();
            return Err(Error::Argument(format!(
                "{what} is {name:?}, which this processor does not run; it runs {}",
                names.join(", ")
            )));
        }
        Ok(kernel)
    }

    /// The kernel that the environment asks for; the fastest if it asks for none.
    ///
    /// # Errors
    /// [`Error::Argument`] if it asks for one that is unknown or that the processor lacks.
    pub fn from_environment() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => Self::from_name(VARIABLE, &name.to_string_lossy()),
            _ => Self::from_name(VARIABLE, "auto"),
        }
    }
}

/// The kernel in force; 0 before anyone has asked.
static ACTIVE: AtomicU8 = AtomicU8::new(0);

/// The kernel in force. The first call reads the environment; if that asks for a kernel there is not,
/// the fastest one runs (front ends have reported it before, by [`Kernel::from_environment`]).
#[must_use]
pub fn active() -> Kernel {
    match ACTIVE.load(Ordering::Relaxed) {
        1 => Kernel::Scalar,
        2 => Kernel::Avx2,
        3 => Kernel::Avx512,
        _ => {
            let fastest = || Kernel::from_name(VARIABLE, "auto");
            let kernel = Kernel::from_environment().or_else(|_| fastest());
            let kernel = kernel.unwrap_or(Kernel::Scalar);
            ACTIVE.store(kernel as u8, Ordering::Relaxed);
            kernel
        }
    }
}

/// Puts a kernel in force, for the whole process.
///
/// # Errors
/// [`Error::Argument`] if the processor lacks it.
pub fn set(kernel: Kernel) -> Result<()> {
    Kernel::from_name("kernel", kernel.name())?;
    ACTIVE.store(kernel as u8, Ordering::Relaxed);
    Ok(())
}

/// Does a job with the vectors of the kernel in force.
///
/// # Errors
/// The job itself, if the kernel in force has no vectors.
#[inline]
pub(crate) fn run<J: Job>(job: J) -> std::result::Result<J::Output, J> {
    match active() {
        Kernel::Scalar => Err(job),
        // SAFETY: `active` gives kernels that `is_available` found on this processor.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => Ok(unsafe { avx2::run(job) }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => Ok(unsafe { avx512::run(job) }),
        #[cfg(not(target_arch = "x86_64"))]
        _ => Err(job),
    }
}

/// The results of a job under each kernel with vectors that this processor runs.
#[cfg(test)]
pub(crate) fn run_each<J: Job + Clone>(job: &J) -> Vec<(Kernel, J::Output)> {
    let run = |kernel| match kernel {
        // SAFETY: the kernels are those that `is_available` found on this processor.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => Some((kernel, unsafe { avx2::run(job.clone()) })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => Some((kernel, unsafe { avx512::run(job.clone()) })),
        _ => None,
    };
    Kernel::available().into_iter().filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for kernel in Kernel::available() {
            assert_eq!(
                Kernel::from_name("kernel", kernel.name()).ok(),
                Some(kernel)
            );
        }
        let fastest = Kernel::available().last().copied();
        assert_eq!(Kernel::from_name("kernel", "auto").ok(), fastest);
        let unknown = Kernel::from_name("kernel", "sse9").map_err(|error| error.to_string());
        assert!(
            unknown.is_err_and(|text| text.contains("kernel must be") && text.contains("sse9"))
        );
    }
}
