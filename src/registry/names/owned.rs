//! Names that the instances of one service have, even if the stored data contains a name twice.
//!
//! New claims to a name with an owner are refused. So a name only has two claimants in stores of earlier versions, after
//! imports, and if two servers saw pods and stored instances in different order. The name server and services take
//! precedence over instances, because a service must not be hidden. Of two instances the older one has the name. Stored ones
//! count as older than pods, which have no age that all servers know; otherwise the number of the registering operation
//! decides, and then the id.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::model::{Instance, ServiceId};

use super::{Claimant, LabelBudget, NAME_SERVER, claimants_outside, name_below, target::is_host_name};
use crate::registry::state::{ServiceState, State};

/// Names of one instance, as labels in front of its service's name.
#[derive(Clone, Debug)]
pub struct InstanceNames<'s> {
    /// Id of the instance, if it consists of valid labels and the name belongs to the instance.
    pub own: Option<&'s str>,
    /// Target of the SRV record: the own name if it is a host name, else the derived label. `None` if no label fits, or if
    /// the label's name belongs to another claimant.
    pub target: Option<Cow<'s, str>>,
    /// Reason why the name of the id does not belong to the instance, if the id consists of valid labels.
    pub loss: Option<Loss<'s>>,
}

/// Reason why an instance does not have the name of its id: another id of the service differs only in case, or the name
/// belongs to another claimant.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum Loss<'s> {
    Case,
    Taken(Claimant<'s>),
}

/// Computes the names that a service's instances have in DNS.
///
/// They nest if they could also be names of other services or of their instances, and there are no conflicts if all ids are
/// host names in lower case and no name can have another claimant. `capitals` are the ids with capital letters, in lower
/// case and sorted. `derived_before` has the older instance for each id that is equal to its derived label.
pub struct ServiceNames<'s> {
    state: &'s State,
    service: &'s ServiceState,
    budget: LabelBudget,
    nests: bool,
    has_no_conflicts: bool,
    capitals: Vec<(String, &'s Instance)>,
    derived_before: HashMap<&'s str, &'s Instance>,
    other_claimants: BTreeSet<ServiceId>,
}

impl<'s> ServiceNames<'s> {
    /// Prepares the names of a service's instances; `None` if the state does not contain the service's namespace.
    pub fn new(state: &'s State, service: &'s ServiceState) -> Option<ServiceNames<'s>> {
        let definition = &*service.service;
        let namespace = &state.namespace(definition.namespace_id.as_str()).ok()?.namespace;
        let has_capitals = |id: &str| id.bytes().any(|byte| byte.is_ascii_uppercase());
        let is_unambiguous =
            |id: &str| is_host_name(id) && !has_capitals(id) && !is_name_server(id, &definition.name);
        let instances = service.instances();
        let nests = state.nests(definition);
        let mut names = ServiceNames {
            state,
            service,
            budget: LabelBudget::of(definition, namespace),
            nests,
            has_no_conflicts: !nests && instances.iter().all(|instance| is_unambiguous(instance.id())),
            capitals: Vec::new(),
            derived_before: HashMap::new(),
            other_claimants: BTreeSet::new(),
        };
        if !names.has_no_conflicts {
            let with_capitals = instances.iter().filter(|instance| has_capitals(instance.id()));
            names.capitals =
                with_capitals.map(|instance| (instance.id().to_ascii_lowercase(), instance)).collect();
            names.capitals.sort_by(|(one, _), (other, _)| one.cmp(other));
            names.find_derived();
        }
        Some(names)
    }

    /// Names of an instance of the service.
    pub fn of(&mut self, instance: &'s Instance) -> InstanceNames<'s> {
        let id = instance.id();
        let has_own_name = self.budget.has_own_name(id);
        let loss = if has_own_name && !self.has_no_conflicts { self.loss(instance) } else { None };
        let own = (has_own_name && loss.is_none()).then_some(id);
        let target = match own {
            Some(own) if self.has_no_conflicts || is_host_name(own) => Some(Cow::Borrowed(own)),
            _ => {
                let label = self.budget.derived(id).filter(|label| self.owns_derived(instance, label));
                label.map(Cow::Owned)
            }
        };
        InstanceNames { own, target, loss }
    }

    /// Other services that claim names which were computed, by themselves or by their instances. A change of one of these
    /// services can change the names of this one's instances, and the other way round.
    pub fn into_other_claimants(self) -> BTreeSet<ServiceId> {
        self.other_claimants
    }

    /// Finds the ids that are equal to the derived label of an older instance that needs it as its target.
    fn find_derived(&mut self) {
        let service = self.service;
        for instance in service.instances() {
            let id = instance.id();
            let needs_label = !is_host_name(id)
                || !self.budget.has_own_name(id)
                || self.loses_by_case(id)
                || (self.nests
                    && self.preceding_claimant(instance, &name_below(id, &service.service.name)).is_some());
            let Some(label) = needs_label.then(|| self.budget.derived(id)).flatten() else { continue };
            for other in self.in_any_case(&label) {
                if is_before(instance, other) {
                    self.derived_before.insert(other.id(), instance);
                }
            }
        }
    }

    fn loss(&mut self, instance: &'s Instance) -> Option<Loss<'s>> {
        let id = instance.id();
        if self.loses_by_case(id) {
            return Some(Loss::Case);
        }
        if let Some(older) = self.derived_before.get(id).copied() {
            let service = self.state.service(self.service.service.id.as_str()).ok()?;
            return Some(Loss::Taken(Claimant::Instance { service, instance: older, is_derived: true }));
        }
        let name = &self.service.service.name;
        if self.nests || is_name_server(id, name) {
            self.preceding_claimant(instance, &name_below(id, name)).map(Loss::Taken)
        } else {
            None
        }
    }

    /// Returns true if the derived label belongs to the instance, because neither an older instance nor a service claims it.
    fn owns_derived(&mut self, instance: &Instance, label: &str) -> bool {
        let is_older = |other: &Instance| is_before(other, instance);
        let name = &self.service.service.name;
        let is_taken = self.in_any_case(label).into_iter().any(is_older)
            || (self.nests && self.preceding_claimant(instance, &name_below(label, name)).is_some());
        !is_taken
    }

    /// Returns the claimant outside of the service that takes precedence over this instance. Adds all services that claim
    /// the name to the other claimants, including those that do not get it.
    fn preceding_claimant(&mut self, instance: &Instance, name: &str) -> Option<Claimant<'s>> {
        let own = &self.service.service;
        let others = claimants_outside(self.state, &own.namespace_id, name, Some(&own.id));
        let services = others.iter().filter_map(Claimant::service);
        self.other_claimants.extend(services.map(|service| service.service.id.clone()));
        let differ_in_case = |one: &Instance, other: &Instance| {
            one.id() != other.id() && one.id().eq_ignore_ascii_case(other.id())
        };
        let takes_precedence = |claimant: &&Claimant<'s>| match claimant {
            Claimant::NameServer => true,
            Claimant::Service(service) => service.service.id != own.id,
            Claimant::Instance { instance: other, is_derived, service } => {
                // Of ids that differ only in case, only the one without capital letters can have the name.
                let is_lower = !other.id().bytes().any(|byte| byte.is_ascii_uppercase());
                let has_other_case = || {
                    others.iter().any(|third| {
                        matches!(third, Claimant::Instance { instance, is_derived: false, service: of }
                        if of.service.id == service.service.id && differ_in_case(instance, other))
                    })
                };
                (*is_derived || is_lower || !has_other_case())
                    && (is_before(other, instance)
                        || (!is_before(instance, other) && service.service.id < own.id))
            }
        };
        others.iter().find(takes_precedence).cloned()
    }

    fn loses_by_case(&self, id: &str) -> bool {
        !self.capitals.is_empty()
            && id.bytes().any(|byte| byte.is_ascii_uppercase())
            && self.in_any_case(&id.to_ascii_lowercase()).len() > 1
    }

    fn in_any_case(&self, id: &str) -> Vec<&'s Instance> {
        let start = self.capitals.partition_point(|(other, _)| other.as_str() < id);
        let with_capitals = self.capitals[start..].iter().take_while(|(other, _)| other == id);
        let exact = self.service.instance(id).ok();
        exact.into_iter().chain(with_capitals.map(|(_, instance)| *instance)).collect()
    }
}

/// Returns true if the first instance is the older one. Ids are only unique within a service, so neither may be older.
fn is_before(one: &Instance, other: &Instance) -> bool {
    fn age(instance: &Instance) -> (bool, u64, &str) {
        (instance.is_watched(), instance.operation(), instance.id())
    }
    age(one) < age(other)
}

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
