//! The annotations that name the services of a pod.

use serde::Deserialize;

use crate::model::ServiceId;

use super::{Pod, annotation};

/// JSON: what ECS's `serviceRegistries` says, or `null`.
const REGISTRIES: &str = "kecs.dev/service-registries";
/// Before a number: an ARN and nothing else.
const REGISTRY_PREFIX: &str = "kecs.io/sd-registry-";

/// Registries of one pod; more are a problem. ECS allows one.
const REGISTRIES_MAX: usize = 16;
/// Octets of a service's id (Cloud Map: 64 characters).
const SERVICE_ID_OCTETS_MAX: usize = 64;
/// Octets of a container's name (Kubernetes: a DNS label).
const CONTAINER_NAME_OCTETS_MAX: usize = 63;
/// Characters that are repeated of what could not be read.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// One entry of a pod's registries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Registry {
    pub(super) service: ServiceId,
    pub(super) container: Option<String>,
    pub(super) port: Option<u16>,
}

/// An entry as KECS writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    registry_arn: String,
    container_name: Option<String>,
    container_port: Option<u16>,
    port: Option<u16>,
}

/// Registries that the annotations of a pod name, and the faults of these annotations.
#[derive(Default)]
pub(super) struct Registries {
    /// Each service once: the first entry counts.
    pub(super) entries: Vec<Registry>,
    /// Entries that could not be read, one sentence each.
    pub(super) problems: Vec<String>,
    /// Entries that say something else of a service than the one that counts, one sentence each.
    pub(super) contradictions: Vec<(ServiceId, String)>,
}

/// The registries of a pod.
pub(super) fn of(pod: &Pod) -> Registries {
    let mut found = Registries::default();
    if let Some(text) = annotation(pod, REGISTRIES) {
        match serde_json::from_str::<Option<Vec<serde_json::Value>>>(text) {
            Ok(values) => values.into_iter().flatten().map(entry).for_each(|entry| found.add(entry)),
            Err(error) => found.add(Err(format!("the annotation {REGISTRIES} is not a JSON list: {error}"))),
        }
    }
    let all = pod.metadata.annotations.iter().flatten();
    for (key, arn) in all.filter(|(key, _)| key.starts_with(REGISTRY_PREFIX)) {
        match service_of(arn) {
            // It says neither a container nor a port, so it contradicts no entry that does.
            Ok(service) if found.entries.iter().any(|old| old.service == service) => {}
            Ok(service) => found.add(Ok(Registry { service, container: None, port: None })),
            Err(problem) => found.add(Err(format!("the annotation {key} {problem}"))),
        }
    }
    found.problems.truncate(REGISTRIES_MAX);
    found.contradictions.truncate(REGISTRIES_MAX);
    found
}

impl Registries {
    fn add(&mut self, entry: Result<Registry, String>) {
        let new = match entry {
            Ok(new) => new,
            Err(problem) => return self.problems.push(problem),
        };
        match self.entries.iter().find(|old| old.service == new.service) {
            Some(old) if *old == new => {}
            Some(old) => {
                let text = format!(
                    "the annotation {REGISTRIES} names the service {} with {} and with {}, of which the first counts",
                    new.service,
                    old.place(),
                    new.place()
                );
                self.contradictions.push((new.service, text));
            }
            None if self.entries.len() >= REGISTRIES_MAX => {
                self.problems.push(format!("it names more than {REGISTRIES_MAX} services"));
            }
            None => self.entries.push(new),
        }
    }
}

impl Registry {
    /// Port and container of the entry, for texts that people read.
    fn place(&self) -> String {
        let port = self.port.map_or("no port".into(), |port| format!("the port {port}"));
        match &self.container {
            Some(container) => format!("{port} of the container {}", container.escape_debug()),
            None => port,
        }
    }
}

fn entry(value: serde_json::Value) -> Result<Registry, String> {
    let wrong = |problem: String| format!("an entry of the annotation {REGISTRIES} {problem}");
    let entry = Entry::deserialize(value).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let service = service_of(&entry.registry_arn).map_err(wrong)?;
    let is_container = |name: &String| (1..=CONTAINER_NAME_OCTETS_MAX).contains(&name.len());
    let is_port = |port: &u16| *port != 0;
    Ok(Registry {
        service,
        container: entry.container_name.filter(is_container),
        port: entry.container_port.filter(is_port).or(entry.port.filter(is_port)),
    })
}

/// The service of `arn:aws:servicediscovery:<region>:<account>:service/<id>`; an id alone is as good.
fn service_of(arn: &str) -> Result<ServiceId, String> {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let is_id = id.starts_with("srv-")
        && id.len() <= SERVICE_ID_OCTETS_MAX
        && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    is_id.then(|| ServiceId::from(id)).ok_or_else(|| {
        let shown: String = arn.chars().take(SHOWN_CHARACTERS_MAX).collect();
        format!("has the ARN `{}`, which is not that of a Cloud Map service", shown.escape_debug())
    })
}
