//! Decision which of KECS's namespaces are zones: those that CoreDNS has a server block for.
//!
//! An alias does not contain the kind of its namespace. KECS gives CoreDNS a server block for each DNS namespace and
//! none for an HTTP namespace, so a namespace without a block is an HTTP namespace: served as a zone, it could take a
//! domain that is in use from the whole cluster. A block of our own counts too, because it replaces KECS's when a user
//! removes that. If this server writes no blocks, a block of any author counts. A namespace that was a zone remains
//! one as long as an alias names it, so that it is served between the removal of KECS's block and the creation of the
//! next one.

use std::collections::{BTreeMap, BTreeSet};

use crate::kubernetes::coredns::blocks::Blocks;
use crate::registry::{Shadowed, ShadowedKind};

/// Server blocks from which the kinds of namespaces are derived. If `others_count` is true, blocks of all authors
/// count, not only those of KECS and ours. `had_block` are the zones that had a block at any time since an alias
/// named them.
#[derive(Default)]
pub(super) struct Zones {
    blocks: Blocks,
    others_count: bool,
    had_block: BTreeSet<String>,
}

impl Zones {
    pub(super) fn new(others_count: bool) -> Zones {
        Zones { others_count, ..Zones::default() }
    }

    pub(super) fn set_blocks(&mut self, blocks: Blocks) -> bool {
        let is_new = self.blocks != blocks;
        self.blocks = blocks;
        is_new
    }

    /// Sets the kind of the namespace in each service. A namespace without a block is HTTP; otherwise the kind in the
    /// annotation of any of its aliases counts.
    pub(super) fn set_kinds(&mut self, wanted: &mut [Shadowed]) {
        let mut kinds: BTreeMap<String, ShadowedKind> = BTreeMap::new();
        for one in &*wanted {
            let kind = kinds.entry(zone_of(one)).or_default();
            if one.namespace_kind != ShadowedKind::DnsPrivate {
                *kind = one.namespace_kind;
            }
        }
        self.had_block.retain(|zone| kinds.contains_key(zone));
        for (zone, kind) in &mut kinds {
            if self.has_block(zone) {
                self.had_block.insert(zone.clone());
            } else if !self.had_block.contains(zone) {
                *kind = ShadowedKind::Http;
            }
        }
        for one in wanted {
            one.namespace_kind = kinds.get(&zone_of(one)).copied().unwrap_or(ShadowedKind::Http);
        }
    }

    /// Sentences about namespaces that are not zones, and about zones for which KECS has a block but no alias.
    pub(super) fn missing(&self, services: &[Shadowed]) -> BTreeSet<String> {
        let zones: BTreeSet<String> = services.iter().map(zone_of).collect();
        let http = services.iter().filter(|one| !one.namespace_kind.is_dns()).map(|one| {
            let Shadowed { namespace_name, namespace, .. } = one;
            format!(
                "{namespace_name} ({namespace}) is an HTTP namespace: CoreDNS has no block of KECS's for it"
            )
        });
        let empty = self.blocks.kecs.iter().filter(|(zone, _)| !zones.contains(*zone));
        let empty = empty.map(|(zone, id)| {
            format!(
                "{zone} ({id}) is not here: KECS has a block for it, and there is no alias of a service in it"
            )
        });
        http.chain(empty).collect()
    }

    fn has_block(&self, zone: &str) -> bool {
        let Blocks { kecs, own, others } = &self.blocks;
        kecs.contains_key(zone) || own.contains(zone) || (self.others_count && others.contains(zone))
    }
}

fn zone_of(one: &Shadowed) -> String {
    one.namespace_name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_in(zone: &str) -> Shadowed {
        Shadowed {
            namespace: "ns-1".into(),
            namespace_name: zone.into(),
            namespace_kind: ShadowedKind::DnsPrivate,
            service: "srv-1".into(),
            service_name: "web".into(),
            created_ms: 0,
        }
    }

    fn kind(zones: &mut Zones, zone: &str) -> ShadowedKind {
        let mut wanted = [service_in(zone)];
        zones.set_kinds(&mut wanted);
        wanted[0].namespace_kind
    }

    fn kecs(zone: &str) -> Blocks {
        Blocks { kecs: BTreeMap::from([(zone.into(), "ns-1".into())]), ..Blocks::default() }
    }

    fn own(zone: &str) -> Blocks {
        Blocks { own: BTreeSet::from([zone.into()]), ..Blocks::default() }
    }

    fn others(zone: &str) -> Blocks {
        Blocks { others: BTreeSet::from([zone.into()]), ..Blocks::default() }
    }

    #[test]
    fn a_namespace_with_a_block_of_kecs_or_ours_is_a_zone() {
        for (others_count, blocks, expected) in [
            (false, Blocks::default(), ShadowedKind::Http),
            (false, kecs("demo.local"), ShadowedKind::DnsPrivate),
            (false, own("demo.local"), ShadowedKind::DnsPrivate),
            (false, others("demo.local"), ShadowedKind::Http),
            (true, others("demo.local"), ShadowedKind::DnsPrivate),
            (true, kecs("local"), ShadowedKind::Http),
        ] {
            let mut zones = Zones::new(others_count);
            zones.set_blocks(blocks);
            assert_eq!(kind(&mut zones, "Demo.local."), expected, "{others_count} {:?}", zones.blocks);
        }
    }

    #[test]
    fn a_zone_remains_one_between_the_block_of_kecs_and_ours() {
        let mut zones = Zones::default();
        assert!(zones.set_blocks(kecs("demo.local")));
        assert!(!zones.set_blocks(kecs("demo.local")));
        assert_eq!(kind(&mut zones, "demo.local"), ShadowedKind::DnsPrivate);
        assert!(zones.set_blocks(Blocks::default()));
        assert_eq!(kind(&mut zones, "demo.local"), ShadowedKind::DnsPrivate);
        // The namespace is a zone only as long as an alias names it.
        zones.set_kinds(&mut []);
        assert_eq!(kind(&mut zones, "demo.local"), ShadowedKind::Http);
    }

    #[test]
    fn the_kind_in_one_alias_counts_for_its_namespace() {
        let mut zones = Zones::default();
        zones.set_blocks(kecs("demo.local"));
        let public = Shadowed { namespace_kind: ShadowedKind::DnsPublic, ..service_in("demo.local") };
        let mut wanted = [service_in("demo.local"), public.clone()];
        zones.set_kinds(&mut wanted);
        assert!(wanted.iter().all(|one| one.namespace_kind == ShadowedKind::DnsPublic));
        // Without a block it is not in DNS, although the annotation says DNS_PUBLIC.
        zones.set_blocks(Blocks::default());
        zones.set_kinds(&mut []);
        let mut wanted = [public];
        zones.set_kinds(&mut wanted);
        assert_eq!(wanted[0].namespace_kind, ShadowedKind::Http);
    }

    #[test]
    fn namespaces_that_are_not_in_dns_or_have_no_services_are_named() {
        let mut zones = Zones::default();
        zones.set_blocks(kecs("empty.local"));
        let mut wanted = [service_in("httpspace")];
        zones.set_kinds(&mut wanted);
        let sentences: Vec<_> = zones.missing(&wanted).into_iter().collect();
        assert_eq!(
            sentences,
            [
                "empty.local (ns-1) is not here: KECS has a block for it, and there is no alias of a service in it",
                "httpspace (ns-1) is an HTTP namespace: CoreDNS has no block of KECS's for it",
            ]
        );
    }
}
