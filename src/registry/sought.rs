//! Reads of single objects from a shared store, for requests that name an object which this server does not know.
//!
//! Another server may have created the object a moment ago: that server has acknowledged the change, but this server's watch
//! has not delivered it yet.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::model::{NamespaceId, ServiceId};

use super::state::State;

/// Longest time in milliseconds that a request waits for these reads. After it, the request is answered from what is known.
pub(super) const SOUGHT_MS_MAX: u64 = 1_000;
pub(super) const SOUGHT_MAX: Duration = Duration::from_millis(SOUGHT_MS_MAX);

/// An object that a request names, by its id; an instance also by the id of its service.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are the kinds of objects")]
pub enum Sought {
    Namespace(NamespaceId),
    Service(ServiceId),
    Instance(ServiceId, Box<str>),
    Operation(Box<str>),
}

/// Reads single objects from a shared store.
pub trait Finder: Send + Sync {
    /// Reads the object. Returns true if it exists, and [`super::Store::changes`] then returns it. Returns false also if the
    /// store does not answer, or has too many such reads to do at once.
    fn find<'f>(&'f self, sought: &'f Sought) -> BoxFuture<'f, bool>;
}

impl Sought {
    pub(super) fn is_in(&self, state: &State) -> bool {
        match self {
            Sought::Namespace(id) => state.namespace(id.as_str()).is_ok(),
            Sought::Service(id) => state.service(id.as_str()).is_ok(),
            Sought::Instance(service, id) => {
                state.service(service.as_str()).is_ok_and(|service| service.instance(id).is_ok())
            }
            Sought::Operation(id) => state.operation(id).is_ok(),
        }
    }
}
