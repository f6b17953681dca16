//! The model: Cloud Map's rules for each command, over vectors and maps that are searched linearly.
//!
//! The rules are those of the API reference of each operation. If a request breaks several rules, they apply in this order:
//! syntax of the request, existence of the objects that it names, conflicts with other objects, quotas.

use std::collections::BTreeMap;

use cloudmap_dns::model::{
    CustomHealthStatus, DnsConfig, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, Namespace,
    OperationTargets, Origin, Readiness, RoutingPolicy, Service, Tags, id::id_in, service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Command, Observed, RegistryError, Settings, Validation, command::CreateService,
};

use super::rules::{
    check_attributes, digest, has_duplicate_type, has_required_attributes, instance_targets, is_private, key,
    target_name,
};

/// Result of a command without its data. `SameOperation` and `SameService` are those of an earlier, equal request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Operation,
    SameOperation,
    Service,
    SameService,
    Done,
    Observed,
    InvalidInput,
    NamespaceNotFound,
    ServiceNotFound,
    InstanceNotFound,
    ResourceNotFound,
    InUse,
    OverLimit,
    NamespaceExists,
    ServiceExists,
    NoCustomHealth,
    TooManyTags,
    TooManyAttributes,
    NotStored,
    Other,
}

impl From<&RegistryError> for Kind {
    fn from(error: &RegistryError) -> Kind {
        match error {
            RegistryError::InvalidInput(_) => Kind::InvalidInput,
            RegistryError::NamespaceNotFound => Kind::NamespaceNotFound,
            RegistryError::ServiceNotFound => Kind::ServiceNotFound,
            RegistryError::InstanceNotFound => Kind::InstanceNotFound,
            RegistryError::ResourceNotFound(_) => Kind::ResourceNotFound,
            RegistryError::ResourceInUse(_) => Kind::InUse,
            RegistryError::ResourceLimitExceeded(_) => Kind::OverLimit,
            RegistryError::NamespaceAlreadyExists { .. } => Kind::NamespaceExists,
            RegistryError::ServiceAlreadyExists { .. } => Kind::ServiceExists,
            RegistryError::CustomHealthNotFound(_) => Kind::NoCustomHealth,
            RegistryError::TooManyTags { .. } => Kind::TooManyTags,
            RegistryError::ServiceAttributesLimitExceeded { .. } => Kind::TooManyAttributes,
            RegistryError::NotStored(_) => Kind::NotStored,
            _ => Kind::Other,
        }
    }
}

/// The expected state of the registry, with namespaces, services and operations in the order of their creation. Their
/// sequence numbers and times are 0: the model does not generate them.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(super) settings: Settings,
    pub(crate) namespaces: Vec<Owned<Namespace>>,
    pub(crate) services: Vec<ModelService>,
    pub(crate) operations: Vec<ModelOperation>,
    pub(crate) reports: BTreeMap<(String, String), (String, CustomHealthStatus)>,
    pub(crate) refused: Vec<usize>,
    pub(crate) has_observed: bool,
    pub(super) clock: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Owned<T> {
    pub(crate) object: T,
    pub(crate) operation: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelService {
    pub(crate) service: Service,
    pub(crate) instances: BTreeMap<String, Owned<ModelInstance>>,
    pub(crate) changed: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ModelInstance {
    pub(crate) token: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) reported: Option<CustomHealthStatus>,
    pub(crate) pod: Option<(String, Readiness)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ModelOperation {
    pub(crate) number: usize,
    pub(crate) type_name: &'static str,
    pub(crate) is_success: bool,
    pub(crate) targets: OperationTargets,
}

type Outcome = Result<Kind, Kind>;

impl Model {
    pub(crate) fn new(settings: Settings) -> Model {
        Model {
            settings,
            namespaces: Vec::new(),
            services: Vec::new(),
            operations: Vec::new(),
            reports: BTreeMap::new(),
            refused: Vec::new(),
            has_observed: false,
            clock: 0,
        }
    }

    pub(crate) fn has_same_objects(&self, other: &Model) -> bool {
        let all =
            |model: &Model| format!("{:?} {:?} {:?}", model.namespaces, model.services, model.operations);
        all(self) == all(other)
    }

    /// Carries out a command. Returns the result, and the number of the operation whose id the caller gets.
    pub(crate) fn run(&mut self, command: &Command) -> (Kind, Option<usize>) {
        let mut returned = None;
        self.clock += 1;
        let kind = self.outcome(command, &mut returned).unwrap_or_else(|error| error);
        if kind == Kind::Operation {
            returned = Some(self.last());
        }
        (kind, returned)
    }

    /// The number of the newest operation. Numbers are never reused, not even those of forgotten operations.
    fn last(&self) -> usize {
        self.operations.last().map_or(0, |operation| operation.number)
    }

    fn outcome(&mut self, command: &Command, returned: &mut Option<usize>) -> Outcome {
        match command {
            Command::CreateNamespace { name, kind, creator_request_id, description, soa_ttl, tags } => {
                let namespace = Namespace {
                    id: self.settings.identity.namespace_id(kind.as_str(), &key(kind, name)),
                    name: name.clone(),
                    kind: kind.clone(),
                    http_name: name.clone(),
                    description: description.clone(),
                    soa_ttl: *soa_ttl,
                    creator_request_id: creator_request_id.clone(),
                    created_ms: 0,
                    tags: tags.clone(),
                    operation: 0,
                    request_digest: digest(&(name, kind, description, soa_ttl, tags)),
                    origin: Origin::Own,
                };
                self.create_namespace(namespace, returned)
            }
            Command::UpdateNamespace { namespace, kind, description, soa_ttl, .. } => {
                let namespace = self.namespace_mut(namespace)?;
                if namespace.kind.as_str() != *kind {
                    return Err(Kind::InvalidInput);
                }
                namespace.description = description.clone().or(namespace.description.take());
                namespace.soa_ttl = soa_ttl.or(namespace.soa_ttl);
                let targets = OperationTargets::Namespace(namespace.id.clone());
                Ok(self.operation("UPDATE_NAMESPACE", true, targets))
            }
            Command::DeleteNamespace { namespace } => {
                let id = self.namespace_mut(namespace)?.id.clone();
                if self.services.iter().any(|service| service.service.namespace_id == id) {
                    return Err(Kind::InUse);
                }
                self.namespaces.retain(|namespace| namespace.object.id != id);
                Ok(self.operation("DELETE_NAMESPACE", true, OperationTargets::Namespace(id)))
            }
            Command::CreateService(ask) => self.create_service(ask),
            Command::UpdateService { service, description, dns_records, health_check } => {
                self.update_service(service, description, dns_records, health_check)
            }
            Command::DeleteService { service } => {
                let at = self.service(service)?;
                if !self.services[at].instances.is_empty() {
                    return Err(Kind::InUse);
                }
                self.services.remove(at);
                Ok(Kind::Done)
            }
            Command::RegisterInstance { service, instance, creator_request_id, attributes } => {
                self.register(service, instance, creator_request_id, attributes, returned)
            }
            Command::DeregisterInstance { service, instance } => {
                let at = self.service(service)?;
                let service = &mut self.services[at];
                let is_pod = service.instances.get(instance).is_some_and(|old| old.object.pod.is_some());
                if is_pod {
                    return Err(Kind::InUse);
                }
                service.instances.remove(instance).ok_or(Kind::InstanceNotFound)?;
                service.changed = self.clock;
                let targets = instance_targets(&service.service, instance);
                Ok(self.operation("DEREGISTER_INSTANCE", true, targets))
            }
            Command::UpdateCustomHealth { service, instance, status, .. } => {
                let at = self.service(service)?;
                let service = &self.services[at].service;
                // Only a lenient registry has HealthCheckConfig in private namespaces. Nothing checks such a service, so that
                // reports are accepted instead.
                let takes_reports = service.custom_health_check.is_some()
                    || (service.health_check.is_some()
                        && is_private(self.namespace_of(service))
                        && self.is_lenient());
                if !takes_reports {
                    return Err(Kind::NoCustomHealth);
                }
                let key = (self.services[at].service.id.to_string(), instance.clone());
                let instance = self.services[at].instances.get_mut(instance).ok_or(Kind::InstanceNotFound)?;
                instance.object.reported = Some(*status);
                if let Some((pod, _)) = &instance.object.pod {
                    self.reports.insert(key, (pod.clone(), *status));
                }
                Ok(Kind::Done)
            }
            Command::TagResource { resource, tags } => {
                let mut all = self.tags(resource)?.clone();
                all.extend(tags.clone());
                self.check_tags(&all)?;
                *self.tags(resource)? = all;
                Ok(Kind::Done)
            }
            Command::UntagResource { resource, keys } => {
                self.tags(resource)?.retain(|key, _| !keys.contains(key));
                Ok(Kind::Done)
            }
            Command::UpdateServiceAttributes { service, attributes } => {
                let at = self.service(service)?;
                let mut all = self.services[at].service.attributes.clone();
                all.extend(attributes.clone());
                if all.len() > self.settings.quotas.attributes_per_service {
                    return Err(Kind::TooManyAttributes);
                }
                self.services[at].service.attributes = all;
                Ok(Kind::Done)
            }
            Command::DeleteServiceAttributes { service, keys } => {
                let at = self.service(service)?;
                self.services[at].service.attributes.retain(|key, _| !keys.contains(key));
                Ok(Kind::Done)
            }
            // The test in `shadow` covers shadowed definitions.
            Command::Shadow(_) => Err(Kind::Other),
            Command::Renumber => Ok(Kind::Done),
            Command::SetMaintenance { .. } | Command::ReportHealth { .. } | Command::Elapse { .. } => {
                unreachable!("the generator makes no such command")
            }
            Command::WithdrawSignals(gone) => {
                self.withdraw(gone);
                Ok(Kind::Done)
            }
            Command::Observe(Observed { observations, .. }) => {
                let observations = observations.iter().enumerate();
                let refused = observations.filter(|(_, observation)| self.observe(observation).is_err());
                self.refused = refused.map(|(at, _)| at).collect();
                Ok(Kind::Observed)
            }
        }
    }

    fn create_namespace(&mut self, mut namespace: Namespace, returned: &mut Option<usize>) -> Outcome {
        self.check_tags(&namespace.tags)?;
        let is_dns = namespace.is_dns();
        let zone = key(&namespace.kind, &namespace.name);
        if is_dns && zone.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(Kind::InvalidInput);
        }
        let is_public_name = namespace.name.contains('.') && !namespace.name.ends_with('.');
        if namespace.kind.as_str() == "DNS_PUBLIC" && !is_public_name && !self.is_lenient() {
            return Err(Kind::InvalidInput);
        }
        // A creator request id is compared within one kind and name of namespace, which determine the namespace's id.
        let token = &namespace.creator_request_id;
        let is_repeated = |other: &&Owned<Namespace>| {
            token.is_some() && (&other.object.creator_request_id, &other.object.id) == (token, &namespace.id)
        };
        if let Some(other) = self.namespaces.iter().find(is_repeated) {
            if other.object.request_digest != namespace.request_digest {
                return Err(Kind::InvalidInput);
            }
            let number = other.operation;
            return Ok(self.repeat(
                number,
                "CREATE_NAMESPACE",
                OperationTargets::Namespace(namespace.id),
                returned,
            ));
        }
        let targets = OperationTargets::Namespace(namespace.id.clone());
        if !is_private(&namespace) && self.namespaces.iter().any(|other| other.object.id == namespace.id) {
            return Err(Kind::NamespaceExists);
        }
        let is_zone = |other: &Namespace| other.is_dns() && key(&other.kind, &other.name) == zone;
        if is_dns && self.namespaces.iter().any(|other| is_zone(&other.object)) {
            // The request is accepted, and its operation fails.
            return Ok(self.operation("CREATE_NAMESPACE", false, targets));
        }
        if self.namespaces.len() >= self.settings.quotas.namespaces {
            return Err(Kind::OverLimit);
        }
        let is_taken = |name: &str| self.namespaces.iter().any(|other| other.object.http_name == name);
        while is_taken(&namespace.http_name) {
            let suffix = namespace.id.as_str().trim_start_matches("ns-");
            namespace.http_name = format!("{}-{suffix}", namespace.http_name);
        }
        let kind = self.operation("CREATE_NAMESPACE", true, targets);
        self.namespaces.push(Owned { object: namespace, operation: self.last() });
        Ok(kind)
    }

    fn create_service(&mut self, ask: &CreateService) -> Outcome {
        let inner = ask.dns.as_ref().and_then(|dns| dns.namespace.as_deref());
        let outer = ask.namespace.as_deref();
        let ids: Vec<&str> = [outer, inner].into_iter().flatten().map(|id| id_in(id, "namespace")).collect();
        if ids.is_empty() || ids[0] != ids[ids.len() - 1] {
            return Err(Kind::InvalidInput);
        }
        self.check_tags(&ask.tags)?;
        let namespace = self.namespace_mut(ids[0])?.clone();
        let is_ignored = !namespace.is_dns() && self.is_lenient();
        if ask.dns.is_some() && !is_ignored && (ask.api_only || !namespace.is_dns()) {
            return Err(Kind::InvalidInput);
        }
        let dns = match &ask.dns {
            Some(dns) if !is_ignored => Some(self.dns_config(dns.routing, &dns.records)?),
            _ => None,
        };
        self.check_health(
            &namespace,
            dns.as_ref(),
            ask.health_check.as_ref(),
            ask.custom_health_check.as_ref(),
        )?;
        let service = Service {
            id: self.settings.identity.service_id(&namespace.id, &ask.name),
            namespace_id: namespace.id.clone(),
            name: ask.name.clone(),
            description: ask.description.clone(),
            api_only: dns.is_none(),
            dns,
            health_check: ask.health_check.clone(),
            custom_health_check: ask.custom_health_check.clone(),
            creator_request_id: ask.creator_request_id.clone(),
            created_ms: 0,
            tags: ask.tags.clone(),
            attributes: BTreeMap::new(),
            sequence: 0,
            request_digest: digest(ask),
            origin: Origin::Own,
        };
        let is_name_server = ask.name.eq_ignore_ascii_case("ns.dns");
        if service.dns.is_some() && is_name_server {
            return Err(Kind::InvalidInput);
        }
        // Names of services are compared without case in a DNS namespace.
        let is_same_name = |other: &Service| {
            other.namespace_id == namespace.id
                && (other.name == ask.name
                    || (namespace.is_dns() && other.name.eq_ignore_ascii_case(&ask.name)))
        };
        if let Some(old) = self.services.iter().map(|old| &old.service).find(|old| is_same_name(old)) {
            let (is_same, token) = (old.request_digest == service.request_digest, &ask.creator_request_id);
            let is_repeated = is_same && token.is_some() && old.creator_request_id == *token;
            return if is_repeated { Ok(Kind::SameService) } else { Err(Kind::ServiceExists) };
        }
        // Each instance in DNS has a name, which a service may not have.
        let names_an_instance = |other: &ModelService| {
            let mut ids = other.instances.keys();
            let is_target = |id: &String| target_name(id, &other.service).eq_ignore_ascii_case(&ask.name);
            other.service.namespace_id == namespace.id && !other.service.api_only && ids.any(is_target)
        };
        if service.dns.is_some() && self.services.iter().any(names_an_instance) {
            return Err(Kind::InvalidInput);
        }
        if self.services.len() >= self.settings.quotas.services {
            return Err(Kind::OverLimit);
        }
        self.services.push(ModelService { service, instances: BTreeMap::new(), changed: self.clock });
        Ok(Kind::Service)
    }

    fn update_service(
        &mut self,
        reference: &str,
        description: &Option<String>,
        records: &Option<Vec<DnsRecord>>,
        health_check: &Option<HealthCheck>,
    ) -> Outcome {
        let at = self.service(reference)?;
        let mut service = self.services[at].service.clone();
        let namespace = self.namespace_of(&service).clone();
        let is_http = !namespace.is_dns();
        let is_refused = if is_http { !self.is_lenient() } else { service.api_only && records.is_some() };
        if is_refused {
            return Err(Kind::InvalidInput);
        }
        service.description = description.clone().or(service.description);
        let is_lenient = self.is_lenient();
        let types = service.health_check.as_ref().zip(health_check.as_ref());
        let is_other_type = types.is_some_and(|(old, new)| old.check_type != new.check_type);
        if let Some(dns) = &mut service.dns {
            match records {
                Some(records) => {
                    let is_known =
                        |record: &DnsRecord| dns.records.iter().any(|old| old.rtype == record.rtype);
                    if has_duplicate_type(records) || !records.iter().all(is_known) {
                        return Err(Kind::InvalidInput);
                    }
                    dns.records = records.clone();
                    service.health_check = health_check.clone();
                }
                // AWS deletes records and a health check that the request does not name; a lenient registry keeps both when
                // DnsConfig is left out.
                None if is_lenient => {
                    service.health_check = health_check.clone().or(service.health_check);
                }
                None => {
                    dns.records.clear();
                    service.health_check = health_check.clone();
                }
            }
        } else if !is_http || health_check.is_some() {
            service.health_check = health_check.clone();
        }
        if is_other_type && !is_lenient {
            return Err(Kind::InvalidInput);
        }
        let checked = (service.dns.as_ref(), service.custom_health_check.as_ref());
        if health_check.is_some() {
            self.check_health(&namespace, checked.0, health_check.as_ref(), checked.1)?;
        }
        let targets =
            OperationTargets::Service { service: service.id.clone(), namespace: namespace.id.clone() };
        self.services[at].service = service;
        Ok(self.operation("UPDATE_SERVICE", true, targets))
    }

    fn register(
        &mut self,
        reference: &str,
        id: &str,
        token: &Option<String>,
        attributes: &BTreeMap<String, String>,
        returned: &mut Option<usize>,
    ) -> Outcome {
        let at = self.service(reference)?;
        let service = &self.services[at];
        let namespace = self.namespace_of(&service.service);
        check_attributes(attributes, self.settings.quotas.attributes_per_instance)?;
        if !self.is_lenient() && !has_required_attributes(namespace, &service.service, attributes) {
            return Err(Kind::InvalidInput);
        }
        let old = service.instances.get(id);
        if old.is_some_and(|old| old.object.pod.is_some()) {
            return Err(Kind::InUse);
        }
        if let Some(old) = old
            && token.is_some()
            && (&old.object.token, &old.object.attributes) == (token, attributes)
        {
            let (number, targets) = (old.operation, instance_targets(&service.service, id));
            return Ok(self.repeat(number, "REGISTER_INSTANCE", targets, returned));
        }
        if old.is_none() {
            self.check_quotas(at)?;
            self.check_target(at, id)?;
        }
        let takes_reports = service.service.custom_health_check.is_some()
            || (service.service.health_check.is_some() && is_private(namespace));
        let said = attributes.get("AWS_INIT_HEALTH_STATUS").map(|word| match word.as_str() {
            "UNHEALTHY" => CustomHealthStatus::Unhealthy,
            _ => CustomHealthStatus::Healthy,
        });
        let reported = said.or_else(|| old.and_then(|old| old.object.reported)).filter(|_| takes_reports);
        let targets = instance_targets(&service.service, id);
        let kind = self.operation("REGISTER_INSTANCE", true, targets);
        let instance =
            ModelInstance { token: token.clone(), attributes: attributes.clone(), reported, pod: None };
        let instance = Owned { object: instance, operation: self.last() };
        self.services[at].instances.insert(id.into(), instance);
        self.services[at].changed = self.clock;
        Ok(kind)
    }

    fn is_lenient(&self) -> bool {
        self.settings.validation == Validation::Lenient
    }

    fn namespace_mut(&mut self, reference: &str) -> Result<&mut Namespace, Kind> {
        let id = id_in(reference, "namespace");
        let found = self.namespaces.iter_mut().find(|namespace| namespace.object.id.as_str() == id);
        found.map(|namespace| &mut namespace.object).ok_or(Kind::NamespaceNotFound)
    }

    pub(crate) fn namespace_of(&self, service: &Service) -> &Namespace {
        let is_its = |other: &&Owned<Namespace>| other.object.id == service.namespace_id;
        &self.namespaces.iter().find(is_its).unwrap().object
    }

    pub(super) fn service(&self, reference: &str) -> Result<usize, Kind> {
        let id = id_in(reference, "service");
        self.services
            .iter()
            .position(|service| service.service.id.as_str() == id)
            .ok_or(Kind::ServiceNotFound)
    }

    fn tags(&mut self, resource: &str) -> Result<&mut Tags, Kind> {
        if let Ok(at) = self.service(resource) {
            return Ok(&mut self.services[at].service.tags);
        }
        self.namespace_mut(resource).map(|namespace| &mut namespace.tags).map_err(|_| Kind::ResourceNotFound)
    }

    fn check_tags(&self, tags: &Tags) -> Result<(), Kind> {
        if tags.len() > self.settings.quotas.tags_per_resource {
            return Err(Kind::TooManyTags);
        }
        let is_reserved = |key: &String| key.to_ascii_lowercase().starts_with("aws:");
        if tags.keys().any(is_reserved) { Err(Kind::InvalidInput) } else { Ok(()) }
    }

    fn repeat(
        &mut self,
        number: usize,
        type_name: &'static str,
        targets: OperationTargets,
        returned: &mut Option<usize>,
    ) -> Kind {
        *returned = Some(number);
        if self.operations.iter().any(|operation| operation.number == number) {
            return Kind::SameOperation;
        }
        self.operation(type_name, true, targets)
    }

    fn operation(&mut self, type_name: &'static str, is_success: bool, targets: OperationTargets) -> Kind {
        let number = self.last() + 1;
        // No operation is old in this test. The registry keeps ten times `operations_retained` young ones, and deletes at
        // most two for each new one.
        let (kept, count) = (self.settings.operations_retained, self.operations.len() + 1);
        if count > 10 * kept {
            self.operations.drain(..(count - kept).min(2));
        }
        self.operations.push(ModelOperation { number, type_name, is_success, targets });
        Kind::Operation
    }

    fn dns_config(&self, routing: Option<RoutingPolicy>, records: &[DnsRecord]) -> Result<DnsConfig, Kind> {
        let mut words: Vec<_> = records.iter().map(|record| record.rtype.as_str()).collect();
        words.sort_unstable();
        let is_supported = match &*words.join(" ") {
            "A" | "AAAA" | "A AAAA" | "SRV" | "A SRV" | "AAAA SRV" | "CNAME" => true,
            "A AAAA SRV" => self.is_lenient(),
            _ => false,
        };
        let is_cname = words == ["CNAME"];
        let routing = routing.or((is_cname && self.is_lenient()).then_some(RoutingPolicy::Weighted));
        if !is_supported || (is_cname && routing != Some(RoutingPolicy::Weighted)) {
            return Err(Kind::InvalidInput);
        }
        Ok(DnsConfig { routing: routing.unwrap_or(RoutingPolicy::Multivalue), records: records.to_vec() })
    }

    fn check_health(
        &self,
        namespace: &Namespace,
        dns: Option<&DnsConfig>,
        check: Option<&HealthCheck>,
        custom: Option<&CustomHealthCheck>,
    ) -> Result<(), Kind> {
        let Some(check) = check else { return Ok(()) };
        let has_tcp_path = check.check_type == HealthCheckType::Tcp && check.resource_path.is_some();
        let is_cname =
            dns.is_some_and(|dns| dns.records.iter().any(|record| record.rtype == DnsRecordType::Cname));
        let is_refused =
            custom.is_some() || has_tcp_path || is_cname || (is_private(namespace) && !self.is_lenient());
        if is_refused { Err(Kind::InvalidInput) } else { Ok(()) }
    }
}
