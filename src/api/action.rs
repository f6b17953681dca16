//! The operations of the API, each with its name and the members of its input.

use super::inputs;
use super::shape::Member;

macro_rules! actions {
    ($($name:ident $input:ident),* $(,)?) => {
        /// An operation of the API.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[expect(missing_docs, reason = "the variants are the API's own operations")]
        pub enum Action {
            $($name),*
        }

        impl Action {
            /// All thirty operations in the order of their names.
            pub const ALL: &'static [Action] = &[$(Action::$name),*];

            /// The name of the operation in the API reference, such as `CreateService`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Action::$name => stringify!($name)),*
                }
            }

            /// Looks up an operation by its name, which is case-sensitive as on AWS.
            pub fn from_name(name: &str) -> Option<Action> {
                match name {
                    $(stringify!($name) => Some(Action::$name),)*
                    _ => None,
                }
            }

            pub(super) fn input(self) -> &'static [Member] {
                match self {
                    $(Action::$name => inputs::$input),*
                }
            }
        }
    };
}

actions! {
    CreateHttpNamespace CREATE_HTTP_NAMESPACE,
    CreatePrivateDnsNamespace CREATE_PRIVATE_DNS_NAMESPACE,
    CreatePublicDnsNamespace CREATE_PUBLIC_DNS_NAMESPACE,
    CreateService CREATE_SERVICE,
    DeleteNamespace ID,
    DeleteService ID,
    DeleteServiceAttributes DELETE_SERVICE_ATTRIBUTES,
    DeregisterInstance INSTANCE,
    DiscoverInstances DISCOVER_INSTANCES,
    DiscoverInstancesRevision DISCOVER_INSTANCES_REVISION,
    GetInstance INSTANCE,
    GetInstancesHealthStatus GET_INSTANCES_HEALTH_STATUS,
    GetNamespace ID,
    GetOperation GET_OPERATION,
    GetService ID,
    GetServiceAttributes GET_SERVICE_ATTRIBUTES,
    ListInstances LIST_INSTANCES,
    ListNamespaces LIST_NAMESPACES,
    ListOperations LIST_OPERATIONS,
    ListServices LIST_SERVICES,
    ListTagsForResource LIST_TAGS_FOR_RESOURCE,
    RegisterInstance REGISTER_INSTANCE,
    TagResource TAG_RESOURCE,
    UntagResource UNTAG_RESOURCE,
    UpdateHttpNamespace UPDATE_HTTP_NAMESPACE,
    UpdateInstanceCustomHealthStatus UPDATE_INSTANCE_CUSTOM_HEALTH_STATUS,
    UpdatePrivateDnsNamespace UPDATE_DNS_NAMESPACE,
    UpdatePublicDnsNamespace UPDATE_DNS_NAMESPACE,
    UpdateService UPDATE_SERVICE,
    UpdateServiceAttributes UPDATE_SERVICE_ATTRIBUTES,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_thirty_operations_are_found_by_their_names() {
        assert_eq!(Action::ALL.len(), 30);
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.as_str()), Some(*action));
        }
        assert!(Action::ALL.is_sorted_by_key(|action| action.as_str()));
        assert_eq!(Action::from_name("listNamespaces"), None);
    }
}
