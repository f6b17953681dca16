//! Search for the instances that an item of the webhook or an order about maintenance names, by id or by address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Instance, Service, ServiceId, id::id_in};
use crate::registry::{ServiceState, Sought, State};

/// Instances with one address that a report can be about.
const ADDRESS_INSTANCES_MAX: usize = 100;
/// Services that an error names.
const NAMED_MAX: usize = 5;

/// An instance as a request names it. The service is a name, a full name, an id or an ARN, in any case of letters for names;
/// it is not needed if the rest means one instance, or the instances of one pod.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) service: Option<String>,
    pub(super) subject: Subject,
}

/// The id of an instance, or an address that instances registered with, with or without their port.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Subject {
    Instance(String),
    Address(IpAddr, Option<u16>),
}

/// Reason why a request means no instance: there is none of that name, or several.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Ambiguous(String),
}

/// An instance with its service.
pub(super) type Target<'s> = (&'s ServiceState, &'s Instance);

/// The services and instances that could be meant by some names, found in one pass over all of them.
pub(super) struct Targets<'s> {
    state: &'s State,
    services: HashMap<String, Vec<&'s ServiceState>>,
    ids: HashMap<&'s str, Vec<Target<'s>>>,
    addresses: HashMap<IpAddr, Vec<Target<'s>>>,
}

/// The names by which requests may mean a service: its own, and the full one.
pub(super) fn names_of(state: &State, service: &Service) -> impl Iterator<Item = String> {
    [Some(service.name.clone()), state.full_name(service)].into_iter().flatten()
}

impl Subject {
    /// Reads an IP address, alone or with a port.
    pub(super) fn address(text: &str) -> Option<Subject> {
        match text.parse::<SocketAddr>() {
            Ok(address) => Some(Subject::Address(address.ip().to_canonical(), Some(address.port()))),
            Err(_) => text.parse().map(|address: IpAddr| Subject::Address(address.to_canonical(), None)).ok(),
        }
    }
}

impl<'s> Targets<'s> {
    /// Searches for everything that these names could mean.
    pub(super) fn search<'n>(state: &'s State, names: impl Iterator<Item = &'n Named>) -> Targets<'s> {
        let mut targets =
            Targets { state, services: HashMap::new(), ids: HashMap::new(), addresses: HashMap::new() };
        let mut ids: HashMap<&str, Vec<Target<'s>>> = HashMap::new();
        for Named { service, subject } in names {
            let by_id = service.as_deref().is_some_and(|text| state.service(text).is_ok());
            if let Some(text) = service.as_deref().filter(|_| !by_id) {
                targets.services.entry(text.to_ascii_lowercase()).or_default();
            }
            match subject {
                // The instance of a known service needs no search.
                Subject::Instance(_) if by_id => {}
                Subject::Instance(id) => drop(ids.entry(id).or_default()),
                Subject::Address(address, _) => drop(targets.addresses.entry(*address).or_default()),
            }
        }
        let (has_services, has_subjects) =
            (!targets.services.is_empty(), !ids.is_empty() || !targets.addresses.is_empty());
        if !has_services && !has_subjects {
            return targets;
        }
        for (_, found) in state.services_after(None) {
            if has_services {
                for name in names_of(state, &found.service) {
                    if let Some(services) = targets.services.get_mut(&name.to_ascii_lowercase()) {
                        services.push(found);
                    }
                }
            }
            for instance in found.instances().iter().filter(|_| has_subjects) {
                if let Some(same) = ids.get_mut(instance.id()) {
                    same.push((found, instance));
                }
                if targets.addresses.is_empty() {
                    continue;
                }
                let addresses = [instance.ipv4().map(IpAddr::from), instance.ipv6().map(IpAddr::from)];
                for address in addresses.into_iter().flatten() {
                    if let Some(same) = targets.addresses.get_mut(&address) {
                        same.push((found, instance));
                    }
                }
            }
        }
        targets.ids = ids.into_values().filter_map(|same| Some((same.first()?.1.id(), same))).collect();
        targets
    }

    /// The instances that a name means, which was among those that were searched for: one, those of one pod, or all with an
    /// address.
    pub(super) fn find(&self, name: &Named) -> Result<Vec<Target<'s>>, NoTarget> {
        let services = name.service.as_deref().map(|text| self.services_named(text)).transpose()?;
        let is_of_service = |found: &ServiceState| {
            let is_it = |service: &&ServiceState| service.service.id == found.service.id;
            services.as_ref().is_none_or(|services| services.iter().any(is_it))
        };
        let mut found: Vec<Target<'s>> = match (&name.subject, services.as_deref()) {
            (Subject::Instance(id), Some([service])) => {
                service.instance(id).ok().map(|instance| (*service, instance)).into_iter().collect()
            }
            (Subject::Instance(id), _) => self.ids.get(&**id).cloned().unwrap_or_default(),
            (Subject::Address(address, port), _) => {
                let all = self.addresses.get(address).into_iter().flatten();
                all.filter(|(_, instance)| port.is_none() || instance.port() == *port).copied().collect()
            }
        };
        found.retain(|(service, _)| is_of_service(service));
        let Some((_, first)) = found.first() else {
            let of =
                name.service.as_ref().map(|service| format!(" of the service {}", service.escape_debug()));
            let what = match &name.subject {
                Subject::Instance(id) => format!("there is no instance {}", id.escape_debug()),
                Subject::Address(address, None) => format!("there is no instance with the address {address}"),
                Subject::Address(address, Some(port)) => {
                    format!("there is no instance with the address {}", SocketAddr::new(*address, *port))
                }
            };
            return Err(NoTarget::Unknown(format!("{what}{}", of.unwrap_or_default())));
        };
        if let Subject::Address(address, _) = &name.subject
            && found.len() > ADDRESS_INSTANCES_MAX
        {
            return Err(NoTarget::Ambiguous(format!(
                "{} instances have the address {address}; a report can be about {ADDRESS_INSTANCES_MAX}",
                found.len()
            )));
        }
        let pod = first.pod_uid();
        let are_one_pod = pod.is_some() && found.iter().all(|(_, instance)| instance.pod_uid() == pod);
        if let Subject::Instance(id) = &name.subject
            && found.len() > 1
            && !are_one_pod
        {
            let names: Vec<String> = found
                .iter()
                .take(NAMED_MAX)
                .filter_map(|(service, _)| self.state.full_name(&service.service))
                .collect();
            let more = if found.len() > NAMED_MAX { " and more" } else { "" };
            return Err(NoTarget::Ambiguous(format!(
                "{} services have an instance {}: {}{more}; name one of them",
                found.len(),
                id.escape_debug(),
                names.join(", ")
            )));
        }
        Ok(found)
    }

    /// The instance that a name without a target could mean in a shared store, where another server may have made it a moment
    /// ago. Only ids can be sought there.
    pub(super) fn sought(&self, name: &Named) -> Option<Sought> {
        let (Subject::Instance(id), Some(service)) = (&name.subject, name.service.as_deref()) else {
            return None;
        };
        let service = match self.services_named(service).ok().as_deref() {
            Some([found]) => found.service.id.clone(),
            Some(_) => return None,
            None if id_in(service, "service").starts_with("srv-") => {
                ServiceId::from(id_in(service, "service"))
            }
            None => return None,
        };
        Some(Sought::Instance(service, id.as_str().into()))
    }

    fn services_named(&self, text: &str) -> Result<Vec<&'s ServiceState>, NoTarget> {
        if let Ok(found) = self.state.service(text) {
            return Ok(vec![found]);
        }
        match self.services.get(&text.to_ascii_lowercase()) {
            Some(found) if !found.is_empty() => Ok(found.clone()),
            _ => Err(NoTarget::Unknown(format!("there is no service {}", text.escape_debug()))),
        }
    }
}
