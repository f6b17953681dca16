//! Random commands and shadowed definitions of another registry in turn. Neither of them changes objects of the other.

use std::collections::BTreeSet;

use cloudmap_dns::registry::{Command, Reply, Shadowed, ShadowedKind, State, state::zone_key};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::bench::Bench;
use super::ports::CommitPlan;
use super::{Validation, commands, config, settings};

/// A step of a test: commands of the API and observations of pods, or the current definitions of the other registry.
#[derive(Clone, Debug)]
enum Step {
    Run(Vec<Command>),
    Shadow(Vec<Shadowed>),
}

/// Definitions with few ids and names, so that they often conflict with each other and with those of the commands.
fn shadowed() -> impl Strategy<Value = Shadowed> {
    let identity = commands::identity();
    let alpha = identity.namespace_id("DNS_PRIVATE", "alpha.test");
    let web = identity.service_id(&alpha, "web");
    let namespaces = vec!["ns-1".to_string(), "ns-2".to_string(), alpha.to_string()];
    let services = vec!["srv-1".to_string(), "srv-2".to_string(), "srv-3".to_string(), web.to_string()];
    let zones = &["alpha.test", "Alpha.test", "beta", "kecs.test", "kecs.test", "a..b"][..];
    let names = &["web", "Web", "api", "i-1.web", "ns.dns"][..];
    let kinds = &[ShadowedKind::DnsPrivate, ShadowedKind::DnsPublic, ShadowedKind::Http][..];
    (select(namespaces), select(zones), select(kinds), select(services), select(names)).prop_map(
        |(namespace, zone, kind, service, name)| Shadowed {
            namespace: namespace.as_str().into(),
            namespace_name: zone.into(),
            namespace_kind: kind,
            service: service.as_str().into(),
            service_name: name.into(),
            created_ms: 0,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => commands::commands(1..6).prop_map(Step::Run),
        3 => vec(shadowed(), 0..6).prop_map(Step::Shadow),
    ];
    vec(step, 1..20)
}

fn definitions(state: &State, is_shadowed: bool) -> Vec<String> {
    let namespaces = state.namespaces_after(None).map(|(_, found)| &found.namespace);
    let namespaces = namespaces.filter(|found| found.origin.is_shadowed() == is_shadowed);
    let services = state.services_after(None).map(|(_, found)| &found.service);
    let services = services.filter(|found| found.origin.is_shadowed() == is_shadowed);
    namespaces.map(|found| format!("{found:?}")).chain(services.map(|found| format!("{found:?}"))).collect()
}

/// Instances that the API registered, which shadowed definitions must not change.
fn registered(state: &State) -> Vec<String> {
    let services = state.services_after(None).flat_map(|(_, found)| found.instances());
    services.filter(|found| !found.is_watched()).map(|found| format!("{found:?}")).collect()
}

/// Checks that each object is found by each of its names, and that the counts are right.
fn check(state: &State) {
    assert_eq!(state.namespaces_after(None).count(), state.namespace_count());
    assert_eq!(state.services_after(None).count(), state.service_count());
    let mut instances = 0;
    for (_, found) in state.namespaces_after(None) {
        let namespace = &found.namespace;
        assert_eq!(state.namespace_by_http_name(&namespace.http_name).unwrap().namespace.id, namespace.id);
        if namespace.is_dns() {
            assert_eq!(
                state.namespace_by_zone(&zone_key(&namespace.name)).unwrap().namespace.id,
                namespace.id
            );
        }
        for (_, id) in found.services_after(None) {
            let service = state.service(id.as_str()).unwrap();
            assert_eq!(service.service.origin.is_shadowed(), namespace.origin.is_shadowed());
            let by_name = state.service_by_name(&namespace.id, &service.service.name).unwrap();
            assert_eq!(by_name.service.id, *id);
            instances += service.instances().len();
        }
        assert!(!namespace.origin.is_shadowed() || found.service_count() > 0);
    }
    assert_eq!(instances, state.instance_count());
}

proptest! {
    #![proptest_config(config(120, 0x5eed_0008))]

    #[test]
    fn own_and_shadowed_definitions_do_not_change_each_other(steps in steps()) {
        let mut bench = Bench::new(settings(Validation::Lenient));
        for step in &steps {
            let before = bench.state();
            match step {
                Step::Run(commands) => {
                    bench.submit(commands, CommitPlan::Accept);
                    prop_assert_eq!(definitions(&bench.state(), true), definitions(&before, true));
                }
                Step::Shadow(wanted) => {
                    let mut is_done = false;
                    for _ in 0..2 {
                        let results = bench.submit(&[Command::Shadow(wanted.as_slice().into())], CommitPlan::Accept);
                        let Ok(Reply::Shadowed { refused, is_complete }) = &results[0] else {
                            panic!("{results:?}");
                        };
                        bench.check_published();
                        is_done = *is_complete;
                        if !is_done {
                            continue;
                        }
                        let refused: BTreeSet<usize> = refused.iter().map(|refusal| refusal.at).collect();
                        let taken = wanted.iter().enumerate().filter(|(at, _)| !refused.contains(at));
                        let taken: BTreeSet<_> = taken.map(|(_, one)| one.service.clone()).collect();
                        let state = bench.state();
                        let there: BTreeSet<_> =
                            state.shadowed_services().map(|found| found.service.id.clone()).collect();
                        prop_assert_eq!(there, taken);
                        break;
                    }
                    prop_assert!(is_done, "the second command completes the shadow");
                    prop_assert_eq!(definitions(&bench.state(), false), definitions(&before, false));
                    prop_assert_eq!(registered(&bench.state()), registered(&before));
                }
            }
            check(&bench.state());
            bench.check_published();
        }
        let before = bench.state();
        bench.reopen();
        prop_assert_eq!(definitions(&bench.state(), false), definitions(&before, false));
        prop_assert_eq!(definitions(&bench.state(), true), Vec::<String>::new());
    }
}
