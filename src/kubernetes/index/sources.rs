//! Lists of one source: the names that a list contains, and the decision if a complete list is accepted.

use std::collections::HashSet;
use std::sync::Arc;

/// Names that a list may lack without being suspect, however few are known.
const MISSING_BELIEVED: usize = 5;

/// Outcome of a complete list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListEnd {
    /// The list is accepted: names that it lacks are gone.
    Believed,
    /// The list lacks most of the known names. Nothing is removed, and another list is needed.
    Doubted {
        /// Number of known names that the list lacks.
        missing: usize,
        /// Number of names in the list.
        listed: usize,
    },
}

#[derive(Default)]
pub(in crate::kubernetes) struct Source {
    listed: Option<HashSet<Arc<str>>>,
    /// True if the last complete list was suspect, so that the next one is accepted.
    is_doubtful: bool,
}

impl Source {
    pub(in crate::kubernetes) fn begin(&mut self) {
        self.listed = Some(HashSet::new());
    }

    pub(in crate::kubernetes) fn listed(&mut self, name: &Arc<str>) {
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
    }

    pub(in crate::kubernetes) fn left(&mut self, name: &str) {
        if let Some(listed) = &mut self.listed {
            listed.remove(name);
        }
    }

    /// Completes the list. Returns those of the `known` names that are gone, which are none if the list is suspect.
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
        let is_short = missing.len() > MISSING_BELIEVED && missing.len() * 2 > known_count;
        if is_short && !self.is_doubtful {
            self.is_doubtful = true;
            let end = ListEnd::Doubted { missing: missing.len(), listed: listed.len() };
            return (end, Vec::new());
        }
        self.is_doubtful = false;
        (ListEnd::Believed, missing)
    }
}
