//! Lenient validation: input that AWS would refuse, but that makes sense here, is accepted and logged.

use std::collections::HashSet;

use super::settings::Validation;

pub(super) struct Leniency {
    validation: Validation,
    logged: HashSet<&'static str>,
}

impl Leniency {
    pub(super) fn new(validation: Validation) -> Leniency {
        Leniency { validation, logged: HashSet::new() }
    }

    /// Returns true if input of this kind is accepted. `kind` is the text of the log line, and names the error of AWS.
    pub(super) fn accepts(&mut self, kind: &'static str) -> bool {
        if self.validation == Validation::Strict {
            return false;
        }
        if self.logged.insert(kind) {
            tracing::warn!("{kind} (logged once; --validation strict does as AWS does)");
        }
        true
    }
}
