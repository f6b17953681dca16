//! Reconciler of CoreDNS's configuration, for the time in which this process is the leader. It watches both ConfigMaps
//! and writes our text when it differs from the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Service};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event as Warning, EventType, Recorder, Reporter};
use kube::runtime::utils::Backoff as _;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::maps::{Known, Notice, Which, notices};
use super::plan::{Seen, Wanted, wanted, with_block};
use super::{COREFILE_KEY, CUSTOM, CUSTOM_KEY, CoreDns, CoreDnsMode, Forward, MAIN, NAMESPACE};
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::events::{Delay, told};
use crate::kubernetes::leader::REQUEST_MS_MAX;

/// Interval at which the served zones are read, in milliseconds. Those of Cloud Map are also read when the registry
/// changes.
const ZONES_MS: u64 = 1_000;
/// Time for which a change waits for further ones, in milliseconds.
const COALESCE_MS: u64 = 100;
/// Shortest time between two writes, in milliseconds, because another program may keep replacing our text.
const BETWEEN_WRITES_MS: u64 = 1_000;
/// Interval at which the Service that CoreDNS forwards to is read, in milliseconds.
const SERVICE_MS: u64 = 30_000;
/// Interval at which that Service is read while it has no address, in milliseconds.
const SERVICE_MISSING_MS: u64 = 5_000;
const WARNINGS_MAX: usize = 20;
const DNS_PORT: u16 = 53;

enum Failure {
    Stale,
    Away(String),
}

pub(super) struct Term<'c> {
    coredns: &'c CoreDns,
    maps: Api<ConfigMap>,
    recorder: Recorder,
    cluster_domain: Option<String>,
    custom: Known,
    main: Known,
    zones: BTreeSet<String>,
    forward: Option<SocketAddr>,
    next_service: Instant,
    /// Plan that was reported last, so that each change is reported once.
    told: Wanted,
    look_at: Option<Instant>,
    next_write: Instant,
    delay: Delay,
    away: Option<String>,
}

impl<'c> Term<'c> {
    pub(super) fn new(coredns: &'c CoreDns, cluster_domain: Option<String>) -> Term<'c> {
        let now = Instant::now();
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: None };
        Term {
            maps: Api::namespaced(coredns.client.clone(), NAMESPACE),
            recorder: Recorder::new(coredns.client.clone(), reporter),
            coredns,
            cluster_domain,
            custom: Known::default(),
            main: Known::default(),
            zones: BTreeSet::new(),
            forward: match coredns.forward {
                Forward::Address(address) => Some(address),
                Forward::Service(_) => None,
            },
            next_service: now,
            told: Wanted::default(),
            look_at: None,
            next_write: now,
            delay: Delay::default(),
            away: None,
        }
    }

    /// Reconciles until it is dropped, when this process stops being the leader.
    pub(super) async fn run(mut self) {
        let client = &self.coredns.client;
        let mut notices = stream::select(notices(client, Which::Custom), notices(client, Which::Main));
        let mut changed = self.coredns.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(ZONES_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Neither of the streams ever ends.
                Some(notice) = notices.next() => self.notice(notice),
                is_there = changed.changed() => match is_there {
                    Ok(()) => self.look_at_zones(),
                    Err(_) => return,
                },
                _ = tick.tick() => {
                    self.look_at_zones();
                    self.look_at_service().await;
                }
                () = until(self.look_at) => self.write().await,
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let (which, event) = match notice {
            Notice::Watched(which, event) => (which, event),
            Notice::Failed(which, why) => {
                self.coredns.status.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = why, ?which, "the watch of a ConfigMap of CoreDNS had an error");
                self.known(which).failure = Some(why);
                return self.soon();
            }
        };
        self.known(which).take(*event);
        self.soon();
    }

    fn known(&mut self, which: Which) -> &mut Known {
        match which {
            Which::Custom => &mut self.custom,
            Which::Main => &mut self.main,
        }
    }

    fn soon(&mut self) {
        let at = (Instant::now() + Duration::from_millis(COALESCE_MS)).max(self.next_write);
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn look_at_zones(&mut self) {
        let zones = self.coredns.zones.now();
        if zones != self.zones {
            self.zones = zones;
            self.soon();
        }
    }

    /// Reads the address that CoreDNS forwards to from the Service, if the settings name one.
    async fn look_at_service(&mut self) {
        let Forward::Service(name) = &self.coredns.forward else { return };
        let now = Instant::now();
        if now < self.next_service {
            return;
        }
        let own_namespace = &self.coredns.own_namespace;
        let services: Api<Service> = Api::namespaced(self.coredns.client.clone(), own_namespace);
        let found = match within(services.get_opt(name)).await {
            Ok(Some(service)) => address_of(&service)
                .ok_or_else(|| format!("the Service {own_namespace}/{name} has no cluster address")),
            Ok(None) => Err(format!(
                "there is no Service {own_namespace}/{name} whose address CoreDNS could forward to; set --coredns-forward \
                 or --coredns-service"
            )),
            Err(error) => Err(error),
        };
        match found {
            Ok(address) => {
                self.next_service = now + Duration::from_millis(SERVICE_MS);
                if self.forward.replace(address) != Some(address) {
                    tracing::info!(%address, "CoreDNS forwards to the Service's address");
                    self.soon();
                }
            }
            Err(why) => {
                self.next_service = now + Duration::from_millis(SERVICE_MISSING_MS);
                // A known address is kept, because Services keep theirs.
                if self.forward.is_none() {
                    self.failed(why);
                }
            }
        }
    }

    async fn write(&mut self) {
        self.look_at = None;
        let (own, other) = match self.coredns.mode {
            CoreDnsMode::Custom => (&self.custom, &self.main),
            CoreDnsMode::Corefile => (&self.main, &self.custom),
        };
        // Only our own ConfigMap must be readable.
        if let (Some(why), false) = (&own.failure, own.is_listed) {
            return self.failed(why.clone());
        }
        let is_known = own.is_listed && (other.is_listed || other.failure.is_some());
        let Some(forward) = self.forward.filter(|_| is_known) else { return };
        let seen = Seen { custom: self.custom.keys(), corefile: self.main.corefile() };
        let domain = self.cluster_domain.as_deref();
        let wanted = wanted(self.coredns.mode, &self.zones, forward, domain, &seen);
        let written = match self.coredns.mode {
            CoreDnsMode::Custom => self.write_custom(wanted.text.as_deref(), &seen).await,
            CoreDnsMode::Corefile => self.write_corefile(wanted.text.as_deref(), &seen).await,
        };
        self.coredns.status.set(&wanted);
        self.report(&wanted).await;
        self.told = wanted;
        match written {
            Ok(None) => self.went_well(),
            Ok(Some(map)) => {
                let which = self.which();
                self.known(which).map = Some(map);
                self.coredns.status.writes.fetch_add(1, Ordering::Relaxed);
                self.next_write = Instant::now() + Duration::from_millis(BETWEEN_WRITES_MS);
                tracing::info!(zones = self.told.forwarded, "CoreDNS was told which zones to forward");
                self.went_well();
            }
            Err(Failure::Stale) => {
                // The watch delivers the change; this attempt is for the case that the watch is interrupted.
                self.next_write = Instant::now() + Duration::from_millis(BETWEEN_WRITES_MS);
                self.soon();
            }
            Err(Failure::Away(why)) => self.failed(why),
        }
    }

    fn which(&self) -> Which {
        match self.coredns.mode {
            CoreDnsMode::Custom => Which::Custom,
            CoreDnsMode::Corefile => Which::Main,
        }
    }

    async fn write_custom(&self, text: Option<&str>, seen: &Seen) -> Result<Option<ConfigMap>, Failure> {
        let found = seen.custom.as_ref().and_then(|keys| keys.get(CUSTOM_KEY)).map(String::as_str);
        match (&self.custom.map, text) {
            _ if found == text => Ok(None),
            (None, Some(text)) => {
                let labels = [("app.kubernetes.io/managed-by".to_string(), FIELD_MANAGER.to_string())];
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(CUSTOM.into()),
                        labels: Some(BTreeMap::from(labels)),
                        ..ObjectMeta::default()
                    },
                    data: Some(BTreeMap::from([(CUSTOM_KEY.to_string(), text.to_string())])),
                    ..ConfigMap::default()
                };
                self.may_write()?;
                let options =
                    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
                written(self.maps.create(&options, &map)).await
            }
            (None, None) => Ok(None),
            (Some(map), text) => self.patch(CUSTOM, map, CUSTOM_KEY, text).await,
        }
    }

    async fn write_corefile(&self, text: Option<&str>, seen: &Seen) -> Result<Option<ConfigMap>, Failure> {
        let (Some(map), Some(corefile)) = (&self.main.map, &seen.corefile) else {
            return Err(Failure::Away(format!(
                "there is no {COREFILE_KEY} in the ConfigMap {NAMESPACE}/{MAIN}"
            )));
        };
        match with_block(corefile, text) {
            Ok(None) => Ok(None),
            Ok(Some(changed)) => self.patch(MAIN, map, COREFILE_KEY, Some(&changed)).await,
            Err(why) => Err(Failure::Away(why.into())),
        }
    }

    /// Changes one key of a ConfigMap, unless it was changed since it was read (`resourceVersion`).
    async fn patch(
        &self,
        name: &str,
        map: &ConfigMap,
        key: &str,
        text: Option<&str>,
    ) -> Result<Option<ConfigMap>, Failure> {
        self.may_write()?;
        let version = &map.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {key: text}});
        written(self.maps.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(&patch))).await
    }

    fn may_write(&self) -> Result<(), Failure> {
        if self.coredns.leadership.is_held() { Ok(()) } else { Err(Failure::Stale) }
    }

    /// Logs the zones without a block and publishes warning events, once for each zone.
    async fn report(&self, wanted: &Wanted) {
        let mut notes = Vec::new();
        for (zone, place) in &wanted.clashes {
            if self.told.clashes.get(zone) != Some(place) {
                tracing::warn!(
                    zone,
                    place,
                    "CoreDNS is not told to forward a zone: somebody else's block is for it"
                );
                notes.push((
                    "CloudMapZoneClash",
                    format!(
                        "The zone {zone} is not forwarded to {FIELD_MANAGER}: {place} has a block for it, and two for one \
                         zone are an error. It is forwarded when that block is gone."
                    ),
                ));
            }
        }
        for (zone, why) in &wanted.guarded {
            if !self.told.guarded.contains_key(zone) {
                tracing::warn!(zone, why, "CoreDNS is not told to forward a zone");
                notes.push((
                    "CloudMapZoneNotForwarded",
                    format!("The zone {zone} is not forwarded to {FIELD_MANAGER}: {why}."),
                ));
            }
        }
        for zone in self.told.clashes.keys().filter(|zone| !wanted.clashes.contains_key(*zone)) {
            tracing::info!(zone, "no block of somebody else is in the way of a zone any more");
        }
        if wanted.left_out > self.told.left_out {
            tracing::warn!(zones = wanted.left_out, "zones have no room in CoreDNS's ConfigMap");
        }
        let name = if self.which() == Which::Custom { CUSTOM } else { MAIN };
        let map = if self.which() == Which::Custom { &self.custom.map } else { &self.main.map };
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("ConfigMap".into()),
            namespace: Some(NAMESPACE.into()),
            name: Some(name.into()),
            uid: map.as_ref().and_then(|map| map.metadata.uid.clone()),
            ..ObjectReference::default()
        };
        for (reason, note) in notes.into_iter().take(WARNINGS_MAX) {
            let warning = Warning {
                type_: EventType::Warning,
                reason: reason.into(),
                note: Some(note),
                action: "Forward".into(),
                secondary: None,
            };
            if let Err(error) = within(self.recorder.publish(&warning, &reference)).await {
                tracing::debug!(error, "a warning could not be put on a ConfigMap");
                return;
            }
        }
    }

    fn failed(&mut self, why: String) {
        self.coredns.status.errors.fetch_add(1, Ordering::Relaxed);
        if self.away.as_ref() != Some(&why) {
            tracing::warn!(error = why, "CoreDNS can't be told which zones to forward; it is tried again");
        }
        self.coredns.status.set_away(Some(why.clone()));
        self.away = Some(why);
        self.next_write = Instant::now() + self.delay.next().unwrap_or_default();
        self.look_at = Some(self.next_write);
    }

    fn went_well(&mut self) {
        self.delay.reset();
        self.away = None;
        self.coredns.status.set_away(None);
    }
}

/// Sleeps until a time; pending forever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn address_of(service: &Service) -> Option<SocketAddr> {
    let spec = service.spec.as_ref()?;
    let address: IpAddr = spec.cluster_ip.as_deref()?.parse().ok()?;
    let ports = spec.ports.as_deref().unwrap_or_default();
    let named = ports.iter().find(|port| port.name.as_deref() == Some("dns"));
    let port = named.or_else(|| ports.iter().find(|port| port.protocol.as_deref() == Some("UDP")));
    Some((address, port.map_or(Some(DNS_PORT), |port| u16::try_from(port.port).ok())?).into())
}

/// Result of a request within [`REQUEST_MS_MAX`], or the text of its error.
async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), request).await {
        Ok(answer) => answer.map_err(|error| told(&error)),
        Err(_) => Err("the API server did not answer in time".into()),
    }
}

/// Outcome of a write. A conflict means that the ConfigMap was changed since it was read.
async fn written(
    request: impl Future<Output = Result<ConfigMap, kube::Error>>,
) -> Result<Option<ConfigMap>, Failure> {
    let request = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            answer => answer.map(Some),
        }
    };
    match within(request).await {
        Ok(None) => Err(Failure::Stale),
        Ok(written) => Ok(written),
        Err(why) => Err(Failure::Away(why)),
    }
}
