//! Conversion of the inputs of writing operations into commands of the registry.

use crate::model::service::CustomHealthCheck;
use crate::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, NamespaceKind, RoutingPolicy,
    Tags,
};
use crate::registry::Command;
use crate::registry::command::{CreateDnsConfig, CreateService};

use super::action::Action;
use super::error::ApiError;
use super::input::Input;

/// Converts an operation's input into a command; `None` for an operation that only reads.
///
/// `caller` describes the client; it becomes the reporter of a health report.
pub(super) fn command(action: Action, input: &Input<'_>, caller: &str) -> Result<Option<Command>, ApiError> {
    let required = |member| input.required(member).map(str::to_owned);
    Ok(Some(match action {
        Action::CreateHttpNamespace => create_namespace(input, NamespaceKind::Http)?,
        Action::CreatePrivateDnsNamespace => {
            create_namespace(input, NamespaceKind::DnsPrivate { vpc: required("Vpc")? })?
        }
        Action::CreatePublicDnsNamespace => create_namespace(input, NamespaceKind::DnsPublic)?,
        Action::UpdateHttpNamespace => update_namespace(input, "HTTP")?,
        Action::UpdatePrivateDnsNamespace => update_namespace(input, "DNS_PRIVATE")?,
        Action::UpdatePublicDnsNamespace => update_namespace(input, "DNS_PUBLIC")?,
        Action::DeleteNamespace => Command::DeleteNamespace { namespace: required("Id")? },
        Action::CreateService => Command::CreateService(Box::new(create_service(input)?)),
        Action::UpdateService => update_service(input)?,
        Action::DeleteService => Command::DeleteService { service: required("Id")? },
        Action::RegisterInstance => Command::RegisterInstance {
            service: required("ServiceId")?,
            instance: required("InstanceId")?,
            creator_request_id: text(input, "CreatorRequestId"),
            attributes: owned(input.pairs("Attributes")),
        },
        Action::DeregisterInstance => {
            Command::DeregisterInstance { service: required("ServiceId")?, instance: required("InstanceId")? }
        }
        Action::UpdateInstanceCustomHealthStatus => Command::UpdateCustomHealth {
            service: required("ServiceId")?,
            instance: required("InstanceId")?,
            status: match input.required("Status")? {
                "UNHEALTHY" => CustomHealthStatus::Unhealthy,
                _ => CustomHealthStatus::Healthy,
            },
            reporter: caller.to_owned(),
        },
        Action::TagResource => {
            Command::TagResource { resource: required("ResourceARN")?, tags: tags(input)? }
        }
        Action::UntagResource => Command::UntagResource {
            resource: required("ResourceARN")?,
            keys: input.texts("TagKeys").map(str::to_owned).collect(),
        },
        Action::UpdateServiceAttributes => Command::UpdateServiceAttributes {
            service: required("ServiceId")?,
            attributes: owned(input.pairs("Attributes")),
        },
        Action::DeleteServiceAttributes => Command::DeleteServiceAttributes {
            service: required("ServiceId")?,
            keys: input.texts("Attributes").map(str::to_owned).collect(),
        },
        Action::DiscoverInstances
        | Action::DiscoverInstancesRevision
        | Action::GetInstance
        | Action::GetInstancesHealthStatus
        | Action::GetNamespace
        | Action::GetOperation
        | Action::GetService
        | Action::GetServiceAttributes
        | Action::ListInstances
        | Action::ListNamespaces
        | Action::ListOperations
        | Action::ListServices
        | Action::ListTagsForResource => return Ok(None),
    }))
}

fn create_namespace(input: &Input<'_>, kind: NamespaceKind) -> Result<Command, ApiError> {
    Ok(Command::CreateNamespace {
        name: input.required("Name")?.to_owned(),
        kind,
        creator_request_id: text(input, "CreatorRequestId"),
        description: text(input, "Description"),
        soa_ttl: soa_ttl(input),
        tags: tags(input)?,
    })
}

fn update_namespace(input: &Input<'_>, kind: &'static str) -> Result<Command, ApiError> {
    let change = structure(input, "Namespace")?;
    Ok(Command::UpdateNamespace {
        namespace: input.required("Id")?.to_owned(),
        kind,
        updater_request_id: text(input, "UpdaterRequestId"),
        description: text(&change, "Description"),
        soa_ttl: soa_ttl(&change),
    })
}

fn soa_ttl(input: &Input<'_>) -> Option<u32> {
    input.structure("Properties")?.structure("DnsProperties")?.structure("SOA")?.integer("TTL")
}

fn create_service(input: &Input<'_>) -> Result<CreateService, ApiError> {
    let dns = |dns: Input<'_>| -> Result<CreateDnsConfig, ApiError> {
        Ok(CreateDnsConfig {
            namespace: text(&dns, "NamespaceId"),
            routing: dns.text("RoutingPolicy").and_then(RoutingPolicy::from_word),
            records: dns_records(&dns)?,
        })
    };
    let custom = input.structure("HealthCheckCustomConfig");
    Ok(CreateService {
        name: input.required("Name")?.to_owned(),
        namespace: text(input, "NamespaceId"),
        creator_request_id: text(input, "CreatorRequestId"),
        description: text(input, "Description"),
        dns: input.structure("DnsConfig").map(dns).transpose()?,
        health_check: health_check(input)?,
        custom_health_check: custom
            .map(|custom| CustomHealthCheck { failure_threshold: custom.integer("FailureThreshold") }),
        tags: tags(input)?,
        api_only: input.has("Type"),
    })
}

fn update_service(input: &Input<'_>) -> Result<Command, ApiError> {
    let change = structure(input, "Service")?;
    Ok(Command::UpdateService {
        service: input.required("Id")?.to_owned(),
        description: text(&change, "Description"),
        dns_records: change.structure("DnsConfig").map(|dns| dns_records(&dns)).transpose()?,
        health_check: health_check(&change)?,
    })
}

fn dns_records(dns: &Input<'_>) -> Result<Vec<DnsRecord>, ApiError> {
    dns.structures("DnsRecords")
        .map(|record| {
            let rtype = DnsRecordType::from_word(record.required("Type")?);
            let record = rtype.zip(record.integer("TTL")).map(|(rtype, ttl)| DnsRecord { rtype, ttl });
            record.ok_or_else(unchecked)
        })
        .collect()
}

fn health_check(input: &Input<'_>) -> Result<Option<HealthCheck>, ApiError> {
    let Some(check) = input.structure("HealthCheckConfig") else { return Ok(None) };
    Ok(Some(HealthCheck {
        check_type: HealthCheckType::from_word(check.required("Type")?).ok_or_else(unchecked)?,
        resource_path: text(&check, "ResourcePath"),
        failure_threshold: check.integer("FailureThreshold"),
    }))
}

/// Collects the tags into a map; the last of several tags with one key wins.
fn tags(input: &Input<'_>) -> Result<Tags, ApiError> {
    input
        .structures("Tags")
        .map(|tag| Ok((tag.required("Key")?.to_owned(), tag.required("Value")?.to_owned())))
        .collect()
}

fn structure<'v>(input: &Input<'v>, member: &str) -> Result<Input<'v>, ApiError> {
    input.structure(member).ok_or_else(unchecked)
}

fn text(input: &Input<'_>, member: &str) -> Option<String> {
    input.text(member).map(str::to_owned)
}

fn owned<'v, C: FromIterator<(String, String)>>(pairs: impl Iterator<Item = (&'v str, &'v str)>) -> C {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The error for an input that does not fit its shape, which [`Input::check`] has ruled out.
fn unchecked() -> ApiError {
    ApiError::internal("An input was not checked against its shape.")
}
