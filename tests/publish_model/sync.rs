//! What the log is made of, with the scheduler's atomics.

use std::sync::OnceLock as Place;

pub(crate) use std::sync::Arc;

use shuttle::sync::atomic::AtomicBool;
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

/// `OnceLock` of one writer: what is there is seen when the flag is.
pub(crate) struct OnceLock<T> {
    value: Place<T>,
    is_there: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { value: Place::new(), is_there: AtomicBool::new(false) }
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
        OnceLock { value: Place::from(value), is_there: AtomicBool::new(true) }
    }
}
