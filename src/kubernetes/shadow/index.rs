//! Index of the Services that KECS has written: events of the watch in, services for the registry out.
//!
//! It is plain data without a cluster, clock or registry. The oldest services come first, because the registry accepts
//! the first alias that wants a name or an id, and refuses each later one. Headless Services show what is missing:
//! instances that KECS's API registered, and services whose alias belongs to another one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::kubernetes::follow::{ListEnd, ListTracker};
use crate::registry::Shadowed;

use super::alias::Alias;

/// Limit of the aliases that are kept. Further ones are left out until others are gone and a list is read again.
const ALIASES_MAX: usize = 50_000;

/// Aliases and the headless Services of registered instances, by `namespace/name`.
#[derive(Default)]
pub(super) struct Index {
    aliases: HashMap<Arc<str>, Result<Shadowed, &'static str>>,
    headless: HashMap<Arc<str>, Shadowed>,
    list: ListTracker<Arc<str>>,
    left_out: HashSet<Arc<str>>,
}

/// Effect of an event. `is_new_problem` is true if the alias has a problem that was not reported before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct AliasChange {
    pub(super) is_change: bool,
    pub(super) is_new_problem: bool,
}

impl Index {
    pub(super) fn list_begins(&mut self) {
        self.list.begin();
        self.left_out.clear();
    }

    /// Completes the list. Unless the list is suspect, Services that it lacks are removed.
    pub(super) fn list_ends(&mut self) -> ListEnd {
        let (end, missing) = self.list.end(self.aliases.keys().chain(self.headless.keys()));
        for name in missing {
            self.aliases.remove(&name);
            self.headless.remove(&name);
        }
        end
    }

    pub(super) fn upsert(&mut self, alias: Alias) -> AliasChange {
        let Alias { name, is_alias, found } = alias;
        self.list.listed(&name);
        if !is_alias {
            let was_alias = self.aliases.remove(&name).is_some();
            // A Service without names or ids is somebody else's and is not reported.
            let is_change = match found {
                Ok(found) if self.headless.len() < ALIASES_MAX || self.headless.contains_key(&name) => {
                    self.headless.insert(name, found.clone()) != Some(found)
                }
                _ => self.headless.remove(&name).is_some(),
            };
            return AliasChange { is_change: is_change || was_alias, is_new_problem: false };
        }
        self.headless.remove(&name);
        let old = self.aliases.get(&name);
        if old.is_none() && self.aliases.len() >= ALIASES_MAX {
            if self.left_out.len() < ALIASES_MAX {
                self.left_out.insert(name);
            }
            return AliasChange { is_change: false, is_new_problem: false };
        }
        let is_change = old.and_then(|old| old.as_ref().ok()) != found.as_ref().ok();
        let is_new_problem = found.is_err() && old != Some(&found);
        self.aliases.insert(name, found);
        AliasChange { is_change, is_new_problem }
    }

    /// Removes an alias that was deleted or is not one any more. Returns true if it was in the index.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.list.deleted(name);
        self.left_out.remove(name);
        let was_headless = self.headless.remove(name).is_some();
        self.aliases.remove(name).is_some() || was_headless
    }

    /// All services that the registry should have, the oldest first, in one order at every replica.
    pub(super) fn wanted(&self) -> Vec<Shadowed> {
        let good = self.aliases.iter().filter_map(|(name, found)| Some((name, found.as_ref().ok()?)));
        let mut good: Vec<_> = good.collect();
        good.sort_by_key(|(name, one)| (one.created_ms, *name));
        // Two Services with equal contents are not a conflict.
        let said = |one: &Shadowed| Shadowed { created_ms: 0, ..one.clone() };
        let mut seen = HashSet::new();
        good.retain(|(_, one)| seen.insert(said(one)));
        good.into_iter().map(|(_, one)| one.clone()).collect()
    }

    /// Sentences about services and instances that KECS has created and the registry can't have, as far as Services
    /// show it.
    pub(super) fn missing(&self) -> BTreeSet<String> {
        let services: HashSet<_> = self.aliases.values().flatten().map(|one| &one.service).collect();
        let sentence = |one: &Shadowed| {
            let Shadowed { namespace_name, service_name, service, .. } = one;
            let name = format!("{service_name}.{namespace_name} ({service})");
            if services.contains(service) {
                format!("instances that KECS's API registered in {name} are not here")
            } else {
                format!("{name} is not here: its alias belongs to another service of its name, or is gone")
            }
        };
        self.headless.values().map(sentence).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.aliases.len()
    }

    pub(super) fn malformed(&self) -> usize {
        self.aliases.values().filter(|found| found.is_err()).count()
    }

    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ShadowedKind;

    fn shadowed(namespace: &str, service: &str, created_ms: i64) -> Shadowed {
        Shadowed {
            namespace: format!("ns-{namespace}").as_str().into(),
            namespace_name: namespace.into(),
            namespace_kind: ShadowedKind::DnsPrivate,
            service: format!("srv-{service}").as_str().into(),
            service_name: service.into(),
            created_ms,
        }
    }

    fn alias(name: &str, found: Result<Shadowed, &'static str>) -> Alias {
        Alias { name: name.into(), is_alias: true, found }
    }

    fn wanted(index: &Index) -> Vec<String> {
        index.wanted().into_iter().map(|one| one.service_name).collect()
    }

    const CHANGED: AliasChange = AliasChange { is_change: true, is_new_problem: false };
    const SAME: AliasChange = AliasChange { is_change: false, is_new_problem: false };
    const WRONG: AliasChange = AliasChange { is_change: false, is_new_problem: true };

    #[test]
    fn services_are_wanted_in_order_of_their_age() {
        let mut index = Index::default();
        for (name, service, created_ms) in
            [("b", "young", 3_000), ("c", "old", 1_000), ("a", "old-too", 1_000)]
        {
            assert_eq!(index.upsert(alias(name, Ok(shadowed("a.local", service, created_ms)))), CHANGED);
        }
        assert_eq!(wanted(&index), ["old-too", "old", "young"]);
        // A Service with equal contents in another Kubernetes namespace changes nothing.
        index.upsert(alias("d", Ok(shadowed("a.local", "old", 2_000))));
        assert_eq!(wanted(&index), ["old-too", "old", "young"]);
        assert!(index.remove("c"));
        assert_eq!(wanted(&index), ["old-too", "old", "young"]);
        assert!(index.remove("d"));
        assert_eq!(wanted(&index), ["old-too", "young"]);
        assert!(!index.remove("d"));
    }

    #[test]
    fn an_unchanged_alias_is_no_change_and_a_problem_is_reported_once() {
        let mut index = Index::default();
        let good = || alias("a", Ok(shadowed("a.local", "web", 1)));
        let bad = || alias("a", Err("it has no label"));
        for (seen, expected) in [
            (good(), CHANGED),
            (good(), SAME),
            (bad(), AliasChange { is_change: true, is_new_problem: true }),
            (bad(), SAME),
            (alias("a", Err("it has no annotation")), WRONG),
            (good(), CHANGED),
        ] {
            assert_eq!(index.upsert(seen.clone()), expected, "{seen:?}");
        }
        assert_eq!((index.malformed(), index.len()), (0, 1));
        index.upsert(bad());
        assert_eq!((index.malformed(), wanted(&index).len()), (1, 0));
        assert!(index.remove("a"));
    }

    #[test]
    fn a_list_removes_nothing_before_it_is_complete() {
        let mut index = Index::default();
        for service in ["one", "two"] {
            index.upsert(alias(service, Ok(shadowed("a.local", service, 1))));
        }
        index.list_begins();
        index.upsert(alias("one", Ok(shadowed("a.local", "one", 1))));
        assert_eq!(wanted(&index), ["one", "two"]);
        index.list_begins();
        index.upsert(alias("two", Ok(shadowed("a.local", "two", 1))));
        assert_eq!(index.list_ends(), ListEnd::Accepted);
        assert_eq!(wanted(&index), ["two"]);
    }

    #[test]
    fn headless_services_show_what_is_missing() {
        let mut index = Index::default();
        index.upsert(alias("default/web", Ok(shadowed("a.local", "web", 1))));
        assert_eq!(index.missing(), BTreeSet::new());
        let headless = |name: &str, one| Alias { name: name.into(), is_alias: false, found: Ok(one) };
        let other = Shadowed { service: "srv-other".into(), ..shadowed("b.local", "web", 1) };
        assert_eq!(index.upsert(headless("alocal/web", shadowed("a.local", "web", 1))), CHANGED);
        assert_eq!(index.upsert(headless("blocal/web", other.clone())), CHANGED);
        assert_eq!(index.upsert(headless("blocal/web", other)), SAME);
        let sentences: Vec<_> = index.missing().into_iter().collect();
        assert_eq!(
            sentences,
            [
                "instances that KECS's API registered in web.a.local (srv-web) are not here",
                "web.b.local (srv-other) is not here: its alias belongs to another service of its name, or is gone",
            ]
        );
        assert_eq!((wanted(&index).len(), index.len()), (1, 1));
        assert!(index.remove("blocal/web"));
        assert_eq!(index.missing().len(), 1);
        index.list_begins();
        index.upsert(alias("default/web", Ok(shadowed("a.local", "web", 1))));
        index.list_ends();
        assert_eq!(index.missing(), BTreeSet::new());
    }

    #[test]
    fn a_list_that_lacks_most_is_accepted_the_second_time() {
        let mut index = Index::default();
        for number in 0..20 {
            let service = format!("s-{number}");
            index.upsert(alias(&service, Ok(shadowed("a.local", &service, number))));
        }
        for expected in [20, 0] {
            index.list_begins();
            index.list_ends();
            assert_eq!(wanted(&index).len(), expected);
        }
    }
}
