//! Conversion of the inputs of writing operations into commands of the registry.

use crate::model::{NamespaceKind, Tags};
use crate::registry::Command;
use crate::registry::command::CreateService;

use super::inputs::{
    self, DnsNamespaceChange, DnsNamespaceProperties, ServiceTypeOption, TagList, WriteInput,
};

/// Converts an operation's input into a command. `caller` describes the client; it becomes the reporter of a health report.
pub(super) fn command(input: WriteInput<'_>, caller: &str) -> Command {
    match input {
        WriteInput::CreateHttpNamespace(input) => Command::CreateNamespace {
            name: input.name.to_owned(),
            kind: NamespaceKind::Http,
            creator_request_id: owned(input.creator_request_id),
            description: owned(input.description),
            soa_ttl: None,
            tags: tags(input.tags),
        },
        WriteInput::CreatePrivateDnsNamespace(input) => Command::CreateNamespace {
            name: input.name.to_owned(),
            kind: NamespaceKind::DnsPrivate { vpc: input.vpc.to_owned() },
            creator_request_id: owned(input.creator_request_id),
            description: owned(input.description),
            soa_ttl: soa_ttl(input.properties),
            tags: tags(input.tags),
        },
        WriteInput::CreatePublicDnsNamespace(input) => Command::CreateNamespace {
            name: input.name.to_owned(),
            kind: NamespaceKind::DnsPublic,
            creator_request_id: owned(input.creator_request_id),
            description: owned(input.description),
            soa_ttl: soa_ttl(input.properties),
            tags: tags(input.tags),
        },
        WriteInput::UpdateHttpNamespace(input) => Command::UpdateNamespace {
            namespace: input.id.to_owned(),
            kind: "HTTP",
            updater_request_id: owned(input.updater_request_id),
            description: Some(input.namespace.description.to_owned()),
            soa_ttl: None,
        },
        WriteInput::UpdatePrivateDnsNamespace(input) => {
            update_dns_namespace(input.id, "DNS_PRIVATE", input.updater_request_id, input.namespace)
        }
        WriteInput::UpdatePublicDnsNamespace(input) => {
            update_dns_namespace(input.id, "DNS_PUBLIC", input.updater_request_id, input.namespace)
        }
        WriteInput::DeleteNamespace(input) => Command::DeleteNamespace { namespace: input.id.to_owned() },
        WriteInput::CreateService(input) => Command::CreateService(Box::new(create_service(input))),
        WriteInput::UpdateService(input) => Command::UpdateService {
            service: input.id.to_owned(),
            description: owned(input.service.description),
            dns_records: input.service.dns_config.map(|dns| dns.records),
            health_check: input.service.health_check_config,
        },
        WriteInput::DeleteService(input) => Command::DeleteService { service: input.id.to_owned() },
        WriteInput::RegisterInstance(input) => Command::RegisterInstance {
            service: input.service_id.to_owned(),
            instance: input.instance_id.to_owned(),
            creator_request_id: owned(input.creator_request_id),
            attributes: input.attributes,
        },
        WriteInput::DeregisterInstance(input) => Command::DeregisterInstance {
            service: input.service_id.to_owned(),
            instance: input.instance_id.to_owned(),
        },
        WriteInput::UpdateInstanceCustomHealthStatus(input) => Command::UpdateCustomHealth {
            service: input.service_id.to_owned(),
            instance: input.instance_id.to_owned(),
            status: input.status,
            reporter: caller.to_owned(),
        },
        WriteInput::TagResource(input) => {
            Command::TagResource { resource: input.resource_arn.to_owned(), tags: input.tags.0 }
        }
        WriteInput::UntagResource(input) => {
            Command::UntagResource { resource: input.resource_arn.to_owned(), keys: input.tag_keys }
        }
        WriteInput::UpdateServiceAttributes(input) => Command::UpdateServiceAttributes {
            service: input.service_id.to_owned(),
            attributes: input.attributes,
        },
        WriteInput::DeleteServiceAttributes(input) => {
            Command::DeleteServiceAttributes { service: input.service_id.to_owned(), keys: input.attributes }
        }
    }
}

fn update_dns_namespace(
    id: &str,
    kind: &'static str,
    updater_request_id: Option<&str>,
    change: DnsNamespaceChange<'_>,
) -> Command {
    Command::UpdateNamespace {
        namespace: id.to_owned(),
        kind,
        updater_request_id: owned(updater_request_id),
        description: owned(change.description),
        soa_ttl: soa_ttl(change.properties),
    }
}

fn create_service(input: inputs::CreateService<'_>) -> CreateService {
    CreateService {
        name: input.name.to_owned(),
        namespace: owned(input.namespace_id),
        creator_request_id: owned(input.creator_request_id),
        description: owned(input.description),
        dns: input.dns_config,
        health_check: input.health_check_config,
        custom_health_check: input.health_check_custom_config,
        tags: tags(input.tags),
        api_only: input.service_type == Some(ServiceTypeOption::Http),
    }
}

fn soa_ttl(properties: Option<DnsNamespaceProperties>) -> Option<u32> {
    properties.map(|properties| properties.dns_properties.soa.ttl)
}

fn tags(tags: Option<TagList>) -> Tags {
    tags.unwrap_or_default().0
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}
