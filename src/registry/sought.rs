//! Asking a shared store for what a request names and this server does not know.
//!
//! Another server may have written it a moment ago: the change is acknowledged there, and still on its way here.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::model::{NamespaceId, ServiceId};

use super::state::State;

/// The longest time that a request waits for what it asks for, in milliseconds; after it, what is known is the answer.
pub(super) const SOUGHT_MS_MAX: u64 = 1_000;
pub(super) const SOUGHT_MAX: Duration = Duration::from_millis(SOUGHT_MS_MAX);

/// Something that a request names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sought {
    /// The namespace of this id.
    Namespace(NamespaceId),
    /// The service of this id.
    Service(ServiceId),
    /// The service's instance of this id.
    Instance(ServiceId, Box<str>),
    /// The operation of this id.
    Operation(Box<str>),
}

/// Reads single things from a shared store.
pub trait Finder: Send + Sync {
    /// Reads what is sought. Returns true if it is there: then [`super::Store::changes`] has it. A store that does not
    /// answer, or that is asked for too much at once, has nothing.
    fn find<'f>(&'f self, sought: &'f Sought) -> BoxFuture<'f, bool>;
}

impl Sought {
    /// Returns true if a state has it.
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
