//! Objects that threads lend each other.

use std::sync::{Mutex, PoisonError};

/// Objects that hold reusable memory. Each is with one thread at a time; there are as many as were
/// ever in use at once.
#[derive(Debug, Default)]
pub struct ObjectPool<T>(Mutex<Vec<T>>);

impl<T: Default> ObjectPool<T> {
    /// Runs `work` with an object that no other thread uses, a new one if all are in use.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lock().pop();
        let mut object = idle.unwrap_or_default();
        let result = work(&mut object);
        lock().push(object);
        result
    }

    /// All objects.
    pub fn into_all(self) -> Vec<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all objects.
    pub fn clear(&mut self) {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
