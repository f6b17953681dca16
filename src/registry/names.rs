//! Owners of DNS names: a name belongs to one thing, whichever way it came in.
//!
//! Names are relative to the zone of their namespace, in lower case, and are compared as DNS compares them. Claimants are:
//!
//! | claimant | name |
//! | --- | --- |
//! | the zone's name server | `ns.dns` |
//! | a service in DNS | its name; the service `.` has the zone's own name |
//! | an instance of such a service | `<id>.<service>` where the id can be labels |
//! | | `<label>.<service>` with the label that is derived from its id |
//!
//! The derived label is the target of an instance's SRV record where the name of the id is no host name or belongs to
//! something else.
//!
//! The rule is the same for all record types, so that no change of a service makes a new claim. Services that only the API
//! finds claim nothing. Instances of one service whose ids differ only in case share a name without claiming it from each
//! other: it belongs to the id without capital letters.
//!
//! No index has these names, because a million instances have to fit in memory. The claimants of a name are computed: the
//! name is split at each of its dots; the part behind a dot finds a service, and the part in front finds its instance.
//!
//! The planner refuses new claims to a name that has an owner; a shared store decides by age which objects
//! keep theirs; the compiler of DNS data and `explain` ask for the names of each instance, and settle what stored data of
//! earlier versions holds twice.

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
use target::Room;

pub use owned::{InstanceNames, Loss, ServiceNames};
pub(super) use target::{LABEL_BYTES_MAX, NAME_BYTES_MAX};

/// Name of every zone's own name server.
pub(super) const NAME_SERVER: &str = "ns.dns";

/// Something that a name belongs to.
#[derive(Clone, Debug)]
pub enum Claimant<'s> {
    /// The zone's own name server.
    NameServer,
    /// The service of that name.
    Service(&'s Arc<ServiceState>),
    /// An instance that has the name.
    Instance {
        /// The service that the instance is registered in.
        service: &'s Arc<ServiceState>,
        /// The instance as it is registered.
        instance: &'s Instance,
        /// True if the name is the one that is derived from its id, not the id's own.
        is_derived: bool,
    },
}

/// A claim that cannot be granted.
#[derive(Clone, Debug)]
pub struct Conflict<'s> {
    /// The name, relative to its zone, in lower case.
    pub name: String,
    /// The service, instance or name server that has the name.
    pub claimant: Claimant<'s>,
}

impl<'s> Claimant<'s> {
    /// True if the claimant is an instance of this service, whichever of its names the claim is about.
    fn is_instance_of(&self, id: &ServiceId) -> bool {
        matches!(self, Claimant::Instance { service, .. } if service.service.id == *id)
    }

    /// The service that it is or belongs to.
    pub fn service(&self) -> Option<&'s Arc<ServiceState>> {
        match self {
            Claimant::NameServer => None,
            Claimant::Service(service) | Claimant::Instance { service, .. } => Some(service),
        }
    }
}

impl Conflict<'_> {
    /// The refusal of an instance of this id.
    pub fn of_instance(&self, id: &str, service: &str) -> RegistryError {
        InvalidInput(format!("The instance id {id} can't be in the service {service}, because {self}."))
    }

    /// The refusal of a service of this name.
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

/// Everything that claims a name of a namespace's zone; `name` is relative to the zone and in lower case. At most one
/// claimant is to be there, except for ids that differ only in case and for data from before names had one owner.
pub fn claimants<'s>(state: &'s State, namespace: &NamespaceId, name: &str) -> Vec<Claimant<'s>> {
    claimants_outside(state, namespace, name, None)
}

/// [`claimants`] without the instances of one service.
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

/// The names that claims of an instance of this id are about: its own, where it can have one, and the derived one.
pub fn names_of_instance(id: &str, service: &Service, namespace: &Namespace) -> Vec<String> {
    let room = Room::of(service, namespace);
    let own = room.has_own_name(id).then(|| name_below(id, &service.name));
    let derived = room.derived(id).map(|label| name_below(&label, &service.name));
    own.into_iter().chain(derived).collect()
}

/// Claims in the way of a new instance of this id: none if all of its names are free. Claims of the instance itself do not
/// count, nor do those of ids of the service that differ only in case.
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

/// Claims in the way of a new service of this name in DNS, other than those of services: a store has one of a name.
pub fn conflicts_of_service<'s>(state: &'s State, namespace: &NamespaceId, name: &str) -> Vec<Conflict<'s>> {
    let name = name.to_ascii_lowercase();
    let claimants = claimants(state, namespace, &name).into_iter();
    let others = claimants.filter(|claimant| !matches!(claimant, Claimant::Service(_)));
    others.map(|claimant| Conflict { name: name.clone(), claimant }).collect()
}

/// Refuses a new instance whose names belong to something else, or whose SRV record could have no target.
pub(super) fn check_instance(state: &State, service: &ServiceState, id: &str) -> Result<(), RegistryError> {
    match conflicts_of_instance(state, service, id).first() {
        None => Ok(()),
        Some(conflict) => Err(conflict.of_instance(id, &service.service.name)),
    }
}

/// Refuses a new service whose name belongs to something else.
pub(super) fn check_service(state: &State, namespace: &NamespaceId, name: &str) -> Result<(), RegistryError> {
    match conflicts_of_service(state, namespace, name).first() {
        None => Ok(()),
        Some(conflict) => Err(conflict.of_service(name)),
    }
}

/// True if the name of the service leaves room for a target of the SRV record of an instance of this id.
pub(super) fn has_target(id: &str, service: &Service, namespace: &Namespace) -> bool {
    Room::of(service, namespace).has_target(id)
}

/// The parts of a name before and after each of its dots: an instance's labels and a service's name, if there is such a
/// service.
pub(crate) fn splits(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let at_dots = name.match_indices('.').map(|(dot, _)| (&name[..dot], &name[dot + 1..]));
    // The service `.` is the zone itself.
    at_dots.chain([(name, ".")]).filter(|(prefix, service)| !prefix.is_empty() && !service.is_empty())
}

/// The name, relative to the zone and in lower case, of a label or more below a service.
pub(crate) fn name_below(labels: &str, service: &str) -> String {
    let mut name = match service {
        "." => labels.to_string(),
        service => format!("{labels}.{service}"),
    };
    name.make_ascii_lowercase();
    name
}

/// The instances of a service that have these labels in front of its name; `prefix` is in lower case.
fn instances_named<'s>(
    service: &'s Arc<ServiceState>,
    namespace: &Namespace,
    prefix: &str,
    found: &mut Vec<Claimant<'s>>,
) {
    let room = Room::of(&service.service, namespace);
    let instances = service.instances();
    let claimant = |is_derived| move |instance| Claimant::Instance { service, instance, is_derived };
    if room.has_own_name(prefix) {
        found.extend(search::in_any_case(instances, prefix).into_iter().map(claimant(false)));
    }
    found.extend(search::derived(instances, room, prefix).into_iter().map(claimant(true)));
}

#[cfg(test)]
mod tests;
