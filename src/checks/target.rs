//! The instances that are checked, and how.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::ServiceId;
use crate::model::service::HealthCheckType;
use crate::registry::{HealthSettings, State};

/// Endpoint of one instance with the HealthCheckConfig of its service. HTTP and HTTPS checks request `path` and send `host` in
/// the Host header; TCP checks use neither.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) kind: HealthCheckType,
    pub(super) path: String,
    pub(super) host: String,
}

/// An instance that is checked, with the number of the operation that registered it. `awaits_check` is true if no result decides
/// its status yet.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) target: Arc<Target>,
    pub(super) operation: u64,
    pub(super) awaits_check: bool,
}

/// The instances of a service that are checked, by their ids.
pub(super) fn of_service<'s>(
    state: &'s State,
    service: &ServiceId,
    settings: &HealthSettings,
) -> HashMap<&'s str, Watched> {
    let mut targets = HashMap::new();
    let Ok(found) = state.service(service.as_str()) else { return targets };
    let health = settings.of(found);
    let Some(check) = health.active_check() else { return targets };
    let path = check.resource_path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
    let host = state.full_name(&found.service);
    for instance in found.instances() {
        let Some(address) = health.checked_endpoint(instance) else { continue };
        let host = host.clone().unwrap_or_else(|| address.to_string());
        let target = Target { address, kind: check.check_type, path: path.clone(), host }.into();
        let (operation, awaits_check) = (instance.operation(), health.awaits_check(instance));
        targets.insert(instance.id(), Watched { target, operation, awaits_check });
    }
    targets
}
