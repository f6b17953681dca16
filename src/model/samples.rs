//! Namespaces and services for unit tests, with defaults for everything but the fields that identify them.

use std::collections::BTreeMap;

use super::{
    CustomHealthStatus, Namespace, NamespaceId, NamespaceKind, Origin, Report, Service, ServiceId, Signals,
    Tags,
};

pub(crate) fn namespace(id: NamespaceId, name: &str, kind: NamespaceKind) -> Namespace {
    Namespace {
        id,
        name: name.into(),
        kind,
        http_name: name.into(),
        description: None,
        soa_ttl: None,
        creator_request_id: None,
        created_ms: 0,
        tags: Tags::new(),
        operation: 1,
        request_digest: 0,
        origin: Origin::Own,
    }
}

pub(crate) fn service(id: ServiceId, namespace_id: NamespaceId, name: &str) -> Service {
    Service {
        id,
        namespace_id,
        name: name.into(),
        description: None,
        api_only: false,
        dns: None,
        health_check: None,
        custom_health_check: None,
        creator_request_id: None,
        created_ms: 0,
        tags: Tags::new(),
        attributes: BTreeMap::new(),
        sequence: 1,
        request_digest: 0,
        origin: Origin::Own,
    }
}

/// Signals with this report alone.
pub(crate) fn report(status: CustomHealthStatus) -> Signals {
    let report = Report { status, reporter: "a client".into(), reported_ms: 0 };
    Signals { report: Some(report), ..Signals::default() }
}
