//! Random commands with few names, so that they often concern the same objects.

use std::collections::BTreeMap;

use cloudmap_dns::model::{
    Attributes, CustomHealthStatus, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, Identity,
    Instance, NamespaceKind, ObservedPod, Readiness, RoutingPolicy, ServiceId, Tags, Uid,
    service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Command, Observation, PodGone, Seen,
    command::{CreateDnsConfig, CreateService},
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// The last name is not a valid zone. The one before it is the HttpName that the second namespace called `alpha.test` gets.
const NAMESPACE_NAMES: [&str; 6] =
    ["alpha.test", "Alpha.test", "alpha.test.", "beta", "alpha.test-HTTPNAME", "a..b"];
const SERVICE_NAMES: [&str; 7] = ["web", "Web", "_http._tcp", ".", "i-1.web", "ns.dns", "b.web"];
const INSTANCE_IDS: [&str; 9] = [
    "i-1",
    "i-2",
    "I-1",
    "a.b",
    "web",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "A",
    "a.b.web",
    "i_1",
];

pub(crate) fn identity() -> Identity {
    Identity { account_id: "000000000000".into(), region: "us-east-1".into() }
}

fn token() -> impl Strategy<Value = Option<String>> {
    option::weighted(0.5, select(&["token-1", "token-2"][..]).prop_map(String::from))
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(select(&["", "one", "two"][..]).prop_map(String::from))
}

fn ttl() -> impl Strategy<Value = Option<u32>> {
    option::of(select(&[5u32, 60][..]))
}

fn kind() -> impl Strategy<Value = NamespaceKind> {
    let private = |vpc: &str| NamespaceKind::DnsPrivate { vpc: vpc.into() };
    prop_oneof![
        3 => Just(NamespaceKind::Http),
        4 => Just(private("vpc-1")),
        1 => Just(private("vpc-2")),
        2 => Just(NamespaceKind::DnsPublic),
    ]
}

fn namespace_name() -> impl Strategy<Value = String> {
    let taken = identity().namespace_id("DNS_PRIVATE", "alpha.test");
    let suffix = taken.as_str().trim_start_matches("ns-").to_string();
    prop_oneof![4 => Just(0usize), 1 => Just(1), 1 => Just(2), 3 => Just(3), 1 => Just(4), 1 => Just(5)]
        .prop_map(move |at| NAMESPACE_NAMES[at].replace("HTTPNAME", &suffix))
}

fn service_name() -> impl Strategy<Value = String> {
    prop_oneof![12 => Just(0usize), 4 => Just(1), 4 => Just(2), 3 => Just(3), 3 => Just(4), 1 => Just(5), 3 => Just(6)]
        .prop_map(|at| SERVICE_NAMES[at].into())
}

fn instance_id() -> impl Strategy<Value = String> {
    let weights = [4, 3, 1, 2, 1, 1, 2, 1, 1];
    let all = INSTANCE_IDS.into_iter().zip(weights).flat_map(|(id, weight)| vec![id; weight]);
    select(all.collect::<Vec<_>>()).prop_map(String::from)
}

fn namespace() -> impl Strategy<Value = String> {
    let key = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let usual = (
        select(vec![NamespaceKind::Http, NamespaceKind::DnsPrivate { vpc: "vpc-1".into() }]),
        "alpha\\.test",
    );
    let any_of_all = (kind(), namespace_name());
    (prop_oneof![any_of_all, usual], any::<bool>()).prop_map(move |((kind, name), is_arn)| {
        let name = if kind == NamespaceKind::Http { name } else { key(&name) };
        let id = identity().namespace_id(kind.as_str(), &name);
        if is_arn { identity().namespace_arn(&id) } else { id.to_string() }
    })
}

fn service() -> impl Strategy<Value = String> {
    (namespace(), service_name(), any::<bool>()).prop_map(|(namespace, name, is_arn)| {
        let namespace = namespace.rsplit('/').next().unwrap_or_default();
        let id = identity().service_id(&namespace.into(), &name);
        if is_arn { identity().service_arn(&id) } else { id.to_string() }
    })
}

fn resource() -> impl Strategy<Value = String> {
    let arn = |text: &String| text.starts_with("arn:");
    prop_oneof![
        namespace().prop_filter("tags are on ARNs", arn),
        service().prop_filter("tags are on ARNs", arn),
    ]
}

fn tags() -> impl Strategy<Value = Tags> {
    let keys = select(&["k1", "k2", "k3", "k4", "AWS:k"][..]).prop_map(String::from);
    let value = select(&["", "v"][..]).prop_map(String::from);
    prop_oneof![3 => Just(Tags::new()), 2 => btree_map(keys, value, 1..4)]
}

fn records() -> impl Strategy<Value = Vec<DnsRecord>> {
    use DnsRecordType::{A, Aaaa, Cname, Srv};
    let types = select(vec![
        vec![A],
        vec![A],
        vec![A],
        vec![Aaaa],
        vec![Aaaa, A],
        vec![Srv],
        vec![Srv, A],
        vec![A, Srv, Aaaa],
        vec![Cname],
        vec![Cname, A],
        vec![A, A],
        vec![],
    ]);
    (types, 0u32..3)
        .prop_map(|(types, ttl)| types.into_iter().map(|rtype| DnsRecord { rtype, ttl }).collect())
}

fn health_check() -> impl Strategy<Value = Option<HealthCheck>> {
    use HealthCheckType::{Http, Tcp};
    let check = (select(&[Http, Tcp][..]), option::of(Just("/".to_string()))).prop_map(
        |(check_type, resource_path)| HealthCheck { check_type, resource_path, failure_threshold: Some(1) },
    );
    option::weighted(0.2, check)
}

fn create_service() -> impl Strategy<Value = Command> {
    let routing = option::of(select(&[RoutingPolicy::Multivalue, RoutingPolicy::Weighted][..]));
    let dns = (option::weighted(0.4, Just(())), routing, records());
    let custom = option::weighted(0.4, Just(CustomHealthCheck { failure_threshold: None }));
    let namespaces = (namespace(), option::weighted(0.1, namespace()), proptest::bool::weighted(0.9));
    (
        (service_name(), namespaces, token(), text()),
        (option::weighted(0.7, dns), health_check(), custom, tags(), proptest::bool::weighted(0.15)),
    )
        .prop_map(
            |(
                (name, (namespace, other, is_outer), token, text),
                (dns, health_check, custom, tags, api_only),
            )| {
                let inner = |has_inner: Option<()>| {
                    if is_outer {
                        has_inner.map(|()| other.clone().unwrap_or_else(|| namespace.clone()))
                    } else {
                        Some(namespace.clone())
                    }
                };
                let dns = dns.map(|(has_inner, routing, records)| CreateDnsConfig {
                    namespace: inner(has_inner),
                    routing,
                    records,
                });
                Command::CreateService(Box::new(CreateService {
                    name,
                    namespace: is_outer.then(|| namespace.clone()),
                    creator_request_id: token,
                    description: text,
                    dns,
                    health_check,
                    custom_health_check: custom,
                    tags,
                    api_only,
                }))
            },
        )
}

/// Attributes of an instance: mostly the required ones, sometimes too many, too few, or invalid values.
fn attributes() -> impl Strategy<Value = BTreeMap<String, String>> {
    let usual = select(vec![
        vec![("AWS_INSTANCE_IPV4", "10.0.0.1"), ("AWS_INSTANCE_PORT", "80")],
        vec![("AWS_INSTANCE_IPV4", "10.0.0.2"), ("AWS_INSTANCE_PORT", "80")],
        vec![("AWS_INSTANCE_IPV4", "10.0.0.1"), ("AWS_INSTANCE_IPV6", "fd00::1"), ("AWS_INSTANCE_PORT", "0")],
        vec![("AWS_INSTANCE_IPV4", "10.0.0.3")],
        vec![("AWS_INSTANCE_IPV4", "10.0.0.300")],
        vec![("AWS_INSTANCE_IPV6", "fd00::2")],
        vec![("AWS_INSTANCE_PORT", "65536"), ("AWS_INSTANCE_IPV4", "10.0.0.1")],
        vec![("AWS_INSTANCE_CNAME", "x.example")],
        vec![("AWS_INSTANCE_CNAME", "x..example")],
        vec![("AWS_ALIAS_DNS_NAME", "lb.example.")],
        vec![("AWS_ALIAS_DNS_NAME", "lb.example"), ("AWS_INSTANCE_IPV4", "10.0.0.1")],
        vec![("AWS_EC2_INSTANCE_ID", "i-0")],
        vec![("AWS_EC2_INSTANCE_ID", "i-0"), ("AWS_INSTANCE_IPV4", "10.0.0.1")],
        vec![],
    ]);
    let init = option::weighted(0.3, select(&["HEALTHY", "UNHEALTHY", "UNHEALTHY", "SICK"][..]));
    let own = select(vec![vec![], vec![], vec!["k1"], vec!["k1", "k2", "k3"], vec!["k1", "k2", "k3", "k4"]]);
    (usual, init, own, proptest::bool::weighted(0.03)).prop_map(|(usual, init, own, is_long)| {
        let usual = usual.into_iter().chain(init.map(|word| ("AWS_INIT_HEALTH_STATUS", word)));
        let mut map: BTreeMap<String, String> =
            usual.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let value = if is_long { "v".repeat(1_700) } else { "v".into() };
        map.extend(own.into_iter().map(|key| (key.to_string(), value.clone())));
        map
    })
}

fn observation() -> impl Strategy<Value = Observation> {
    let readiness = select(&[Readiness::Ready, Readiness::NeverReady, Readiness::NotReady][..]);
    let pod = select(&["default/pod-1", "default/pod-2"][..]);
    let seen = (instance_id(), attributes(), readiness, pod).prop_map(|(id, map, readiness, pod)| {
        let attributes = Attributes::new(&map).unwrap();
        let pod = ObservedPod::new(pod, Uid::of(pod), readiness);
        Seen::Instance(Instance::watched(&id, &pod, &attributes).unwrap())
    });
    let gone = instance_id().prop_map(|id| Seen::Gone(id.into()));
    (service(), prop_oneof![3 => seen, 1 => gone]).prop_map(|(service, seen)| {
        let service = ServiceId::from(service.rsplit('/').next().unwrap_or_default());
        Observation { service, seen }
    })
}

/// A notice that a pod is gone. The model may still have it, as it would be if the notice were wrong.
fn pod_gone() -> impl Strategy<Value = PodGone> {
    let pod = select(&["default/pod-1", "default/pod-2"][..]);
    (service(), instance_id(), pod).prop_map(|(service, instance, pod)| PodGone {
        service: ServiceId::from(service.rsplit('/').next().unwrap_or_default()),
        instance: instance.into(),
        pod_uid: Uid::of(pod),
    })
}

pub(crate) fn commands(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Command>> {
    vec((command(), proptest::bool::weighted(0.15)), count).prop_map(|commands| {
        let repeated = |(command, is_repeated)| {
            if is_repeated { vec![Command::clone(&command), command] } else { vec![command] }
        };
        commands.into_iter().flat_map(repeated).collect()
    })
}

fn command() -> impl Strategy<Value = Command> {
    let namespaces = (namespace_name(), kind(), token(), text(), ttl(), tags()).prop_map(
        |(name, kind, creator_request_id, description, soa_ttl, tags)| Command::CreateNamespace {
            name,
            kind,
            creator_request_id,
            description,
            soa_ttl,
            tags,
        },
    );
    let kinds = select(&["HTTP", "DNS_PRIVATE", "DNS_PRIVATE", "DNS_PUBLIC"][..]);
    let update_namespace = (namespace(), kinds, token(), text(), ttl()).prop_map(
        |(namespace, kind, updater_request_id, description, soa_ttl)| Command::UpdateNamespace {
            namespace,
            kind,
            updater_request_id,
            description,
            soa_ttl,
        },
    );
    let update_service = (service(), text(), option::weighted(0.7, records()), health_check()).prop_map(
        |(service, description, dns_records, health_check)| Command::UpdateService {
            service,
            description,
            dns_records,
            health_check,
        },
    );
    let register = (service(), instance_id(), token(), attributes()).prop_map(
        |(service, instance, creator_request_id, attributes)| Command::RegisterInstance {
            service,
            instance,
            creator_request_id,
            attributes,
        },
    );
    let deregister = (service(), instance_id())
        .prop_map(|(service, instance)| Command::DeregisterInstance { service, instance });
    let status = select(&[CustomHealthStatus::Healthy, CustomHealthStatus::Unhealthy][..]);
    let health = (service(), instance_id(), status).prop_map(|(service, instance, status)| {
        Command::UpdateCustomHealth { service, instance, status, reporter: "a test".into() }
    });
    let keys = || vec(select(&["k1", "k2", "k9"][..]).prop_map(String::from), 0..3);
    let map = btree_map(select(&["k1", "k2", "k3", "k4"][..]).prop_map(String::from), "[xy]", 1..3);
    prop_oneof![
        10 => namespaces,
        2 => update_namespace,
        2 => namespace().prop_map(|namespace| Command::DeleteNamespace { namespace }),
        16 => create_service(),
        5 => update_service,
        3 => service().prop_map(|service| Command::DeleteService { service }),
        30 => register,
        8 => deregister,
        10 => health,
        3 => (resource(), tags()).prop_map(|(resource, tags)| Command::TagResource { resource, tags }),
        2 => (resource(), keys()).prop_map(|(resource, keys)| Command::UntagResource { resource, keys }),
        4 => (service(), map).prop_map(|(service, attributes)| Command::UpdateServiceAttributes {
            service,
            attributes
        }),
        16 => vec(observation(), 1..5).prop_map(|all| Command::Observe(all.into())),
        4 => pod_gone().prop_map(Command::WithdrawSignals),
        2 => (service(), keys())
            .prop_map(|(service, keys)| Command::DeleteServiceAttributes { service, keys }),
    ]
}
