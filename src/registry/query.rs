//! Queries: lists with filters and pages, and DiscoverInstances.

use std::sync::Arc;

use crate::model::{HealthStatus, Instance, Operation, OperationKey, id::id_in};

use super::{
    error::RegistryError,
    health::HealthSettings,
    state::{NamespaceState, ServiceState, State},
};

/// Latest time that a filter may contain, in seconds since the epoch; it is in the year 5138. A time after March 1973 in
/// milliseconds exceeds it, and is refused because it would match nothing.
const EPOCH_SECONDS_MAX: f64 = 1e11;

/// One page of a list. `next` is the key of its last item, after which the next page starts; `None` on the last page.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Page<T, Key = u64> {
    pub items: Vec<T>,
    pub next: Option<Key>,
}

/// A page of operations; the next page starts after the operation with this key.
pub type OperationPage<'a> = Page<&'a Arc<Operation>, OperationKey>;

/// A page of a service's instances; the next page starts after the instance of this id.
pub type InstancePage<'a> = Page<&'a Instance, String>;

/// One filter of a list request: a property, such as `NAMESPACE_ID`, a condition, and at least one value to compare with. An
/// item has to match all filters of the request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Filter {
    pub name: String,
    pub condition: FilterCondition,
    pub values: Vec<String>,
}

/// Condition of a filter. The property is equal to the one value (`EQ`, which applies if the request has no condition),
/// equal to one of the values (`IN`), from the first to the second value inclusive (`BETWEEN`), or starts with the one value
/// (`BEGINS_WITH`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum FilterCondition {
    #[default]
    Equal,
    In,
    Between,
    BeginsWith,
}

impl FilterCondition {
    /// Returns the condition as the API writes it, for error messages.
    pub fn as_str(self) -> &'static str {
        match self {
            FilterCondition::Equal => "EQ",
            FilterCondition::In => "IN",
            FilterCondition::Between => "BETWEEN",
            FilterCondition::BeginsWith => "BEGINS_WITH",
        }
    }
}

/// Selection of instances by health in DiscoverInstances. `Answered` are the instances that DNS answers with, and applies if
/// the request has no filter. `HealthyOrElseAll` are the HEALTHY instances, or all of them if none is HEALTHY; with the
/// other filters the result may be empty.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum HealthFilter {
    #[default]
    Answered,
    Healthy,
    Unhealthy,
    All,
    HealthyOrElseAll,
}

/// Input of DiscoverInstances: the HttpName of the namespace, the name of the service, and filters.
///
/// Every returned instance has all attributes of `query`. If at least one of these instances has all attributes of
/// `optional` too, then every returned instance has. `health` then selects by health, with `policies` as the defaults for
/// [`HealthFilter::Answered`]. At most `results_max` instances are returned.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Discover<'a> {
    pub namespace_name: &'a str,
    pub service_name: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub optional: &'a [(&'a str, &'a str)],
    pub health: HealthFilter,
    pub policies: HealthSettings,
    pub results_max: usize,
}

/// Result of DiscoverInstances, borrowed from the state: the service and its namespace, and the selected instances with
/// their health, in random order.
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Discovered<'a> {
    pub namespace: &'a Arc<NamespaceState>,
    pub service: &'a Arc<ServiceState>,
    pub instances: Vec<(&'a Instance, HealthStatus)>,
}

impl State {
    /// ListNamespaces: the namespaces that match all filters, in order of creation.
    pub fn list_namespaces(
        &self,
        filters: &[Filter],
        after: Option<u64>,
        page_max: usize,
    ) -> Result<Page<&Arc<NamespaceState>>, RegistryError> {
        use FilterCondition::{BeginsWith, Equal, In};
        check(
            filters,
            &[
                ("TYPE", &[Equal, In, BeginsWith]),
                ("NAME", &[Equal, In, BeginsWith]),
                ("HTTP_NAME", &[Equal, In, BeginsWith]),
                ("RESOURCE_OWNER", &[Equal, In]),
            ],
        )?;
        Ok(page(self.namespaces_after(after), page_max, |state| {
            filters.iter().all(|filter| match filter.name.as_str() {
                "TYPE" => filter.matches(state.namespace.kind.as_str()),
                "NAME" => filter.matches(&state.namespace.name),
                "HTTP_NAME" => filter.matches(&state.namespace.http_name),
                _ => filter.matches("SELF"),
            })
        }))
    }

    /// ListServices: the services that match all filters, in order of creation.
    pub fn list_services(
        &self,
        filters: &[Filter],
        after: Option<u64>,
        page_max: usize,
    ) -> Result<Page<&Arc<ServiceState>>, RegistryError> {
        use FilterCondition::{Equal, In};
        check(filters, &[("NAMESPACE_ID", &[Equal, In]), ("RESOURCE_OWNER", &[Equal, In])])?;
        let matches = |state: &&Arc<ServiceState>| {
            filters.iter().all(|filter| match filter.name.as_str() {
                "NAMESPACE_ID" => filter.matches_id(state.service.namespace_id.as_str(), "namespace"),
                _ => filter.matches("SELF"),
            })
        };
        // If the request names one namespace, go through that namespace's services instead of all services.
        let one = filters.iter().find(|filter| filter.name == "NAMESPACE_ID" && filter.values.len() == 1);
        match one {
            Some(filter) => {
                let services = self.namespace(&filter.values[0]).ok().into_iter();
                let services = services.flat_map(|namespace| namespace.services_after(after));
                let services = services.filter_map(|(at, id)| Some((*at, self.service(id.as_str()).ok()?)));
                Ok(page(services, page_max, matches))
            }
            None => Ok(page(self.services_after(after), page_max, matches)),
        }
    }

    /// ListOperations: the kept operations that match all filters, the oldest first.
    pub fn list_operations(
        &self,
        filters: &[Filter],
        after: Option<OperationKey>,
        page_max: usize,
    ) -> Result<OperationPage<'_>, RegistryError> {
        use FilterCondition::{Between, Equal, In};
        check(
            filters,
            &[
                ("NAMESPACE_ID", &[Equal, In]),
                ("SERVICE_ID", &[Equal, In]),
                ("STATUS", &[Equal, In]),
                ("TYPE", &[Equal, In]),
                ("UPDATE_DATE", &[Between]),
            ],
        )?;
        // An item has to match all filters, so the time window is the intersection of those of all filters.
        let mut window = (i64::MIN, i64::MAX);
        for filter in filters.iter().filter(|filter| filter.name == "UPDATE_DATE") {
            // Extend the window to whole seconds: clients send times that they have read, with or without a fraction.
            let to = epoch_ms(&filter.values[1])?.saturating_add(999);
            window = (window.0.max(epoch_ms(&filter.values[0])?), window.1.min(to));
        }
        let operations = self.operations_after(after).map(|(key, operation)| (key.clone(), operation));
        Ok(page(operations, page_max, |operation| {
            filters.iter().all(|filter| match filter.name.as_str() {
                "NAMESPACE_ID" => filter.matches_id(operation.targets.namespace().as_str(), "namespace"),
                "SERVICE_ID" => operation
                    .targets
                    .service()
                    .is_some_and(|service| filter.matches_id(service.as_str(), "service")),
                "STATUS" => {
                    let status = operation.status.as_str();
                    // The API reference has SUCCEED in its text and SUCCESS in its enum, so both are accepted.
                    filter.matches(status) || (status == "SUCCESS" && filter.matches("SUCCEED"))
                }
                "TYPE" => filter.matches(operation.operation_type.as_str()),
                _ => (window.0..=window.1).contains(&operation.updated_ms),
            })
        }))
    }

    /// ListInstances and GetInstancesHealthStatus: the instances of a service, in order of their ids.
    pub fn list_instances(
        &self,
        service: &str,
        after: Option<&str>,
        page_max: usize,
    ) -> Result<(&Arc<ServiceState>, InstancePage<'_>), RegistryError> {
        let state = self.service(service)?;
        let rest = state.instances_after(after);
        let items: Vec<_> = rest.iter().take(page_max).collect();
        let next =
            (rest.len() > items.len()).then(|| items.last().map(|last| last.id().to_string())).flatten();
        Ok((state, Page { items, next }))
    }

    /// Finds a service by the two names that DiscoverInstances and DiscoverInstancesRevision have for it.
    pub fn find(
        &self,
        namespace_name: &str,
        service_name: &str,
    ) -> Result<(&Arc<NamespaceState>, &Arc<ServiceState>), RegistryError> {
        let namespace = self.namespace_by_name(namespace_name).ok_or(RegistryError::NamespaceNotFound)?;
        let service = self
            .service_by_name(&namespace.namespace.id, service_name)
            .ok_or(RegistryError::ServiceNotFound)?;
        Ok((namespace, service))
    }

    /// DiscoverInstances: selects by attributes, then by health, and returns a random choice in random order.
    pub fn discover(
        &self,
        ask: &Discover<'_>,
        random: &mut fastrand::Rng,
    ) -> Result<Discovered<'_>, RegistryError> {
        let (namespace, service) = self.find(ask.namespace_name, ask.service_name)?;
        let health = ask.policies.of(service);
        let mut instances: Vec<_> = service
            .instances()
            .iter()
            .filter(|instance| has_all(instance, ask.query))
            .map(|instance| (instance, health.status_of(instance)))
            .collect();
        if !ask.optional.is_empty() && instances.iter().any(|(instance, _)| has_all(instance, ask.optional)) {
            instances.retain(|(instance, _)| has_all(instance, ask.optional));
        }
        // Without any health check and signal, the health of an instance is unknown for good, so it passes every filter.
        let passes = |(instance, status): &(&Instance, HealthStatus), wanted: HealthStatus| {
            *status == wanted || (*status == HealthStatus::Unknown && !service.service.watches(instance))
        };
        match ask.health {
            HealthFilter::All => {}
            HealthFilter::Answered => {
                // Policies depend on all instances of the service, as in DNS, and not only on those that match the query.
                let answering = ask.policies.answering(service);
                instances.retain(|(instance, _)| answering.answers(instance));
            }
            HealthFilter::Unhealthy => instances.retain(|found| passes(found, HealthStatus::Unhealthy)),
            HealthFilter::Healthy => instances.retain(|found| passes(found, HealthStatus::Healthy)),
            HealthFilter::HealthyOrElseAll => {
                if instances.iter().any(|found| passes(found, HealthStatus::Healthy)) {
                    instances.retain(|found| passes(found, HealthStatus::Healthy));
                }
            }
        }
        random.shuffle(&mut instances);
        instances.truncate(ask.results_max);
        Ok(Discovered { namespace, service, instances })
    }
}

impl Filter {
    fn matches(&self, actual: &str) -> bool {
        match self.condition {
            FilterCondition::BeginsWith => actual.starts_with(&*self.values[0]),
            FilterCondition::Equal | FilterCondition::In => self.values.iter().any(|value| value == actual),
            FilterCondition::Between => (self.values[0].as_str()..=&self.values[1]).contains(&actual),
        }
    }

    fn matches_id(&self, actual: &str, resource: &str) -> bool {
        self.values.iter().any(|value| id_in(value, resource) == actual)
    }
}

/// Refuses filters whose name, condition or number of values is not valid for this list.
fn check(filters: &[Filter], known: &[(&str, &[FilterCondition])]) -> Result<(), RegistryError> {
    for filter in filters {
        let name = &filter.name;
        let condition = filter.condition.as_str();
        let Some((_, conditions)) = known.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            return Err(RegistryError::InvalidInput(format!(
                "The filter {name} is not valid here; valid filters are {}.",
                names.join(", ")
            )));
        };
        if !conditions.contains(&filter.condition) {
            let words: Vec<_> = conditions.iter().map(|condition| condition.as_str()).collect();
            return Err(RegistryError::InvalidInput(format!(
                "The condition {condition} is not valid for the filter {name}; valid conditions are {}.",
                words.join(", ")
            )));
        }
        let wanted = match filter.condition {
            FilterCondition::Equal | FilterCondition::BeginsWith => filter.values.len() == 1,
            FilterCondition::Between => filter.values.len() == 2,
            FilterCondition::In => !filter.values.is_empty(),
        };
        if !wanted {
            return Err(RegistryError::InvalidInput(format!(
                "The filter {name} with the condition {condition} can't have {} values.",
                filter.values.len()
            )));
        }
    }
    Ok(())
}

fn epoch_ms(text: &str) -> Result<i64, RegistryError> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    match seconds {
        None => Err(RegistryError::InvalidInput(format!(
            "The UPDATE_DATE value `{text}` is not a time in epoch seconds."
        ))),
        Some(seconds) if seconds > EPOCH_SECONDS_MAX => Err(RegistryError::InvalidInput(format!(
            "The UPDATE_DATE value `{text}` is too large for a time in epoch seconds; milliseconds have to be divided \
             by 1000."
        ))),
        Some(seconds) => Ok((seconds * 1000.0) as i64),
    }
}

/// Returns the first `page_max` matching items. Filters apply before paging, so only the last page can be short.
fn page<T, Key>(
    items: impl Iterator<Item = (Key, T)>,
    page_max: usize,
    matches: impl Fn(&T) -> bool,
) -> Page<T, Key> {
    let mut matching = items.filter(|(_, item)| matches(item));
    let mut last = None;
    let items: Vec<T> = matching
        .by_ref()
        .take(page_max)
        .map(|(key, item)| {
            last = Some(key);
            item
        })
        .collect();
    let next = if matching.next().is_some() { last } else { None };
    Page { items, next }
}

fn has_all(instance: &Instance, pairs: &[(&str, &str)]) -> bool {
    pairs.iter().all(|(key, value)| instance.attribute(key) == Some(value))
}
