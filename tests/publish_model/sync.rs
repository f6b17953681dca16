//! Replacements of the types that the log imports, built on the scheduler's atomics.

use std::sync::OnceLock as StdOnceLock;

pub(crate) use std::sync::Arc;

use shuttle::sync::atomic::AtomicBool;
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

/// A `OnceLock` for one writer. Readers see the value as soon as they see the flag, which is an atomic of the scheduler.
pub(crate) struct OnceLock<T> {
    value: StdOnceLock<T>,
    is_there: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { value: StdOnceLock::new(), is_there: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.is_there.load(Ordering::Acquire).then(|| self.value.get().unwrap())
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_there.store(true, Ordering::Release);
        Ok(())
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        OnceLock { value: StdOnceLock::from(value), is_there: AtomicBool::new(true) }
    }
}
