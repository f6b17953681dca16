//! All kinds of custom resources, with their plural names.

use super::super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore,
};

/// Kinds of custom resources, in the order of their plural names. An `Operation` is a record of operations whose
/// objects are deleted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(in crate::store::kubernetes) enum Kind {
    HealthReport,
    Instance,
    Namespace,
    Operation,
    Service,
    Store,
}

impl Kind {
    pub(in crate::store::kubernetes) const ALL: [Kind; 6] =
        [Kind::HealthReport, Kind::Instance, Kind::Namespace, Kind::Operation, Kind::Service, Kind::Store];

    pub(in crate::store::kubernetes) fn plural(self) -> &'static str {
        match self {
            Kind::HealthReport => "cloudmaphealthreports",
            Kind::Instance => "cloudmapinstances",
            Kind::Namespace => "cloudmapnamespaces",
            Kind::Operation => "cloudmapoperations",
            Kind::Service => "cloudmapservices",
            Kind::Store => "cloudmapstores",
        }
    }
}

pub(in crate::store::kubernetes) trait OfKind {
    const KIND: Kind;
}

macro_rules! of_kind {
    ($($object:ident $kind:ident;)*) => {$(
        impl OfKind for $object {
            const KIND: Kind = Kind::$kind;
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
        fn plural<K: OfKind + Resource<DynamicType = ()>>() -> (Kind, String) {
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
        assert_eq!(defined, Kind::ALL.map(|kind| (kind, kind.plural().to_string())));
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.plural()));
    }
}
