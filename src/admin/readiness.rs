//! Readiness of the server: the tasks that have to be done before it can serve, and their failures.
//!
//! `app` registers a [`Readiness::task`] for each of them before it serves the admin port, and the owner of a task reports
//! when it is done. A task that is dropped unfinished counts as failed, so that it is never mistaken for done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tasks that have to be done before the server is ready, shared by all clones. A server without tasks is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    tasks: Arc<Mutex<BTreeMap<&'static str, TaskStatus>>>,
}

/// Status of a task, as `/readyz` reports it: not done, and without a failure so far; not done for a reason, but it may
/// still succeed; or done, with an optional remark that `/readyz?verbose` shows in place of `ok`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum TaskStatus {
    Pending,
    Failing(String),
    Done,
    Remark(String),
}

impl TaskStatus {
    /// Returns true for a task that does not keep the server from being ready.
    pub fn is_done(&self) -> bool {
        matches!(self, TaskStatus::Done | TaskStatus::Remark(_))
    }
}

/// A task that has to be done before the server is ready. Dropping it unfinished reports it as failed.
#[derive(Debug)]
pub struct ReadinessTask {
    name: &'static str,
    readiness: Readiness,
    is_done: bool,
}

impl Readiness {
    /// Registers a task; the server is not ready until it is done. Registering the name of a finished task makes it pending
    /// again.
    pub fn task(&self, name: &'static str) -> ReadinessTask {
        self.lock().insert(name, TaskStatus::Pending);
        ReadinessTask { name, readiness: self.clone(), is_done: false }
    }

    /// Returns true if every registered task is done.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(TaskStatus::is_done)
    }

    /// Returns the status of each task by its name.
    pub fn statuses(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, TaskStatus>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessTask {
    /// Reports the task as done for good.
    pub fn done(mut self) {
        self.done_with(None);
    }

    /// Reports the task as done, with an optional remark. Unlike after [`ReadinessTask::done`], the status may change again.
    pub fn done_with(&mut self, remark: Option<String>) {
        self.is_done = true;
        self.readiness.lock().insert(self.name, remark.map_or(TaskStatus::Done, TaskStatus::Remark));
    }

    /// Reports that the task is not done, and the reason. It may still be reported as done later.
    pub fn failing(&self, reason: impl Into<String>) {
        self.readiness.lock().insert(self.name, TaskStatus::Failing(reason.into()));
    }
}

impl Drop for ReadinessTask {
    fn drop(&mut self) {
        if !self.is_done {
            let mut tasks = self.readiness.lock();
            if tasks.get(self.name) == Some(&TaskStatus::Pending) {
                tasks.insert(self.name, TaskStatus::Failing("given up".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_ready_once_every_task_is_done() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (registry, sockets) = (readiness.task("registry"), readiness.task("sockets"));
        registry.done();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.statuses()["sockets"], TaskStatus::Pending);
        sockets.failing("port 53 is in use");
        assert_eq!(readiness.statuses()["sockets"], TaskStatus::Failing("port 53 is in use".into()));
        sockets.done();
        assert!(readiness.is_ready());
        drop(readiness.task("zones"));
        assert_eq!(readiness.statuses()["zones"], TaskStatus::Failing("given up".into()));
        assert!(!readiness.is_ready());
    }
}
