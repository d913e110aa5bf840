//! Worker threads that survive a fork: a child process gets new ones.

use crate::error::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex, PoisonError};

/// Most threads of a pool.
const MOST: usize = 4096;

/// A pool of worker threads, started when a process first uses it.
///
/// The threads of a parent process are never waited for: they did not survive the fork.
pub struct Pool {
    /// `None`: all cores.
    threads: Option<usize>,
    live: Mutex<Option<(u32, Arc<ThreadPool>)>>,
}

static SHARED: Pool = Pool {
    threads: None,
    live: Mutex::new(None),
};

impl Pool {
    /// A pool of `threads` workers; `None` for one per core.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        match threads {
            Some(threads) if !(1..=MOST).contains(&threads) => Err(Error::Argument(format!(
                "threads must be from 1 to {MOST}, not {threads}"
            ))),
            _ => Ok(Self {
                threads,
                live: Mutex::new(None),
            }),
        }
    }

    /// The pool for whatever was not told how many threads to use.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// About how many workers there are. How work is cut may depend on it, but no result.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores)
    }

    /// Runs `work` on the pool's threads; on those of another pool if it is called from there.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let pool = if self.threads.is_none() {
            &SHARED
        } else {
            self
        };
        match pool.workers() {
            Some(workers) if rayon::current_thread_index().is_none() => workers.install(work),
            _ => work(),
        }
    }

    /// The threads of this process; `None` if none could be started.
    fn workers(&self) -> Option<Arc<ThreadPool>> {
        let process = std::process::id();
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match live.take() {
            Some((owner, workers)) if owner == process => {
                *live = Some((owner, Arc::clone(&workers)));
                return Some(workers);
            }
            Some((_, parents)) => std::mem::forget(parents),
            None => {}
        }
        let threads = self.threads.unwrap_or(0);
        let workers = ThreadPoolBuilder::new().num_threads(threads).build();
        let workers = Arc::new(workers.ok()?);
        *live = Some((process, Arc::clone(&workers)));
        Some(workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_threads_asked_for() -> Result<()> {
        assert_eq!(Pool::new(Some(3))?.install(rayon::current_num_threads), 3);
        let all = Pool::new(None)?.install(rayon::current_num_threads);
        assert_eq!(all, Pool::shared().install(rayon::current_num_threads));
        assert!(Pool::new(Some(0)).is_err());
        assert!(Pool::new(Some(MOST + 1)).is_err());
        Ok(())
    }
}
