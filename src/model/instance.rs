//! Instances in packed form, because a server may hold a million of them.

mod attributes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ConfirmedReadiness, CustomHealthStatus, Readiness, Signals, Uid, uuid};

pub use attributes::{AttributePairs, Attributes};
use attributes::{DETAILS_KEY, find, split_pair, text};

/// Longest attribute key, in bytes (Cloud Map: 255 characters of ASCII).
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 255;
/// Longest instance id and request id in bytes, a limit of the Cloud Map API.
pub const INSTANCE_ID_BYTES_MAX: usize = 64;

/// Attribute with the instance's IPv4 address, from which its A record is made.
pub const AWS_INSTANCE_IPV4: &str = "AWS_INSTANCE_IPV4";
/// Attribute with the instance's IPv6 address, from which its AAAA record is made.
pub const AWS_INSTANCE_IPV6: &str = "AWS_INSTANCE_IPV6";
/// Attribute with the instance's port, from which its SRV record is made.
pub const AWS_INSTANCE_PORT: &str = "AWS_INSTANCE_PORT";
/// Attribute with a domain name, from which the instance's CNAME record is made.
pub const AWS_INSTANCE_CNAME: &str = "AWS_INSTANCE_CNAME";
/// Attribute with the DNS name of the load balancer that serves the instance, as an alias of Route 53.
pub const AWS_ALIAS_DNS_NAME: &str = "AWS_ALIAS_DNS_NAME";
/// Attribute with the id of the EC2 machine behind the instance; allowed in HTTP namespaces only.
pub const AWS_EC2_INSTANCE_ID: &str = "AWS_EC2_INSTANCE_ID";
/// Attribute with the custom health status that the instance has until a client reports one.
pub const AWS_INIT_HEALTH_STATUS: &str = "AWS_INIT_HEALTH_STATUS";
/// Attribute of ECS with the availability zone of the task.
pub const AVAILABILITY_ZONE: &str = "AVAILABILITY_ZONE";
/// Custom attribute with the instance's weight, from 0 to 255.
pub const WEIGHT: &str = "WEIGHT";

/// Attributes that Cloud Map itself defines. Other keys that start with `AWS_` are custom (KECS has AWS_INSTANCE_ID).
pub const OWN_KEYS: [&str; 7] = [
    AWS_INSTANCE_IPV4,
    AWS_INSTANCE_IPV6,
    AWS_INSTANCE_PORT,
    AWS_INSTANCE_CNAME,
    AWS_ALIAS_DNS_NAME,
    AWS_EC2_INSTANCE_ID,
    AWS_INIT_HEALTH_STATUS,
];
/// An instance of a service: id, attributes and signals about its health in one allocation, which clones share.
///
/// The packed form is also the stored form:
///
/// | bytes | contents |
/// | --- | --- |
/// | 8 | number of the registering operation, big endian |
/// | 1 | health, from the lowest bit: 2 bits of reported health (0 none, 1 healthy, 2 unhealthy), 2 of a pod's readiness (1 ready, 2 never ready, 3 not ready), 2 of what other systems report (as the reported health), 1 for maintenance that is stored, 1 for maintenance that a pod's annotation orders |
/// | 1 | form of the request id: 0 none, 1 text, 2 a UUID as 16 bytes |
/// | 2 | length of the request id, big endian |
/// | 1 | length of the instance id |
/// | | instance id, request id, then the attributes as [`Attributes`] packs them |
/// | | if there are any, details about the health, packed like an attribute with the key number 255 |
///
/// The details of a stored instance are a 1 and its [`Signals`] as postcard writes them.
///
/// A watched instance represents a pod. It is never stored, because Kubernetes is the source of truth for it. No operation
/// registered it, so the first half of the pod's uid replaces the operation's number. These parts replace the request id (form
/// 3), times being seconds since 1970 in 4 bytes, big endian: the time at which the pod's readiness began; the readiness of
/// the container behind the instance (1 byte) and its time; the confirmed readiness (1 byte, 0 for none) and its time; the
/// second half of the uid; the start of the pod; the pod's name. Its details are [`PodDetails`].
#[derive(Clone, Eq, PartialEq)]
pub struct Instance(Arc<[u8]>);

const HEALTH_AT: usize = 8;
const REPORTED_BITS: u8 = 0b11;
const READINESS_SHIFT: u32 = 2;
const READINESS_BITS: u8 = 0b11;
const SOURCES_SHIFT: u32 = 4;
const MAINTENANCE_STORED: u8 = 1 << 6;
const MAINTENANCE_ANNOTATED: u8 = 1 << 7;
const SIGNALS_VERSION: u8 = 1;
const CREATOR_FORM_AT: usize = 9;
const CREATOR_LEN_AT: usize = 10;
const ID_LEN_AT: usize = 12;
const ID_AT: usize = 13;
const FORM_POD: u8 = 3;
const UID_HALF_BYTES: usize = 8;
const TIME_BYTES: usize = 4;
/// Positions in what replaces the request id. All before the uid is about health.
const CHANGED_AT: usize = 0;
const CONTAINER_AT: usize = CHANGED_AT + TIME_BYTES;
const CONFIRMED_AT: usize = CONTAINER_AT + 1 + TIME_BYTES;
const UID_HALF_AT: usize = CONFIRMED_AT + 1 + TIME_BYTES;
const STARTED_AT: usize = UID_HALF_AT + UID_HALF_BYTES;
const POD_NAME_AT: usize = STARTED_AT + TIME_BYTES;

/// Observed state of the pod behind a watched instance.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of the other fields say it all")]
pub struct ObservedPod<'p> {
    /// Kubernetes namespace and name, with a slash between them.
    pub name: &'p str,
    pub uid: Uid,
    /// Start of the pod in seconds since 1970; a container that is started again does not renew it.
    pub started_s: u32,
    pub readiness: ReadinessSince,
    /// Readiness of the container that the instance's port belongs to.
    pub container_readiness: ReadinessSince,
    pub details: &'p PodDetails,
}

/// A readiness, and the time in seconds since 1970 at which it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct ReadinessSince {
    pub readiness: Readiness,
    pub changed_s: u32,
}

impl From<Readiness> for ReadinessSince {
    fn from(readiness: Readiness) -> ReadinessSince {
        ReadinessSince { readiness, changed_s: 0 }
    }
}

/// Facts about the health of a pod that most pods do not have: texts for people, and policies of its own.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PodDetails {
    /// Reason for the maintenance that the pod's annotation orders, which may be empty; `None` without the annotation.
    pub maintenance: Option<String>,
    /// Kubernetes' explanation why the pod is not ready.
    pub not_ready: Option<String>,
    /// Policies of time from the annotations of the pod.
    pub times: PodTimes,
}

/// Policies of time that a pod's annotations set, in seconds; `None` where the pod has none of its own. A number of
/// observations, which readiness does not have, is no time: 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are named after the policies")]
pub struct PodTimes {
    pub grace_s: Option<u32>,
    pub up_after_s: Option<u32>,
    pub down_after_s: Option<u32>,
}

impl<'p> ObservedPod<'p> {
    /// A pod without details, whose start is not known, and whose container is as ready as the pod.
    pub fn new(name: &'p str, uid: Uid, readiness: Readiness) -> ObservedPod<'p> {
        const NONE: &PodDetails = &PodDetails {
            maintenance: None,
            not_ready: None,
            times: PodTimes { grace_s: None, up_after_s: None, down_after_s: None },
        };
        let readiness = readiness.into();
        ObservedPod { name, uid, started_s: 0, readiness, container_readiness: readiness, details: NONE }
    }
}

impl PodDetails {
    fn is_empty(&self) -> bool {
        *self == PodDetails::default()
    }
}

impl Instance {
    /// Packs an instance. `operation` is the number of the registering operation. `None` when the id is longer than
    /// 255 bytes or the request id than 65,535; the API accepts far less.
    pub fn new(
        id: &str,
        creator_request_id: Option<&str>,
        attributes: &Attributes,
        custom_health: Option<CustomHealthStatus>,
        operation: u64,
    ) -> Option<Instance> {
        let uuid = creator_request_id.and_then(uuid::parse);
        let (form, creator) = match (creator_request_id, &uuid) {
            (None, _) => (0, &[][..]),
            (Some(_), Some(uuid)) => (2, &uuid[..]),
            (Some(text), None) => (1, text.as_bytes()),
        };
        pack(operation, [health_byte(custom_health), form], id, creator, attributes)
    }

    /// Packs an instance that represents a pod. `None` when the id is longer than 255 bytes or the pod's name than 65,509;
    /// Kubernetes allows no such names.
    pub fn watched(id: &str, pod: &ObservedPod<'_>, attributes: &Attributes) -> Option<Instance> {
        let (first, second) = pod.uid.as_bytes().split_at(UID_HALF_BYTES);
        let first = first.first_chunk().copied().map_or(0, u64::from_be_bytes);
        let container = pod.container_readiness;
        let creator = [
            &pod.readiness.changed_s.to_be_bytes()[..],
            &[readiness_number(container.readiness)],
            &container.changed_s.to_be_bytes(),
            &[0; 1 + TIME_BYTES],
            second,
            &pod.started_s.to_be_bytes(),
            pod.name.as_bytes(),
        ]
        .concat();
        let mut health = readiness_number(pod.readiness.readiness) << READINESS_SHIFT;
        if pod.details.maintenance.is_some() {
            health |= MAINTENANCE_ANNOTATED;
        }
        let instance = pack(first, [health, FORM_POD], id, &creator, attributes)?;
        if pod.details.is_empty() {
            return Some(instance);
        }
        Some(instance.with_details(health, &postcard::to_stdvec(pod.details).ok()?))
    }

    /// The stored instance with this custom health status and these stored signals.
    pub fn with_signals(&self, status: Option<CustomHealthStatus>, signals: &Signals) -> Instance {
        let mut details = Vec::new();
        if !signals.is_empty() {
            details.push(SIGNALS_VERSION);
            // Signals are short texts and numbers, which postcard can always write.
            details.extend(postcard::to_stdvec(signals).unwrap_or_default());
        }
        self.with_details(self.health_with(status, signals), &details)
    }

    /// The watched instance with these stored signals about its pod, as far as they decide its status. It shares memory with
    /// `self` if nothing changes.
    pub fn with_pod_signals(&self, signals: &Signals) -> Instance {
        let health = self.health_with(signals.report.as_ref().map(|report| report.status), signals);
        let confirmed = signals.confirmed;
        if (health, confirmed) == (self.0[HEALTH_AT], self.confirmed_readiness()) {
            return self.clone();
        }
        let mut packed = self.0.to_vec();
        packed[HEALTH_AT] = health;
        let at = self.id_end() + CONFIRMED_AT;
        let (number, changed_s) =
            confirmed.map_or((0, 0), |found| (readiness_number(found.readiness), found.changed_s));
        if let Some((first, rest)) = packed.get_mut(at..at + 1 + TIME_BYTES).and_then(<[u8]>::split_first_mut)
        {
            *first = number;
            rest.copy_from_slice(&changed_s.to_be_bytes());
        }
        Instance(packed.into())
    }

    fn health_with(&self, status: Option<CustomHealthStatus>, signals: &Signals) -> u8 {
        let kept = self.0[HEALTH_AT] & !(REPORTED_BITS | REPORTED_BITS << SOURCES_SHIFT | MAINTENANCE_STORED);
        let maintenance = if signals.maintenance.is_some() { MAINTENANCE_STORED } else { 0 };
        kept | health_byte(status) | health_byte(signals.of_sources()) << SOURCES_SHIFT | maintenance
    }

    fn with_details(&self, health: u8, details: &[u8]) -> Instance {
        let mut packed = self.0[..self.details_at()].to_vec();
        packed[HEALTH_AT] = health;
        if !details.is_empty() {
            packed.extend_from_slice(&DETAILS_KEY);
            // Reasons and descriptions of clients are far shorter than this limit.
            packed.extend_from_slice(&u16::try_from(details.len()).unwrap_or(0).to_be_bytes());
            packed.extend_from_slice(details);
        }
        Instance(packed.into())
    }

    /// Position of the details, which are last; the length of the packed form without any.
    fn details_at(&self) -> usize {
        let mut rest = &self.0[self.creator_end()..];
        while let Some((_, _, behind)) = split_pair(rest) {
            rest = behind;
        }
        self.0.len() - rest.len()
    }

    /// True if there are texts about the pod behind a watched instance, or signals that are stored with another instance.
    pub fn has_details(&self) -> bool {
        self.details_at() < self.0.len()
    }

    fn details(&self) -> Option<&[u8]> {
        self.0.get(self.details_at() + DETAILS_KEY.len() + 2..)
    }

    /// The signals that are stored with this instance. Those of a pod are stored apart from it.
    pub fn signals(&self) -> Signals {
        let details = self.details().filter(|_| !self.is_watched());
        let signals = details.and_then(read_signals);
        signals.unwrap_or_default()
    }

    /// Texts about the health of the pod behind a watched instance.
    pub fn pod_details(&self) -> PodDetails {
        let details = self.details().filter(|_| self.is_watched());
        details.and_then(|details| postcard::from_bytes(details).ok()).unwrap_or_default()
    }

    /// True if an operator or the pod's annotation keeps the instance out of all answers.
    pub fn is_in_maintenance(&self) -> bool {
        self.0[HEALTH_AT] & (MAINTENANCE_STORED | MAINTENANCE_ANNOTATED) != 0
    }

    /// True for instances whose signals that decide the status are equal, except for reports that were missed.
    pub fn has_health_of(&self, other: &Instance) -> bool {
        fn about_health(instance: &Instance) -> Option<&[u8]> {
            instance.pod_bytes()?.get(..UID_HALF_AT)
        }
        self.0[HEALTH_AT] == other.0[HEALTH_AT] && about_health(self) == about_health(other)
    }

    /// The health status that follows from the reports of other systems than clients of the Cloud Map API.
    pub fn sources_health(&self) -> Option<CustomHealthStatus> {
        status_of_bits(self.0[HEALTH_AT] >> SOURCES_SHIFT)
    }

    /// True for an instance that represents a pod: it comes from a watch of Kubernetes and is not in the store.
    pub fn is_watched(&self) -> bool {
        self.readiness().is_some()
    }

    /// The readiness of the pod behind a watched instance; `None` for a stored instance.
    pub fn readiness(&self) -> Option<Readiness> {
        readiness_of(self.0[HEALTH_AT] >> READINESS_SHIFT)
    }

    /// The readiness of the container behind a watched instance; `None` for a stored instance.
    pub fn container_readiness(&self) -> Option<Readiness> {
        readiness_of(*self.pod_bytes()?.get(CONTAINER_AT)?)
    }

    /// The time at which the readiness of the pod behind a watched instance began, in seconds since 1970.
    pub fn readiness_changed_s(&self) -> Option<u32> {
        self.time_at(CHANGED_AT)
    }

    /// The time at which the readiness of the container behind a watched instance began, in seconds since 1970.
    pub fn container_readiness_changed_s(&self) -> Option<u32> {
        self.time_at(CONTAINER_AT + 1)
    }

    /// The readiness of the pod behind a watched instance that was confirmed last.
    pub fn confirmed_readiness(&self) -> Option<ConfirmedReadiness> {
        let readiness = readiness_of(*self.pod_bytes()?.get(CONFIRMED_AT)?)?;
        Some(ConfirmedReadiness { readiness, changed_s: self.time_at(CONFIRMED_AT + 1)? })
    }

    fn time_at(&self, at: usize) -> Option<u32> {
        self.pod_bytes()?.get(at..)?.first_chunk().map(|time| u32::from_be_bytes(*time))
    }

    /// The `namespace/name` of the pod behind a watched instance; `None` for a stored instance.
    pub fn pod(&self) -> Option<&str> {
        Some(text(self.pod_bytes()?.get(POD_NAME_AT..)?))
    }

    /// The start of the pod behind a watched instance, in seconds since 1970; `None` for a stored instance.
    pub fn pod_started_s(&self) -> Option<u32> {
        self.time_at(STARTED_AT)
    }

    /// The uid of the pod behind a watched instance; `None` for a stored instance.
    pub fn pod_uid(&self) -> Option<Uid> {
        let second = self.pod_bytes()?.get(UID_HALF_AT..)?.first_chunk::<UID_HALF_BYTES>()?;
        let mut bytes = [0; 2 * UID_HALF_BYTES];
        bytes[..UID_HALF_BYTES].copy_from_slice(&self.0[..UID_HALF_BYTES]);
        bytes[UID_HALF_BYTES..].copy_from_slice(second);
        Some(Uid::from_bytes(bytes))
    }

    /// True for instances that are equal, or differ in signals about their health alone.
    pub fn is_same_but_for_health(&self, other: &Instance) -> bool {
        let parts = |instance: &Instance| {
            // The bytes behind the id of a watched instance are about its health.
            let (id_end, end) = (instance.id_end(), instance.details_at());
            let behind = if instance.is_watched() { id_end + UID_HALF_AT } else { id_end };
            [0..HEALTH_AT, HEALTH_AT + 1..id_end, behind..end]
        };
        let pairs = parts(self).into_iter().zip(parts(other));
        pairs.into_iter().all(|(own, others)| self.0[own] == other.0[others])
    }

    /// The instance id, which is unique within the service.
    pub fn id(&self) -> &str {
        text(&self.0[ID_AT..self.id_end()])
    }

    /// The idempotency token of the request that registered the instance; `None` for a watched instance.
    pub fn creator_request_id(&self) -> Option<Cow<'_, str>> {
        let bytes = &self.0[self.id_end()..self.creator_end()];
        match self.0[CREATOR_FORM_AT] {
            0 | FORM_POD => None,
            2 => Some(Cow::Owned(uuid::text(bytes))),
            _ => Some(Cow::Borrowed(text(bytes))),
        }
    }

    /// All attributes, in order of their keys.
    pub fn attributes(&self) -> AttributePairs<'_> {
        AttributePairs(&self.0[self.creator_end()..])
    }

    /// The value of the attribute `key`.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        find(&self.0[self.creator_end()..], key)
    }

    /// The custom health status that was set last, at registration or by a client's report.
    pub fn custom_health(&self) -> Option<CustomHealthStatus> {
        status_of_bits(self.0[HEALTH_AT])
    }

    /// The number of the operation that registered the instance last; 0 for a watched instance.
    pub fn operation(&self) -> u64 {
        let number = self.0.first_chunk::<8>().filter(|_| !self.is_watched());
        number.map_or(0, |number| u64::from_be_bytes(*number))
    }

    /// The attribute AWS_INSTANCE_IPV4, if it is an address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.attribute(AWS_INSTANCE_IPV4)?.parse().ok()
    }

    /// The attribute AWS_INSTANCE_IPV6, if it is an address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.attribute(AWS_INSTANCE_IPV6)?.parse().ok()
    }

    /// The attribute AWS_INSTANCE_PORT, if it is a port.
    pub fn port(&self) -> Option<u16> {
        self.attribute(AWS_INSTANCE_PORT)?.parse().ok()
    }

    /// The packed form, which the store keeps and [`Instance::from_bytes`] reads.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the packed form of a stored instance. `None` for damaged data, and for watched instances, which are not stored.
    pub fn from_bytes(packed: &[u8]) -> Option<Instance> {
        let (head, rest) = packed.split_at_checked(ID_AT)?;
        let creator_len = u16::from_be_bytes([head[CREATOR_LEN_AT], head[CREATOR_LEN_AT + 1]]);
        let (id, rest) = rest.split_at_checked(head[ID_LEN_AT] as usize)?;
        let (creator, attributes) = rest.split_at_checked(creator_len as usize)?;
        std::str::from_utf8(id).ok()?;
        match head[CREATOR_FORM_AT] {
            0 if creator.is_empty() => {}
            1 => drop(std::str::from_utf8(creator).ok()?),
            2 if creator.len() == 16 => {}
            _ => return None,
        }
        let details = Attributes::check(attributes)?;
        let signals = match details {
            [] => Signals::default(),
            details => read_signals(details.get(DETAILS_KEY.len() + 2..)?)?,
        };
        let health = head[HEALTH_AT];
        let instance = Instance(packed.into());
        let is_valid = health & REPORTED_BITS <= 2
            && health & MAINTENANCE_ANNOTATED == 0
            && instance.health_with(instance.custom_health(), &signals) == health
            && !instance.is_watched();
        is_valid.then_some(instance)
    }

    /// The bytes that replace the request id of a watched instance.
    fn pod_bytes(&self) -> Option<&[u8]> {
        self.is_watched().then(|| &self.0[self.id_end()..self.creator_end()])
    }

    fn id_end(&self) -> usize {
        ID_AT + self.0[ID_LEN_AT] as usize
    }

    fn creator_end(&self) -> usize {
        self.id_end() + u16::from_be_bytes([self.0[CREATOR_LEN_AT], self.0[CREATOR_LEN_AT + 1]]) as usize
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id())
            .field("creator_request_id", &self.creator_request_id())
            .field("attributes", &self.attributes().collect::<BTreeMap<_, _>>())
            .field("custom_health", &self.custom_health())
            .field("signals", &self.signals())
            .field("readiness", &self.readiness())
            .field("container_readiness", &self.container_readiness())
            .field("pod_details", &self.pod_details())
            .field("pod", &self.pod())
            .field("pod_uid", &self.pod_uid())
            .field("operation", &self.operation())
            .finish()
    }
}

fn pack(
    operation: u64,
    [health, form]: [u8; 2],
    id: &str,
    creator: &[u8],
    attributes: &Attributes,
) -> Option<Instance> {
    let packed = [
        &operation.to_be_bytes()[..],
        &[health, form],
        &u16::try_from(creator.len()).ok()?.to_be_bytes(),
        &[u8::try_from(id.len()).ok()?],
        id.as_bytes(),
        creator,
        &attributes.0,
    ];
    Some(Instance(packed.concat().into()))
}

fn read_signals(details: &[u8]) -> Option<Signals> {
    let (version, signals) = details.split_first()?;
    (*version == SIGNALS_VERSION).then(|| postcard::from_bytes(signals).ok()).flatten()
}

fn readiness_number(readiness: Readiness) -> u8 {
    match readiness {
        Readiness::Ready => 1,
        Readiness::NeverReady => 2,
        Readiness::NotReady => 3,
    }
}

fn readiness_of(number: u8) -> Option<Readiness> {
    match number & READINESS_BITS {
        0 => None,
        1 => Some(Readiness::Ready),
        2 => Some(Readiness::NeverReady),
        _ => Some(Readiness::NotReady),
    }
}

fn status_of_bits(bits: u8) -> Option<CustomHealthStatus> {
    match bits & REPORTED_BITS {
        1 => Some(CustomHealthStatus::Healthy),
        2 => Some(CustomHealthStatus::Unhealthy),
        _ => None,
    }
}

fn health_byte(status: Option<CustomHealthStatus>) -> u8 {
    match status {
        None => 0,
        Some(CustomHealthStatus::Healthy) => 1,
        Some(CustomHealthStatus::Unhealthy) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Maintenance, Report, samples};
    use super::*;

    #[test]
    fn packing_keeps_ids_attributes_and_health() {
        let map = BTreeMap::from([
            (AWS_INSTANCE_IPV4.to_string(), "10.0.0.11".to_string()),
            ("stage".to_string(), String::new()),
        ]);
        let attributes = Attributes::new(&map).unwrap();
        for creator in [
            None,
            Some(""),
            Some("token-1"),
            Some("6248e0fe-4773-49bb-8a54-b569d4ab769d"),
            Some("6248E0FE-4773-49bb-8a54-b569d4ab769d"),
            Some("6248e0fe-4773-49bb-8a54+b569d4ab769d"),
        ] {
            let instance =
                Instance::new("web-1", creator, &attributes, Some(CustomHealthStatus::Unhealthy), 7).unwrap();
            assert_eq!(instance.id(), "web-1");
            assert_eq!(instance.creator_request_id().as_deref(), creator);
            assert_eq!(instance.operation(), 7);
            assert_eq!(instance.custom_health(), Some(CustomHealthStatus::Unhealthy));
            assert_eq!(instance.ipv4(), Some(Ipv4Addr::new(10, 0, 0, 11)));
            assert_eq!(instance.attribute("stage"), Some(""));
            assert_eq!(instance.attribute("nope"), None);
            assert_eq!(Instance::from_bytes(instance.as_bytes()).unwrap(), instance);
            let signals = Signals {
                report: Some(Report {
                    status: CustomHealthStatus::Healthy,
                    reporter: "AKIDEXAMPLE at 10.0.0.7".into(),
                    reported_ms: 5,
                }),
                maintenance: Some(Maintenance { reason: "disk".into(), operator: "me".into(), since_ms: 7 }),
                ..Signals::default()
            };
            let healthy = instance.with_signals(Some(CustomHealthStatus::Healthy), &signals);
            assert_eq!(healthy.custom_health(), Some(CustomHealthStatus::Healthy));
            assert_eq!((healthy.id(), healthy.attribute("stage")), ("web-1", Some("")));
            assert_eq!((healthy.signals(), healthy.is_in_maintenance()), (signals, true));
            assert!(
                healthy.attributes().eq(instance.attributes()) && healthy.is_same_but_for_health(&instance)
            );
            assert_eq!(Instance::from_bytes(healthy.as_bytes()).as_ref(), Some(&healthy));
            for end in instance.as_bytes().len() + 1..healthy.as_bytes().len() {
                assert_eq!(Instance::from_bytes(&healthy.as_bytes()[..end]), None, "{end}");
            }
            let lifted = healthy.with_signals(instance.custom_health(), &Signals::default());
            assert_eq!(lifted, instance);
        }
    }

    #[test]
    fn a_watched_instance_has_a_pod_and_a_readiness_and_cannot_be_read_from_a_store() {
        let map = BTreeMap::from([(AWS_INSTANCE_IPV4.to_string(), "10.42.0.24".to_string())]);
        let attributes = Attributes::new(&map).unwrap();
        let details = PodDetails {
            maintenance: Some(String::new()),
            not_ready: Some("[app]".into()),
            times: PodTimes { up_after_s: Some(30), ..PodTimes::default() },
        };
        for readiness in [Readiness::Ready, Readiness::NeverReady, Readiness::NotReady] {
            let uid = Uid::of("0c47a3a6-5f0f-4f5e-9d8e-0123456789ab");
            let pod = ObservedPod {
                name: "default/web-1",
                uid,
                started_s: 9,
                readiness: ReadinessSince { readiness, changed_s: 11 },
                container_readiness: ReadinessSince { readiness: Readiness::Ready, changed_s: 12 },
                details: &PodDetails::default(),
            };
            let instance = Instance::watched("i-1", &pod, &attributes).unwrap();
            assert_eq!((instance.pod_uid(), instance.pod_started_s()), (Some(uid), Some(9)));
            assert_eq!((instance.id(), instance.pod()), ("i-1", Some("default/web-1")));
            assert_eq!((instance.readiness(), instance.creator_request_id()), (Some(readiness), None));
            assert_eq!(instance.container_readiness(), Some(Readiness::Ready));
            let times = (instance.readiness_changed_s(), instance.container_readiness_changed_s());
            assert_eq!((times, instance.confirmed_readiness()), ((Some(11), Some(12)), None));
            assert_eq!((instance.custom_health(), instance.operation()), (None, 0));
            assert_eq!(instance.attribute(AWS_INSTANCE_IPV4), Some("10.42.0.24"));
            assert_eq!((instance.pod_details(), instance.signals()), Default::default());
            assert_eq!(Instance::from_bytes(instance.as_bytes()), None);
            let report = samples::report(CustomHealthStatus::Unhealthy);
            let unhealthy = instance.with_pod_signals(&report);
            assert_eq!((unhealthy.readiness(), unhealthy.pod()), (Some(readiness), Some("default/web-1")));
            assert_eq!(unhealthy.custom_health(), Some(CustomHealthStatus::Unhealthy));
            assert!(unhealthy.is_same_but_for_health(&instance));
            let order = Maintenance { reason: String::new(), operator: String::new(), since_ms: 1 };
            let confirmed = ConfirmedReadiness { readiness, changed_s: 13 };
            let signals = Signals {
                maintenance: Some(order),
                confirmed: Some(confirmed),
                ..samples::report(CustomHealthStatus::Healthy)
            };
            let stopped = unhealthy.with_pod_signals(&signals);
            assert_eq!(stopped.custom_health(), Some(CustomHealthStatus::Healthy));
            assert!(stopped.is_in_maintenance() && !unhealthy.is_in_maintenance());
            assert_eq!((stopped.confirmed_readiness(), stopped.pod()), (Some(confirmed), instance.pod()));
            assert!(stopped.is_same_but_for_health(&instance) && !stopped.has_health_of(&unhealthy));
            assert_eq!(stopped.with_pod_signals(&Signals::default()), instance);

            let detailed = ObservedPod { details: &details, ..pod };
            let detailed = Instance::watched("i-1", &detailed, &attributes).unwrap();
            assert_eq!((detailed.pod_details(), detailed.is_in_maintenance()), (details.clone(), true));
            assert!(detailed.is_same_but_for_health(&instance) && !detailed.has_health_of(&instance));
            assert!(detailed.with_pod_signals(&Signals::default()).is_in_maintenance());
        }
        let stored = Instance::new("i-1", None, &attributes, None, 7).unwrap();
        assert_eq!((stored.is_watched(), stored.readiness(), stored.pod()), (false, None, None));
        assert_eq!((stored.pod_uid(), stored.operation()), (None, 7));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let map =
            BTreeMap::from([("a".to_string(), "b".to_string()), ("REGION".to_string(), "r".to_string())]);
        let instance = Instance::new("i", Some("t"), &Attributes::new(&map).unwrap(), None, 1).unwrap();
        let whole = instance.as_bytes();
        let head = ID_AT + 2;
        for end in 0..whole.len() {
            // A cut between two attributes leaves a valid instance with fewer attributes.
            let is_boundary = end == head || end == head + 5;
            assert_eq!(Instance::from_bytes(&whole[..end]).is_some(), is_boundary, "{end}");
        }
        for (at, byte) in
            [(HEALTH_AT, 3), (CREATOR_FORM_AT, 3), (CREATOR_FORM_AT, 2), (ID_AT, 0xff), (head + 1, 99)]
        {
            let mut damaged = whole.to_vec();
            damaged[at] = byte;
            assert!(Instance::from_bytes(&damaged).is_none(), "{at}");
        }
    }
}
