//! Where namespaces and services are defined.

/// Who says that a namespace or service exists. It is never stored: what is stored is [`Origin::Own`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// This registry: it came through the API, or as a custom resource.
    #[default]
    Own,
    /// A registry elsewhere, of which it is the shadow: served and read here like any other, changed there.
    Shadowed {
        /// The number of the change that made it here.
        number: u64,
    },
}

impl Origin {
    /// Whether it is defined elsewhere.
    pub fn is_shadowed(self) -> bool {
        self != Origin::Own
    }
}
