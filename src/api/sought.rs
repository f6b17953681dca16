//! The resources that a request names. Before such a resource is reported as missing, the shared store is asked for it,
//! because another server may have created it a moment ago.

use crate::model::id::id_in;
use crate::registry::Sought;

use super::error::ApiError;
use super::inputs::{Input, QueryInput, WriteInput};

/// Most instances of one request for which the store is asked, because each is a request to the Kubernetes API server.
pub(super) const INSTANCES_MAX: usize = 16;

pub(super) fn is_not_found(error: &ApiError) -> bool {
    matches!(
        error.code,
        "NamespaceNotFound"
            | "ServiceNotFound"
            | "InstanceNotFound"
            | "OperationNotFound"
            | "ResourceNotFoundException"
    )
}

/// Returns the resources that an input names by id. Lists and discovery by name have none.
pub(super) fn sought(input: &Input<'_>) -> Vec<Sought> {
    match input {
        Input::Write(input) => match input {
            WriteInput::CreateHttpNamespace(_)
            | WriteInput::CreatePrivateDnsNamespace(_)
            | WriteInput::CreatePublicDnsNamespace(_) => Vec::new(),
            WriteInput::CreateService(input) => {
                let deprecated = || input.dns_config.as_ref().and_then(|dns| dns.namespace.as_deref());
                input.namespace_id.or_else(deprecated).map(namespace).into_iter().collect()
            }
            WriteInput::DeleteNamespace(input) => vec![namespace(input.id)],
            WriteInput::DeleteService(input) => vec![service(input.id)],
            WriteInput::DeleteServiceAttributes(input) => vec![service(input.service_id)],
            WriteInput::DeregisterInstance(input) => vec![instance(input.service_id, input.instance_id)],
            WriteInput::RegisterInstance(input) => vec![service(input.service_id)],
            WriteInput::TagResource(input) => vec![resource(input.resource_arn)],
            WriteInput::UntagResource(input) => vec![resource(input.resource_arn)],
            WriteInput::UpdateHttpNamespace(input) => vec![namespace(input.id)],
            WriteInput::UpdateInstanceCustomHealthStatus(input) => {
                vec![instance(input.service_id, input.instance_id)]
            }
            WriteInput::UpdatePrivateDnsNamespace(input) => vec![namespace(input.id)],
            WriteInput::UpdatePublicDnsNamespace(input) => vec![namespace(input.id)],
            WriteInput::UpdateService(input) => vec![service(input.id)],
            WriteInput::UpdateServiceAttributes(input) => vec![service(input.service_id)],
        },
        Input::Query(input) => match input {
            QueryInput::DiscoverInstances(_)
            | QueryInput::DiscoverInstancesRevision(_)
            | QueryInput::ListInstances(_)
            | QueryInput::ListNamespaces(_)
            | QueryInput::ListOperations(_)
            | QueryInput::ListServices(_) => Vec::new(),
            QueryInput::GetInstance(input) => vec![instance(input.service_id, input.instance_id)],
            QueryInput::GetInstancesHealthStatus(input) => {
                let ids = input.instances.iter().flatten().take(INSTANCES_MAX);
                let instances = ids.map(|id| instance(input.service_id, id));
                std::iter::once(service(input.service_id)).chain(instances).collect()
            }
            QueryInput::GetNamespace(input) => vec![namespace(input.id)],
            QueryInput::GetOperation(input) => vec![Sought::Operation(input.operation_id.into())],
            QueryInput::GetService(input) => vec![service(input.id)],
            QueryInput::GetServiceAttributes(input) => vec![service(input.service_id)],
            QueryInput::ListTagsForResource(input) => vec![resource(input.resource_arn)],
        },
    }
}

fn namespace(text: &str) -> Sought {
    Sought::Namespace(id_in(text, "namespace").into())
}

fn service(text: &str) -> Sought {
    Sought::Service(id_in(text, "service").into())
}

fn instance(service: &str, id: &str) -> Sought {
    Sought::Instance(id_in(service, "service").into(), id.into())
}

fn resource(arn: &str) -> Sought {
    if id_in(arn, "namespace").starts_with("ns-") { namespace(arn) } else { service(arn) }
}
