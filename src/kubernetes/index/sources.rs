//! Lists of one source: when they are complete, and whether they are believed. What is listed goes by its name.

use std::collections::HashSet;
use std::sync::Arc;

/// How many a list may lack and be believed at once, however few it has.
const MISSING_BELIEVED: usize = 5;

/// What became of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListEnd {
    /// What it did not have is gone.
    Believed,
    /// It lacks most of what was known: nothing is gone, and another list is needed.
    Doubted {
        /// Those that were known and that it lacks.
        missing: usize,
        /// Those that it has.
        listed: usize,
    },
}

/// One source.
#[derive(Default)]
pub(in crate::kubernetes) struct Source {
    /// The names of the list that is under way.
    listed: Option<HashSet<Arc<str>>>,
    /// Whether the last complete list was doubted.
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

    /// Ends the list that is under way; returns which of the `known` are gone.
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
