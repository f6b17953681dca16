//! Origins of namespaces and services: this registry, or a registry elsewhere whose contents are mirrored here.

/// The registry that defines a namespace or service. It is never stored, because only [`Origin::Own`] objects are stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// This registry defines it: it was created through the API or as a custom resource.
    #[default]
    Own,
    /// Another registry defines it. The copy here is served and read like any other, but changed only there.
    Shadowed {
        /// The number of the change that added the copy to this registry.
        number: u64,
    },
}

impl Origin {
    /// True for a namespace or service that another registry defines.
    pub fn is_shadowed(self) -> bool {
        self != Origin::Own
    }
}
