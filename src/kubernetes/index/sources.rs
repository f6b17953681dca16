//! Lists of one source: the names that a list contains, and the decision if a complete list is accepted.

use std::collections::HashSet;
use std::sync::Arc;

/// Names that a list may lack without being suspect, however few are known.
const MISSING_ACCEPTED_MAX: usize = 5;

/// Outcome of a complete list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListEnd {
    /// The list is accepted: names that it lacks no longer exist.
    Accepted,
    /// The list lacks most of the known names. Nothing is removed, and another list is needed.
    Suspect {
        /// Number of known names that the list lacks.
        missing: usize,
        /// Number of names in the list.
        listed: usize,
    },
}

#[derive(Default)]
pub(in crate::kubernetes) struct ListTracker {
    listed: Option<HashSet<Arc<str>>>,
    /// True if the last complete list was suspect, so that the next one is accepted.
    was_suspect: bool,
}

impl ListTracker {
    pub(in crate::kubernetes) fn begin(&mut self) {
        self.listed = Some(HashSet::new());
    }

    pub(in crate::kubernetes) fn listed(&mut self, name: &Arc<str>) {
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
    }

    pub(in crate::kubernetes) fn deleted(&mut self, name: &str) {
        if let Some(listed) = &mut self.listed {
            listed.remove(name);
        }
    }

    /// Completes the list. Returns the `known` names that it lacks, which are none if the list is suspect.
    pub(in crate::kubernetes) fn end<'k>(
        &mut self,
        known: impl Iterator<Item = &'k Arc<str>>,
    ) -> (ListEnd, Vec<Arc<str>>) {
        let listed = self.listed.take().unwrap_or_default();
        let mut known_count = 0;
        let mut missing = Vec::new();
        for name in known {
            known_count += 1;
            if !listed.contains(name) {
                missing.push(name.clone());
            }
        }
        let lacks_most = missing.len() > MISSING_ACCEPTED_MAX && missing.len() * 2 > known_count;
        if lacks_most && !self.was_suspect {
            self.was_suspect = true;
            let end = ListEnd::Suspect { missing: missing.len(), listed: listed.len() };
            return (end, Vec::new());
        }
        self.was_suspect = false;
        (ListEnd::Accepted, missing)
    }
}
