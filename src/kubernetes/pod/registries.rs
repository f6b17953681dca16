use serde::Deserialize;

use crate::model::ServiceId;

use super::object::Pod;

/// JSON in the form of ECS's `serviceRegistries`, or `null`.
const REGISTRIES: &str = "kecs.dev/service-registries";
const REGISTRY_PREFIX: &str = "kecs.io/sd-registry-";

/// Limit of services for one pod; further ones are reported as problems. ECS allows one.
const REGISTRIES_MAX: usize = 16;
const SERVICE_ID_BYTES_MAX: usize = 64;
const CONTAINER_NAME_BYTES_MAX: usize = 63;
/// Characters of a malformed ARN that its problem quotes.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// Service that a pod registers in, with container and port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceRegistry {
    pub(super) service: ServiceId,
    pub(super) container: Option<String>,
    pub(super) port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    registry_arn: String,
    container_name: Option<String>,
    container_port: Option<u16>,
    port: Option<u16>,
}

/// Service registries that the annotations of a pod name, and the faults of these annotations. Of several entries
/// for one service the first counts; `contradictions` has a sentence for each that differs from it.
#[derive(Default)]
pub(super) struct ServiceRegistries {
    pub(super) entries: Vec<ServiceRegistry>,
    pub(super) problems: Vec<String>,
    pub(super) contradictions: Vec<(ServiceId, String)>,
}

pub(super) fn of(pod: &Pod) -> ServiceRegistries {
    let mut found = ServiceRegistries::default();
    if let Some(text) = pod.annotation(REGISTRIES) {
        match serde_json::from_str::<Option<Vec<serde_json::Value>>>(text) {
            Ok(values) => values.into_iter().flatten().map(entry).for_each(|entry| found.add(entry)),
            Err(error) => found.add(Err(format!("the annotation {REGISTRIES} is not a JSON list: {error}"))),
        }
    }
    let all = pod.metadata.annotations.iter().flatten();
    for (key, arn) in all.filter(|(key, _)| key.starts_with(REGISTRY_PREFIX)) {
        match service_of(arn) {
            // This form has neither a container nor a port, so it contradicts no entry that has them.
            Ok(service) if found.entries.iter().any(|old| old.service == service) => {}
            Ok(service) => found.add(Ok(ServiceRegistry { service, container: None, port: None })),
            Err(problem) => found.add(Err(format!("the annotation {key} {problem}"))),
        }
    }
    found.problems.truncate(REGISTRIES_MAX);
    found.contradictions.truncate(REGISTRIES_MAX);
    found
}

impl ServiceRegistries {
    fn add(&mut self, entry: Result<ServiceRegistry, String>) {
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
                    old.target(),
                    new.target()
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

impl ServiceRegistry {
    fn target(&self) -> String {
        let port = self.port.map_or("no port".into(), |port| format!("the port {port}"));
        match &self.container {
            Some(container) => format!("{port} of the container {}", container.escape_debug()),
            None => port,
        }
    }
}

fn entry(value: serde_json::Value) -> Result<ServiceRegistry, String> {
    let wrong = |problem: String| format!("an entry of the annotation {REGISTRIES} {problem}");
    let entry = Entry::deserialize(value).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let service = service_of(&entry.registry_arn).map_err(wrong)?;
    let is_container = |name: &String| (1..=CONTAINER_NAME_BYTES_MAX).contains(&name.len());
    let is_port = |port: &u16| *port != 0;
    Ok(ServiceRegistry {
        service,
        container: entry.container_name.filter(is_container),
        port: entry.container_port.filter(is_port).or(entry.port.filter(is_port)),
    })
}

/// Service id from the ARN `arn:aws:servicediscovery:<region>:<account>:service/<id>`. An id alone is accepted too.
fn service_of(arn: &str) -> Result<ServiceId, String> {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let is_id = id.starts_with("srv-")
        && id.len() <= SERVICE_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_id.then(|| ServiceId::from(id)).ok_or_else(|| {
        let shown: String = arn.chars().take(SHOWN_CHARACTERS_MAX).collect();
        format!("has the ARN `{}`, which is not that of a Cloud Map service", shown.escape_debug())
    })
}
