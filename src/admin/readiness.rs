//! Whether the server can do its work: what it still waits for, and what fails.
//!
//! Who calls it: `main` registers a [`Readiness::task`] for everything that has to be there, before it serves the admin
//! port; whoever does the task says when it is done. It promises that a task that nobody finished is never taken for
//! done: dropping it leaves it as failing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What has to be done before the server is ready. Clones are the same. Without a task it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    tasks: Arc<Mutex<BTreeMap<&'static str, Standing>>>,
}

/// How a task stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Not done yet.
    Pending,
    /// Not done, and this is why.
    Failing(String),
    /// Done.
    Done,
    /// Done, and this is worth to know.
    Remark(String),
}

impl Standing {
    /// Whether nothing is missing.
    pub fn is_done(&self) -> bool {
        matches!(self, Standing::Done | Standing::Remark(_))
    }
}

/// Something that has to be done before the server is ready.
#[derive(Debug)]
pub struct ReadinessTask {
    name: &'static str,
    readiness: Readiness,
    is_done: bool,
}

impl Readiness {
    /// Registers a task; until it is done, the server is not ready. A name that was done before is pending again,
    /// such as one that says that the server is stopping.
    pub fn task(&self, name: &'static str) -> ReadinessTask {
        self.lock().insert(name, Standing::Pending);
        ReadinessTask { name, readiness: self.clone(), is_done: false }
    }

    /// Whether every task is done.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Standing::is_done)
    }

    /// How every task stands, by name.
    pub fn standings(&self) -> BTreeMap<&'static str, Standing> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Standing>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessTask {
    /// The task is done.
    pub fn done(mut self) {
        self.done_with(None);
    }

    /// The task is done, for as long as nothing else is said of it; what is worth to know of it is said with it.
    pub fn done_with(&mut self, remark: Option<String>) {
        self.is_done = true;
        self.readiness.lock().insert(self.name, remark.map_or(Standing::Done, Standing::Remark));
    }

    /// The task is not done, and this is why; it may still become done.
    pub fn failing(&self, reason: impl Into<String>) {
        self.readiness.lock().insert(self.name, Standing::Failing(reason.into()));
    }
}

impl Drop for ReadinessTask {
    fn drop(&mut self) {
        if !self.is_done {
            let mut tasks = self.readiness.lock();
            if tasks.get(self.name) == Some(&Standing::Pending) {
                tasks.insert(self.name, Standing::Failing("given up".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_task_is_done_and_none_was_given_up() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (registry, sockets) = (readiness.task("registry"), readiness.task("sockets"));
        registry.done();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.standings()["sockets"], Standing::Pending);
        sockets.failing("port 53 is in use");
        assert_eq!(readiness.standings()["sockets"], Standing::Failing("port 53 is in use".into()));
        sockets.done();
        assert!(readiness.is_ready());
        drop(readiness.task("zones"));
        assert_eq!(readiness.standings()["zones"], Standing::Failing("given up".into()));
        assert!(!readiness.is_ready());
    }
}
