//! A task of the tokio runtime that runs until it is told to stop.

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The running task; [`Running::stop`] ends it.
pub(super) struct Running {
    /// What people call it.
    what: &'static str,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Starts it. `ended` is called when it has ended, however it did. Needs a tokio runtime around it.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        what: &'static str,
        run: impl FnOnce(watch::Receiver<bool>) -> F,
        ended: impl FnMut() + Send + 'static,
    ) -> Running {
        let (stop, stopped) = watch::channel(false);
        let (run, ended) = (run(stopped), Ended(ended));
        let task = tokio::spawn(async move {
            run.await;
            drop(ended);
        });
        Running { what, task, stop }
    }

    /// Ends it, and returns when it has ended.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!("{} ended badly", self.what);
        }
    }
}

/// Calls what it has when it is dropped.
struct Ended<F: FnMut()>(F);

impl<F: FnMut()> Drop for Ended<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
