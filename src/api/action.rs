//! The operations of the API by their names.

macro_rules! actions {
    ($($name:ident),* $(,)?) => {
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
        }
    };
}

actions! {
    CreateHttpNamespace,
    CreatePrivateDnsNamespace,
    CreatePublicDnsNamespace,
    CreateService,
    DeleteNamespace,
    DeleteService,
    DeleteServiceAttributes,
    DeregisterInstance,
    DiscoverInstances,
    DiscoverInstancesRevision,
    GetInstance,
    GetInstancesHealthStatus,
    GetNamespace,
    GetOperation,
    GetService,
    GetServiceAttributes,
    ListInstances,
    ListNamespaces,
    ListOperations,
    ListServices,
    ListTagsForResource,
    RegisterInstance,
    TagResource,
    UntagResource,
    UpdateHttpNamespace,
    UpdateInstanceCustomHealthStatus,
    UpdatePrivateDnsNamespace,
    UpdatePublicDnsNamespace,
    UpdateService,
    UpdateServiceAttributes,
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
