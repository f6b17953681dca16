//! The rules of the API for objects that were not created through the API.
//!
//! Somebody may write objects into a shared store by other means, such as kubectl. The store asks here whether such an
//! object is admissible in a state, and gets the resource as the registry would have created it. The planner decides, so
//! that objects and API calls obey one set of rules.

use std::collections::BTreeMap;

use crate::model::{EpochMs, Instance, Namespace, NamespaceKind, Service, ServiceId, Tags};

use super::{
    change::Change,
    command::{Command, CreateService},
    error::RegistryError,
    leniency::Leniency,
    plan::Planner,
    port::Group,
    rules,
    settings::Settings,
    state::State,
};

/// Admits or refuses objects. The caller has to replace the numbers in the resources that it returns.
pub struct Admission {
    settings: Settings,
    leniency: Leniency,
}

/// A requested namespace, as the input of CreateNamespace.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the members of the API's operations")]
pub struct NamespaceRequest {
    pub name: String,
    pub kind: NamespaceKind,
    pub description: Option<String>,
    pub soa_ttl: Option<u32>,
    pub tags: Tags,
}

#[expect(missing_docs, reason = "the methods are named after the resource")]
impl Admission {
    pub fn new(settings: Settings) -> Admission {
        let leniency = Leniency::new(settings.validation);
        Admission { settings, leniency }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn namespace(
        &mut self,
        state: &State,
        request: NamespaceRequest,
        created_ms: EpochMs,
    ) -> Result<Namespace, RegistryError> {
        let NamespaceRequest { name, kind, description, soa_ttl, tags } = request;
        let command =
            Command::CreateNamespace { name, kind, creator_request_id: None, description, soa_ttl, tags };
        let group = self.plan(state, command, created_ms)?;
        let reason = group.iter().find_map(failure);
        let namespace = group.into_iter().find_map(|change| match change {
            Change::PutNamespace(namespace) => Some(Namespace::clone(&namespace)),
            _ => None,
        });
        namespace.ok_or_else(|| RegistryError::InvalidInput(reason.unwrap_or_default()))
    }

    pub fn service(
        &mut self,
        state: &State,
        request: CreateService,
        attributes: BTreeMap<String, String>,
        created_ms: EpochMs,
    ) -> Result<Service, RegistryError> {
        rules::check_service_attributes(&attributes)?;
        let max = self.settings.quotas.attributes_per_service;
        if attributes.len() > max {
            return Err(RegistryError::ServiceAttributesLimitExceeded { max });
        }
        let group = self.plan(state, Command::CreateService(Box::new(request)), created_ms)?;
        let service = group.into_iter().find_map(|change| match change {
            Change::PutService(service) => {
                Some(Service { attributes: attributes.clone(), ..Service::clone(&service) })
            }
            _ => None,
        });
        // A plan without a PutService means that the service exists already, and that this is its request repeated.
        service.ok_or_else(|| RegistryError::InvalidInput("The service is there already.".into()))
    }

    pub fn instance(
        &mut self,
        state: &State,
        service: &ServiceId,
        id: &str,
        creator_request_id: Option<String>,
        attributes: BTreeMap<String, String>,
    ) -> Result<Instance, RegistryError> {
        let command = Command::RegisterInstance {
            service: service.to_string(),
            instance: id.into(),
            creator_request_id,
            attributes,
        };
        let group = self.plan(state, command, 0)?;
        let instance = group.into_iter().find_map(|change| match change {
            Change::PutInstance(_, instance) => Some(instance),
            _ => None,
        });
        instance.ok_or_else(|| RegistryError::InvalidInput("The instance is there already.".into()))
    }

    fn plan(&mut self, state: &State, command: Command, now_ms: EpochMs) -> Result<Group, RegistryError> {
        let planner = Planner {
            state,
            settings: &self.settings,
            now_ms,
            leniency: &mut self.leniency,
            may_lose: false,
        };
        planner.plan(command).map(|(group, _)| group)
    }
}

fn failure(change: &Change) -> Option<String> {
    match change {
        Change::PutOperation(operation) => match &operation.status {
            crate::model::OperationStatus::Fail { message, .. } => Some(message.clone()),
            crate::model::OperationStatus::Success => None,
        },
        _ => None,
    }
}
