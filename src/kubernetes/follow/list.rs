//! Contents of a list, and the decision if it is accepted when it is complete.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;

/// Names that a list may lack without being suspect, however few are known.
const MISSING_ACCEPTED_MAX: usize = 5;

/// Outcome of a complete list. If it is accepted, the names that it lacks no longer exist. If it is suspect,
/// because it lacks most of the known names, nothing is removed, and another list is needed; `missing` and `listed`
/// are the numbers of names that it lacks and has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum ListEnd {
    Accepted,
    Suspect { missing: usize, listed: usize },
}

/// Names in the list that is being read. `was_suspect` is true if the last complete list was suspect, so that the
/// next one is accepted.
#[derive(Debug)]
pub(crate) struct ListTracker<N> {
    listed: Option<HashSet<N>>,
    was_suspect: bool,
}

impl<N> Default for ListTracker<N> {
    fn default() -> ListTracker<N> {
        ListTracker { listed: None, was_suspect: false }
    }
}

impl<N: Clone + Eq + Hash> ListTracker<N> {
    /// Starts a list. An unfinished earlier list is discarded.
    pub(crate) fn begin(&mut self) {
        self.listed = Some(HashSet::new());
    }

    pub(crate) fn listed(&mut self, name: &N) {
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
    }

    pub(crate) fn deleted<Q: Eq + Hash + ?Sized>(&mut self, name: &Q)
    where
        N: Borrow<Q>,
    {
        if let Some(listed) = &mut self.listed {
            listed.remove(name);
        }
    }

    /// Completes the list. Returns the `known` names that it lacks, which are none if the list is suspect.
    pub(crate) fn end<'k>(&mut self, known: impl Iterator<Item = &'k N>) -> (ListEnd, Vec<N>)
    where
        N: 'k,
    {
        let mut known_count = 0;
        let known = known.inspect(|_| known_count += 1);
        let listed = self.listed.as_ref().map_or(0, HashSet::len);
        let missing = self.accept(known, |name| name);
        let missing: Vec<N> = missing.cloned().collect();
        let lacks_most = missing.len() > MISSING_ACCEPTED_MAX && missing.len() * 2 > known_count;
        if lacks_most && !self.was_suspect {
            self.was_suspect = true;
            return (ListEnd::Suspect { missing: missing.len(), listed }, Vec::new());
        }
        self.was_suspect = false;
        (ListEnd::Accepted, missing)
    }

    /// Completes the list and accepts it, however much it lacks. Returns the `known` objects whose name it lacks.
    pub(crate) fn accept<T>(
        &mut self,
        known: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &N,
    ) -> impl Iterator<Item = T> {
        let listed = self.listed.take().unwrap_or_default();
        known.filter(move |one| !listed.contains(name(one)))
    }
}
