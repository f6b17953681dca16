//! Resources that a request names: the cluster is asked for them before the answer is that one is not there.

use crate::model::id::id_in;
use crate::registry::Sought;

use super::action::Action;
use super::error::ApiError;
use super::input::Input;

/// Instances of one request that are asked for.
const INSTANCES_MAX: usize = 16;

/// Returns true for an answer that something is not there.
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

/// Resources that the input of an operation names; none for operations that list, or find by names.
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
