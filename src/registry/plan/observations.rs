//! Watched instances: observations of pods.

use std::collections::BTreeSet;

use crate::model::ServiceId;

use super::{Planner, over};
use crate::registry::{
    change::Change,
    command::{Observation, Observed, PodNumbers, Refusal, Reply, Seen},
    error::RegistryError::{self, ResourceInUse},
    names,
    numbering::Numbering,
    port::Group,
    rules,
    state::State,
};

impl Planner<'_> {
    /// Plans the changes that observations make. With a store of one server, all observations of a command take one number,
    /// which becomes the revision of each service whose instances changed by more than health. With a shared store the
    /// numbers are those of the cluster.
    pub(super) fn observe(&mut self, observed: Observed) -> (Group, Reply) {
        let Observed { observations, numbers } = observed;
        let number = self.state.sequence() + 1;
        let mut next = self.state.clone();
        let (mut group, mut refusals) = (Group::new(), Vec::new());
        let mut revised = BTreeSet::<ServiceId>::new();
        for (at, Observation { service, seen }) in observations.into_iter().enumerate() {
            let id: Box<str> = seen.id().into();
            let (change, is_revision) = match self.observed(&next, &service, seen) {
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(error) => {
                    refusals.push(Refusal { at, error });
                    // A previous instance of the pod is outdated.
                    let state = next.service(service.as_str());
                    let has_outdated =
                        state.is_ok_and(|state| state.instance(&id).is_ok_and(|old| old.is_watched()));
                    if !has_outdated {
                        continue;
                    }
                    (Change::ForgetInstance(service.clone(), id), true)
                }
            };
            if is_revision {
                revised.insert(service);
            }
            next.apply(&change);
            group.push(change);
        }
        if let Some(numbering) = self.state.numbering() {
            group.extend(numbers.iter().flat_map(|numbers| self.numbered(numbers, numbering)));
            return (group, Reply::Observed(refusals));
        }
        group.extend(revised.into_iter().map(|service| Change::PutRevision(service, number)));
        if !group.is_empty() {
            group.push(Change::PutSequence(number));
        }
        (group, Reply::Observed(refusals))
    }

    /// Raises the numbers of a service and of its namespace to those of the service's pods. Refused pods count too, because
    /// other servers may not refuse them at that moment.
    fn numbered(&self, numbers: &PodNumbers, numbering: Numbering) -> Group {
        let PodNumbers { service, revision, contents } = numbers;
        let Ok(found) = self.state.service(service.as_str()) else { return Group::new() };
        let namespace = &found.service.namespace_id;
        let (revision, serial) = (revision + numbering.offset, contents + numbering.offset);
        let mut group = Group::new();
        if revision > found.revision() {
            group.push(Change::PutRevision(service.clone(), revision));
        }
        if serial > self.state.serial(namespace) {
            group.push(Change::PutSerial(namespace.clone(), serial));
        }
        group
    }

    /// Returns the change that an observation makes, and true if it changes more than health; `None` if it changes nothing.
    fn observed(
        &self,
        state: &State,
        service: &ServiceId,
        seen: Seen,
    ) -> Result<Option<(Change, bool)>, RegistryError> {
        let instance = match seen {
            Seen::Instance(instance) => instance,
            Seen::Gone(id) => {
                let Ok(service_state) = state.service(service.as_str()) else { return Ok(None) };
                let is_watched = service_state.instance(&id).is_ok_and(|old| old.is_watched());
                return Ok(is_watched.then(|| (Change::ForgetInstance(service.clone(), id), true)));
            }
        };
        let service_state = state.service(service.as_str())?;
        let definition = &service_state.service;
        let id = instance.id();
        let old = service_state.instance(id).ok();
        if let Some(old) = old.filter(|old| !old.is_watched()) {
            return Err(ResourceInUse(format!(
                "The instance {} was registered through the API; a pod can't take its place until it is deregistered.",
                old.id()
            )));
        }
        let namespace = &state.namespace(definition.namespace_id.as_str())?.namespace;
        rules::check_watched_instance(namespace, definition, &instance, &self.settings.quotas)?;
        let quotas = &self.settings.quotas;
        if old.is_none() && service_state.instances().len() >= quotas.instances_per_service {
            return Err(over("instances of a service", quotas.instances_per_service));
        }
        if old.is_none() && state.instance_count() >= quotas.instances {
            return Err(over("instances", quotas.instances));
        }
        if old.is_none() {
            names::check_instance(state, service_state, id)?;
        }
        let instance = state.with_pod_signals(service, instance);
        if old == Some(&instance) {
            return Ok(None);
        }
        let is_revision = old.is_none_or(|old| !old.is_same_but_for_health(&instance));
        Ok(Some((Change::PutInstance(service.clone(), instance), is_revision)))
    }
}
