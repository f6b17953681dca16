//! Numbers that several servers agree on: revisions of services and serials of zones.
//!
//! A client that keeps a service's instances with their revision, or a secondary that keeps a zone with its serial, may ask
//! another server each time. Therefore a number has to mean one content at all servers of a shared store, and later
//! contents have to have larger numbers, without any server asking another one.
//!
//! # Where numbers come from
//!
//! All that contents are made of, custom resources and pods, are objects of one etcd, which gives every write a number of
//! its own above all earlier ones: the object's `resourceVersion`. A change of contents has the number of the write that
//! caused it, plus [`Numbering::offset`], and a revision or serial is the largest number of the changes that belong to it.
//! The largest of a set does not depend on the order, so servers whose watches deliver in different orders end with one
//! number. A change of health alone counts for serials, not for revisions.
//!
//! # Renumbering
//!
//! Some changes have no number that all servers know: a deletion that a server learns from a list, because it was not
//! running or its watch was interrupted; an object that is admitted only now because of what another watch delivered late;
//! resources that are shadowed. And a change can arrive with a number that is not above the one that is shown already, so
//! that a client who has asked in between would keep what it has. In all these cases a server *renumbers*: it writes to one
//! object of the store that all servers follow, with the ids of the services and namespaces that it is about, or with none,
//! which means all of them. The number of that write is then a change of each, at every server. A server renumbers
//! everything when it has read all lists, at its start and after an interrupted watch: the number of that write is above
//! that of every change which the lists contained, so what a server did not see makes no difference any more. It shows
//! nothing before that at its start, so its numbers do not go back over restarts.
//!
//! The registry finds the changes that need it by their effect: contents that are another while their number is not. So a
//! kind of change that nobody has thought of costs a write, and ends right.
//!
//! # Limits
//!
//! Between a change and its renumbering, which takes milliseconds, two contents have one number. The API server being away
//! prolongs that, and nothing else does: then nothing arrives that would change contents.
//!
//! Numbers of pods and of custom resources have to be of one sequence. That is so with one etcd, and with k3s' kine; a
//! cluster that keeps pods or custom resources in an etcd of its own has two sequences, in which a change of the slower one
//! does not exceed what is shown, and is renumbered each time. An etcd that was restored from a backup goes back: restore
//! with `--bump-revision`, or raise `numberOffset` of the CloudMapStore object and restart the servers.
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

/// The numbers of a shared store, which only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbering {
    /// Added to the numbers of etcd, so that they follow those of a store that was imported.
    pub offset: u64,
    /// The lowest number that any revision or serial may have: that of the last renumbering of everything.
    pub floor: u64,
}

impl Numbering {
    /// The larger of both in each part.
    pub(super) fn max(self, other: Numbering) -> Numbering {
        Numbering { offset: self.offset.max(other.offset), floor: self.floor.max(other.floor) }
    }
}

/// Resources that need a new number.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Renumber {
    /// True if all services and namespaces do.
    pub all: bool,
    /// Services whose revision has to grow.
    pub services: BTreeSet<ServiceId>,
    /// Namespaces whose zone's serial has to grow.
    pub namespaces: BTreeSet<NamespaceId>,
}

impl Renumber {
    /// A renumbering of all services and namespaces, as after a list.
    pub fn everything() -> Renumber {
        Renumber { all: true, ..Renumber::default() }
    }

    /// Returns true if nothing needs a new number.
    pub fn is_empty(&self) -> bool {
        !self.all && self.services.is_empty() && self.namespaces.is_empty()
    }

    /// Adds the resources of another renumbering that is due.
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

/// Returns true if a service has another set of instances under an old revision. A shadowed service that is new may have
/// been there before, with other instances.
fn is_unnumbered(old: Option<&ServiceState>, new: Option<&ServiceState>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let is_same = old.instances().len() == new.instances().len()
                && old
                    .instances()
                    .iter()
                    .zip(new.instances())
                    .all(|(old, new)| old.is_same_but_for_health(new));
            !is_same && new.revision() <= old.revision()
        }
        (None, Some(new)) => new.service.origin.is_shadowed(),
        (_, None) => false,
    }
}

fn differ(old: Option<&ServiceState>, new: Option<&ServiceState>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let is_defined_so = Arc::ptr_eq(&old.service, &new.service) || old.service == new.service;
            !is_defined_so || old.instances() != new.instances()
        }
        (None, None) => false,
        _ => true,
    }
}

/// Returns true if the serial of a namespace's zone did not grow. Nobody has seen a serial of a new zone, unless it is shadowed.
fn has_old_serial(before: &State, after: &State, namespace: &NamespaceId) -> bool {
    let Ok(new) = after.namespace(namespace.as_str()) else { return false };
    match before.namespace(namespace.as_str()) {
        Ok(_) => after.serial(namespace) <= before.serial(namespace),
        Err(_) => new.namespace.origin.is_shadowed(),
    }
}
