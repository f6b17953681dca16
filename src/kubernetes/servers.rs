//! The servers that share a store, which ask each other about instances that leave.
//!
//! Each server announces itself by a Lease of its own in the Kubernetes namespace of the store, with the address of its API. It
//! renews the Lease while it runs, and deletes it after its last answer. Whether another server has ended is decided
//! from its Lease and its address together: one that cannot reach the API server does not renew its Lease, but it still
//! answers DNS, and says on its own port what it knows.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use siphasher::sip::SipHasher24;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};

use crate::registry::{Hold, OtherServers, OthersHold};

use super::FIELD_MANAGER;
use super::client::{ClientError, Cluster, error_text, host_name};

/// Label of the Leases of servers, whose value is `true`.
const SERVER_LABEL: &str = "cloudmap-dns.io/server";
/// Annotation with the address of the server's API.
const API_ANNOTATION: &str = "cloudmap-dns.io/api";
/// Interval at which a server renews its Lease and lists those of the others, in milliseconds.
const RENEW_MS: u64 = 4_000;
/// Time after the last renewal for which a server counts as running, in seconds.
const LEASE_SECONDS: u16 = 15;
/// Time after the last renewal after which a server that cannot be reached at all counts as ended, in milliseconds.
const SILENT_MS_MAX: u64 = 300_000;
/// Time that clocks of servers may differ, in seconds.
const SKEW_S_MAX: i64 = 60;
/// Time that the start waits until the server is announced, in milliseconds.
const ANNOUNCED_MS_MAX: u64 = 2_000;
const REQUEST_MS_MAX: u64 = 2_000;
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Servers that are asked at a time.
const ASKED_MAX: usize = 64;

/// This server and the others, as their Leases show them.
pub struct Servers {
    leases: Api<Lease>,
    own_name: String,
    id: String,
    api: SocketAddr,
    known: Mutex<Known>,
    asking: Semaphore,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// `others` has the other servers by the names of their Leases, from a list that began at `listed`. `ended` is the time at which
/// the last of those that have ended was found to have.
#[derive(Default)]
struct Known {
    listed: Option<Instant>,
    others: HashMap<String, Other>,
    ended: Option<Instant>,
}

/// Another server. `renewed` is the time at which this version of its Lease was first seen, and `renewed_s` that in the Lease, in
/// seconds since 1970.
#[derive(Clone, Debug)]
struct Other {
    id: String,
    api: Option<SocketAddr>,
    version: String,
    renewed: Instant,
    renewed_s: i64,
    has_ended: bool,
}

/// Response of another server, with the id of the process that answers.
#[derive(Deserialize)]
struct Answer {
    server: String,
    hold: Hold,
}

/// Reason why a server did not answer. It is `Absent` if nobody, or another program, listens at its address.
#[derive(Debug)]
enum Silence {
    Absent(String),
    Unreachable(String),
}

impl Servers {
    /// This server, whose API listens at `api`, among those whose store is in this Kubernetes namespace. `id` distinguishes the
    /// process from all others, and from its predecessor before a restart.
    pub fn new(
        cluster: &Cluster,
        namespace: &str,
        id: String,
        api: SocketAddr,
    ) -> Result<Arc<Servers>, ClientError> {
        // A server that is restarted has its old Lease again.
        let place = format!("{} {api}", host_name());
        Ok(Arc::new(Servers {
            leases: Api::namespaced(cluster.client()?, namespace),
            own_name: format!("cloudmap-dns-server-{:016x}", SipHasher24::new().hash(place.as_bytes())),
            id,
            api,
            known: Mutex::default(),
            asking: Semaphore::new(ASKED_MAX),
            stop: watch::Sender::new(false),
            task: Mutex::default(),
        }))
    }

    /// Announces this server, for at most two seconds, and continues to do so in the background. Call it before the server
    /// answers queries: others do not ask one that they do not know.
    pub async fn join(self: &Arc<Servers>) {
        let announced = timeout(Duration::from_millis(ANNOUNCED_MS_MAX), self.announce()).await;
        let failure = match announced {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_text(&error)),
            Err(_) => Some("the API server did not answer in time".into()),
        };
        if let Some(error) = failure {
            tracing::warn!(
                error,
                "this server is not announced to the others yet, so that they may say too early that an instance is drained"
            );
        }
        *self.task.lock().await = Some(tokio::spawn(self.clone().run()));
    }

    async fn run(self: Arc<Servers>) {
        let mut tick = tokio::time::interval(Duration::from_millis(RENEW_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = self.stop.subscribe();
        let mut has_failed = false;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                _ = tick.tick() => {}
            }
            let renewed = async {
                self.announce().await?;
                self.list(&mut *self.known.lock().await).await
            };
            let renewed = timeout(Duration::from_millis(RENEW_MS), renewed).await;
            let failure = match renewed {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error_text(&error)),
                Err(_) => Some("the API server did not answer in time".into()),
            };
            match failure {
                None => {
                    has_failed = false;
                    self.find_ended().await;
                }
                Some(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(
                            error,
                            "this server can't announce itself to the others, or find them"
                        );
                    }
                }
            }
        }
    }

    /// Deletes the Lease, after the last answer of the server.
    pub async fn leave(&self) {
        self.stop.send_replace(true);
        let left = async {
            // A request that is under way would create the Lease again.
            if let Some(task) = self.task.lock().await.take() {
                let _ = task.await;
            }
            let _ = self.leases.delete(&self.own_name, &DeleteParams::default()).await;
        };
        // If it fails, the others find out from the address that this server has ended.
        let _ = timeout(Duration::from_millis(REQUEST_MS_MAX), left).await;
    }

    async fn announce(&self) -> Result<(), kube::Error> {
        let spec = LeaseSpec {
            holder_identity: Some(self.id.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS.into()),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(self.own_name.clone()),
            labels: Some([(SERVER_LABEL.to_string(), "true".to_string())].into()),
            annotations: Some([(API_ANNOTATION.to_string(), self.api.to_string())].into()),
            ..ObjectMeta::default()
        };
        let lease = Lease { metadata, spec: Some(spec) };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.leases.patch(&self.own_name, &parameters, &Patch::Apply(lease)).await?;
        Ok(())
    }

    /// Lists the servers, and remembers which have appeared, renewed their Leases, or ended.
    async fn list(&self, known: &mut Known) -> Result<(), kube::Error> {
        let began = Instant::now();
        let found = self.leases.list(&ListParams::default().labels(&format!("{SERVER_LABEL}=true"))).await?;
        let now = Instant::now();
        let mut others: HashMap<String, Other> = HashMap::new();
        for lease in found.items {
            let ObjectMeta { name, annotations, resource_version, .. } = lease.metadata;
            let Some(name) = name.filter(|name| *name != self.own_name) else { continue };
            let spec = lease.spec.unwrap_or_default();
            let renewed_s = spec.renew_time.map_or(i64::MAX / 2, |time| time.0.as_second());
            let id = spec.holder_identity.unwrap_or_default();
            let version = resource_version.unwrap_or_default();
            let address = annotations.and_then(|annotations| annotations.get(API_ANNOTATION)?.parse().ok());
            let other = match known.others.remove(&name) {
                // A process that replaces another one answers for it too.
                Some(before) if before.version == version => before,
                _ => Other { id, api: address, version, renewed: now, renewed_s, has_ended: false },
            };
            others.insert(name, other);
        }
        // The other names are those of servers that have deleted their Leases.
        if known.others.values().any(|gone| !gone.has_ended) {
            known.ended = Some(now);
        }
        known.others = others;
        known.listed = Some(began);
        Ok(())
    }

    /// Looks for servers that have ended without deleting their Leases.
    async fn find_ended(&self) {
        let others: Vec<_> = {
            let known = self.known.lock().await;
            let silent = known.others.iter().filter(|(_, other)| other.silent_for() > lease_time() * 2);
            silent.map(|(name, other)| (name.clone(), other.clone())).collect()
        };
        for (name, other) in others {
            if let Err(silence) = self.ask(&other, "/drained/-/-?local").await
                && has_ended(&silence, other.silent_for())
            {
                self.set_ended(&name, &other).await;
            }
        }
    }

    /// The other servers, from a list that was begun after this call. Questions that wait for it share it.
    async fn others(&self) -> Result<Vec<(String, Other)>, String> {
        let asked = Instant::now();
        let listed = async {
            let mut known = self.known.lock().await;
            if known.listed.is_none_or(|began| began < asked) {
                self.list(&mut known).await.map_err(|error| error_text(&error))?;
            }
            Ok(known.others.iter().map(|(name, other)| (name.clone(), other.clone())).collect())
        };
        let listed = timeout(Duration::from_millis(REQUEST_MS_MAX), listed).await;
        listed.unwrap_or_else(|_| Err("the API server did not answer in time".into()))
    }

    async fn ask_all(&self, service: &str, instance: &str) -> Result<OthersHold, String> {
        let others = self.others().await.map_err(|why| {
            format!("it is not known which servers run, because the Kubernetes API can't be read: {why}")
        })?;
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let path = format!("/drained/{}/{}?local", encoded(service), encoded(instance));
        let answers = others.into_iter().map(|(name, other)| {
            let path = &path;
            async move {
                let answer = self.ask(&other, path).await;
                (name, other, answer)
            }
        });
        let mut hold = Hold::Unknown(Duration::ZERO);
        for (name, other, answer) in join_all(answers).await {
            match answer {
                Ok(found) => {
                    hold = hold.and(found.hold);
                    if found.server != other.id {
                        self.set_replaced(&name, &other).await;
                    }
                }
                Err(silence) if has_ended(&silence, other.silent_for()) => {
                    self.set_ended(&name, &other).await;
                }
                Err(Silence::Absent(why) | Silence::Unreachable(why)) => {
                    let address = other.api.map_or("an unknown address".into(), |api| api.to_string());
                    return Err(format!("the server {} at {address} does not answer: {why}", other.id));
                }
            }
        }
        Ok(OthersHold { hold, ended: self.known.lock().await.ended })
    }

    async fn ask(&self, other: &Other, path: &str) -> Result<Answer, Silence> {
        let asked = async {
            let _permit = self.asking.acquire().await;
            ask(other, path).await
        };
        let answer = timeout(Duration::from_millis(REQUEST_MS_MAX), asked).await;
        match answer.unwrap_or_else(|_| Err(Silence::Unreachable("no answer in time".into()))) {
            Ok(answer) if answer.server == self.id => {
                Err(Silence::Unreachable("its address is that of the server which asks".into()))
            }
            answer => answer,
        }
    }

    /// Records that another process answers in a server's place, which has not replaced the Lease yet.
    async fn set_replaced(&self, name: &str, other: &Other) {
        let mut known = self.known.lock().await;
        let found = known.others.get_mut(name).filter(|found| found.version == other.version);
        if let Some(found) = found
            && !std::mem::replace(&mut found.has_ended, true)
        {
            known.ended = Some(Instant::now());
        }
    }

    /// Records that a server has ended, and deletes its Lease.
    async fn set_ended(&self, name: &str, other: &Other) {
        {
            let mut known = self.known.lock().await;
            let found = known.others.get_mut(name).filter(|found| found.version == other.version);
            let Some(found) = found else { return };
            if !std::mem::replace(&mut found.has_ended, true) {
                tracing::info!(server = other.id, "another server has ended without deleting its Lease");
                known.ended = Some(Instant::now());
            }
        }
        let preconditions = Preconditions { resource_version: Some(other.version.clone()), uid: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        // It is tried again with the next question.
        let deleted = self.leases.delete(name, &parameters);
        let _ = timeout(Duration::from_millis(REQUEST_MS_MAX), deleted).await;
    }
}

impl Other {
    /// Time since the last renewal of the Lease: on this server's clock, or by the time in the Lease, if the other server's
    /// clock shows that it is longer.
    fn silent_for(&self) -> Duration {
        let by_clock_s = Timestamp::now().as_second() - self.renewed_s - SKEW_S_MAX;
        self.renewed.elapsed().max(Duration::from_secs(u64::try_from(by_clock_s).unwrap_or(0)))
    }
}

impl OtherServers for Servers {
    fn hold<'a>(&'a self, service: &'a str, instance: &'a str) -> BoxFuture<'a, Result<OthersHold, String>> {
        self.ask_all(service, instance).boxed()
    }
}

/// Decides if a server that did not answer has ended, from the time since it renewed its Lease.
fn has_ended(silence: &Silence, silent_for: Duration) -> bool {
    match silence {
        Silence::Absent(_) => silent_for > lease_time(),
        Silence::Unreachable(_) => silent_for > Duration::from_millis(SILENT_MS_MAX),
    }
}

fn lease_time() -> Duration {
    Duration::from_secs(LEASE_SECONDS.into())
}

async fn ask(other: &Other, path: &str) -> Result<Answer, Silence> {
    let unreachable = |why: &dyn std::fmt::Display| Silence::Unreachable(why.to_string());
    let Some(address) = other.api else {
        return Err(Silence::Unreachable("its Lease has no address".into()));
    };
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Silence::Absent("connection refused".into()),
        _ => unreachable(&error),
    })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| unreachable(&error))?;
    let mut answered = pin!(async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).map_err(|error| unreachable(&error))?;
        Ok((status, body))
    });
    let (status, body) = tokio::select! {
        biased;
        answered = &mut answered => answered,
        // A connection that has ended has delivered what it received.
        _ = connection => answered.await,
    }?;
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) if status.is_success() => Ok(answer),
        _ if status.is_server_error() => {
            Err(Silence::Unreachable(format!("it answers with status {status}")))
        }
        _ => Err(Silence::Absent("another program answers in its place".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_ended_by_its_lease_and_its_address_together() {
        let (absent, unreachable) =
            (Silence::Absent(String::new()), Silence::Unreachable("no answer in time".into()));
        for (silence, seconds, expected) in
            [(&absent, 15, false), (&absent, 16, true), (&unreachable, 300, false), (&unreachable, 301, true)]
        {
            assert_eq!(has_ended(silence, Duration::from_secs(seconds)), expected, "{silence:?} {seconds}");
        }
        let other = |age_s: i64| Other {
            id: "a".into(),
            api: None,
            version: "1".into(),
            renewed: Instant::now(),
            renewed_s: Timestamp::now().as_second() - age_s,
            has_ended: false,
        };
        assert!(other(60).silent_for() < Duration::from_secs(5), "clocks may differ");
        assert!(other(-3_600).silent_for() < Duration::from_secs(5));
        assert!(
            other(3_600).silent_for() > Duration::from_secs(3_500),
            "a Lease of a server that ended long ago"
        );
    }
}
