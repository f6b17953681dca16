//! The rules of the API for objects that did not come through the API.
//!
//! A shared store asks whether what somebody wrote into it could stand in a state, and gets it as the registry would
//! have made it. The planner decides, so an object and an API call are held to the same.

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

/// Decides what may stand. Numbers in what it returns are the caller's to replace.
pub struct Admission {
    settings: Settings,
    leniency: Leniency,
}

/// A namespace as it is asked for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the members of the API's operations")]
pub struct AskedNamespace {
    pub name: String,
    pub kind: NamespaceKind,
    pub description: Option<String>,
    pub soa_ttl: Option<u32>,
    pub tags: Tags,
}

impl Admission {
    /// The rules under these settings.
    pub fn new(settings: Settings) -> Admission {
        let leniency = Leniency::new(settings.validation);
        Admission { settings, leniency }
    }

    /// The settings that it decides by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The namespace, if it may stand in `state` beside what is there.
    pub fn namespace(
        &mut self,
        state: &State,
        asked: AskedNamespace,
        created_ms: EpochMs,
    ) -> Result<Namespace, RegistryError> {
        let AskedNamespace { name, kind, description, soa_ttl, tags } = asked;
        let command =
            Command::CreateNamespace { name, kind, creator_request_id: None, description, soa_ttl, tags };
        let group = self.plan(state, command, created_ms)?;
        let refusal = group.iter().find_map(failure);
        let namespace = group.into_iter().find_map(|change| match change {
            Change::PutNamespace(namespace) => Some(Namespace::clone(&namespace)),
            _ => None,
        });
        namespace.ok_or_else(|| RegistryError::InvalidInput(refusal.unwrap_or_default()))
    }

    /// The service, if it may stand in `state` beside what is there.
    pub fn service(
        &mut self,
        state: &State,
        asked: CreateService,
        attributes: BTreeMap<String, String>,
        created_ms: EpochMs,
    ) -> Result<Service, RegistryError> {
        rules::check_service_attributes(&attributes)?;
        let max = self.settings.quotas.attributes_per_service;
        if attributes.len() > max {
            return Err(RegistryError::ServiceAttributesLimitExceeded { max });
        }
        let group = self.plan(state, Command::CreateService(Box::new(asked)), created_ms)?;
        let service = group.into_iter().find_map(|change| match change {
            Change::PutService(service) => {
                Some(Service { attributes: attributes.clone(), ..Service::clone(&service) })
            }
            _ => None,
        });
        // The same request again is answered without a change: it stands already.
        service.ok_or_else(|| RegistryError::InvalidInput("The service is there already.".into()))
    }

    /// The instance, if it may stand in `state` beside what is there.
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

/// What a planned operation fails with.
fn failure(change: &Change) -> Option<String> {
    match change {
        Change::PutOperation(operation) => match &operation.status {
            crate::model::OperationStatus::Fail { message, .. } => Some(message.clone()),
            crate::model::OperationStatus::Success => None,
        },
        _ => None,
    }
}
