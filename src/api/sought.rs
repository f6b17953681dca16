//! The resources that a request names. Before such a resource is reported as missing, the shared store is asked for it,
//! because another server may have created it a moment ago.

use crate::model::id::id_in;
use crate::registry::Sought;

use super::action::Action;
use super::error::ApiError;
use super::input::Input;

/// Most instances of one request for which the store is asked, because each is a request to the Kubernetes API server.
const INSTANCES_MAX: usize = 16;

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
pub(super) fn sought(action: Action, input: &Input<'_>) -> Vec<Sought> {
    let namespace = |text: &str| Sought::Namespace(id_in(text, "namespace").into());
    let service = |text: &str| Sought::Service(id_in(text, "service").into());
    let text = |member| input.text(member);
    match action {
        Action::GetNamespace
        | Action::DeleteNamespace
        | Action::UpdateHttpNamespace
        | Action::UpdatePrivateDnsNamespace
        | Action::UpdatePublicDnsNamespace => text("Id").map(namespace).into_iter().collect(),
        Action::GetService | Action::DeleteService | Action::UpdateService => {
            text("Id").map(service).into_iter().collect()
        }
        Action::CreateService => {
            let inner = input.structure("DnsConfig").and_then(|dns| dns.text("NamespaceId").map(namespace));
            text("NamespaceId").map(namespace).or(inner).into_iter().collect()
        }
        Action::GetServiceAttributes
        | Action::UpdateServiceAttributes
        | Action::DeleteServiceAttributes
        | Action::RegisterInstance => text("ServiceId").map(service).into_iter().collect(),
        Action::GetInstance | Action::DeregisterInstance | Action::UpdateInstanceCustomHealthStatus => {
            let (Some(of), Some(instance)) = (text("ServiceId"), text("InstanceId")) else {
                return Vec::new();
            };
            vec![Sought::Instance(id_in(of, "service").into(), instance.into())]
        }
        Action::GetInstancesHealthStatus => {
            let Some(of) = text("ServiceId") else { return Vec::new() };
            let instance = |id: &str| Sought::Instance(id_in(of, "service").into(), id.into());
            let instances = input.texts("Instances").take(INSTANCES_MAX).map(instance);
            std::iter::once(service(of)).chain(instances).collect()
        }
        Action::GetOperation => {
            text("OperationId").map(|id| Sought::Operation(id.into())).into_iter().collect()
        }
        Action::ListTagsForResource | Action::TagResource | Action::UntagResource => {
            let Some(resource) = text("ResourceARN") else { return Vec::new() };
            let is_namespace = id_in(resource, "namespace").starts_with("ns-");
            vec![if is_namespace { namespace(resource) } else { service(resource) }]
        }
        _ => Vec::new(),
    }
}
