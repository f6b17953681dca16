//! Leader election: of several replicas, only the one that holds a Lease writes to the cluster.
//!
//! The rules are those of Kubernetes' own controllers. The leader renews the Lease every two seconds. A candidate
//! acquires it when the Lease has not changed for its whole duration, measured on the candidate's own clock, so that
//! clocks need not agree; if two candidates try at once, the API server decides (`resourceVersion`). A leader that
//! cannot renew stops writing well before a candidate may acquire the Lease: 8 seconds and the longest request are
//! less than the 15 seconds of the Lease. A leader that shuts down in order releases the Lease, and another replica
//! acquires it within two seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::FIELD_MANAGER;
use super::client::{error_text, host_name};

/// Name of the Lease, which is in the Kubernetes namespace that the server runs in.
pub const LEASE_NAME: &str = "cloudmap-dns";
/// Time for which the Lease is valid after a renewal (`leaseDurationSeconds`), in seconds.
const LEASE_SECONDS: i32 = 15;
/// Interval at which the leader renews the Lease and candidates read it, in milliseconds.
const RENEW_MS: u64 = 2_000;
/// Time after the last renewal for which the leader may still write, in milliseconds. With the longest request it must
/// be less than [`LEASE_SECONDS`], or two replicas could write at once.
const HOLD_MS_MAX: u64 = 8_000;
/// Timeout of one request of the election or of a writer, in milliseconds.
pub(super) const REQUEST_MS_MAX: u64 = 4_000;
const RELEASE_MS_MAX: u64 = 1_000;

/// Shows if this process is the leader, and so may write to the cluster. All clones share one state.
#[derive(Clone, Debug)]
pub struct Leadership {
    shared: Arc<Shared>,
}

/// State that all clones share. `renewed_ms` is the time of the last renewal in milliseconds since `origin`; 0
/// while the Lease is not held.
#[derive(Debug)]
struct Shared {
    origin: Instant,
    renewed_ms: AtomicU64,
    line: Mutex<String>,
    is_held: watch::Sender<bool>,
    takeovers: AtomicU64,
}

impl Leadership {
    fn new(origin: Instant) -> Leadership {
        Leadership {
            shared: Arc::new(Shared {
                origin,
                renewed_ms: AtomicU64::new(0),
                line: Mutex::new("it is not known yet which server writes to the cluster".into()),
                is_held: watch::channel(false).0,
                takeovers: AtomicU64::new(0),
            }),
        }
    }

    /// True while the last renewal is recent enough for this process to write.
    pub fn is_held(&self) -> bool {
        let renewed_ms = self.shared.renewed_ms.load(Ordering::Relaxed);
        renewed_ms > 0 && self.now_ms().saturating_sub(renewed_ms) < HOLD_MS_MAX
    }

    /// Sentence that names the current leader, or the reason why it is not known.
    pub fn line(&self) -> String {
        self.shared.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of times that this process became the leader since its start.
    pub fn takeovers(&self) -> u64 {
        self.shared.takeovers.load(Ordering::Relaxed)
    }

    /// Does the leader's work until it is `stopped`: `work` starts whenever this process becomes the leader and is
    /// dropped when it no longer is; `ended` follows each time.
    pub(super) async fn lead<F: Future<Output = ()>>(
        &self,
        mut stopped: watch::Receiver<bool>,
        work: impl Fn() -> F,
        ended: impl Fn(),
    ) {
        let terms = async {
            loop {
                self.gained().await;
                tokio::select! {
                    () = work() => {}
                    () = self.lost() => {}
                }
                ended();
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = terms => {}
        }
    }

    async fn gained(&self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.shared.is_held.subscribe().wait_for(|held| *held).await;
    }

    async fn lost(&self) {
        let _ = self.shared.is_held.subscribe().wait_for(|held| !*held).await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.origin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn set_line(&self, line: String) {
        *self.shared.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    fn set_renewed(&self, renewed_ms: u64) {
        self.shared.renewed_ms.store(renewed_ms, Ordering::Relaxed);
        self.update_held();
    }

    fn update_held(&self) {
        let is_held = self.is_held();
        let is_new = self.shared.is_held.send_if_modified(|held| std::mem::replace(held, is_held) != is_held);
        if !is_new {
            return;
        }
        if is_held {
            self.shared.takeovers.fetch_add(1, Ordering::Relaxed);
            tracing::info!(lease = LEASE_NAME, "this server writes to the cluster now");
        } else {
            tracing::info!(lease = LEASE_NAME, "this server does not write to the cluster any more");
        }
    }
}

/// Next request of the election, decided from the Lease that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Create,
    Renew,
    Take,
    Wait,
}

/// Decides about a Lease that this process has seen without a change for the time `unchanged`.
fn decide(lease: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let lasts_s = u64::try_from(lease.lease_duration_seconds.unwrap_or(LEASE_SECONDS)).unwrap_or(0);
    match lease.holder_identity.as_deref() {
        None | Some("") => Step::Take,
        Some(holder) if holder == identity => Step::Renew,
        Some(_) if unchanged > Duration::from_secs(lasts_s) => Step::Take,
        Some(_) => Step::Wait,
    }
}

pub(super) struct Election {
    leases: Api<Lease>,
    identity: String,
    leadership: Leadership,
    /// Version of the Lease at the last read, and the time at which this version was first read.
    observed: Option<(String, Instant)>,
    has_failed: bool,
}

impl Election {
    pub(super) fn new(client: Client, namespace: &str) -> Election {
        // The random suffix distinguishes two processes of one host, and a process from its predecessor before a
        // restart.
        let identity = format!("{}_{:08x}", host_name(), fastrand::u32(..));
        Election {
            leases: Api::namespaced(client, namespace),
            identity,
            leadership: Leadership::new(Instant::now()),
            observed: None,
            has_failed: false,
        }
    }

    pub(super) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Acquires and renews the Lease until it is `stopped`, and then releases the Lease if it is held.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(Duration::from_millis(RENEW_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                _ = tick.tick() => {}
            }
            let asked_ms = self.leadership.now_ms();
            match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), self.step()).await {
                Ok(Ok(is_held)) => {
                    self.has_failed = false;
                    match is_held {
                        Some(true) => self.leadership.set_renewed(asked_ms),
                        Some(false) => self.leadership.set_renewed(0),
                        None => self.leadership.update_held(),
                    }
                }
                Ok(Err(error)) => self.failed(&error_text(&error)),
                Err(_) => self.failed("the API server did not answer in time"),
            }
        }
        let was_held = self.leadership.is_held();
        self.leadership.set_renewed(0);
        if was_held {
            // If the release fails, another replica acquires the Lease when it expires after 15 seconds.
            let _ = tokio::time::timeout(Duration::from_millis(RELEASE_MS_MAX), self.release()).await;
        }
    }

    /// Reads the Lease, and creates, renews or acquires it as [`decide`] says. Returns true if it is held then, and
    /// `None` if another replica wrote it at the same time, which the next read will show.
    async fn step(&mut self) -> Result<Option<bool>, kube::Error> {
        let found = self.leases.get_opt(LEASE_NAME).await?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let version = version.unwrap_or_default();
        if self.observed.as_ref().is_none_or(|(observed, _)| *observed != version) {
            self.observed = Some((version, Instant::now()));
        }
        let unchanged = self.observed.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let step = decide(spec.as_ref(), &self.identity, unchanged);
        let old = spec.unwrap_or_default();
        let now = Some(MicroTime(Timestamp::now()));
        let is_new = step != Step::Renew;
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: now.clone(),
            acquire_time: if is_new { now } else { old.acquire_time },
            lease_transitions: Some(old.lease_transitions.unwrap_or(0).saturating_add(is_new.into())),
            ..LeaseSpec::default()
        };
        let written = match (step, found) {
            (Step::Wait, _) => {
                let holder = old.holder_identity.unwrap_or_default();
                self.leadership.set_line(format!("{holder} writes to the cluster"));
                return Ok(Some(false));
            }
            (_, Some(lease)) => {
                self.leases.replace(LEASE_NAME, &options(), &Lease { spec: Some(spec), ..lease }).await
            }
            (_, None) => {
                let metadata = ObjectMeta { name: Some(LEASE_NAME.into()), ..ObjectMeta::default() };
                self.leases.create(&options(), &Lease { metadata, spec: Some(spec) }).await
            }
        };
        match written {
            Ok(_) => {
                self.leadership.set_line("this server writes to the cluster".into());
                Ok(Some(true))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.leases.get_opt(LEASE_NAME).await? else { return Ok(()) };
        let old = lease.spec.clone().unwrap_or_default();
        if old.holder_identity.as_deref() == Some(self.identity.as_str()) {
            let spec = LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..old };
            self.leases.replace(LEASE_NAME, &options(), &Lease { spec: Some(spec), ..lease }).await?;
        }
        Ok(())
    }

    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(lease = LEASE_NAME, error = why, "the Lease of the leader election can't be used");
        }
        self.leadership.set_line(format!("it is not known which server writes to the cluster: {why}"));
        self.leadership.update_held();
    }
}

fn options() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_released_or_expired() {
        let held = |holder: Option<&str>, seconds| LeaseSpec {
            holder_identity: holder.map(Into::into),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        for (lease, unchanged_s, expected) in [
            (None, 0, Step::Create),
            (Some(held(Some("me"), Some(15))), 0, Step::Renew),
            // A process that was suspended may renew the Lease if no other replica acquired it meanwhile.
            (Some(held(Some("me"), Some(15))), 99, Step::Renew),
            (Some(held(Some("other"), Some(15))), 0, Step::Wait),
            (Some(held(Some("other"), Some(15))), 15, Step::Wait),
            (Some(held(Some("other"), Some(15))), 16, Step::Take),
            (Some(held(Some("other"), Some(60))), 16, Step::Wait),
            (Some(held(Some("other"), None)), 16, Step::Take),
            (Some(held(Some("other"), Some(-1))), 1, Step::Take),
            (Some(held(Some(""), Some(1))), 0, Step::Take),
            (Some(held(None, None)), 0, Step::Take),
        ] {
            assert_eq!(decide(lease.as_ref(), "me", Duration::from_secs(unchanged_s)), expected, "{lease:?}");
        }
    }

    #[test]
    fn a_holder_stops_writing_before_others_may_start() {
        assert!(HOLD_MS_MAX + REQUEST_MS_MAX < LEASE_SECONDS as u64 * 1_000);
    }

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_is_lost() {
        let leadership = Leadership::new(Instant::now() - Duration::from_millis(HOLD_MS_MAX + 1));
        assert!(!leadership.is_held());
        leadership.set_renewed(leadership.now_ms());
        leadership.gained().await;
        assert_eq!((leadership.is_held(), leadership.takeovers()), (true, 1));
        leadership.set_renewed(1);
        leadership.lost().await;
        assert_eq!((leadership.is_held(), leadership.takeovers()), (false, 1));
    }
}
