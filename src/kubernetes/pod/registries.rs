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

/// The registries of a pod, each service once, and what could not be read.
pub(super) fn of(pod: &Pod) -> (Vec<Registry>, Vec<String>) {
    let (mut registries, mut problems) = (Vec::<Registry>::new(), Vec::new());
    let mut add = |found: Result<Registry, String>| match found {
        Ok(new) if registries.iter().any(|old| old.service == new.service) => {}
        Ok(_) if registries.len() >= REGISTRIES_MAX => {
            problems.push(format!("it names more than {REGISTRIES_MAX} services"));
        }
        Ok(new) => registries.push(new),
        Err(problem) => problems.push(problem),
    };
    if let Some(text) = annotation(pod, REGISTRIES) {
        match serde_json::from_str::<Option<Vec<serde_json::Value>>>(text) {
            Ok(entries) => entries.into_iter().flatten().map(entry).for_each(&mut add),
            Err(error) => add(Err(format!("the annotation {REGISTRIES} is not a JSON list: {error}"))),
        }
    }
    let all = pod.metadata.annotations.iter().flatten();
    for (key, arn) in all.filter(|(key, _)| key.starts_with(REGISTRY_PREFIX)) {
        let service = service_of(arn).map_err(|problem| format!("the annotation {key} {problem}"));
        add(service.map(|service| Registry { service, container: None, port: None }));
    }
    problems.truncate(REGISTRIES_MAX);
    (registries, problems)
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
