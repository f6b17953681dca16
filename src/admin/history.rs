//! The response of `/history`: the last changes of health of a service's instances, as text for people.

use jiff::Timestamp;

use crate::model::HealthStatus;
use crate::registry::state::zone_key;
use crate::registry::{ServiceState, State, history::SERVICE_TRANSITIONS_MAX, history::Transition};
use crate::zone::Name;

use super::{Admin, dotted};

/// No service has the name, nor the name above it, which would be the service of an instance's name.
#[derive(Debug, thiserror::Error)]
#[error("neither a service nor an instance of one is named {0}")]
pub(super) struct NoService(Name);

pub(super) fn history(admin: &Admin, name: &Name) -> Result<String, NoService> {
    let state = admin.registry.state();
    let found = service_of(&state, name).ok_or_else(|| NoService(name.clone()))?;
    let service = &found.service;
    let mut text = format!("service   {} ({})\n\n", service.name.escape_debug(), service.id);
    let transitions = admin.registry.history().of(&service.id);
    if transitions.is_empty() {
        text.push_str("no change of health since this server was started\n");
    }
    transitions.iter().for_each(|transition| text.push_str(&line(transition)));
    if transitions.len() == SERVICE_TRANSITIONS_MAX {
        text.push_str(&format!("\nthe last {SERVICE_TRANSITIONS_MAX}; earlier ones are not kept\n"));
    }
    Ok(text)
}

pub(super) fn line(transition: &Transition) -> String {
    let at = Timestamp::from_millisecond(transition.at_ms).map_or_else(|_| "-".into(), |at| at.to_string());
    let word = |status: Option<HealthStatus>| status.map_or("-", HealthStatus::as_str);
    let (before, now) = (word(transition.before), word(transition.now));
    let (instance, cause) = (transition.instance.escape_debug(), transition.cause.text.escape_debug());
    format!("{at}  {instance}  {before} -> {now}  {cause}\n")
}

/// The service that has this name, or the name above it, in a namespace of any kind.
fn service_of<'s>(state: &'s State, name: &Name) -> Option<&'s ServiceState> {
    let whole = dotted(name, 0)?;
    let above = whole.split_once('.').map(|(_, rest)| rest);
    [Some(&*whole), above].into_iter().flatten().find_map(|name| {
        let apex = state.namespace_by_zone(&zone_key(name));
        let apex = apex.and_then(|namespace| state.service_by_name(&namespace.namespace.id, "."));
        apex.or_else(|| {
            name.match_indices('.').find_map(|(dot, _)| {
                let (service, zone) = (&name[..dot], &name[dot + 1..]);
                let namespace = state
                    .namespace_by_zone(&zone_key(zone))
                    .or_else(|| state.namespace_by_http_name(zone))?;
                state.service_by_name(&namespace.namespace.id, service)
            })
        })
        .map(|found| &**found)
    })
}
