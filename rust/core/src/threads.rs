//! Worker threads that survive a fork: a child process gets new ones.

use crate::error::{Error, Result};
use crate::memory;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, thread};

/// Most threads of a pool.
const MOST: usize = 4096;
/// Bytes of address space that a thread needs to start.
const ROOM: usize = 3 << 20;

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
        let cores =
            || asked().unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        self.threads.unwrap_or_else(cores)
    }

    /// Runs `work` on the pool's threads; on those of another pool if it is called from there.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let pool = if self.threads.is_none() {
            &SHARED
        } else {
            self
        };
        match rayon::current_thread_index() {
            None => pool.workers().install(work),
            Some(_) => work(),
        }
    }

    /// The threads of this process.
    fn workers(&self) -> Arc<ThreadPool> {
        let process = std::process::id();
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match live.take() {
            Some((owner, workers)) if owner == process => {
                *live = Some((owner, Arc::clone(&workers)));
                return workers;
            }
            Some((_, parents)) => std::mem::forget(parents),
            None => {}
        }
        let workers = Arc::new(start(self.threads()));
        *live = Some((process, Arc::clone(&workers)));
        workers
    }
}

/// How many threads the environment wants, as rayon reads it.
fn asked() -> Option<usize> {
    let number = env::var("RAYON_NUM_THREADS").ok()?.parse().ok()?;
    (1..=MOST).contains(&number).then_some(number)
}

/// Starts so many threads; fewer if the system will not have as many, since no result depends on it.
fn start(mut threads: usize) -> ThreadPool {
    loop {
        // A thread that starts asks for more than its stack, and ends the process where it gets none.
        let room = memory::caught(|| {
            memory::ensure(threads * ROOM);
            Ok(())
        });
        let started = room.and_then(|()| {
            let builder = ThreadPoolBuilder::new().num_threads(threads);
            builder
                .build()
                .map_err(|error| Error::Threads(error.to_string()))
        });
        match started {
            Ok(workers) => return workers,
            Err(_) if threads > 1 => threads = threads.div_ceil(2),
            Err(error) => memory::refuse(error),
        }
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
