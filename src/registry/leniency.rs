//! Input that AWS would refuse, but that makes sense here: let through or not, and logged.

use std::collections::HashSet;

use super::settings::Validation;

/// What happens to input that AWS would refuse. What is let through is logged once for each kind.
pub(super) struct Leniency {
    validation: Validation,
    said: HashSet<&'static str>,
}

impl Leniency {
    pub(super) fn new(validation: Validation) -> Leniency {
        Leniency { validation, said: HashSet::new() }
    }

    /// Whether input of this kind is let through.
    pub(super) fn lets_through(&mut self, kind: &'static str) -> bool {
        if self.validation == Validation::Strict {
            return false;
        }
        if self.said.insert(kind) {
            tracing::warn!("{kind} (said once; --validation strict does as AWS does)");
        }
        true
    }
}
