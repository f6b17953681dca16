//! Conversion of a pod to the instances that it registers.
//!
//! KECS writes two families of labels (`kecs.dev/…` on what it deploys, `kecs.io/…` on TaskSets) and two forms of
//! annotation. A pod belongs to Cloud Map if one of them names a service.
//!
//! | | from |
//! | --- | --- |
//! | services | annotation `kecs.dev/service-registries`: JSON, `null` when there is none; `kecs.io/sd-registry-<i>`: an ARN |
//! | instance id | label `kecs.dev/task-id` (as on AWS), else the pod's name |
//! | addresses | `status.podIPs`, one of each family |
//! | port | the registry's `containerPort`, else its `port`, else the first port of the container |
//! | availability zone | label `topology.kubernetes.io/zone`, else the region's zone `a` |
//! | weight | annotation `cloudmap-dns.io/weight`, else 1 |
//! | start | `status.startTime`, else the time of creation |
//! | health | ready: HEALTHY; not ready yet: UNKNOWN; was ready, or a container of it ended: UNHEALTHY. The same for the container of the registry's `containerName`, where the policy `health-of` says so (annotation `cloudmap-dns.io/health-of`) |
//! | maintenance | annotation `cloudmap-dns.io/maintenance`: its reason |
//!
//! A pod is no instance while it has no address or its containers are not started (phase Pending and not ready: a pod whose
//! image can't be pulled would be served otherwise), once it has a deletionTimestamp, and when it has ended. A pod that
//! would be an instance without its deletionTimestamp has terminating endpoints instead, which only the mirror shows. An
//! entry of the annotation that can't be read affects only that service of that pod.

mod attributes;
mod endpoint;
mod ids;
mod object;
mod policies;
mod registries;
mod rules;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::model::{Attributes, EpochMs, PodDetails, Readiness, ServiceId, Uid};
use crate::registry::health::HealthOf;

use endpoint::terminating_endpoints;
pub use endpoint::{Placement, TerminatingEndpoint};
use ids::instance_id;
pub use object::Pod;
use object::{Condition, ContainerStatus, PodStatus};
use policies::PodPolicies;
pub use rules::{InstanceIdSource, PodRules};

/// Label selector for the pods of ECS services and tasks.
pub const MANAGED_SELECTOR: &str = "kecs.dev/managed-by=kecs";
/// Label selector for the pods of TaskSets.
pub const TASK_SET_SELECTOR: &str = "kecs.io/service-discovery-enabled=true";

/// Annotation with the time from which nobody holds a pod that has left the answers (RFC 3339).
pub(super) const DRAINED_AT: &str = "cloudmap-dns.io/drained-at";

/// Characters of Kubernetes' explanation why a pod is not ready that are kept.
const NOT_READY_CHARACTERS_MAX: usize = 120;

/// Data of a pod that the index needs, from one version of the pod.
///
/// `name` has the form `namespace/name`, and `uid` distinguishes the pod from another one of that name. `version`
/// is the `resourceVersion` as a number, which etcd increases with each write; 0 if it is not a number. `created_s`
/// is the time of creation and `started_s` that of the start, in seconds since 1970. There is at most one registration for each service. `problems`
/// are the parts of the annotations that could not be read, and `contradictions` the entries that contradict an
/// earlier one about the same service, one sentence each.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the other fields")]
pub struct ParsedPod {
    pub name: Arc<str>,
    pub uid: Uid,
    pub version: u64,
    pub created_s: i64,
    pub started_s: u32,
    /// Texts about the health, for people.
    pub details: PodDetails,
    /// Readiness; `None` if the pod can't be an instance now.
    pub readiness: Option<Readiness>,
    /// True if the pod is ready or was before; `None` if this version of the pod alone does not show that.
    pub was_ready: Option<bool>,
    /// Addresses of the pod; empty if they are those of its node.
    pub own_addresses: Vec<IpAddr>,
    pub registrations: Vec<Registration>,
    pub placement: Placement,
    /// Annotation of the pod about its drain.
    pub drained_at: Option<DrainedAt>,
    /// Endpoints of a pod that terminates and has not ended. Such a pod has no registrations.
    pub terminating: Vec<TerminatingEndpoint>,
    pub problems: Vec<String>,
    pub contradictions: Vec<(ServiceId, String)>,
}

/// Annotation of a pod with the time from which nobody holds it, `None` if that cannot be read; and whether the pod is being
/// deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct DrainedAt {
    pub at_ms: Option<EpochMs>,
    pub is_deleted: bool,
}

/// Readiness that one version of a pod shows, with the time at which it began. `was_ready` is true if it is ready or was
/// before; `None` if this version alone does not show that.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct KnownReadiness {
    pub readiness: Readiness,
    pub was_ready: Option<bool>,
    pub changed_s: u32,
}

/// Instance that a pod is to be in one service, with the id in that service and the attributes that ECS and KECS
/// set.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Registration {
    pub service: ServiceId,
    pub id: Box<str>,
    pub attributes: Attributes,
    pub readiness: KnownReadiness,
    /// Readiness of the registry's container.
    pub container_readiness: KnownReadiness,
}

impl ParsedPod {
    /// Converts a pod. `None` if it has no name, which pods of an API server always have.
    pub fn of(pod: &Pod, rules: &PodRules) -> Option<ParsedPod> {
        let meta = &pod.metadata;
        let name = meta.name.as_deref()?;
        let namespace = meta.namespace.as_deref().unwrap_or("default");
        let registries::ServiceRegistries { entries, mut problems, contradictions } = registries::of(pod);
        let mut policies = if entries.is_empty() { PodPolicies::default() } else { PodPolicies::of(pod) };
        problems.append(&mut policies.problems);
        let status = pod.status.as_ref();
        let addresses = status.map(addresses).unwrap_or_default();
        let is_host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
        let found = (!addresses.is_empty()).then(|| readiness(pod)).flatten();
        let registrations = match found {
            None => Vec::new(),
            Some(whole) => {
                let task = attributes::Task::of(pod, name, namespace, rules, &policies);
                let id = instance_id(pod, name, rules.instance_id);
                let registration = |registry: &registries::ServiceRegistry| {
                    let attributes = Attributes::new(&task.attributes(pod, registry, &addresses))?;
                    let container = container_readiness(pod, registry.container.as_deref(), whole);
                    // With the annotation, both count the same, so that the policy of the service has no effect.
                    let (readiness, container_readiness) = match policies.health_of {
                        None => (whole, container),
                        Some(HealthOf::Pod) => (whole, whole),
                        Some(HealthOf::Container) => (container, container),
                    };
                    let (service, id) = (registry.service.clone(), id.clone());
                    Some(Registration { service, id, attributes, readiness, container_readiness })
                };
                entries.iter().filter_map(registration).collect()
            }
        };
        let name: Arc<str> = format!("{namespace}/{name}").into();
        let uid = Uid::of(meta.uid.as_deref().unwrap_or_default());
        let placement = Placement::of(pod);
        let (found, registrations, terminating) = match meta.deletion_timestamp {
            None => (found, registrations, Vec::new()),
            Some(_) => {
                let pod = (&name, uid);
                let endpoints = terminating_endpoints(pod, found, &addresses, &placement, registrations);
                (None, Vec::new(), endpoints)
            }
        };
        Some(ParsedPod {
            name,
            uid,
            version: ParsedPod::version_of(pod),
            created_s: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            started_s: started_s(pod),
            details: PodDetails {
                maintenance: policies.maintenance,
                not_ready: not_ready_text(pod, found),
                times: policies.times,
            },
            readiness: found.map(|found| found.readiness),
            was_ready: found.and_then(|found| found.was_ready),
            own_addresses: if is_host_network { Vec::new() } else { addresses },
            registrations,
            placement,
            drained_at: pod.annotation(DRAINED_AT).map(|text| DrainedAt {
                at_ms: text.parse().ok().map(|time: Timestamp| time.as_millisecond()),
                is_deleted: meta.deletion_timestamp.is_some(),
            }),
            terminating,
            problems,
            contradictions,
        })
    }

    pub(super) fn version_of(pod: &Pod) -> u64 {
        pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(super) fn name_of(pod: &Pod) -> Option<String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        Some(format!("{namespace}/{}", pod.metadata.name.as_deref()?))
    }
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().filter_map(|address| address.ip.as_deref());
    let all = all.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse::<IpAddr>().ok());
    let mut chosen: Vec<IpAddr> = Vec::with_capacity(2);
    for address in all {
        if !chosen.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            chosen.push(address);
        }
    }
    chosen
}

/// Readiness of a pod that has an address, from this version of it alone, and true if it is ready or was before, as
/// far as this version shows that; `None` if the pod has not started or has ended. Servers that have seen different
/// versions of a pod must agree, so the newest version counts more than the history.
fn readiness(pod: &Pod) -> Option<KnownReadiness> {
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let condition = ready_condition(status);
    let changed = condition.and_then(|condition| condition.last_transition_time.as_ref());
    let changed_s = changed.map_or(0, seconds);
    let known = |readiness, was_ready| Some(KnownReadiness { readiness, was_ready, changed_s });
    if condition.is_some_and(|condition| condition.status.as_deref() == Some("True")) {
        return known(Readiness::Ready, Some(true));
    }
    if phase == "Pending" {
        return None;
    }
    let containers = || status.container_statuses.iter().flatten();
    if containers().any(has_ended) {
        // If the condition has been false since the start, the pod was never ready, and no time has to pass. Both times are
        // whole seconds.
        let changed_s = if changed_s > started_s(pod).saturating_add(1) { changed_s } else { 0 };
        return Some(KnownReadiness { readiness: Readiness::NotReady, was_ready: Some(true), changed_s });
    }
    // The Ready condition turns false once before the containers start. If it turned false later, it was true in
    // between.
    let started = containers()
        .filter_map(|container| Some(container.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0));
    match (started.max(), changed) {
        (Some(started), Some(changed)) if changed.0 > started => known(Readiness::NotReady, Some(true)),
        (Some(started), Some(changed)) if changed.0 < started => known(Readiness::NeverReady, Some(false)),
        // Kubernetes reports whole seconds, so that the order of two equal times is unknown.
        _ => known(Readiness::NeverReady, None),
    }
}

fn ready_condition(status: &PodStatus) -> Option<&Condition> {
    status.conditions.iter().flatten().find(|condition| condition.kind.as_deref() == Some("Ready"))
}

/// Readiness of the container of this name in a pod that is an instance, whose own readiness is `whole`. A pod that was
/// ready shows that each of its containers was.
fn container_readiness(pod: &Pod, name: Option<&str>, whole: KnownReadiness) -> KnownReadiness {
    let Some(name) = name else { return whole };
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let Some(status) = statuses.into_iter().find(|status| status.name.as_deref() == Some(name)) else {
        return whole;
    };
    // Kubernetes has no such time for a container. That of a ready one must not move with its sidecars, and that of one that
    // is not ready not with its restarts.
    let running = status.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.as_ref());
    let changed_s = match status.ready {
        Some(true) => running.map_or(whole.changed_s, seconds),
        _ => whole.changed_s,
    };
    let known = |readiness, was_ready| KnownReadiness { readiness, was_ready, changed_s };
    if status.ready == Some(true) {
        known(Readiness::Ready, Some(true))
    } else if has_ended(status) || whole.readiness == Readiness::Ready || whole.was_ready == Some(true) {
        known(Readiness::NotReady, Some(true))
    } else {
        // As for the pod, servers that saw different versions must agree.
        known(Readiness::NeverReady, whole.was_ready)
    }
}

fn started_s(pod: &Pod) -> u32 {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.or(pod.metadata.creation_timestamp.as_ref()).map_or(0, seconds)
}

fn seconds(time: &Time) -> u32 {
    u32::try_from(time.0.as_second()).unwrap_or(0)
}

/// Kubernetes' explanation why a pod that was ready is not ready.
fn not_ready_text(pod: &Pod, found: Option<KnownReadiness>) -> Option<String> {
    found.filter(|found| found.readiness == Readiness::NotReady)?;
    let message = ready_condition(pod.status.as_ref()?)?.message.as_deref()?;
    Some(message.chars().filter(|c| !c.is_control()).take(NOT_READY_CHARACTERS_MAX).collect())
}

fn has_ended(container: &ContainerStatus) -> bool {
    let is_ended = container.state.as_ref().is_some_and(|state| state.terminated.is_some());
    is_ended || container.restart_count.is_some_and(|count| count > 0)
}

#[cfg(test)]
pub(super) mod tests;
