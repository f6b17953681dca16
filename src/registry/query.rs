//! Reads: lists with filters and pages, and DiscoverInstances.

use std::sync::Arc;

use crate::model::{HealthStatus, Instance, Operation, OperationKey, id::id_in};

use super::{
    error::RegistryError,
    health::HealthSettings,
    state::{NamespaceState, ServiceState, State},
};

/// The latest time that a filter may name, in seconds since the epoch: in the year 5138. Times in milliseconds are
/// larger since March 1973, and would find nothing.
const EPOCH_SECONDS_MAX: f64 = 1e11;

/// One page of a list: what is on it, and where the next one starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T, Key = u64> {
    /// In order.
    pub items: Vec<T>,
    /// The key of the last item, when there are more.
    pub next: Option<Key>,
}

/// A page of operations; the next one starts after an operation.
pub type OperationPage<'a> = Page<&'a Arc<Operation>, OperationKey>;

/// A page of a service's instances; the next one starts after an instance id.
pub type InstancePage<'a> = Page<&'a Instance, String>;

/// One filter of a list; several are ANDed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Such as `NAMESPACE_ID`.
    pub name: String,
    /// EQ when not given.
    pub condition: FilterCondition,
    /// At least one.
    pub values: Vec<String>,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FilterCondition {
    /// `EQ`: the one value is equal.
    #[default]
    Equal,
    /// `IN`: one of the values is equal.
    In,
    /// `BETWEEN`: at or after the first value and at or before the second.
    Between,
    /// `BEGINS_WITH`: starts with the one value.
    BeginsWith,
}

impl FilterCondition {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            FilterCondition::Equal => "EQ",
            FilterCondition::In => "IN",
            FilterCondition::Between => "BETWEEN",
            FilterCondition::BeginsWith => "BEGINS_WITH",
        }
    }
}

/// Which instances DiscoverInstances returns, by health.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HealthFilter {
    /// Those that DNS answers; what a request without a filter gets.
    #[default]
    Answered,
    /// Only HEALTHY instances, and none if there are none.
    Healthy,
    /// Only unhealthy ones.
    Unhealthy,
    /// Whatever their health.
    All,
    /// Healthy ones, or all when none is healthy.
    HealthyOrElseAll,
}

/// What DiscoverInstances asks for.
#[derive(Clone, Debug, Default)]
pub struct Discover<'a> {
    /// The namespace's HttpName.
    pub namespace_name: &'a str,
    /// The service's name.
    pub service_name: &'a str,
    /// Pairs that every instance returned has.
    pub query: &'a [(&'a str, &'a str)],
    /// Pairs that count only if some instance has all of them.
    pub optional: &'a [(&'a str, &'a str)],
    /// By health.
    pub health: HealthFilter,
    /// The defaults of the service's health policies, for [`HealthFilter::Answered`].
    pub policies: HealthSettings,
    /// At most this many.
    pub results_max: usize,
}

/// What DiscoverInstances found.
pub struct Discovered<'a> {
    /// The namespace.
    pub namespace: &'a Arc<NamespaceState>,
    /// The service.
    pub service: &'a Arc<ServiceState>,
    /// The instances in random order.
    pub instances: Vec<(&'a Instance, HealthStatus)>,
}

impl State {
    /// ListNamespaces.
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
                "TYPE" => filter.holds(state.namespace.kind.as_str()),
                "NAME" => filter.holds(&state.namespace.name),
                "HTTP_NAME" => filter.holds(&state.namespace.http_name),
                _ => filter.holds("SELF"),
            })
        }))
    }

    /// ListServices.
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
                "NAMESPACE_ID" => filter.holds_id(state.service.namespace_id.as_str(), "namespace"),
                _ => filter.holds("SELF"),
            })
        };
        // One namespace asked for: its own list, not a search through all services.
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

    /// ListOperations.
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
        // Several filters are ANDed, so what is left of the time is what all have in common.
        let mut window = (i64::MIN, i64::MAX);
        for filter in filters.iter().filter(|filter| filter.name == "UPDATE_DATE") {
            // Whole seconds on both sides: clients send what they read, with or without a fraction.
            let to = epoch_ms(&filter.values[1])?.saturating_add(999);
            window = (window.0.max(epoch_ms(&filter.values[0])?), window.1.min(to));
        }
        let operations = self.operations_after(after).map(|(key, operation)| (key.clone(), operation));
        Ok(page(operations, page_max, |operation| {
            filters.iter().all(|filter| match filter.name.as_str() {
                "NAMESPACE_ID" => filter.holds_id(operation.targets.namespace().as_str(), "namespace"),
                "SERVICE_ID" => operation
                    .targets
                    .service()
                    .is_some_and(|service| filter.holds_id(service.as_str(), "service")),
                "STATUS" => {
                    let status = operation.status.as_str();
                    // The reference's text says SUCCEED where its enum says SUCCESS.
                    filter.holds(status) || (status == "SUCCESS" && filter.holds("SUCCEED"))
                }
                "TYPE" => filter.holds(operation.operation_type.as_str()),
                _ => (window.0..=window.1).contains(&operation.updated_ms),
            })
        }))
    }

    /// ListInstances and GetInstancesHealthStatus: the instances of a service in order of their ids.
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

    /// The namespace and service that DiscoverInstances and DiscoverInstancesRevision mean by two names.
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

    /// DiscoverInstances: filters, then health, then a random choice in random order.
    pub fn discover(
        &self,
        ask: &Discover<'_>,
        random: &mut fastrand::Rng,
    ) -> Result<Discovered<'_>, RegistryError> {
        let (namespace, service) = self.find(ask.namespace_name, ask.service_name)?;
        let mut instances: Vec<_> = service
            .instances()
            .iter()
            .filter(|instance| has_all(instance, ask.query))
            .map(|instance| (instance, service.service.status_of(instance)))
            .collect();
        if !ask.optional.is_empty() && instances.iter().any(|(instance, _)| has_all(instance, ask.optional)) {
            instances.retain(|(instance, _)| has_all(instance, ask.optional));
        }
        // An instance that nothing watches passes every filter.
        let passes = |(instance, status): &(&Instance, HealthStatus), wanted: HealthStatus| {
            *status == wanted || !service.service.watches(instance)
        };
        match ask.health {
            HealthFilter::All => {}
            HealthFilter::Answered => {
                // Policies look at the whole service, as DNS does, whatever other filters leave of it.
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
    fn holds(&self, actual: &str) -> bool {
        match self.condition {
            FilterCondition::BeginsWith => actual.starts_with(&*self.values[0]),
            FilterCondition::Equal | FilterCondition::In => self.values.iter().any(|value| value == actual),
            FilterCondition::Between => (self.values[0].as_str()..=&self.values[1]).contains(&actual),
        }
    }

    fn holds_id(&self, actual: &str, resource: &str) -> bool {
        self.values.iter().any(|value| id_in(value, resource) == actual)
    }
}

/// Whether each filter is known to this list, with a condition and a number of values that it takes.
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

/// Seconds since the epoch, with or without a fraction, in milliseconds.
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

/// The first `page_max` items that match: filters come before pages, so that a page is short only at the end.
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
