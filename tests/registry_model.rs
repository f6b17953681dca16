//! Compares the registry with a model: random commands, restarts, stores that fail or refuse, races of two registries on one
//! store, and many callers at once.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "registry_model/bench.rs"]
mod bench;
#[path = "registry_model/commands.rs"]
mod commands;
#[path = "registry_model/model.rs"]
mod model;
#[path = "registry_model/pods.rs"]
mod pods;
#[path = "registry_model/ports.rs"]
mod ports;
#[path = "registry_model/races.rs"]
mod races;
#[path = "registry_model/rules.rs"]
mod rules;
#[path = "registry_model/shadow.rs"]
mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cloudmap_dns::model::{
    DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, NamespaceKind, Tags, service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Command, Quotas, RegistryError, Reply, Settings, Validation,
    command::{CreateDnsConfig, CreateService},
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use bench::{Bench, instance_ids};
use model::{Kind, Model};
use ports::CommitPlan;
use races::{Log, OtherRegistry};

/// A step of a test: commands that the writer gets as one batch, a batch whose commit fails, or a restart.
#[derive(Clone, Debug)]
enum Step {
    Run(Vec<Command>),
    Fail(Vec<Command>),
    Restart,
}

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn settings(validation: Validation) -> Settings {
    let quotas = Quotas {
        namespaces: 4,
        services: 5,
        instances_per_service: 3,
        instances: 5,
        attributes_per_instance: 3,
        tags_per_resource: 3,
        attributes_per_service: 3,
    };
    Settings {
        identity: commands::identity(),
        validation,
        quotas,
        operations_retained: 1,
        ..Settings::default()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = || commands::commands(1..8);
    let step = prop_oneof![
        16 => batch().prop_map(Step::Run),
        2 => batch().prop_map(Step::Fail),
        2 => Just(Step::Restart),
    ];
    vec(step, 1..24)
}

fn private(name: &str) -> Command {
    namespace(name, NamespaceKind::DnsPrivate { vpc: "vpc-1".into() })
}

fn http(name: &str) -> Command {
    namespace(name, NamespaceKind::Http)
}

fn namespace(name: &str, kind: NamespaceKind) -> Command {
    Command::CreateNamespace {
        name: name.into(),
        kind,
        creator_request_id: None,
        description: None,
        soa_ttl: None,
        tags: Tags::new(),
    }
}

fn alpha_and_web() -> (String, String) {
    let namespace = commands::identity().namespace_id("DNS_PRIVATE", "alpha.test");
    let service = commands::identity().service_id(&namespace, "web");
    (namespace.to_string(), service.to_string())
}

fn web() -> Command {
    Command::CreateService(Box::new(CreateService {
        name: "web".into(),
        namespace: Some(alpha_and_web().0),
        dns: Some(CreateDnsConfig {
            records: vec![DnsRecord { rtype: DnsRecordType::A, ttl: 60 }],
            ..CreateDnsConfig::default()
        }),
        custom_health_check: Some(CustomHealthCheck { failure_threshold: None }),
        ..CreateService::default()
    }))
}

fn checked() -> Command {
    let namespace = commands::identity().namespace_id("HTTP", "alpha.test");
    Command::CreateService(Box::new(CreateService {
        name: "web".into(),
        namespace: Some(namespace.to_string()),
        health_check: Some(HealthCheck {
            check_type: HealthCheckType::Http,
            resource_path: None,
            failure_threshold: None,
        }),
        ..CreateService::default()
    }))
}

fn register(instance: &str, token: Option<&str>, address: &str) -> Command {
    Command::RegisterInstance {
        service: alpha_and_web().1,
        instance: instance.into(),
        creator_request_id: token.map(String::from),
        attributes: BTreeMap::from([("AWS_INSTANCE_IPV4".into(), address.into())]),
    }
}

#[test]
fn random_commands_reach_every_result() {
    let mut runner = TestRunner::new(config(1, 0x5eed_0005));
    let mut kinds = BTreeSet::new();
    for round in 0..400 {
        let validation = if round % 2 == 0 { Validation::Strict } else { Validation::Lenient };
        let mut model = Model::new(settings(validation));
        let commands = commands::commands(100..101).new_tree(&mut runner).unwrap().current();
        kinds.extend(
            [private("alpha.test"), web()].iter().chain(&commands).map(|command| model.run(command).0),
        );
    }
    let expected = BTreeSet::from([
        Kind::Operation,
        Kind::SameOperation,
        Kind::Service,
        Kind::SameService,
        Kind::Done,
        Kind::Observed,
        Kind::InvalidInput,
        Kind::NamespaceNotFound,
        Kind::ServiceNotFound,
        Kind::InstanceNotFound,
        Kind::ResourceNotFound,
        Kind::InUse,
        Kind::OverLimit,
        Kind::NamespaceExists,
        Kind::ServiceExists,
        Kind::NoCustomHealth,
        Kind::TooManyTags,
        Kind::TooManyAttributes,
    ]);
    assert_eq!(kinds, expected);
}

proptest! {
    #![proptest_config(config(320, 0x5eed_0006))]

    #[test]
    fn commands_match_the_model_across_restarts_and_store_failures(
        steps in steps(),
        is_strict in any::<bool>(),
        is_prepared in any::<bool>(),
    ) {
        let validation = if is_strict { Validation::Strict } else { Validation::Lenient };
        let mut bench = Bench::new(settings(validation));
        if is_prepared {
            bench.run(&[private("alpha.test"), web(), http("alpha.test"), checked()]);
        }
        for step in &steps {
            match step {
                Step::Run(commands) => bench.run(commands),
                Step::Fail(commands) => bench.fail(commands),
                Step::Restart => bench.restart(),
            }
        }
        bench.restart();
    }
}

proptest! {
    #![proptest_config(config(160, 0x5eed_0008))]

    #[test]
    fn command_that_loses_a_race_is_carried_out_after_the_winners(
        races in vec((commands::commands(1..2), commands::commands(1..4)), 1..24),
        is_strict in any::<bool>(),
    ) {
        let validation = if is_strict { Validation::Strict } else { Validation::Lenient };
        let log = Log::default();
        let mut bench = Bench::sharing(settings(validation), log.clone());
        let other = OtherRegistry::new(&log, settings(validation));
        bench.run(&[private("alpha.test"), web(), http("alpha.test"), checked()]);
        for (command, others) in &races {
            // Observations are not stored, so they lose no race.
            let is_stored = |command: &&Command| !matches!(command, Command::Observe(_));
            let others: Vec<_> = others.iter().filter(is_stored).cloned().collect();
            if let Some(command) = command.iter().find(is_stored) {
                bench.race(command, &other, &others);
            }
        }
        other.stop();
    }
}

proptest! {
    #![proptest_config(config(120, 0x5eed_0007))]

    #[test]
    fn refused_change_is_lost_and_no_other(
        picks in vec((0usize..4, any::<bool>(), any::<bool>()), 1..16),
        refused in proptest::collection::btree_set(0usize..16, 1..8),
    ) {
        let mut bench = Bench::new(Settings { identity: commands::identity(), ..Settings::default() });
        bench.run(&[private("alpha.test"), web()]);
        let commands: Vec<Command> = picks
            .iter()
            .map(|(at, has_token, is_gone)| {
                let instance = format!("i-{at}");
                if *is_gone {
                    Command::DeregisterInstance { service: alpha_and_web().1, instance }
                } else {
                    register(&instance, has_token.then_some("token"), "10.0.0.1")
                }
            })
            .collect();
        let mut model = bench.model.clone();
        let kinds: Vec<Kind> = commands.iter().map(|command| model.run(command).0).collect();
        let results = bench.submit(&commands, CommitPlan::Refuse(refused.clone()));
        let (mut group, mut is_any_refused) = (0, false);
        let mut expected = BTreeSet::new();
        for ((command, kind), result) in commands.iter().zip(kinds).zip(results) {
            let is_refused = kind == Kind::Operation && refused.contains(&group);
            is_any_refused |= is_refused;
            group += usize::from(kind == Kind::Operation);
            match (&result, kind) {
                // Only durable changes are acknowledged. A command that found a change of the batch which was then refused
                // fails too, because its result may have depended on that change.
                (Err(RegistryError::NotStored(_)), Kind::Operation) => prop_assert!(is_refused, "{command:?}"),
                (Err(RegistryError::NotStored(_)), _) => prop_assert!(is_any_refused, "{command:?}"),
                (Err(error), kind) => prop_assert_eq!((Kind::from(error), is_any_refused), (kind, false)),
                (Ok(Reply::Operation(id)), kind) => {
                    prop_assert!(!is_refused && (kind == Kind::Operation || !is_any_refused), "{command:?}");
                    prop_assert!(bench.state().operation(id.as_str()).is_ok());
                }
                (Ok(_), _) => prop_assert!(false, "{result:?}"),
            }
            if kind == Kind::Operation && !is_refused {
                match command {
                    Command::RegisterInstance { instance, .. } => expected.insert(instance.clone()),
                    Command::DeregisterInstance { instance, .. } => expected.remove(instance),
                    _ => false,
                };
            }
        }
        prop_assert_eq!(&instance_ids(&bench.state(), &alpha_and_web().1), &expected);
        bench.check_published();
        bench.reopen();
        prop_assert_eq!(&instance_ids(&bench.state(), &alpha_and_web().1), &expected);
    }
}

#[test]
fn acknowledged_changes_of_many_callers_are_published_and_survive_a_restart() {
    const TASKS: usize = 64;
    const ROUNDS: usize = 6;
    let mut bench = Bench::new(Settings { identity: commands::identity(), ..Settings::default() });
    bench.run(&[private("alpha.test"), web()]);
    let (registry, control) = (bench.registry(), bench.control.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let service = alpha_and_web().1;
    let acknowledged = runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (registry, control, service) = (registry.clone(), Arc::clone(&control), service.clone());
                tokio::spawn(async move {
                    let mut operations = Vec::new();
                    for round in 0..ROUNDS {
                        let id = format!("i-{task}-{}", round / 2);
                        // Each instance is registered and deregistered in turn. Every second task keeps its last one.
                        let is_gone = round % 2 == 1 && (round + 1 < ROUNDS || task % 2 == 0);
                        let command = if is_gone {
                            Command::DeregisterInstance { service: service.clone(), instance: id.clone() }
                        } else {
                            register(&id, None, &format!("10.0.{task}.{round}"))
                        };
                        let Reply::Operation(operation) = registry.submit(command).await.unwrap() else {
                            panic!("the reply is not an operation");
                        };
                        let is_published = instance_ids(&control.lock().published, &service).contains(&id);
                        assert_eq!(is_published, !is_gone, "{id} in round {round}");
                        operations.push(operation);
                    }
                    operations
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for task in tasks {
            acknowledged.extend(task.await.unwrap());
        }
        acknowledged
    });
    drop(registry);
    bench.reopen();
    let state = bench.state();
    let expected: BTreeSet<String> = (0..TASKS)
        .filter(|task| task % 2 == 1)
        .map(|task| format!("i-{task}-{}", (ROUNDS - 1) / 2))
        .collect();
    assert_eq!(instance_ids(&state, &service), expected);
    assert!(acknowledged.iter().all(|operation| state.operation(operation.as_str()).is_ok()));
    assert_eq!(acknowledged.iter().collect::<BTreeSet<_>>().len(), TASKS * ROUNDS);
}
