//! Compares lookup and resolution with a naive model, for random zones, all names up to a depth, and many types.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "lookup_model/model.rs"]
mod model;
#[path = "lookup_model/observe.rs"]
mod observe;
#[path = "lookup_model/world.rs"]
mod world;

use std::collections::BTreeSet;

use cloudmap_dns::zone::{Directory, DirectoryWriter, QueryName, RecordType};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use model::{Reply, Step};
use world::World;

const TYPES: [RecordType; 12] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::NS,
    RecordType::SOA,
    RecordType::DS,
    RecordType::DNAME,
    RecordType::SRV,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::ANY,
    RecordType(65_280),
];
/// Number of labels of the longest queried names: one more than any owner name has.
const DEPTH: usize = 5;

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Every name with every type; half of the names are in upper case.
fn questions() -> impl Iterator<Item = (model::Labels, QueryName, RecordType)> {
    let names = world::all_names(DEPTH).into_iter().enumerate().map(|(at, labels)| {
        let name = world::name_of(&labels, at % 2 == 1);
        (labels, QueryName::from(&name))
    });
    names.flat_map(|(labels, name)| TYPES.map(|rtype| (labels.clone(), name.clone(), rtype)))
}

fn all_replies(directory: &Directory) -> Vec<Reply> {
    questions().map(|(_, name, rtype)| observe::reply(directory, &name, rtype)).collect()
}

/// True if the reply is right. An answer to ANY may be any non-empty part of the records (RFC 8482).
fn is_answer(actual: &Reply, expected: &Reply, rtype: RecordType) -> bool {
    let (Some(part), Some(all)) = (actual.answers.last(), expected.answers.last()) else {
        return actual == expected;
    };
    let mut actual = actual.clone();
    if rtype == RecordType::ANY && !part.is_empty() && part.is_subset(all) {
        *actual.answers.last_mut().unwrap() = all.clone();
    }
    actual == *expected
}

fn check_against_model(world: &World, directory: &Directory) {
    for (labels, name, rtype) in questions() {
        let zone = model::zone_of(&world.zones, &labels);
        let served = directory.zone_of(&name);
        assert_eq!(
            served.map(|zone| model::labels_of(zone.apex.as_wire())),
            zone.map(|zone| zone.apex.clone()),
            "the zone of {labels:?}"
        );
        if let (Some(zone), Some(served)) = (zone, served) {
            let (actual, expected) =
                (observe::step(directory, served, &name, rtype), zone.step(&labels, rtype));
            let is_part = match (&actual, &expected) {
                (Step::Answer(part), Step::Answer(all)) if rtype == RecordType::ANY => {
                    !part.is_empty() && part.is_subset(all)
                }
                _ => actual == expected,
            };
            assert!(
                is_part,
                "lookup of {} {rtype}:\n{actual:?}\nexpected\n{expected:?}",
                model::text(&labels)
            );
        }
        let (actual, expected) =
            (observe::reply(directory, &name, rtype), model::resolve(&world.zones, &labels, rtype));
        assert!(
            is_answer(&actual, &expected, rtype),
            "resolution of {} {rtype}:\n{actual:?}\nexpected\n{expected:?}",
            model::text(&labels)
        );
    }
}

#[test]
fn random_zones_reach_every_kind_of_answer() {
    let mut runner = TestRunner::new(config(1, 0x5eed_0003));
    let mut kinds = BTreeSet::new();
    for _ in 0..100 {
        let world = world::world().new_tree(&mut runner).unwrap().current();
        for (labels, _, rtype) in questions() {
            let reply = model::resolve(&world.zones, &labels, rtype);
            let is_chain = if reply.answers.len() > 1 { "chain, " } else { "" };
            let section = match (&reply.negative, reply.referral.is_empty(), reply.additional.is_empty()) {
                (Some(_), _, _) => "SOA",
                (None, false, false) => "referral with glue",
                (None, false, true) => "referral",
                (None, true, false) => "answer with addresses",
                (None, true, true) => "answer",
            };
            kinds.insert(format!("{:?}: {is_chain}{section}", reply.outcome));
        }
    }
    let (ours, theirs) = ("NoError { authoritative: true }", "NoError { authoritative: false }");
    let expected = [
        format!("{ours}: answer"),
        format!("{ours}: answer with addresses"),
        format!("{ours}: SOA"),
        format!("{ours}: chain, answer"),
        format!("{ours}: chain, answer with addresses"),
        format!("{ours}: referral"),
        format!("{ours}: chain, SOA"),
        format!("{ours}: chain, referral"),
        format!("{theirs}: referral"),
        format!("{theirs}: referral with glue"),
        "NoName: SOA".into(),
        "NoName: chain, SOA".into(),
        "NameTooLong: answer".into(),
        "NotAuthoritative: answer".into(),
    ];
    let missing: Vec<_> = expected.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "{missing:?} of {kinds:?}");
}

proptest! {
    #![proptest_config(config(160, 0x5eed_0001))]

    #[test]
    fn any_zones_are_answered_as_the_rfcs_say(world in world::world()) {
        check_against_model(&world, &world::build(&world));
    }
}

proptest! {
    #![proptest_config(config(48, 0x5eed_0002))]

    #[test]
    fn edits_in_any_order_end_in_the_same_answers_and_older_versions_keep_theirs(
        worlds in proptest::collection::vec(world::world(), 1..4),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let empty = World::default();
        let mut directory = DirectoryWriter::default();
        let mut versions = Vec::new();
        let mut before = &empty;
        for world in &worlds {
            world::edit(&mut directory, before, world, &mut random);
            let made_at_once = world::build(world);
            prop_assert_eq!(directory.name_count(), made_at_once.name_count());
            prop_assert_eq!(directory.zone_count(), world.zones.len());
            versions.push((directory.clone(), all_replies(&made_at_once)));
            before = world;
        }
        world::edit(&mut directory, before, &empty, &mut random);
        prop_assert_eq!((directory.zone_count(), directory.name_count()), (0, 0));
        for (version, replies) in versions {
            prop_assert!(all_replies(&version) == replies);
        }
    }
}
