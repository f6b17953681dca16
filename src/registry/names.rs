//! Owners of DNS names: each name belongs to one service, instance or name server, by whatever way that was created.
//!
//! Names are relative to the zone of their namespace, and in lower case because DNS ignores case. Claimants are:
//!
//! | claimant | name |
//! | --- | --- |
//! | the zone's name server | `ns.dns` |
//! | a service in DNS | its name; the service `.` has the zone's own name |
//! | an instance of such a service | `<id>.<service>` if the id consists of valid labels |
//! | | `<label>.<service>` with the label that is derived from the id |
//!
//! The derived label is the target of an instance's SRV record if the name of the id is not a host name or belongs to
//! another claimant.
//!
//! Claims do not depend on record types, so that no change of a service makes a new claim. Services that only the API finds
//! claim nothing. Instances of one service whose ids differ only in case share a name and do not conflict: it belongs to the
//! id without capital letters.
//!
//! There is no index of these names, because a million instances have to fit in memory. The claimants of a name are computed
//! instead: the name is split at each of its dots; the part behind the dot finds a service, and the part in front of it
//! finds an instance.
//!
//! The planner refuses new claims to a name that has an owner. A shared store decides by age which objects keep theirs. The
//! compiler of DNS data and `explain` compute the names of each instance, and so decide on names that stored data of earlier
//! versions contains twice.

mod owned;
mod search;
mod target;

use std::fmt;
use std::sync::Arc;

use crate::model::{Instance, Namespace, NamespaceId, Service, ServiceId};

use super::{
    error::RegistryError::{self, InvalidInput},
    state::{ServiceState, State},
};
use target::LabelBudget;

pub use owned::{InstanceNames, Loss, ServiceNames};
pub(super) use target::{LABEL_BYTES_MAX, NAME_BYTES_MAX};

pub(super) const NAME_SERVER: &str = "ns.dns";

/// A service, instance or name server that claims a name. The claim of an instance is derived if the name contains the label
/// derived from its id, and not the id.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum Claimant<'s> {
    NameServer,
    Service(&'s Arc<ServiceState>),
    Instance { service: &'s Arc<ServiceState>, instance: &'s Instance, is_derived: bool },
}

/// A claim that is refused because the name has another claimant. The name is relative to its zone and in lower case.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Conflict<'s> {
    pub name: String,
    pub claimant: Claimant<'s>,
}

impl<'s> Claimant<'s> {
    fn is_instance_of(&self, id: &ServiceId) -> bool {
        matches!(self, Claimant::Instance { service, .. } if service.service.id == *id)
    }

    /// The service itself, or the service of the instance; `None` for the name server.
    pub fn service(&self) -> Option<&'s Arc<ServiceState>> {
        match self {
            Claimant::NameServer => None,
            Claimant::Service(service) | Claimant::Instance { service, .. } => Some(service),
        }
    }
}

impl Conflict<'_> {
    /// Error for a client that registers an instance of this id.
    pub fn of_instance(&self, id: &str, service: &str) -> RegistryError {
        InvalidInput(format!("The instance id {id} can't be in the service {service}, because {self}."))
    }

    /// Error for a client that creates a service of this name.
    pub fn of_service(&self, name: &str) -> RegistryError {
        InvalidInput(format!("The service name {name} is taken: {self}."))
    }
}

impl fmt::Display for Claimant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claimant::NameServer => f.write_str("the zone's own name server"),
            Claimant::Service(state) => {
                write!(f, "the service {} ({})", state.service.name, state.service.id)
            }
            Claimant::Instance { service, instance, is_derived } => {
                let Service { name, id, .. } = &*service.service;
                write!(f, "the instance {} of the service {name} ({id})", instance.id())?;
                if *is_derived { f.write_str(", as the target of its SRV record") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for Conflict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name {} belongs to {}", self.name, self.claimant)
    }
}

/// All claimants of a name of a namespace's zone; `name` is relative to the zone and in lower case. There is at most one,
/// except for ids that differ only in case, and for data that was stored before names had a single owner.
pub fn claimants<'s>(state: &'s State, namespace: &NamespaceId, name: &str) -> Vec<Claimant<'s>> {
    claimants_outside(state, namespace, name, None)
}

/// Like [`claimants`], but without the instances of the service `left_out`.
fn claimants_outside<'s>(
    state: &'s State,
    namespace: &NamespaceId,
    name: &str,
    left_out: Option<&ServiceId>,
) -> Vec<Claimant<'s>> {
    let mut found = Vec::new();
    if name == NAME_SERVER {
        found.push(Claimant::NameServer);
    }
    found.extend(state.service_in_dns(namespace, name).map(Claimant::Service));
    if let Ok(zone) = state.namespace(namespace.as_str()) {
        for (prefix, service) in splits(name) {
            if let Some(service) = state.service_in_dns(namespace, service)
                && left_out != Some(&service.service.id)
            {
                instances_named(service, &zone.namespace, prefix, &mut found);
            }
        }
    }
    found
}

/// Names that an instance of this id claims: its own, if the id consists of valid labels, and the derived one.
pub fn names_of_instance(id: &str, service: &Service, namespace: &Namespace) -> Vec<String> {
    let budget = LabelBudget::of(service, namespace);
    let own = budget.has_own_name(id).then(|| name_below(id, &service.name));
    let derived = budget.derived(id).map(|label| name_below(&label, &service.name));
    own.into_iter().chain(derived).collect()
}

/// Claims that prevent the registration of a new instance of this id. Claims of the instance itself do not count, nor do
/// those of instances of the service whose ids differ only in case.
pub fn conflicts_of_instance<'s>(state: &'s State, service: &ServiceState, id: &str) -> Vec<Conflict<'s>> {
    let service = &*service.service;
    let Ok(namespace) = state.namespace(service.namespace_id.as_str()) else { return Vec::new() };
    if service.api_only || !namespace.namespace.is_dns() {
        return Vec::new();
    }
    let mut conflicts = Vec::new();
    for name in names_of_instance(id, service, &namespace.namespace) {
        for claimant in claimants(state, &service.namespace_id, &name) {
            let is_own = claimant.is_instance_of(&service.id)
                && matches!(&claimant, Claimant::Instance { instance, .. } if instance.id().eq_ignore_ascii_case(id));
            if !is_own {
                conflicts.push(Conflict { name: name.clone(), claimant });
            }
        }
    }
    conflicts
}

/// Claims that prevent the creation of a new service of this name in DNS, other than those of services: their names are
/// unique in the store anyway.
pub fn conflicts_of_service<'s>(state: &'s State, namespace: &NamespaceId, name: &str) -> Vec<Conflict<'s>> {
    let name = name.to_ascii_lowercase();
    let claimants = claimants(state, namespace, &name).into_iter();
    let others = claimants.filter(|claimant| !matches!(claimant, Claimant::Service(_)));
    others.map(|claimant| Conflict { name: name.clone(), claimant }).collect()
}

pub(super) fn check_instance(state: &State, service: &ServiceState, id: &str) -> Result<(), RegistryError> {
    match conflicts_of_instance(state, service, id).first() {
        None => Ok(()),
        Some(conflict) => Err(conflict.of_instance(id, &service.service.name)),
    }
}

pub(super) fn check_service(state: &State, namespace: &NamespaceId, name: &str) -> Result<(), RegistryError> {
    match conflicts_of_service(state, namespace, name).first() {
        None => Ok(()),
        Some(conflict) => Err(conflict.of_service(name)),
    }
}

/// Returns true if the name of the service leaves enough bytes for the SRV target of an instance of this id.
pub(super) fn has_target(id: &str, service: &Service, namespace: &Namespace) -> bool {
    LabelBudget::of(service, namespace).has_target(id)
}

/// Splits a name at each of its dots into the possible labels of an instance and the possible name of its service.
pub(crate) fn splits(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let at_dots = name.match_indices('.').map(|(dot, _)| (&name[..dot], &name[dot + 1..]));
    // For the service `.`, which is the zone's apex, the whole name is the instance's part.
    at_dots.chain([(name, ".")]).filter(|(prefix, service)| !prefix.is_empty() && !service.is_empty())
}

pub(crate) fn name_below(labels: &str, service: &str) -> String {
    let mut name = match service {
        "." => labels.to_string(),
        service => format!("{labels}.{service}"),
    };
    name.make_ascii_lowercase();
    name
}

/// Adds to `found` the instances of a service that claim the labels `prefix`, in lower case, in front of its name.
fn instances_named<'s>(
    service: &'s Arc<ServiceState>,
    namespace: &Namespace,
    prefix: &str,
    found: &mut Vec<Claimant<'s>>,
) {
    let budget = LabelBudget::of(&service.service, namespace);
    let instances = service.instances();
    let claimant = |is_derived| move |instance| Claimant::Instance { service, instance, is_derived };
    if budget.has_own_name(prefix) {
        found.extend(search::in_any_case(instances, prefix).into_iter().map(claimant(false)));
    }
    found.extend(search::derived(instances, budget, prefix).into_iter().map(claimant(true)));
}

#[cfg(test)]
mod tests;
