//! Scheduling priority of threads: the threads that answer DNS over UDP come first.
//!
//! Thousands of changes a second wake many threads at once, and on busy CPUs DNS answers would wait for them. The threads
//! that answer DNS over UDP therefore keep the normal priority, and all other threads lower theirs. Lowering needs no
//! privilege; raising would.

/// Increment of the nice value. The scheduler gives a thread with a nice value of 5 a quarter of a CPU that a thread with 0
/// competes for.
#[cfg(target_os = "linux")]
const NICE_STEPS: i32 = 5;

/// Lowers the priority of the calling thread, and of threads that it starts later. Each call lowers it further.
#[cfg(target_os = "linux")]
pub(crate) fn lower() {
    if let Err(error) = rustix::process::nice(NICE_STEPS) {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// Nice values apply to single threads on Linux alone; elsewhere the call would slow down the whole process.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}
