//! A background task that can be stopped, and waiting for a time that may not be set.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Handle of the running task. [`BackgroundTask::stop`] stops it and waits for its end.
pub(super) struct BackgroundTask {
    name: &'static str,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl BackgroundTask {
    /// Spawns the task on the current tokio runtime. `ended` is called when the task ends, even if it panics.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        run: impl FnOnce(watch::Receiver<bool>) -> F,
        ended: impl FnMut() + Send + 'static,
    ) -> BackgroundTask {
        let (stop, stopped) = watch::channel(false);
        let (run, ended) = (run(stopped), OnDrop(ended));
        let task = tokio::spawn(async move {
            run.await;
            drop(ended);
        });
        BackgroundTask { name, task, stop }
    }

    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!("{} ended badly", self.name);
        }
    }
}

/// Returns at this time; pending forever if there is none.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Calls its function when it is dropped, so that the function runs even if the task panics.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
