//! The names that instances of one service have, where stored data holds a name twice too.
//!
//! New claims to a name with an owner are refused, so two claimants of one name come from stores of earlier versions, from
//! imports, and from pods and stored instances that two servers saw in different order. The name server's and a service's
//! names come first, because a service cannot be hidden. Of two instances the older one has the name: stored ones come
//! before pods, which have no age that all servers know, and then the number of the registering operation and the id decide.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::model::{Instance, ServiceId};

use super::{Claimant, NAME_SERVER, Room, claimants_outside, name_below, target::is_host_name};
use crate::registry::state::{ServiceState, State};

/// The names of one instance, without its service's.
#[derive(Clone, Debug)]
pub struct InstanceNames<'s> {
    /// Its id, where the name of that belongs to it.
    pub own: Option<&'s str>,
    /// The target of its SRV record: its own name where that is a host name, else the derived label. `None` where no
    /// label fits, or where that belongs to something else too.
    pub target: Option<Cow<'s, str>>,
    /// Reason why the name of its id is not its own, if that id can be labels.
    pub loss: Option<Loss<'s>>,
}

/// Reason why an instance does not have the name of its id.
#[derive(Clone, Debug)]
pub enum Loss<'s> {
    /// Other ids of the service differ from it only in case.
    Case,
    /// The name belongs to something else.
    Taken(Claimant<'s>),
}

/// Computes the names that a service's instances have in DNS.
pub struct ServiceNames<'s> {
    state: &'s State,
    service: &'s ServiceState,
    room: Room,
    /// True if names of its instances could be other services' or those of their instances.
    nests: bool,
    /// True if all ids are host names without capital letters, and no name can belong to anything else.
    is_plain: bool,
    /// The ids with capital letters, in lower case and in order, with their instances.
    capitals: Vec<(String, &'s Instance)>,
    /// Older instances by the ids that are equal to the labels derived from theirs.
    derived_before: HashMap<&'s str, &'s Instance>,
    rivals: BTreeSet<ServiceId>,
}

impl<'s> ServiceNames<'s> {
    /// The names of this service's instances in this state; `None` when its namespace is not there.
    pub fn new(state: &'s State, service: &'s ServiceState) -> Option<ServiceNames<'s>> {
        let definition = &*service.service;
        let namespace = &state.namespace(definition.namespace_id.as_str()).ok()?.namespace;
        let has_capitals = |id: &str| id.bytes().any(|byte| byte.is_ascii_uppercase());
        let is_plain =
            |id: &str| is_host_name(id) && !has_capitals(id) && !is_name_server(id, &definition.name);
        let instances = service.instances();
        let nests = state.nests(definition);
        let mut names = ServiceNames {
            state,
            service,
            room: Room::of(definition, namespace),
            nests,
            is_plain: !nests && instances.iter().all(|instance| is_plain(instance.id())),
            capitals: Vec::new(),
            derived_before: HashMap::new(),
            rivals: BTreeSet::new(),
        };
        if !names.is_plain {
            let with_capitals = instances.iter().filter(|instance| has_capitals(instance.id()));
            names.capitals =
                with_capitals.map(|instance| (instance.id().to_ascii_lowercase(), instance)).collect();
            names.capitals.sort_by(|(one, _), (other, _)| one.cmp(other));
            names.find_derived();
        }
        Some(names)
    }

    /// The names of an instance of the service.
    pub fn of(&mut self, instance: &'s Instance) -> InstanceNames<'s> {
        let id = instance.id();
        let has_own_name = self.room.has_own_name(id);
        let loss = match has_own_name && !self.is_plain {
            true => self.loss(instance),
            false => None,
        };
        let own = (has_own_name && loss.is_none()).then_some(id);
        let target = match own {
            Some(own) if self.is_plain || is_host_name(own) => Some(Cow::Borrowed(own)),
            _ => {
                let label = self.room.derived(id).filter(|label| self.may_have(instance, label));
                label.map(Cow::Owned)
            }
        };
        InstanceNames { own, target, loss }
    }

    /// Other services whose instances, or which themselves, claim names that were asked for. The names of either change
    /// when the other does.
    pub fn into_rivals(self) -> BTreeSet<ServiceId> {
        self.rivals
    }

    /// Finds the ids that are equal to labels that older instances need as targets.
    fn find_derived(&mut self) {
        let service = self.service;
        for instance in service.instances() {
            let id = instance.id();
            let needs_label = !is_host_name(id)
                || !self.room.has_own_name(id)
                || self.is_twin(id)
                || (self.nests && self.stronger(instance, &name_below(id, &service.service.name)).is_some());
            let Some(label) = needs_label.then(|| self.room.derived(id)).flatten() else { continue };
            for other in self.in_any_case(&label) {
                if is_before(instance, other) {
                    self.derived_before.insert(other.id(), instance);
                }
            }
        }
    }

    fn loss(&mut self, instance: &'s Instance) -> Option<Loss<'s>> {
        let id = instance.id();
        if self.is_twin(id) {
            return Some(Loss::Case);
        }
        if let Some(older) = self.derived_before.get(id).copied() {
            let service = self.state.service(self.service.service.id.as_str()).ok()?;
            return Some(Loss::Taken(Claimant::Instance { service, instance: older, is_derived: true }));
        }
        let name = &self.service.service.name;
        match self.nests || is_name_server(id, name) {
            true => self.stronger(instance, &name_below(id, name)).map(Loss::Taken),
            false => None,
        }
    }

    /// True if the derived label of an instance is its own: no older instance and no service claims it.
    fn may_have(&mut self, instance: &Instance, label: &str) -> bool {
        let is_older = |other: &Instance| is_before(other, instance);
        let name = &self.service.service.name;
        let is_taken = self.in_any_case(label).into_iter().any(is_older)
            || (self.nests && self.stronger(instance, &name_below(label, name)).is_some());
        !is_taken
    }

    /// The claimant outside of the service that has a name rather than this instance. The services that claim the name are
    /// noted as rivals, also those that do not get it.
    fn stronger(&mut self, instance: &Instance, name: &str) -> Option<Claimant<'s>> {
        let own = &self.service.service;
        let others = claimants_outside(self.state, &own.namespace_id, name, Some(&own.id));
        let services = others.iter().filter_map(Claimant::service);
        self.rivals.extend(services.map(|service| service.service.id.clone()));
        let is_shared = |one: &Instance, other: &Instance| {
            one.id() != other.id() && one.id().eq_ignore_ascii_case(other.id())
        };
        let stands = |claimant: &&Claimant<'s>| match claimant {
            Claimant::NameServer => true,
            Claimant::Service(service) => service.service.id != own.id,
            Claimant::Instance { instance: other, is_derived, service } => {
                // Of ids that differ only in case, the one without capital letters has the name, or none.
                let is_lower = !other.id().bytes().any(|byte| byte.is_ascii_uppercase());
                let has_twin = || {
                    others.iter().any(|third| {
                        matches!(third, Claimant::Instance { instance, is_derived: false, service: of }
                        if of.service.id == service.service.id && is_shared(instance, other))
                    })
                };
                (*is_derived || is_lower || !has_twin())
                    && (is_before(other, instance)
                        || (!is_before(instance, other) && service.service.id < own.id))
            }
        };
        others.iter().find(stands).cloned()
    }

    /// True if the id has capital letters and another one of the service differs from it only in case.
    fn is_twin(&self, id: &str) -> bool {
        !self.capitals.is_empty()
            && id.bytes().any(|byte| byte.is_ascii_uppercase())
            && self.in_any_case(&id.to_ascii_lowercase()).len() > 1
    }

    /// The instances of this id, which is in lower case, in any case.
    fn in_any_case(&self, id: &str) -> Vec<&'s Instance> {
        let start = self.capitals.partition_point(|(other, _)| other.as_str() < id);
        let with_capitals = self.capitals[start..].iter().take_while(|(other, _)| other == id);
        let exact = self.service.instance(id).ok();
        exact.into_iter().chain(with_capitals.map(|(_, instance)| *instance)).collect()
    }
}

/// True if the first instance is the older one. Ids are unique in a service only, so two can be equally old.
fn is_before(one: &Instance, other: &Instance) -> bool {
    fn age(instance: &Instance) -> (bool, u64, &str) {
        (instance.is_watched(), instance.operation(), instance.id())
    }
    age(one) < age(other)
}

/// True if an instance of this id in this service has the name of the zone's name server.
fn is_name_server(id: &str, service: &str) -> bool {
    let rest = match service {
        "." => Some(NAME_SERVER),
        service => NAME_SERVER
            .split_once('.')
            .filter(|(_, rest)| service.eq_ignore_ascii_case(rest))
            .map(|(first, _)| first),
    };
    rest.is_some_and(|rest| id.eq_ignore_ascii_case(rest))
}
