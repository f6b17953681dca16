//! Instances of a service whose ids make a given name, found without an index.
//!
//! Instances are sorted by the bytes of their ids, so those with one prefix are neighbours. A search walks down these
//! prefixes and leaves out every group whose next byte cannot lead to the name: its cost is that of a few binary searches
//! for each byte of the name, however many instances the service has.

use crate::model::Instance;

use super::target::{Room, readable_part};

/// The instances whose ids are this one, but for the case of ASCII letters.
pub(super) fn in_any_case<'s>(instances: &'s [Instance], id: &str) -> Vec<&'s Instance> {
    let id = id.as_bytes();
    let mut found = Vec::new();
    let step =
        |at: usize, byte: u8| id.get(at).is_some_and(|own| own.eq_ignore_ascii_case(&byte)).then_some(at + 1);
    walk(instances, 0, 0, &step, &|at| at == id.len(), &mut found);
    found
}

/// The instances from whose ids this label, in lower case, is derived.
pub(super) fn derived<'s>(instances: &'s [Instance], room: Room, label: &str) -> Vec<&'s Instance> {
    let Some(readable) = readable_part(label) else { return Vec::new() };
    let mut found = Vec::new();
    // Every id whose readable part can begin like the label's; what is left is compared as a whole.
    let step = |at: Reading, byte: u8| at.next(readable.as_bytes(), room.readable_bytes_max(), byte);
    walk(instances, 0, Reading::default(), &step, &|_| true, &mut found);
    found.retain(|instance| room.derived(instance.id()).as_deref() == Some(label));
    found
}

/// Progress of an id through a label's readable part.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// Bytes of the readable part.
    read: usize,
    /// Hyphens after it: they are trimmed from the id's end, or the id is cut behind them.
    hyphens: usize,
    /// True if the byte before was neither a letter nor a digit nor a hyphen.
    is_run: bool,
}

impl Reading {
    fn next(self, readable: &[u8], readable_max: usize, byte: u8) -> Option<Reading> {
        let is_kept = byte.is_ascii_alphanumeric() || byte == b'-';
        let made = if is_kept { byte.to_ascii_lowercase() } else { b'-' };
        let next = Reading { is_run: !is_kept, ..self };
        if (self.is_run && !is_kept) || self.read + self.hyphens >= readable_max {
            return Some(next);
        }
        match readable.get(self.read) {
            Some(wanted) if *wanted == made => Some(Reading { read: self.read + 1, ..next }),
            // Hyphens at the id's beginning are trimmed.
            Some(_) => (made == b'-' && self.read == 0).then_some(next),
            None => (made == b'-').then_some(Reading { hyphens: self.hyphens + 1, ..next }),
        }
    }
}

/// Collects the instances whose ids lead `step` from `state` to an end; the ids have their first `at` bytes in common.
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

    /// Room for names of so many bytes in front of a service's.
    fn room(bytes: usize) -> Room {
        let kind = NamespaceKind::DnsPrivate { vpc: "vpc-1".into() };
        let zone = "z".repeat(252 - bytes);
        let namespace: Namespace = samples::namespace("ns-1".into(), &zone, kind);
        let service: Service = samples::service("srv-1".into(), "ns-1".into(), ".");
        Room::of(&service, &namespace)
    }

    #[test]
    fn searches_find_what_a_scan_of_all_ids_finds() {
        let mut random = fastrand::Rng::with_seed(11);
        let characters = ['a', 'b', 'A', 'B', '-', '.', ':', '_', '1'];
        let id = |random: &mut fastrand::Rng| -> String {
            let len = random.usize(1..8);
            (0..len).map(|_| characters[random.usize(..characters.len())]).collect()
        };
        for bytes in [12, 14, 16, 100] {
            let room = room(bytes);
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
                let label = room.derived(instances[random.usize(..instances.len())].id()).unwrap();
                let is_source = |one: &&Instance| room.derived(one.id()).as_deref() == Some(&label);
                let scanned: Vec<&str> = instances.iter().filter(is_source).map(Instance::id).collect();
                let found: Vec<&str> = derived(&instances, room, &label).iter().map(|one| one.id()).collect();
                assert_eq!((found.len(), &found), (1, &scanned), "{label}");
            }
        }
        assert!(derived(&instances(["a".into()]), room(100), "a-b").is_empty());
    }
}
