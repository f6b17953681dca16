//! Reconciler of CoreDNS's configuration, for the time in which this process is the leader. It watches both ConfigMaps
//! and writes our text when it differs from the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Service};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event as Warning, EventType, Recorder, Reporter};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::cluster_domain::cluster_domain;
use super::maps::{COREFILE_KEY, CUSTOM, CUSTOM_KEY, MAIN, NAMESPACE};
use super::maps::{MapChange, MapName, Maps, follow_maps};
use super::plan::{MapContents, Plan, plan_blocks, with_block};
use super::settings::{CoreDnsMode, Forward, ServedZones};
use super::status::CoreDnsStatus;
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::background::until;
use crate::kubernetes::backoff::Backoff;
use crate::kubernetes::client::error_text;
use crate::kubernetes::follow::ObservedClient;
use crate::kubernetes::leader::{Leadership, REQUEST_MS_MAX};
use crate::registry::Registry;

/// Interval at which the served zones are read, in milliseconds. Those of Cloud Map are also read when the registry
/// changes.
const ZONES_MS: u64 = 1_000;
/// Time for which a change waits for further ones, in milliseconds.
const COALESCE_MS: u64 = 100;
/// Shortest time between two writes, in milliseconds, because another program may keep replacing our text.
const BETWEEN_WRITES_MS: u64 = 1_000;
/// Intervals at which the Service that CoreDNS forwards to is read, in milliseconds: usually, and while it has no address.
const SERVICE_MS: u64 = 30_000;
const SERVICE_MISSING_MS: u64 = 5_000;
const WARNINGS_MAX: usize = 20;
const DNS_PORT: u16 = 53;

/// Reason why a write failed: the ConfigMap was changed since it was read, or the API server can't be used now.
enum WriteError {
    Stale,
    Unavailable(String),
}

/// Task that keeps the served zones in CoreDNS's ConfigMap while this process is the leader.
pub(in crate::kubernetes) struct CoreDns {
    pub(in crate::kubernetes) client: ObservedClient,
    pub(in crate::kubernetes) registry: Registry,
    pub(in crate::kubernetes) leadership: Leadership,
    pub(in crate::kubernetes) mode: CoreDnsMode,
    pub(in crate::kubernetes) forward: Forward,
    pub(in crate::kubernetes) zones: ServedZones,
    pub(in crate::kubernetes) own_namespace: String,
    pub(in crate::kubernetes) status: Arc<CoreDnsStatus>,
}

impl CoreDns {
    /// Writes whenever this process is the leader, until it is `stopped`.
    pub(in crate::kubernetes) async fn run(self, stopped: watch::Receiver<bool>) {
        let domain = cluster_domain();
        let reconcile = || CoreDnsReconciler::new(&self, domain.clone()).run();
        self.leadership.lead(stopped, reconcile, || self.status.clear()).await;
    }
}

/// State of the reconciler. `forward` is the address that CoreDNS forwards to, once it is known; `reported` is the plan that
/// was logged last, so that each change is logged once; and `reconcile_at` is `None` while nothing has changed.
struct CoreDnsReconciler<'c> {
    coredns: &'c CoreDns,
    api: Api<ConfigMap>,
    maps: Maps,
    recorder: Recorder,
    cluster_domain: Option<String>,
    zones: BTreeSet<String>,
    forward: Option<SocketAddr>,
    next_service: Instant,
    reported: Plan,
    reconcile_at: Option<Instant>,
    next_write: Instant,
    backoff: Backoff,
    unavailable: Option<String>,
}

impl<'c> CoreDnsReconciler<'c> {
    fn new(coredns: &'c CoreDns, cluster_domain: Option<String>) -> CoreDnsReconciler<'c> {
        let now = Instant::now();
        let client = coredns.client.client();
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: None };
        CoreDnsReconciler {
            api: Api::namespaced(client.clone(), NAMESPACE),
            maps: Maps::default(),
            recorder: Recorder::new(client, reporter),
            coredns,
            cluster_domain,
            zones: BTreeSet::new(),
            forward: match coredns.forward {
                Forward::Address(address) => Some(address),
                Forward::Service(_) => None,
            },
            next_service: now,
            reported: Plan::default(),
            reconcile_at: None,
            next_write: now,
            backoff: Backoff::default(),
            unavailable: None,
        }
    }

    /// Reconciles until it is dropped, when this process stops being the leader.
    async fn run(mut self) {
        let mut events = follow_maps(&self.coredns.client);
        let mut changed = self.coredns.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(ZONES_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = events.next() => {
                    if matches!(self.maps.apply(event), MapChange::Failure { .. }) {
                        self.coredns.status.errors.fetch_add(1, Ordering::Relaxed);
                    }
                    self.schedule();
                }
                change = changed.changed() => match change {
                    Ok(()) => self.refresh_zones(),
                    Err(_) => return,
                },
                _ = tick.tick() => {
                    self.refresh_zones();
                    self.refresh_forward().await;
                }
                () = until(self.reconcile_at) => self.reconcile().await,
            }
        }
    }

    fn schedule(&mut self) {
        let at = (Instant::now() + Duration::from_millis(COALESCE_MS)).max(self.next_write);
        self.reconcile_at = Some(self.reconcile_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn refresh_zones(&mut self) {
        let zones = self.coredns.zones.now();
        if zones != self.zones {
            self.zones = zones;
            self.schedule();
        }
    }

    /// Reads the address that CoreDNS forwards to from the Service, if the settings name one.
    async fn refresh_forward(&mut self) {
        let Forward::Service(name) = &self.coredns.forward else { return };
        let now = Instant::now();
        if now < self.next_service {
            return;
        }
        let own_namespace = &self.coredns.own_namespace;
        let services: Api<Service> = Api::namespaced(self.coredns.client.client(), own_namespace);
        let found = match with_timeout(services.get_opt(name)).await {
            Ok(Some(service)) => dns_address(&service)
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
                    self.schedule();
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

    async fn reconcile(&mut self) {
        self.reconcile_at = None;
        let (own, other) = match self.coredns.mode {
            CoreDnsMode::Custom => (&self.maps.custom, &self.maps.main),
            CoreDnsMode::Corefile => (&self.maps.main, &self.maps.custom),
        };
        // Only our own ConfigMap must be readable.
        if let (Some(why), false) = (&own.failure, own.is_listed) {
            return self.failed(why.clone());
        }
        let is_known = own.is_listed && other.is_known();
        let Some(forward) = self.forward.filter(|_| is_known) else { return };
        let contents = MapContents { custom: self.maps.custom.keys(), corefile: self.maps.main.corefile() };
        let domain = self.cluster_domain.as_deref();
        let plan = plan_blocks(self.coredns.mode, &self.zones, forward, domain, &contents);
        let written = match self.coredns.mode {
            CoreDnsMode::Custom => self.write_custom(plan.text.as_deref(), &contents).await,
            CoreDnsMode::Corefile => self.write_corefile(plan.text.as_deref(), &contents).await,
        };
        self.coredns.status.set_plan(&plan);
        self.report(&plan).await;
        self.reported = plan;
        match written {
            Ok(None) => self.succeeded(),
            Ok(Some(map)) => {
                let name = self.own_map();
                self.maps.get_mut(name).map = Some(map);
                self.coredns.status.writes.fetch_add(1, Ordering::Relaxed);
                self.next_write = Instant::now() + Duration::from_millis(BETWEEN_WRITES_MS);
                tracing::info!(zones = self.reported.forwarded, "CoreDNS's configuration was written");
                self.succeeded();
            }
            Err(WriteError::Stale) => {
                // The watch delivers the change; this attempt is for the case that the watch is interrupted.
                self.next_write = Instant::now() + Duration::from_millis(BETWEEN_WRITES_MS);
                self.schedule();
            }
            Err(WriteError::Unavailable(why)) => self.failed(why),
        }
    }

    fn own_map(&self) -> MapName {
        match self.coredns.mode {
            CoreDnsMode::Custom => MapName::Custom,
            CoreDnsMode::Corefile => MapName::Main,
        }
    }

    async fn write_custom(
        &self,
        text: Option<&str>,
        contents: &MapContents,
    ) -> Result<Option<ConfigMap>, WriteError> {
        let found = contents.custom.as_ref().and_then(|keys| keys.get(CUSTOM_KEY)).map(String::as_str);
        match (&self.maps.custom.map, text) {
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
                write_outcome(self.api.create(&options, &map)).await
            }
            (None, None) => Ok(None),
            (Some(map), text) => self.patch(CUSTOM, map, CUSTOM_KEY, text).await,
        }
    }

    async fn write_corefile(
        &self,
        text: Option<&str>,
        contents: &MapContents,
    ) -> Result<Option<ConfigMap>, WriteError> {
        let (Some(map), Some(corefile)) = (&self.maps.main.map, &contents.corefile) else {
            return Err(WriteError::Unavailable(format!(
                "there is no {COREFILE_KEY} in the ConfigMap {NAMESPACE}/{MAIN}"
            )));
        };
        match with_block(corefile, text) {
            Ok(None) => Ok(None),
            Ok(Some(changed)) => self.patch(MAIN, map, COREFILE_KEY, Some(&changed)).await,
            Err(why) => Err(WriteError::Unavailable(why.into())),
        }
    }

    /// Changes one key of a ConfigMap, unless it was changed since it was read (`resourceVersion`).
    async fn patch(
        &self,
        name: &str,
        map: &ConfigMap,
        key: &str,
        text: Option<&str>,
    ) -> Result<Option<ConfigMap>, WriteError> {
        self.may_write()?;
        let version = &map.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {key: text}});
        write_outcome(self.api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(&patch))).await
    }

    fn may_write(&self) -> Result<(), WriteError> {
        if self.coredns.leadership.is_held() { Ok(()) } else { Err(WriteError::Stale) }
    }

    /// Logs the zones without a block and publishes warning events, once for each zone.
    async fn report(&self, plan: &Plan) {
        let mut notes = Vec::new();
        for (zone, location) in &plan.clashes {
            if self.reported.clashes.get(zone) != Some(location) {
                tracing::warn!(
                    zone,
                    location,
                    "CoreDNS does not forward a zone to this server: another author has a block for it"
                );
                notes.push((
                    "CloudMapZoneClash",
                    format!(
                        "The zone {zone} is not forwarded to {FIELD_MANAGER}: {location} has a block for it, and two for one \
                         zone are an error. It is forwarded when that block is gone."
                    ),
                ));
            }
        }
        for (zone, why) in &plan.guarded {
            if !self.reported.guarded.contains_key(zone) {
                tracing::warn!(zone, why, "CoreDNS does not forward a zone to this server");
                notes.push((
                    "CloudMapZoneNotForwarded",
                    format!("The zone {zone} is not forwarded to {FIELD_MANAGER}: {why}."),
                ));
            }
        }
        for zone in self.reported.clashes.keys().filter(|zone| !plan.clashes.contains_key(*zone)) {
            tracing::info!(zone, "no other author has a block for a zone any more");
        }
        if plan.left_out > self.reported.left_out {
            tracing::warn!(zones = plan.left_out, "zones have no room in CoreDNS's ConfigMap");
        }
        let (name, map) = (self.own_map(), &self.maps.get(self.own_map()).map);
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("ConfigMap".into()),
            namespace: Some(NAMESPACE.into()),
            name: Some(name.as_str().into()),
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
            if let Err(error) = with_timeout(self.recorder.publish(&warning, &reference)).await {
                tracing::debug!(error, "a warning event for a ConfigMap could not be published");
                return;
            }
        }
    }

    fn failed(&mut self, why: String) {
        self.coredns.status.errors.fetch_add(1, Ordering::Relaxed);
        if self.unavailable.as_ref() != Some(&why) {
            tracing::warn!(error = why, "CoreDNS's configuration can't be written; it is tried again");
        }
        self.coredns.status.set_unavailable(Some(why.clone()));
        self.unavailable = Some(why);
        self.next_write = Instant::now() + self.backoff.delay();
        self.reconcile_at = Some(self.next_write);
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.unavailable = None;
        self.coredns.status.set_unavailable(None);
    }
}

fn dns_address(service: &Service) -> Option<SocketAddr> {
    let spec = service.spec.as_ref()?;
    let address: IpAddr = spec.cluster_ip.as_deref()?.parse().ok()?;
    let ports = spec.ports.as_deref().unwrap_or_default();
    let named = ports.iter().find(|port| port.name.as_deref() == Some("dns"));
    let port = named.or_else(|| ports.iter().find(|port| port.protocol.as_deref() == Some("UDP")));
    Some((address, port.map_or(Some(DNS_PORT), |port| u16::try_from(port.port).ok())?).into())
}

/// Result of a request within [`REQUEST_MS_MAX`], or the text of its error.
async fn with_timeout<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), request).await {
        Ok(answer) => answer.map_err(|error| error_text(&error)),
        Err(_) => Err("the API server did not answer in time".into()),
    }
}

/// Outcome of a write. A conflict means that the ConfigMap was changed since it was read.
async fn write_outcome(
    request: impl Future<Output = Result<ConfigMap, kube::Error>>,
) -> Result<Option<ConfigMap>, WriteError> {
    let request = async {
        match request.await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            answer => answer.map(Some),
        }
    };
    match with_timeout(request).await {
        Ok(None) => Err(WriteError::Stale),
        Ok(written) => Ok(written),
        Err(why) => Err(WriteError::Unavailable(why)),
    }
}
