//! Services that KECS writes for the services of its own Cloud Map registry.
//!
//! KECS writes two Services for each of them: an alias when it is created, and a headless Service when
//! RegisterInstance is called for it first. Both have its names and ids.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::kubernetes::mirror::{MANAGED_BY, NAMESPACE_ID, OWNER, SERVICE_ID};
use crate::model::{NamespaceId, ServiceId};
use crate::registry::{Shadowed, ShadowedKind};

const NAMESPACE: &str = "kecs.io/namespace";
const SERVICE: &str = "kecs.io/service";
const TYPE: (&str, &str) = ("kecs.io/type", "alias");
/// Annotation with the namespace's kind. KECS does not write it; a user may, to state a kind that CoreDNS's blocks do
/// not show.
const NAMESPACE_TYPE: &str = "kecs.io/namespace-type";
/// Limit for an id in bytes; a longer one counts as missing (Cloud Map: 64 characters).
const ID_BYTES_MAX: usize = 64;

/// Service of KECS's for one of its Cloud Map services: an alias, or the headless Service of instances that KECS's
/// API registered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Alias {
    pub(super) name: Arc<str>,
    pub(super) is_alias: bool,
    pub(super) found: Result<Shadowed, &'static str>,
}

impl Alias {
    /// Reads a Service that matches the selector; `None` if it is the mirror's, or has no name.
    pub(super) fn of(service: &Service) -> Option<Alias> {
        let meta = &service.metadata;
        let label = |key| meta.labels.as_ref()?.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let annotation = |key| meta.annotations.as_ref()?.get(key).map(String::as_str);
        let id = |key| annotation(key).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
        if label(MANAGED_BY) == Some(OWNER) {
            return None;
        }
        let found = || {
            Ok(Shadowed {
                namespace: NamespaceId::from(
                    id(NAMESPACE_ID).ok_or("it has no annotation kecs.io/namespace-id")?,
                ),
                namespace_kind: match annotation(NAMESPACE_TYPE) {
                    Some("HTTP") => ShadowedKind::Http,
                    Some("DNS_PUBLIC") => ShadowedKind::DnsPublic,
                    _ => ShadowedKind::DnsPrivate,
                },
                namespace_name: label(NAMESPACE).ok_or("it has no label kecs.io/namespace")?.into(),
                service: ServiceId::from(id(SERVICE_ID).ok_or("it has no annotation kecs.io/service-id")?),
                service_name: label(SERVICE).ok_or("it has no label kecs.io/service")?.into(),
                created_ms: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond()),
            })
        };
        let is_alias = label(TYPE.0) == Some(TYPE.1);
        Some(Alias { name: Alias::name_of(service)?.into(), is_alias, found: found() })
    }

    pub(super) fn name_of(service: &Service) -> Option<String> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        Some(format!("{namespace}/{}", service.metadata.name.as_deref()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The alias of the example service-to-service, as KECS writes it.
    fn backend() -> Value {
        json!({
            "metadata": {
                "name": "backend-api",
                "namespace": "default",
                "creationTimestamp": "2025-12-01T10:00:00Z",
                "labels": {
                    "kecs.io/service-discovery": "true",
                    "kecs.io/type": "alias",
                    "kecs.io/namespace": "demo.local",
                    "kecs.io/service": "backend-api",
                },
                "annotations": {"kecs.io/service-id": "srv-backend", "kecs.io/namespace-id": "ns-demo"},
            },
            "spec": {
                "type": "ExternalName",
                "externalName": "backend-api-service.default-us-east-1.svc.cluster.local",
            },
        })
    }

    fn read(alias: Value) -> Option<Alias> {
        Alias::of(&serde_json::from_value(alias).unwrap())
    }

    #[test]
    fn an_alias_has_names_and_ids() {
        let expected = Shadowed {
            namespace: "ns-demo".into(),
            namespace_name: "demo.local".into(),
            namespace_kind: ShadowedKind::DnsPrivate,
            service: "srv-backend".into(),
            service_name: "backend-api".into(),
            created_ms: 1_764_583_200_000,
        };
        let name = || "default/backend-api".into();
        let alias = Alias { name: name(), is_alias: true, found: Ok(expected.clone()) };
        assert_eq!(read(backend()), Some(alias));
        // The headless Service of registered instances has equal names.
        let mut headless = backend();
        headless["metadata"]["labels"].as_object_mut().unwrap().remove("kecs.io/type");
        let headless = read(headless);
        assert_eq!(headless, Some(Alias { name: name(), is_alias: false, found: Ok(expected) }));
    }

    #[test]
    fn an_annotation_sets_the_kind_of_a_namespace() {
        for (word, kind) in [
            ("DNS_PUBLIC", ShadowedKind::DnsPublic),
            ("DNS_PRIVATE", ShadowedKind::DnsPrivate),
            ("HTTP", ShadowedKind::Http),
            ("other", ShadowedKind::DnsPrivate),
        ] {
            let mut alias = backend();
            alias["metadata"]["annotations"]["kecs.io/namespace-type"] = json!(word);
            assert_eq!(read(alias).unwrap().found.unwrap().namespace_kind, kind, "{word}");
        }
    }

    #[test]
    fn the_missing_name_or_id_of_an_alias_is_reported() {
        for (part, key, wanted) in [
            ("labels", "kecs.io/namespace", "label kecs.io/namespace"),
            ("labels", "kecs.io/service", "label kecs.io/service"),
            ("annotations", "kecs.io/service-id", "annotation kecs.io/service-id"),
            ("annotations", "kecs.io/namespace-id", "annotation kecs.io/namespace-id"),
        ] {
            for value in [json!(null), json!(""), json!("x".repeat(if part == "labels" { 0 } else { 65 }))] {
                let mut alias = backend();
                match value {
                    Value::Null => drop(alias["metadata"][part].as_object_mut().unwrap().remove(key)),
                    value => alias["metadata"][part][key] = value,
                }
                let problem = read(alias).unwrap().found.unwrap_err();
                assert!(problem.contains(wanted), "{key}: {problem}");
            }
        }
        let bare = read(json!({"metadata": {"name": "backend-api", "namespace": "default"}}));
        assert!(bare.unwrap().found.is_err());
    }

    #[test]
    fn services_of_the_mirror_are_no_aliases() {
        let mut ours = backend();
        ours["metadata"]["labels"][MANAGED_BY] = json!(OWNER);
        assert_eq!(read(ours), None);
    }
}
