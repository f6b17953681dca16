use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore,
};

/// Kinds of custom resources, in the order of their plural names.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum ResourceKind {
    HealthReport,
    Instance,
    Namespace,
    Operation,
    Service,
    Store,
}

impl ResourceKind {
    pub(super) const ALL: [ResourceKind; 6] = [
        ResourceKind::HealthReport,
        ResourceKind::Instance,
        ResourceKind::Namespace,
        ResourceKind::Operation,
        ResourceKind::Service,
        ResourceKind::Store,
    ];

    pub(super) fn plural(self) -> &'static str {
        match self {
            ResourceKind::HealthReport => "cloudmaphealthreports",
            ResourceKind::Instance => "cloudmapinstances",
            ResourceKind::Namespace => "cloudmapnamespaces",
            ResourceKind::Operation => "cloudmapoperations",
            ResourceKind::Service => "cloudmapservices",
            ResourceKind::Store => "cloudmapstores",
        }
    }
}

/// Type of the objects of one kind.
pub(super) trait OfKind {
    const KIND: ResourceKind;
}

macro_rules! of_kind {
    ($($object:ident $kind:ident;)*) => {$(
        impl OfKind for $object {
            const KIND: ResourceKind = ResourceKind::$kind;
        }
    )*};
}

of_kind! {
    CloudMapHealthReport HealthReport;
    CloudMapInstance Instance;
    CloudMapNamespace Namespace;
    CloudMapOperation Operation;
    CloudMapService Service;
    CloudMapStore Store;
}

#[cfg(test)]
mod tests {
    use kube::Resource;

    use super::*;

    #[test]
    fn plural_names_are_those_of_the_definitions_and_in_order() {
        fn plural<K: OfKind + Resource<DynamicType = ()>>() -> (ResourceKind, String) {
            (K::KIND, K::plural(&()).into_owned())
        }
        let defined = [
            plural::<CloudMapHealthReport>(),
            plural::<CloudMapInstance>(),
            plural::<CloudMapNamespace>(),
            plural::<CloudMapOperation>(),
            plural::<CloudMapService>(),
            plural::<CloudMapStore>(),
        ];
        assert_eq!(defined, ResourceKind::ALL.map(|kind| (kind, kind.plural().to_string())));
        assert!(ResourceKind::ALL.is_sorted_by_key(|kind| kind.plural()));
    }
}
