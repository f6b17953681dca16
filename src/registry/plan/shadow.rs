//! Shadowed resources: read-only copies of another registry's services, created and removed as its list says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    DnsConfig, DnsRecord, DnsRecordType, Namespace, NamespaceId, NamespaceKind, Origin, RoutingPolicy,
    Service, ServiceId, Tags,
};

use super::{Planner, over};
use crate::registry::{
    change::Change,
    command::{Command, Refusal, Reply, Shadowed, ShadowedKind},
    error::RegistryError::{self, InvalidInput},
    port::Group,
    rules,
    state::{NamespaceState, State, shadowed_order, zone_key},
};

/// TTL of shadowed records in seconds, which is that of services that ECS creates. The requested TTL is unknown here.
const TTL_SECONDS: u32 = 60;
const ID_BYTES_MAX: usize = 64;
const DESCRIPTION: &str = "Shadow of KECS's own Cloud Map registry: read-only here";

/// The wanted services that are admitted, each with the namespace that it is put into. `own` are the numbers of namespaces
/// and services that are not shadowed, for the quotas. `namespaces` has by zone the oldest service of the namespace, which
/// determines the namespace's id and kind.
struct Admitted<'w> {
    own: (usize, usize),
    namespaces: BTreeMap<Arc<str>, &'w Shadowed>,
    namespace_ids: BTreeSet<&'w NamespaceId>,
    services: BTreeMap<&'w ServiceId, (&'w NamespaceId, &'w Shadowed)>,
    names: BTreeSet<(&'w NamespaceId, String)>,
}

impl Planner<'_> {
    /// Makes the shadowed resources match the wanted list. If some have to be removed, this plan only removes them, and the
    /// sender has to repeat the command to add the others. So no version contains both meanings of an id that changed.
    pub(super) fn shadow(&self, wanted: &[Shadowed]) -> (Group, Reply) {
        let state = self.state;
        let namespaces = state.namespace_count() - state.shadowed_namespaces().count();
        let services = state.service_count() - state.shadowed_services().count();
        let mut admitted = Admitted {
            own: (namespaces, services),
            namespaces: BTreeMap::new(),
            namespace_ids: BTreeSet::new(),
            services: BTreeMap::new(),
            names: BTreeSet::new(),
        };
        let mut refused = Vec::new();
        for (at, one) in wanted.iter().enumerate() {
            if let Err(error) = self.admit(&mut admitted, one) {
                refused.push(Refusal { at, error });
            }
        }
        let mut group = self.removals(&admitted);
        let is_complete = group.is_empty();
        if is_complete {
            group = self.additions(&admitted);
        }
        if !group.is_empty() {
            group.push(self.next_number());
        }
        (group, Reply::Shadowed { refused, is_complete })
    }

    fn admit<'w>(&self, admitted: &mut Admitted<'w>, one: &'w Shadowed) -> Result<(), RegistryError> {
        let Shadowed { namespace, namespace_name, namespace_kind, service, service_name, created_ms: _ } =
            one;
        check_id(namespace.as_str())?;
        check_id(service.as_str())?;
        check_characters(namespace_name)?;
        check_characters(service_name)?;
        let state = self.state;
        let zone = zone_key(namespace_name);
        let known = admitted.namespaces.get(&zone).copied();
        let is_dns = known.map_or(*namespace_kind, |known| known.namespace_kind).is_dns();
        if is_dns {
            rules::check_zone_name(namespace_name)?;
            rules::check_service_name(service_name, namespace_name)?;
        }
        let namespace = known.map_or(namespace, |known| &known.namespace);
        if known.is_none() {
            let is_own = |state: &Namespace| !state.origin.is_shadowed();
            let in_zone = state.namespace_by_zone(&zone).filter(|_| is_dns);
            if in_zone.is_some_and(|found| is_own(&found.namespace)) {
                return Err(InvalidInput(format!("There is a namespace {namespace_name} here already.")));
            }
            let is_taken = admitted.namespace_ids.contains(namespace)
                || state.namespace(namespace.as_str()).is_ok_and(|found| is_own(&found.namespace));
            if is_taken {
                return Err(InvalidInput(format!("Another namespace has the id {namespace} already.")));
            }
            if admitted.own.0 + admitted.namespaces.len() >= self.settings.quotas.namespaces {
                return Err(over("namespaces", self.settings.quotas.namespaces));
            }
        }
        let is_own = state.service(service.as_str()).is_ok_and(|found| !found.service.origin.is_shadowed());
        if is_own || admitted.services.contains_key(service) {
            return Err(InvalidInput(format!("Another service has the id {service} already.")));
        }
        let name = (namespace, service_name.to_ascii_lowercase());
        if admitted.names.contains(&name) {
            return Err(InvalidInput(format!(
                "{namespace_name} has another service {service_name} already."
            )));
        }
        if admitted.own.1 + admitted.services.len() >= self.settings.quotas.services {
            return Err(over("services", self.settings.quotas.services));
        }
        admitted.namespaces.entry(zone).or_insert(one);
        admitted.namespace_ids.insert(namespace);
        admitted.services.insert(service, (namespace, one));
        admitted.names.insert(name);
        Ok(())
    }

    fn removals(&self, admitted: &Admitted<'_>) -> Group {
        let is_kept = |namespace: &Namespace| {
            let wanted = admitted.namespaces.get(&zone_key(&namespace.name));
            wanted.is_some_and(|one| {
                one.namespace == namespace.id
                    && one.namespace_name == namespace.name
                    && kind_of(one.namespace_kind) == namespace.kind
            })
        };
        let services = self.state.shadowed_services().map(|state| &state.service).filter(|service| {
            let namespace = self.state.namespace(service.namespace_id.as_str());
            let is_wanted = |(namespace, one): &(&NamespaceId, &Shadowed)| {
                **namespace == service.namespace_id && one.service_name == service.name
            };
            !admitted.services.get(&service.id).is_some_and(is_wanted)
                || !namespace.is_ok_and(|state| is_kept(&state.namespace))
        });
        let namespaces = self.state.shadowed_namespaces().map(|state| &state.namespace);
        let namespaces = namespaces.filter(|namespace| !is_kept(namespace));
        services
            .map(|service| Change::ForgetService(service.id.clone()))
            .chain(namespaces.map(|namespace| Change::ForgetNamespace(namespace.id.clone())))
            .collect()
    }

    fn additions(&self, admitted: &Admitted<'_>) -> Group {
        let origin = Origin::Shadowed { number: self.state.sequence() + 1 };
        let mut next = self.state.clone();
        let mut group = Group::new();
        for one in admitted.namespaces.values() {
            if next.namespace(one.namespace.as_str()).is_ok() {
                continue;
            }
            let change = Change::PutNamespace(Arc::new(Namespace {
                id: one.namespace.clone(),
                name: one.namespace_name.clone(),
                kind: kind_of(one.namespace_kind),
                http_name: next.free_http_name(&one.namespace_name, &one.namespace),
                description: Some(DESCRIPTION.into()),
                soa_ttl: None,
                creator_request_id: None,
                created_ms: one.created_ms,
                tags: Tags::new(),
                operation: shadowed_order(one.namespace.as_str()),
                request_digest: 0,
                origin,
            }));
            next.apply(&change);
            group.push(change);
        }
        for (id, (namespace, one)) in &admitted.services {
            if next.service(id.as_str()).is_ok() {
                continue;
            }
            let records = vec![DnsRecord { rtype: DnsRecordType::A, ttl: TTL_SECONDS }];
            let dns = DnsConfig { routing: RoutingPolicy::Multivalue, records };
            // The namespace's kind decides, even if the service was reported with another kind of namespace.
            let is_dns = next.namespace(namespace.as_str()).is_ok_and(|found| found.namespace.is_dns());
            group.push(Change::PutService(Arc::new(Service {
                id: (*id).clone(),
                namespace_id: (*namespace).clone(),
                name: one.service_name.clone(),
                description: Some(DESCRIPTION.into()),
                api_only: !is_dns,
                dns: is_dns.then_some(dns),
                health_check: None,
                custom_health_check: None,
                creator_request_id: None,
                created_ms: one.created_ms,
                tags: Tags::new(),
                attributes: BTreeMap::new(),
                sequence: shadowed_order(id.as_str()),
                request_digest: 0,
                origin,
            })));
        }
        group
    }

    /// Refuses commands of clients that would change a shadowed resource, because it has to be changed in its own registry.
    pub(super) fn check_not_shadowed(&self, command: &Command) -> Result<(), RegistryError> {
        match command {
            Command::CreateNamespace { .. }
            | Command::Observe(_)
            | Command::Renumber
            | Command::Elapse { .. }
            | Command::ReportHealth { .. }
            | Command::SetMaintenance { .. }
            | Command::Shadow(_)
            | Command::WithdrawSignals(_) => Ok(()),
            Command::UpdateNamespace { namespace, .. } | Command::DeleteNamespace { namespace } => {
                self.check_namespace_not_shadowed(namespace)
            }
            Command::CreateService(request) => {
                let in_dns_config = request.dns.as_ref().and_then(|dns| dns.namespace.as_deref());
                let references = [request.namespace.as_deref(), in_dns_config];
                references
                    .into_iter()
                    .flatten()
                    .try_for_each(|namespace| self.check_namespace_not_shadowed(namespace))
            }
            Command::UpdateService { service, .. }
            | Command::DeleteService { service }
            | Command::RegisterInstance { service, .. }
            | Command::DeregisterInstance { service, .. }
            | Command::UpdateCustomHealth { service, .. }
            | Command::UpdateServiceAttributes { service, .. }
            | Command::DeleteServiceAttributes { service, .. } => self.check_service_not_shadowed(service),
            Command::TagResource { resource, .. } | Command::UntagResource { resource, .. } => self
                .check_namespace_not_shadowed(resource)
                .and_then(|()| self.check_service_not_shadowed(resource)),
        }
    }

    fn check_namespace_not_shadowed(&self, reference: &str) -> Result<(), RegistryError> {
        match self.state.namespace(reference) {
            Ok(state) if state.namespace.origin.is_shadowed() => {
                let Namespace { name, id, .. } = &*state.namespace;
                Err(read_only(&format!("The namespace {name} ({id})")))
            }
            _ => Ok(()),
        }
    }

    fn check_service_not_shadowed(&self, reference: &str) -> Result<(), RegistryError> {
        match self.state.service(reference) {
            Ok(state) if state.service.origin.is_shadowed() => {
                let Service { name, id, .. } = &*state.service;
                Err(read_only(&format!("The service {name} ({id})")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the changes that make room for stored changes. Shadowed resources with the id or zone of a stored one are
/// removed, because each id and zone exists once. A shadowed namespace that only has the HttpName of a stored one gets
/// another HttpName.
pub(in crate::registry) fn shadow_conflicts(state: &State, stored: &[Change]) -> Group {
    if state.shadowed_namespaces().next().is_none() {
        return Group::new();
    }
    let (mut namespaces, mut services) = (BTreeSet::<NamespaceId>::new(), BTreeSet::<ServiceId>::new());
    let mut renamed = Vec::new();
    let is_shadowed = |found: &&Arc<NamespaceState>| found.namespace.origin.is_shadowed();
    for change in stored {
        match change {
            Change::PutNamespace(namespace) => {
                let same_id = state.namespace(namespace.id.as_str()).ok();
                let zone = namespace.is_dns().then(|| zone_key(&namespace.name));
                let same_zone = zone.and_then(|zone| state.namespace_by_zone(&zone));
                for found in [same_id, same_zone].into_iter().flatten().filter(is_shadowed) {
                    namespaces.insert(found.namespace.id.clone());
                    services.extend(found.services_after(None).map(|(_, id)| id.clone()));
                }
                renamed.extend(state.namespace_by_http_name(&namespace.http_name).filter(is_shadowed));
            }
            Change::PutService(service) => {
                let found = state.service(service.id.as_str()).ok();
                let shadowed = found.filter(|found| found.service.origin.is_shadowed());
                services.extend(shadowed.map(|found| found.service.id.clone()));
            }
            _ => {}
        }
    }
    let renamed =
        renamed.into_iter().filter(|found| !namespaces.contains(&found.namespace.id)).map(|found| {
            let old = Namespace::clone(&found.namespace);
            let http_name = state.free_http_name(&old.name, &old.id);
            Change::PutNamespace(Arc::new(Namespace { http_name, ..old }))
        });
    let renamed: Group = renamed.collect();
    let services = services.into_iter().map(Change::ForgetService);
    services.chain(namespaces.into_iter().map(Change::ForgetNamespace)).chain(renamed).collect()
}

fn kind_of(kind: ShadowedKind) -> NamespaceKind {
    match kind {
        ShadowedKind::Http => NamespaceKind::Http,
        ShadowedKind::DnsPrivate => NamespaceKind::DnsPrivate { vpc: String::new() },
        ShadowedKind::DnsPublic => NamespaceKind::DnsPublic,
    }
}

fn read_only(what: &str) -> RegistryError {
    InvalidInput(format!(
        "{what} is read-only here: it is KECS's own, and only its shadow is here (--shadow). Change it through the API of \
         KECS."
    ))
}

fn check_id(id: &str) -> Result<(), RegistryError> {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_id_byte) {
        Ok(())
    } else {
        Err(InvalidInput(format!(
            "An id has 1 to {ID_BYTES_MAX} letters, digits, hyphens and underscores; this is none: {}",
            shown(id)
        )))
    }
}

fn check_characters(name: &str) -> Result<(), RegistryError> {
    if name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(InvalidInput(format!("A name can't have such characters: {}", shown(name))))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(ID_BYTES_MAX).flat_map(char::escape_debug).collect()
}
