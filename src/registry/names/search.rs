//! Search, without an index, for the instances of a service whose ids result in a given name.
//!
//! Instances are sorted by the bytes of their ids, so instances with a common prefix are neighbours. A search descends along
//! these prefixes and skips every group whose next byte cannot lead to the name. It costs a few binary searches for each
//! byte of the name, however many instances the service has.

use crate::model::Instance;

use super::target::{LabelBudget, readable_part};

pub(super) fn in_any_case<'s>(instances: &'s [Instance], id: &str) -> Vec<&'s Instance> {
    let id = id.as_bytes();
    let mut found = Vec::new();
    let step =
        |at: usize, byte: u8| id.get(at).is_some_and(|own| own.eq_ignore_ascii_case(&byte)).then_some(at + 1);
    walk(instances, 0, 0, &step, &|at| at == id.len(), &mut found);
    found
}

/// Finds the instances from whose ids this label, which is in lower case, is derived.
pub(super) fn derived<'s>(instances: &'s [Instance], budget: LabelBudget, label: &str) -> Vec<&'s Instance> {
    let Some(readable) = readable_part(label) else { return Vec::new() };
    let mut found = Vec::new();
    // Collect every id whose readable part may be the label's, and then compare the whole derived labels.
    let step = |at: Progress, byte: u8| at.next(readable.as_bytes(), budget.readable_bytes_max(), byte);
    walk(instances, 0, Progress::default(), &step, &|_| true, &mut found);
    found.retain(|instance| budget.derived(instance.id()).as_deref() == Some(label));
    found
}

/// Progress along the readable part of a label. `matched` is followed by a number of hyphens, which are trimmed if the id
/// ends, or the label is cut, behind them; `is_run` is true if the previous byte was neither a letter nor a digit nor a
/// hyphen.
#[derive(Clone, Copy, Default)]
struct Progress {
    matched: usize,
    hyphens: usize,
    is_run: bool,
}

impl Progress {
    fn next(self, readable: &[u8], readable_max: usize, byte: u8) -> Option<Progress> {
        let is_kept = byte.is_ascii_alphanumeric() || byte == b'-';
        let made = if is_kept { byte.to_ascii_lowercase() } else { b'-' };
        let next = Progress { is_run: !is_kept, ..self };
        if (self.is_run && !is_kept) || self.matched + self.hyphens >= readable_max {
            return Some(next);
        }
        match readable.get(self.matched) {
            Some(wanted) if *wanted == made => Some(Progress { matched: self.matched + 1, ..next }),
            // Hyphens at the beginning of the id are trimmed, so they match no byte.
            Some(_) => (made == b'-' && self.matched == 0).then_some(next),
            None => (made == b'-').then_some(Progress { hyphens: self.hyphens + 1, ..next }),
        }
    }
}

/// Adds to `found` the instances whose remaining bytes lead `step` from `state` to an end state. The ids of `instances` have
/// their first `at` bytes in common.
fn walk<'s, S: Copy>(
    mut instances: &'s [Instance],
    at: usize,
    state: S,
    step: &impl Fn(S, u8) -> Option<S>,
    is_end: &impl Fn(S) -> bool,
    found: &mut Vec<&'s Instance>,
) {
    let byte_of = |instance: &Instance| instance.id().as_bytes().get(at).copied();
    while let Some(first) = instances.first() {
        let byte = byte_of(first);
        let (group, rest) = instances.split_at(instances.partition_point(|other| byte_of(other) <= byte));
        match byte {
            None if is_end(state) => found.extend(group),
            None => {}
            Some(byte) => {
                if let Some(next) = step(state, byte) {
                    walk(group, at + 1, next, step, is_end, found);
                }
            }
        }
        instances = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attributes, Namespace, NamespaceKind, Service, samples};

    fn instances(ids: impl IntoIterator<Item = String>) -> Vec<Instance> {
        let mut ids: Vec<String> = ids.into_iter().collect();
        ids.sort();
        ids.dedup();
        let made = |id: &String| Instance::new(id, None, &Attributes::default(), None, 1).unwrap();
        ids.iter().map(made).collect()
    }

    fn budget(bytes: usize) -> LabelBudget {
        let kind = NamespaceKind::DnsPrivate { vpc: "vpc-1".into() };
        let zone = "z".repeat(252 - bytes);
        let namespace: Namespace = samples::namespace("ns-1".into(), &zone, kind);
        let service: Service = samples::service("srv-1".into(), "ns-1".into(), ".");
        LabelBudget::of(&service, &namespace)
    }

    #[test]
    fn search_finds_exactly_the_instances_that_a_scan_of_all_ids_finds() {
        let mut random = fastrand::Rng::with_seed(11);
        let characters = ['a', 'b', 'A', 'B', '-', '.', ':', '_', '1'];
        let id = |random: &mut fastrand::Rng| -> String {
            let len = random.usize(1..8);
            (0..len).map(|_| characters[random.usize(..characters.len())]).collect()
        };
        for bytes in [12, 14, 16, 100] {
            let budget = budget(bytes);
            let instances = instances((0..4_000).map(|_| id(&mut random)));
            for _ in 0..300 {
                let wanted = id(&mut random);
                let scanned: Vec<&str> = instances
                    .iter()
                    .map(Instance::id)
                    .filter(|id| id.eq_ignore_ascii_case(&wanted))
                    .collect();
                let found: Vec<&str> = in_any_case(&instances, &wanted).iter().map(|one| one.id()).collect();
                assert_eq!(found, scanned, "{wanted}");
                let label = budget.derived(instances[random.usize(..instances.len())].id()).unwrap();
                let is_source = |one: &&Instance| budget.derived(one.id()).as_deref() == Some(&label);
                let scanned: Vec<&str> = instances.iter().filter(is_source).map(Instance::id).collect();
                let found: Vec<&str> =
                    derived(&instances, budget, &label).iter().map(|one| one.id()).collect();
                assert_eq!((found.len(), &found), (1, &scanned), "{label}");
            }
        }
        assert!(derived(&instances(["a".into()]), budget(100), "a-b").is_empty());
    }
}
