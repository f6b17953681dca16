//! Which threads the system runs first: those that answer DNS.
//!
//! Thousands of changes a second wake many threads at once. What answers DNS over UDP keeps its priority, and everything
//! else stands a little behind it: on busy CPUs an answer does not wait for changes that are not its own. Raising the one
//! would need a privilege; lowering the others does not.

/// How far behind, as `nice` counts: a thread five steps behind gets a quarter of a CPU that both want all the time.
#[cfg(target_os = "linux")]
const STEPS: i32 = 5;

/// Puts the calling thread, and those that it starts, behind the threads that answer DNS. A second call goes further.
#[cfg(target_os = "linux")]
pub(crate) fn behind_dns() {
    if let Err(error) = rustix::process::nice(STEPS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Only Linux has priorities of threads; elsewhere it would be the process that moves.
#[cfg(not(target_os = "linux"))]
pub(crate) fn behind_dns() {}
