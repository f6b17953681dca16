//! Numbers that several servers agree on: revisions of services and serials of zones.
//!
//! A client that caches a service's instances with their revision, or a secondary that keeps a zone with its serial, may ask
//! another server each time. Therefore a number has to identify one content at all servers of a shared store, and later
//! contents must have larger numbers, without any communication between the servers.
//!
//! # Where numbers come from
//!
//! All contents come from custom resources and pods, which are objects of one etcd. It gives every write a number above all
//! earlier ones, the object's `resourceVersion`. A change of contents has the number of the write that caused it, plus
//! [`Numbering::offset`], and a revision or serial is the largest number of its changes. The largest number of a set does
//! not depend on the order, so servers whose watches deliver in different orders arrive at one number. A change of health
//! alone counts for serials, not for revisions.
//!
//! # Renumbering
//!
//! Some changes have no number that all servers know: a deletion that a server learns from a list, because it was not
//! running or its watch was interrupted; an object that is admitted only now, because another watch delivered late; and
//! changes of shadowed resources. A change can also arrive with a number that is not above the number already served, and
//! then a client that asked in between would keep its old copy. In all these cases a server *renumbers*: it writes to one
//! object of the store that all servers watch, with the ids of the services and namespaces concerned, or without ids, which
//! means all of them. The number of that write then counts as a change of each of them, at every server. A server renumbers
//! everything when it has read all lists, at its start and after an interrupted watch: the number of that write is above
//! the number of every change that the lists contain, so the changes that the server missed do not matter any more. At its
//! start a server does not serve anything before that, so its numbers do not go back over restarts.
//!
//! The registry recognises the changes that need a renumbering by their effect: different contents under an old number. So
//! an unforeseen kind of change costs one more write, and its result is still right.
//!
//! # Limits
//!
//! Between a change and its renumbering, which takes milliseconds, two contents have one number. This lasts longer only
//! while the API server is unreachable, when no further changes arrive either.
//!
//! Numbers of pods and of custom resources have to come from one sequence. They do with one etcd, and with k3s' kine. A
//! cluster that keeps pods or custom resources in a separate etcd has two sequences; changes in the slower one do not exceed
//! the number already served, and each of them is renumbered. The numbers of an etcd that was restored from a backup go
//! back: restore with `--bump-revision`, or raise `numberOffset` of the CloudMapStore object and restart the servers.
//!
//! Serials are the numbers modulo 2^32, compared as RFC 1982 says: a secondary follows as long as it asks once in 2^31
//! writes to the cluster. Revisions stay below 2^53 for 285 years of a million writes a second.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{NamespaceId, ServiceId};

use super::{
    change::Event,
    state::{ServiceState, State},
};

/// The numbers of a shared store, which only grow. The offset is added to the numbers of etcd, so that they follow those of
/// a store that was imported. The floor is the lowest number that a revision or serial may have, which is that of the last
/// renumbering of everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Numbering {
    pub offset: u64,
    pub floor: u64,
}

impl Numbering {
    pub(super) fn max(self, other: Numbering) -> Numbering {
        Numbering { offset: self.offset.max(other.offset), floor: self.floor.max(other.floor) }
    }
}

/// Request for new numbers: larger revisions of these services, and larger serials of the zones of these namespaces. If
/// `all` is true, all services and namespaces need one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Renumber {
    pub all: bool,
    pub services: BTreeSet<ServiceId>,
    pub namespaces: BTreeSet<NamespaceId>,
}

impl Renumber {
    /// A renumbering of all services and namespaces, as after a list.
    pub fn everything() -> Renumber {
        Renumber { all: true, ..Renumber::default() }
    }

    /// Returns true if no resource needs a new number.
    pub fn is_empty(&self) -> bool {
        !self.all && self.services.is_empty() && self.namespaces.is_empty()
    }

    /// Adds the resources of another renumbering, so that one write does for both.
    pub fn extend(&mut self, other: Renumber) {
        self.all |= other.all;
        self.services.extend(other.services);
        self.namespaces.extend(other.namespaces);
    }
}

/// The resources among `events` whose contents differ between two states of a shared store while their numbers do not.
pub(super) fn unnumbered(before: &State, after: &State, events: &[Event]) -> Renumber {
    let mut found = Renumber::default();
    for event in events {
        match event {
            Event::Service(id) => {
                let of = |state: &State| state.service(id.as_str()).ok().cloned();
                let (old, new) = (of(before), of(after));
                if is_unnumbered(old.as_deref(), new.as_deref()) {
                    found.services.insert(id.clone());
                }
                let owner = new.as_ref().or(old.as_ref()).map(|state| state.service.namespace_id.clone());
                if let Some(owner) = owner
                    && differ(old.as_deref(), new.as_deref())
                {
                    found.namespaces.extend(has_old_serial(before, after, &owner).then_some(owner));
                }
            }
            Event::Namespace(id) => {
                let of =
                    |state: &State| state.namespace(id.as_str()).ok().map(|state| state.namespace.clone());
                if of(before) != of(after) && has_old_serial(before, after, id) {
                    found.namespaces.insert(id.clone());
                }
            }
            Event::Serial(_) => {}
        }
    }
    found
}

/// Returns true if a service has different instances under an old revision. A shadowed service that is new counts too,
/// because it may have existed before with other instances.
fn is_unnumbered(old: Option<&ServiceState>, new: Option<&ServiceState>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let is_equal = old.instances().len() == new.instances().len()
                && old
                    .instances()
                    .iter()
                    .zip(new.instances())
                    .all(|(old, new)| old.is_same_but_for_health(new));
            !is_equal && new.revision() <= old.revision()
        }
        (None, Some(new)) => new.service.origin.is_shadowed(),
        (_, None) => false,
    }
}

fn differ(old: Option<&ServiceState>, new: Option<&ServiceState>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let has_equal_definition = Arc::ptr_eq(&old.service, &new.service) || old.service == new.service;
            !has_equal_definition || old.instances() != new.instances()
        }
        (None, None) => false,
        _ => true,
    }
}

/// Returns true if the serial of a namespace's zone did not grow. Of a new zone no client knows a serial, unless the
/// namespace is shadowed and may have existed before.
fn has_old_serial(before: &State, after: &State, namespace: &NamespaceId) -> bool {
    let Ok(new) = after.namespace(namespace.as_str()) else { return false };
    match before.namespace(namespace.as_str()) {
        Ok(_) => after.serial(namespace) <= before.serial(namespace),
        Err(_) => new.namespace.origin.is_shadowed(),
    }
}
