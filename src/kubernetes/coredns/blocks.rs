//! Zones that CoreDNS has server blocks for, by the author of the block.

use std::collections::{BTreeMap, BTreeSet};

use super::corefile::Corefile;
use super::maps::CUSTOM_KEY;
use super::plan::{own_block, without_block};

/// Prefix of the keys of KECS's own blocks, followed by the id of the Cloud Map namespace.
const KECS_PREFIX: &str = "kecs-";
/// Suffix of the keys with server blocks. CoreDNS imports keys in `.override` into the main block instead.
const BLOCK_SUFFIX: &str = ".server";

/// Zones of the server blocks in both ConfigMaps, in lower case and without a final dot. Those of KECS have the id
/// of the Cloud Map namespace from their key.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::kubernetes) struct Blocks {
    pub(in crate::kubernetes) kecs: BTreeMap<String, String>,
    pub(in crate::kubernetes) own: BTreeSet<String>,
    pub(in crate::kubernetes) others: BTreeSet<String>,
}

impl Blocks {
    pub(in crate::kubernetes) fn read(
        custom: Option<&BTreeMap<String, String>>,
        corefile: Option<&str>,
    ) -> Blocks {
        let mut blocks = Blocks::default();
        for (key, text) in custom.into_iter().flatten() {
            let Some(name) = key.strip_suffix(BLOCK_SUFFIX) else { continue };
            let zones = Corefile::read(text).zones;
            if key == CUSTOM_KEY {
                blocks.own.extend(zones);
            } else if let Some(id) = name.strip_prefix(KECS_PREFIX) {
                blocks.kecs.extend(zones.into_iter().map(|zone| (zone, id.to_string())));
            } else {
                blocks.others.extend(zones);
            }
        }
        if let Some(corefile) = corefile {
            let rest = without_block(corefile).unwrap_or_else(|| corefile.to_string());
            blocks.own.extend(Corefile::read(&own_block(corefile)).zones);
            blocks.others.extend(Corefile::read(&rest).zones);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::coredns::plan::with_block;

    #[test]
    fn blocks_are_grouped_by_author() {
        let block = |zone: &str| format!("{zone}:53 {{\n    errors\n    forward . 10.0.0.1\n}}\n");
        let custom = BTreeMap::from([
            ("kecs-ns-1.server".to_string(), block("Demo.local.")),
            ("kecs-ns-2.override".to_string(), block("none.local")),
            (CUSTOM_KEY.to_string(), block("own.local") + &block("b.own.local")),
            ("theirs.server".to_string(), block("theirs.local")),
        ]);
        let corefile = with_block(".:53 {\n    errors\n}\n", Some(&block("main.local"))).unwrap().unwrap();
        let zones = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let expected = Blocks {
            kecs: BTreeMap::from([("demo.local".into(), "ns-1".into())]),
            own: zones(&["own.local", "b.own.local", "main.local"]),
            others: zones(&["theirs.local", ""]),
        };
        assert_eq!(Blocks::read(Some(&custom), Some(&corefile)), expected);
        assert_eq!(Blocks::read(None, None), Blocks::default());
    }
}
