//! Random zones whose names consist of four labels, and directories that are built from them or edited from one world into
//! the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cloudmap_dns::zone::contents::{Contents, OwnerRecords};
use cloudmap_dns::zone::master_file::{Located, Place};
use cloudmap_dns::zone::{
    DirectoryWriter, HostSource, Leaf, LeafSource, LeafType, Name, Record, RecordType, Rrset, Selection,
    ZoneNames,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::model::{self, Labels, Service, Zone};

const ALPHABET: [&str; 4] = ["a", "b", "c", "*"];
/// Apexes of the zones: some are below others, some are siblings.
const APEXES: [&[&str]; 6] = [&[], &["a"], &["b"], &["a", "a"], &["b", "a"], &["c", "b", "a"]];
const DEPTH_MAX: usize = 4;

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) zones: Vec<Zone>,
    contents: Vec<Contents>,
}

/// Prints the zones as zone files and services, so that a failure that proptest has shrunk can be read.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for zone in &self.zones {
            writeln!(f, "\n; zone {}.", model::text(&zone.apex))?;
            for model::Record { owner, rtype, ttl, rdata } in &zone.records {
                let owner = name_of(owner, false);
                let record = Record { owner, rtype: *rtype, ttl: *ttl, rdata: rdata.clone().into() };
                writeln!(f, "{record}")?;
            }
            zone.services.iter().try_for_each(|service| writeln!(f, "{service:?}"))?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct TargetSpec {
    labels: Vec<usize>,
    kind: TargetKind,
    upper: bool,
}

#[derive(Clone, Copy, Debug)]
enum TargetKind {
    InZone,
    UnderRoot,
    Elsewhere,
    /// A name of this many bytes in wire format, so long that a DNAME to it overflows when labels are prepended.
    Long(usize),
}

#[derive(Clone, Debug)]
struct RecordSpec {
    owner: Vec<usize>,
    rtype: RecordType,
    ttl: u32,
    target: TargetSpec,
}

#[derive(Clone, Debug)]
struct ServiceSpec {
    name: Vec<usize>,
    types: &'static [RecordType],
    is_one: bool,
    hosts: Vec<HostSpec>,
}

#[derive(Clone, Debug)]
struct HostSpec {
    labels: Vec<(usize, bool)>,
    ipv4: Option<u8>,
    ipv6: Option<u8>,
    port: Option<u16>,
    target: TargetSpec,
    served: bool,
}

type ZoneSpec = (Vec<RecordSpec>, Vec<ServiceSpec>);

fn target() -> impl Strategy<Value = TargetSpec> {
    let kind = prop_oneof![
        8 => Just(TargetKind::InZone),
        3 => Just(TargetKind::UnderRoot),
        1 => Just(TargetKind::Elsewhere),
        1 => (238usize..=253).prop_map(TargetKind::Long),
    ];
    (vec(0usize..4, 0..=3), kind, any::<bool>()).prop_map(|(labels, kind, upper)| TargetSpec {
        labels,
        kind,
        upper,
    })
}

fn record() -> impl Strategy<Value = RecordSpec> {
    let rtype = prop_oneof![
        4 => Just(RecordType::A),
        1 => Just(RecordType::AAAA),
        1 => Just(RecordType::TXT),
        5 => Just(RecordType::CNAME),
        2 => Just(RecordType::NS),
        1 => Just(RecordType::DS),
        2 => Just(RecordType::DNAME),
        1 => Just(RecordType::SRV),
        2 => Just(RecordType::MX),
        1 => Just(RecordType::HTTPS),
        1 => Just(RecordType(65_280)),
    ];
    (vec(0usize..4, 0..=DEPTH_MAX), rtype, 1u32..4, target())
        .prop_map(|(owner, rtype, ttl, target)| RecordSpec { owner, rtype, ttl: ttl * 60, target })
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    const KINDS: [&[RecordType]; 7] = [
        &[RecordType::A],
        &[RecordType::AAAA],
        &[RecordType::A, RecordType::AAAA],
        &[RecordType::SRV],
        &[RecordType::SRV, RecordType::A],
        &[RecordType::CNAME],
        // PTR is only a mark: the hosts of such a service have a target and no address, which makes them aliases.
        &[RecordType::A, RecordType::AAAA, RecordType::PTR],
    ];
    let host = (
        vec((0usize..3, any::<bool>()), 0..=2),
        proptest::option::weighted(0.8, 1u8..6),
        proptest::option::weighted(0.4, 1u8..4),
        proptest::option::weighted(0.9, 80u16..83),
        target(),
        proptest::bool::weighted(0.7),
    );
    let host = host
        .prop_map(|(labels, ipv4, ipv6, port, target, served)| HostSpec {
            labels,
            ipv4,
            ipv6,
            port,
            target,
            served,
        })
        .boxed();
    let hosts = prop_oneof![4 => vec(host.clone(), 0..5), 1 => vec(host, 9..24)];
    (vec(0usize..3, 0..=2), proptest::sample::select(&KINDS[..]), any::<bool>(), hosts)
        .prop_map(|(name, types, is_one, hosts)| ServiceSpec { name, types, is_one, hosts })
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let zone = (vec(record(), 0..24), vec(service(), 0..3));
    btree_map(0..APEXES.len(), zone, 1..4).prop_map(|zones| World::new(&zones))
}

pub(crate) fn all_names(depth: usize) -> Vec<Labels> {
    let mut names = vec![Labels::new()];
    let mut level = names.clone();
    for _ in 0..depth {
        let children = |name: &Labels| ALPHABET.map(|label| [vec![label.to_string()], name.clone()].concat());
        level = level.iter().flat_map(children).collect();
        names.extend(level.iter().cloned());
    }
    names
}

pub(crate) fn name_of(labels: &[String], upper: bool) -> Name {
    let labels = labels.iter().map(|label| if upper { label.to_uppercase() } else { label.clone() });
    Name::from_labels(labels.collect::<Vec<_>>().iter().map(String::as_bytes)).unwrap()
}

fn labels(picks: &[usize], suffix: &[String]) -> Labels {
    picks.iter().map(|pick| ALPHABET[*pick].to_string()).chain(suffix.iter().cloned()).collect()
}

fn target_name(target: &TargetSpec, apex: &[String]) -> Name {
    let elsewhere = ["out".to_string(), "example".to_string()];
    let labels = match target.kind {
        TargetKind::InZone => labels(&target.labels, apex),
        TargetKind::UnderRoot => labels(&target.labels, &[]),
        TargetKind::Elsewhere => labels(&target.labels, &elsewhere),
        TargetKind::Long(octets) => {
            // Labels of 63 bytes and a shorter first one, which together have the requested length in wire format.
            let mut rest = octets - 1 - apex.iter().map(|label| label.len() + 1).sum::<usize>();
            let mut labels = apex.to_vec();
            while rest > 1 {
                let label = if rest == 65 { 62 } else { (rest - 1).min(63) };
                labels.insert(0, "l".repeat(label));
                rest -= label + 1;
            }
            labels
        }
    };
    name_of(&labels, target.upper)
}

fn rdata(rtype: RecordType, target: &TargetSpec, apex: &[String]) -> Vec<u8> {
    let name = target_name(target, apex);
    let number = target.labels.iter().sum::<usize>() as u8;
    match rtype {
        RecordType::A => vec![10, 0, 0, number],
        RecordType::AAAA => [&[0xfd; 15][..], &[number]].concat(),
        RecordType::TXT => vec![1, b'0' + number],
        RecordType::DS => vec![0, number, 8, 2, 1, 2, 3, 4],
        RecordType::SRV => [&[0, number, 0, 1, 0, 80], name.as_wire()].concat(),
        RecordType::MX => [&[0, number], name.as_wire()].concat(),
        // The root as the target means the owner name (RFC 9460 §2.5).
        RecordType::HTTPS if number == 0 => vec![0, 1, 0],
        RecordType::HTTPS => [&[0, 1], name.as_wire()].concat(),
        RecordType::CNAME | RecordType::DNAME | RecordType::NS => name.as_wire().to_vec(),
        _ => vec![0xde, 0xad, number],
    }
}

impl World {
    /// Builds the zones from those generated records and services that may be together in a zone.
    fn new(specs: &BTreeMap<usize, ZoneSpec>) -> World {
        let mut world = World { zones: Vec::new(), contents: Vec::new() };
        for (apex, (records, services)) in specs {
            let apex: Labels = APEXES[*apex].iter().map(|label| label.to_string()).collect();
            let services = services_of(services, &apex);
            let (records, contents) = records_of(records, &apex, &services);
            world.zones.push(Zone::new(apex, records, services));
            world.contents.push(contents);
        }
        world
    }

    fn parts(&self, at: usize) -> (BTreeMap<Labels, Vec<Rrset>>, &[Service]) {
        let mut owners = BTreeMap::<Labels, Vec<Rrset>>::new();
        for owned in self.contents[at].rrsets() {
            owners.entry(model::labels_of(owned.owner.as_wire())).or_default().push(owned.rrset.clone());
        }
        (owners, &self.zones[at].services)
    }
}

fn services_of(specs: &[ServiceSpec], apex: &[String]) -> Vec<Service> {
    let mut services = BTreeMap::new();
    for spec in specs {
        let name = labels(&spec.name, apex);
        let is_cname = spec.types == [RecordType::CNAME];
        let is_alias = spec.types.contains(&RecordType::PTR);
        let mut ids = BTreeSet::new();
        let mut has_target = false;
        let mut hosts: Vec<HostSource> = Vec::new();
        for host in &spec.hosts {
            let octets = |(pick, upper): &(usize, bool)| {
                let label = ALPHABET[*pick];
                [1, label.as_bytes()[0] ^ if *upper { 0x20 } else { 0 }]
            };
            let id: Vec<u8> = host.labels.iter().flat_map(octets).collect();
            // Hosts with port 82 have a second name, which SRV records do not point to.
            let others = host.labels.iter().map(|(pick, upper)| ((pick + 1) % 3, !upper));
            let own: Vec<_> = others.chain([(host.labels.len(), false)]).take(2).collect();
            let has_own = host.port == Some(82);
            let own_labels: Vec<u8> = own.iter().filter(|_| has_own).flat_map(octets).collect();
            // Keep only one served host with a target: of several, the server draws one that the model can't predict.
            let is_second = (is_cname || is_alias) && host.served && std::mem::replace(&mut has_target, true);
            if is_second || !ids.insert(id.clone()) {
                continue;
            }
            let has_address = !is_cname && !is_alias;
            hosts.push(HostSource {
                labels: id,
                own_labels,
                ipv4: host.ipv4.filter(|_| has_address).map(|last| Ipv4Addr::new(10, 1, 0, last)),
                ipv6: host.ipv6.filter(|_| has_address).map(|last| Ipv6Addr::from([u16::from(last); 8])),
                port: host.port,
                target: (!has_address).then(|| target_name(&host.target, apex)),
                served: host.served,
                ..HostSource::default()
            });
        }
        let records = spec.types.iter().filter(|rtype| **rtype != RecordType::PTR);
        let records = records.zip([30, 40]).map(|(rtype, ttl)| (*rtype, ttl)).collect();
        let selection = if spec.is_one { Selection::One } else { Selection::Multivalue };
        services.insert(name.clone(), Service { name, records, selection, hosts });
    }
    services.into_values().collect()
}

/// The generated records that are valid in a zone with these services: none is at a service's name, and no zone cut or DNAME
/// occludes a service.
fn records_of(specs: &[RecordSpec], apex: &Labels, services: &[Service]) -> (Vec<model::Record>, Contents) {
    let origin = name_of(apex, false);
    let file: Arc<Path> = Path::new("model.zone").into();
    let check = |records: &[model::Record]| {
        let located = records.iter().map(|record| Located {
            value: Record {
                owner: name_of(&record.owner, record.ttl == 120),
                rtype: record.rtype,
                ttl: record.ttl,
                rdata: record.rdata.clone().into(),
            },
            place: Place { file: file.clone(), line: 1, column: 1 },
        });
        let contents = Contents::new(located.collect());
        contents.check_whole(&origin, &file).map(|_| contents)
    };
    let minimum = 10 * (1 + apex.len() as u32);
    let soa = [&[0, 0][..], &[0; 16], &minimum.to_be_bytes()].concat();
    let server = name_of(&labels(&[0], apex), false).as_wire().to_vec();
    let new = |rtype, ttl, rdata| model::Record { owner: apex.clone(), rtype, ttl, rdata };
    let mut records = vec![new(RecordType::SOA, 25, soa), new(RecordType::NS, 60, server)];
    let mut contents = check(&records).unwrap();
    for spec in specs {
        let keep = spec.owner.len().min(DEPTH_MAX.saturating_sub(apex.len()));
        let owner = labels(&spec.owner[spec.owner.len() - keep..], apex);
        let occludes = matches!(spec.rtype, RecordType::NS | RecordType::DNAME);
        let hides = |service: &Service| {
            service.name == owner
                || (occludes && owner != *apex && service.name.ends_with(&owner))
                || (spec.rtype == RecordType::DNAME && owner == *apex)
        };
        // RFC 4592 §4.2 and §4.4 leave undefined what NS and DNAME at a wildcard mean.
        let is_undefined = occludes && owner.first().is_some_and(|label| label == "*");
        if is_undefined || services.iter().any(hides) {
            continue;
        }
        let rdata = rdata(spec.rtype, &spec.target, apex);
        records.push(model::Record { owner, rtype: spec.rtype, ttl: spec.ttl, rdata });
        match check(&records) {
            Ok(checked) => contents = checked,
            Err(_) => drop(records.pop()),
        }
    }
    (records, contents)
}

#[derive(Clone)]
enum Edit {
    PutZone {
        has_cuts: bool,
    },
    RemoveZone,
    Rrsets(Labels, Vec<Rrset>),
    /// Replaces all records of a zone without services: the old ones by the new ones.
    Records(Contents, Contents),
    Leaf(Labels, Option<Service>),
}

fn apply(directory: &mut DirectoryWriter, apex: &[String], edit: Edit, upper: bool) {
    let apex = name_of(apex, upper);
    match edit {
        Edit::PutZone { has_cuts } => {
            let serial =
                directory.zone(&apex).map_or_else(|| Arc::new(AtomicU32::new(1)), |zone| zone.serial.clone());
            directory.put_zone(&apex, serial, has_cuts);
        }
        Edit::RemoveZone => directory.remove_zone(&apex),
        Edit::Rrsets(owner, rrsets) => directory.set_rrsets(&apex, &name_of(&owner, upper), rrsets),
        Edit::Records(old, new) => {
            let names = ZoneNames::new(&apex, old.owners().map(OwnerRecords::owner));
            let records = new.owners().map(|records| (records.owner(), records.rrsets()));
            directory.replace_records(&apex, names, records);
        }
        Edit::Leaf(owner, service) => {
            let cell = service.map(|Service { records, selection, hosts, .. }| {
                let leaf_type = |(rtype, ttl)| Some((LeafType::of(rtype)?, ttl));
                let records = records.into_iter().filter_map(leaf_type).collect();
                Leaf::new(LeafSource { records, ttl_max: None, selection, records_max: 8, hosts })
            });
            directory.set_leaf(&apex, &name_of(&owner, upper), cell);
        }
    }
}

fn has_cuts(zone: &Zone) -> bool {
    zone.records.iter().any(|record| {
        record.rtype == RecordType::DNAME || (record.rtype == RecordType::NS && record.owner != zone.apex)
    })
}

pub(crate) fn build(world: &World) -> DirectoryWriter {
    let mut directory = DirectoryWriter::default();
    for (at, zone) in world.zones.iter().enumerate() {
        apply(&mut directory, &zone.apex, Edit::PutZone { has_cuts: has_cuts(zone) }, false);
        let (owners, services) = world.parts(at);
        if services.is_empty() {
            let edit = Edit::Records(Contents::default(), world.contents[at].clone());
            apply(&mut directory, &zone.apex, edit, false);
            continue;
        }
        for (owner, rrsets) in owners {
            apply(&mut directory, &zone.apex, Edit::Rrsets(owner, rrsets), false);
        }
        for service in services {
            apply(&mut directory, &zone.apex, Edit::Leaf(service.name.clone(), Some(service.clone())), false);
        }
    }
    directory
}

/// Edits the directory of one world into that of another, in a random order and with detours: records and removals that later
/// edits undo.
pub(crate) fn edit(directory: &mut DirectoryWriter, from: &World, to: &World, random: &mut fastrand::Rng) {
    let find = |world: &World, apex: &Labels| world.zones.iter().position(|zone| zone.apex == *apex);
    let apexes: BTreeSet<Labels> = from.zones.iter().chain(&to.zones).map(|zone| zone.apex.clone()).collect();
    let mut queues = Vec::new();
    for apex in apexes {
        let (old, new) = (find(from, &apex), find(to, &apex));
        let (old_owners, old_services) = old.map(|at| from.parts(at)).unwrap_or_default();
        let (mut new_owners, new_services) = new.map(|at| to.parts(at)).unwrap_or_default();
        let put = new.map(|at| Edit::PutZone { has_cuts: has_cuts(&to.zones[at]) });
        // Create a zone before its names, and remove names before their zone.
        let mut edits: Vec<Edit> = put.clone().into_iter().collect();
        if old_services.is_empty() && new_services.is_empty() && random.bool() {
            let contents = |world: &World, at: Option<usize>| {
                at.map(|at| world.contents[at].clone()).unwrap_or_default()
            };
            edits.push(Edit::Records(contents(from, old), contents(to, new)));
            edits.extend(new.is_none().then_some(Edit::RemoveZone));
            queues.push(edits.into_iter().map(|edit| (apex.clone(), edit)).collect::<Vec<_>>());
            continue;
        }
        let mut names: Vec<Vec<Edit>> = vec![put.into_iter().collect()];
        let detours: Vec<Labels> = (0..random.usize(..6))
            .map(|_| {
                let picks: Vec<usize> = (0..random.usize(1..4)).map(|_| random.usize(..4)).collect();
                labels(&picks, &apex)
            })
            .collect();
        let owners: BTreeSet<Labels> =
            old_owners.keys().chain(new_owners.keys()).chain(&detours).cloned().collect();
        for owner in owners {
            let detour = || {
                Edit::Rrsets(owner.clone(), vec![Rrset::new(RecordType::TXT, 1, [&b"\x01x"[..]]).unwrap()])
            };
            let mut queue = Vec::new();
            if detours.contains(&owner) || random.u8(..) < 40 {
                queue.push(detour());
            }
            let rrsets = new_owners.remove(&owner).unwrap_or_default();
            if old_owners.get(&owner) != Some(&rrsets) || !queue.is_empty() {
                queue.push(Edit::Rrsets(owner, rrsets));
            }
            names.push(queue);
        }
        let services = old_services.iter().chain(new_services).map(|service| service.name.clone());
        for name in services.collect::<BTreeSet<_>>() {
            let service = new_services.iter().find(|service| service.name == name).cloned();
            let mut queue = vec![Edit::Leaf(name.clone(), service)];
            if random.u8(..) < 60 {
                queue.insert(0, Edit::Leaf(name, None));
            }
            names.push(queue);
        }
        edits.extend(interleave(names, random));
        if new.is_none() {
            edits.push(Edit::RemoveZone);
        }
        queues.push(edits.into_iter().map(|edit| (apex.clone(), edit)).collect::<Vec<_>>());
    }
    for (apex, change) in interleave(queues, random) {
        apply(directory, &apex, change, random.bool());
    }
}

fn interleave<T>(queues: Vec<Vec<T>>, random: &mut fastrand::Rng) -> Vec<T> {
    let mut queues: Vec<_> = queues.into_iter().map(Vec::into_iter).collect();
    let mut order: Vec<usize> =
        queues.iter().enumerate().flat_map(|(at, queue)| vec![at; queue.len()]).collect();
    random.shuffle(&mut order);
    order.into_iter().filter_map(|at| queues[at].next()).collect()
}
