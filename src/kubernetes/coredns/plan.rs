//! Computation of the server blocks for CoreDNS, from the served zones and the blocks of other authors. It is plain
//! data without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::corefile::{Corefile, normalized};
use super::maps::{COREFILE_KEY, CUSTOM_KEY};
use super::settings::CoreDnsMode;

/// Limit of the text that we write, in bytes. A ConfigMap has room for 1 MiB in all keys together.
const TEXT_BYTES_MAX: usize = 700_000;
/// Lines around our block in a Corefile that belongs to somebody else. The block is found by the start of its first
/// line, whichever explanation follows.
const BEGIN: &str = "# cloudmap-dns: begin (cloudmap-dns writes up to its end; changes are lost)";
const END: &str = "# cloudmap-dns: end";
const BEGIN_START: &str = "# cloudmap-dns: begin";
/// Names that other parts of a cluster answer, whatever its Corefile says: the usual domain, reverse names of pods,
/// and the image registry of KECS.
const PROTECTED: [&str; 4] = ["cluster.local", "in-addr.arpa", "ip6.arpa", "registry.kecs.local"];

/// Keys of the ConfigMap `coredns-custom` and Corefile of the ConfigMap `coredns`. Each is `None` if there is none;
/// the Corefile also if it may not be read.
#[derive(Clone, Debug, Default)]
pub(super) struct MapContents {
    pub(super) custom: Option<BTreeMap<String, String>>,
    pub(super) corefile: Option<String>,
}

/// Server blocks that CoreDNS should have, and the zones without a block: clashes with a block of another author, whose
/// location is named; zones that are guarded, with the reason; and the number of zones for which there is no room.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) text: Option<String>,
    pub(super) forwarded: usize,
    pub(super) clashes: BTreeMap<String, String>,
    pub(super) guarded: BTreeMap<String, String>,
    pub(super) left_out: usize,
}

pub(super) fn plan_blocks(
    mode: CoreDnsMode,
    zones: &BTreeSet<String>,
    forward: SocketAddr,
    cluster_domain: Option<&str>,
    contents: &MapContents,
) -> Plan {
    let mut others: BTreeMap<String, String> = BTreeMap::new();
    let mut cluster: BTreeSet<String> = PROTECTED.into_iter().chain(cluster_domain).map(normalized).collect();
    if let Some(text) = &contents.corefile {
        let text = match mode {
            CoreDnsMode::Corefile => without_block(text).unwrap_or_else(|| text.clone()),
            CoreDnsMode::Custom => text.clone(),
        };
        let found = Corefile::read(&text);
        cluster.extend(found.cluster.into_iter().filter(|zone| !zone.is_empty()));
        let location = format!("{COREFILE_KEY} of ConfigMap coredns");
        others.extend(found.zones.into_iter().map(|zone| (zone, location.clone())));
    }
    for (key, text) in contents.custom.iter().flatten() {
        // Other keys, such as `*.override`, are parts of blocks and are not read as blocks.
        if key.ends_with(".server") && !(key == CUSTOM_KEY && mode == CoreDnsMode::Custom) {
            let location = format!("{key} of ConfigMap coredns-custom");
            others.extend(Corefile::read(text).zones.into_iter().map(|zone| (zone, location.clone())));
        }
    }
    let mut plan = Plan::default();
    let mut text = String::new();
    for zone in zones {
        if let Some(why) = protection_reason(zone, &cluster) {
            plan.guarded.insert(zone.clone(), why);
            continue;
        }
        if let Some(location) = others.get(zone) {
            plan.clashes.insert(zone.clone(), location.clone());
            continue;
        }
        let block = format!("{zone}:53 {{\n    errors\n    forward . {forward}\n}}\n");
        if text.len() + block.len() > TEXT_BYTES_MAX {
            plan.left_out += 1;
            continue;
        }
        text.push_str(&block);
        plan.forwarded += 1;
    }
    plan.text = (!text.is_empty()).then_some(text);
    plan
}

/// Reason why a zone must not be forwarded: it would take names from others that answer them. `None` if there is none.
fn protection_reason(zone: &str, cluster: &BTreeSet<String>) -> Option<String> {
    let is_below = |name: &str, parent: &str| {
        parent.is_empty()
            || name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if zone.is_empty() || zone == "local" {
        return Some("it is a parent of names that others answer".into());
    }
    if !zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Some("its name can't be written in a Corefile".into());
    }
    let own = cluster.iter().find(|own| is_below(zone, own) || is_below(own, zone))?;
    Some(format!("it would take names from {own}, which the cluster answers itself"))
}

/// The Corefile with `text` as our block; `None` if there is nothing to change. Text of others is kept.
pub(super) fn with_block(corefile: &str, text: Option<&str>) -> Result<Option<String>, &'static str> {
    let rest = without_block(corefile).ok_or("the marks around the block of cloudmap-dns are damaged")?;
    let Some(text) = text else { return Ok((rest != corefile).then_some(rest)) };
    let block = format!("{BEGIN}\n{text}{END}\n");
    if corefile.matches(BEGIN_START).count() == 1 && corefile.contains(&block) {
        return Ok(None);
    }
    let separator = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    Ok(Some(format!("{rest}{separator}{block}")))
}

/// The Corefile without the text between our marks; `None` if a mark lacks its counterpart.
pub(super) fn without_block(corefile: &str) -> Option<String> {
    let mut rest = String::with_capacity(corefile.len());
    let mut is_inside = false;
    for line in corefile.split_inclusive('\n') {
        let mark = line.trim();
        match (mark.starts_with(BEGIN_START), mark == END) {
            (true, _) if is_inside => return None,
            (true, _) => is_inside = true,
            (_, true) if !is_inside => return None,
            (_, true) => is_inside = false,
            _ if is_inside => {}
            _ => rest.push_str(line),
        }
    }
    (!is_inside).then_some(rest)
}

/// Text between our marks in a Corefile; empty if there are no marks.
pub(super) fn own_block(corefile: &str) -> String {
    let after = corefile.lines().skip_while(|line| !line.trim().starts_with(BEGIN_START)).skip(1);
    after.take_while(|line| line.trim() != END).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARD: &str = "10.43.0.53:53";

    fn set(zones: &[&str]) -> BTreeSet<String> {
        zones.iter().map(ToString::to_string).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect()
    }

    fn block(zone: &str) -> String {
        format!("{zone}:53 {{\n    errors\n    forward . {FORWARD}\n}}\n")
    }

    #[derive(Default)]
    struct Case<'a> {
        mode: Option<CoreDnsMode>,
        zones: &'a [&'a str],
        custom: &'a [(&'a str, &'a str)],
        corefile: Option<&'a str>,
        cluster_domain: Option<&'a str>,
        forwarded: &'a [&'a str],
        clashes: &'a [&'a str],
        guarded: &'a [&'a str],
    }

    impl Case<'_> {
        fn check(&self) {
            let contents =
                MapContents { custom: Some(map(self.custom)), corefile: self.corefile.map(Into::into) };
            let mode = self.mode.unwrap_or(CoreDnsMode::Custom);
            let forward = FORWARD.parse().unwrap();
            let found = plan_blocks(mode, &set(self.zones), forward, self.cluster_domain, &contents);
            let text: String = self.forwarded.iter().map(|zone| block(zone)).collect();
            assert_eq!(found.text, (!text.is_empty()).then_some(text), "{:?}", self.zones);
            assert_eq!(found.forwarded, self.forwarded.len());
            assert_eq!(found.clashes.keys().cloned().collect::<BTreeSet<_>>(), set(self.clashes));
            assert_eq!(found.guarded.keys().cloned().collect::<BTreeSet<_>>(), set(self.guarded));
        }
    }

    #[test]
    fn each_zone_has_one_block_in_order_of_names() {
        Case { zones: &["b.test", "a.test"], forwarded: &["a.test", "b.test"], ..Case::default() }.check();
        Case::default().check();
    }

    #[test]
    fn a_zone_with_a_block_of_another_author_is_left_out() {
        let kecs = "demo.local:53 {\n    errors\n    cache 30\n}\n";
        let case = || Case { zones: &["a.test", "demo.local"], ..Case::default() };
        Case {
            custom: &[("kecs-ns-1.server", kecs)],
            forwarded: &["a.test"],
            clashes: &["demo.local"],
            ..case()
        }
        .check();
        // Keys in `.override` have no blocks, and our own key does not clash with itself.
        let both = &["a.test", "demo.local"];
        Case { custom: &[("x.override", kecs), (CUSTOM_KEY, kecs)], forwarded: both, ..case() }.check();
        Case { corefile: Some(kecs), forwarded: &["a.test"], clashes: &["demo.local"], ..case() }.check();
        let corefile = Some(CoreDnsMode::Corefile);
        let own = format!("{BEGIN}\n{kecs}{END}\n");
        Case { mode: corefile, corefile: Some(&own), forwarded: both, ..case() }.check();
        Case { corefile: Some(&own), forwarded: &["a.test"], clashes: &["demo.local"], ..case() }.check();
    }

    #[test]
    fn names_that_the_cluster_answers_are_never_forwarded() {
        let zones = &["local", "cluster.local", "svc.cluster.local", "kecs.local", "arpa", "10.in-addr.arpa"];
        Case { zones, guarded: zones, ..Case::default() }.check();
        let fine = &["acluster.local", "demo.local", "test"];
        Case { zones: fine, forwarded: fine, ..Case::default() }.check();
        let zones = &["corp.example", "example", "demo.example"];
        let guarded = &["corp.example", "example"];
        let case = || Case { zones, guarded, forwarded: &["demo.example"], ..Case::default() };
        Case { cluster_domain: Some("corp.example"), ..case() }.check();
        Case { corefile: Some(".:53 {\n  kubernetes corp.example in-addr.arpa\n}\n"), ..case() }.check();
    }

    #[test]
    fn zones_without_room_are_left_out_and_counted() {
        let zones: BTreeSet<String> = (0..20_000).map(|number| format!("z{number:05}.test")).collect();
        let forward = FORWARD.parse().unwrap();
        let found = plan_blocks(CoreDnsMode::Custom, &zones, forward, None, &MapContents::default());
        assert!(found.text.unwrap().len() <= TEXT_BYTES_MAX);
        assert_eq!(found.forwarded + found.left_out, zones.len());
        assert!(found.left_out > 0);
    }

    #[test]
    fn only_our_block_in_a_corefile_is_changed() {
        let theirs = ".:53 {\n    errors\n}\n";
        let ours = block("a.test");
        let with = with_block(theirs, Some(&ours)).unwrap().unwrap();
        assert_eq!(with, format!("{theirs}{BEGIN}\n{ours}{END}\n"));
        assert_eq!(with_block(&with, Some(&ours)), Ok(None));
        let other = block("b.test");
        let changed = with_block(&with, Some(&other)).unwrap().unwrap();
        assert_eq!(changed, format!("{theirs}{BEGIN}\n{other}{END}\n"));
        assert_eq!(with_block(&changed, None), Ok(Some(theirs.into())));
        assert_eq!(with_block(theirs, None), Ok(None));
        // Text after our block is kept, even if it lacks a final line break.
        let after = format!("{with}# more\nb.test {{\n}}");
        let moved = with_block(&after, Some(&other)).unwrap().unwrap();
        assert_eq!(moved, format!("{theirs}# more\nb.test {{\n}}\n{BEGIN}\n{other}{END}\n"));
        for damaged in [format!("{theirs}{BEGIN}\n{ours}"), format!("{theirs}{END}\n")] {
            assert!(with_block(&damaged, Some(&ours)).is_err());
        }
    }
}
