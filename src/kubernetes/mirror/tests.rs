use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

use super::cache::{Action, LiveObject, ObjectCache};
use super::desired::{ENDPOINTS_ADDRESSES_MAX, ObjectBuilder, PORTS_MAX, SLICE_ADDRESSES_MAX};
use super::names;
use super::object::{Body, Endpoint, EndpointState, Family, Head, Key, Kind, MirrorForm, Object};
use crate::kubernetes::pod::{Placement, TerminatingEndpoint};
use crate::kubernetes::pod_table::PodTable;
use crate::model::instance::{AVAILABILITY_ZONE, AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT};
use crate::model::service::{DnsConfig, DnsRecord, DnsRecordType, RoutingPolicy};
use crate::model::{
    Attributes, CustomHealthStatus, Identity, Instance, Namespace, NamespaceId, NamespaceKind, ObservedPod,
    PodSignals, Readiness, Service, ServiceId, Uid, samples,
};
use crate::registry::{Change, HealthSettings, ServiceState, State, UnknownHealth};

fn identity() -> Identity {
    Identity { account_id: "000000000000".into(), region: "us-east-1".into() }
}

#[derive(Default)]
struct World {
    state: State,
    pods: PodTable,
    number: u64,
}

impl World {
    fn namespace(&mut self, name: &str) -> NamespaceId {
        self.namespace_of(name, NamespaceKind::DnsPrivate { vpc: "vpc-1".into() })
    }

    fn namespace_of(&mut self, name: &str, kind: NamespaceKind) -> NamespaceId {
        self.number += 1;
        let id = identity().namespace_id(kind.as_str(), name);
        let namespace = Namespace { operation: self.number, ..samples::namespace(id.clone(), name, kind) };
        self.state.apply(&Change::PutNamespace(Arc::new(namespace)));
        id
    }

    fn service(&mut self, namespace: &NamespaceId, name: &str) -> ServiceId {
        self.service_with(namespace, name, |_| {})
    }

    fn service_with(
        &mut self,
        namespace: &NamespaceId,
        name: &str,
        change: impl Fn(&mut Service),
    ) -> ServiceId {
        self.number += 1;
        let id = identity().service_id(namespace, name);
        let mut service = Service {
            dns: Some(DnsConfig {
                routing: RoutingPolicy::Multivalue,
                records: vec![DnsRecord { rtype: DnsRecordType::A, ttl: 60 }],
            }),
            sequence: self.number,
            ..samples::service(id.clone(), namespace.clone(), name)
        };
        change(&mut service);
        self.state.apply(&Change::PutService(Arc::new(service)));
        id
    }

    fn instance(&mut self, service: &ServiceId, id: &str, attributes: &[(&str, &str)]) {
        let instance = Instance::new(id, None, &packed(attributes), None, 1).unwrap();
        self.state.apply(&Change::PutInstance(service.clone(), instance));
    }

    fn pod(&mut self, service: &ServiceId, name: &str, address: &str, readiness: Readiness) -> Instance {
        let attributes = packed(&[(AWS_INSTANCE_IPV4, address)]);
        let instance = {
            let (pod, uid) = (format!("default/{name}"), Uid::of(name));
            Instance::watched(name, &ObservedPod::new(&pod, uid, readiness), &attributes).unwrap()
        };
        self.state.apply(&Change::PutInstance(service.clone(), instance.clone()));
        instance
    }

    /// Replaces the instance of a pod by its terminating endpoint.
    fn terminate(&mut self, service: &ServiceId, name: &str, endpoint: TerminatingEndpoint) {
        self.state.apply(&Change::ForgetInstance(service.clone(), name.into()));
        self.pods.set_terminating(&endpoint.pod.clone(), vec![endpoint]);
    }

    fn objects(&self, service: &ServiceId) -> Vec<Object> {
        self.objects_with(service, UnknownHealth::Serve)
    }

    /// Endpoints object of a service. Its other objects must be equal to those without Endpoints.
    fn endpoints(&self, service: &ServiceId) -> Object {
        let mut objects = self.wanted(service, UnknownHealth::Serve, true);
        assert_eq!(objects.iter().filter(|object| object.key.kind == Kind::Endpoints).count(), 1);
        let endpoints = objects.remove(1);
        assert_eq!(objects, self.objects(service), "the rest is there without it too");
        endpoints
    }

    fn objects_with(&self, service: &ServiceId, unknown: UnknownHealth) -> Vec<Object> {
        self.wanted(service, unknown, false)
    }

    fn wanted(&self, service: &ServiceId, unknown: UnknownHealth, endpoints: bool) -> Vec<Object> {
        let found = self.state.service(service.as_str()).unwrap();
        let health = HealthSettings { unknown, ..HealthSettings::default() };
        self.built(found, &health, MirrorForm::Headless, endpoints, &[])
    }

    /// Objects of a service that has a cluster IP and these ports.
    fn with_cluster_ip(&self, service: &ServiceId, ports: &[u16]) -> Vec<Object> {
        let found = self.state.service(service.as_str()).unwrap();
        self.built(found, &HealthSettings::default(), MirrorForm::ClusterIp, false, ports)
    }

    fn built(
        &self,
        found: &ServiceState,
        health: &HealthSettings,
        form: MirrorForm,
        endpoints: bool,
        ports: &[u16],
    ) -> Vec<Object> {
        let names = names::namespaces(&self.state);
        let Some(namespace) = names.get(&found.service.namespace_id) else { return Vec::new() };
        let (installation, identity, pods) = ("cloudmap-dns", &identity(), &self.pods);
        let builder = ObjectBuilder { installation, identity, health, form, endpoints, pods };
        builder.objects(&self.state, found, namespace, ports)
    }
}

fn packed(attributes: &[(&str, &str)]) -> Attributes {
    let map = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    Attributes::new(&map.collect()).unwrap()
}

fn terminating(service: &ServiceId, name: &str, address: &str, is_serving: bool) -> TerminatingEndpoint {
    TerminatingEndpoint {
        pod: format!("default/{name}").into(),
        uid: Uid::of(name),
        service: service.clone(),
        instance: name.into(),
        addresses: Box::new([address.parse().unwrap()]),
        port: None,
        is_serving,
        placement: Placement::default(),
    }
}

/// Names, ports and addresses of slices; addresses that are not ready are in parentheses. Those that terminate follow `-`
/// if they are serving, and else `!`.
fn slices(objects: &[Object]) -> Vec<(String, Option<u16>, String)> {
    let slice = |object: &Object| match &object.body {
        Body::Slice { port, endpoints, .. } => {
            let word = |Endpoint { address, state, .. }: &Endpoint| match state {
                EndpointState::Ready => address.to_string(),
                EndpointState::NotReady => format!("({address})"),
                EndpointState::Terminating { is_serving: true } => format!("-{address}"),
                EndpointState::Terminating { is_serving: false } => format!("!{address}"),
            };
            let words: Vec<_> = endpoints.iter().map(word).collect();
            Some((object.key.name.to_string(), *port, words.join(" ")))
        }
        Body::Service(_) | Body::Endpoints(_) | Body::Other => None,
    };
    objects.iter().filter_map(slice).collect()
}

/// Addresses and ports of an Endpoints object; those that are not ready are in parentheses.
fn addresses(object: &Object) -> Vec<String> {
    let Body::Endpoints(addresses) = &object.body else { panic!("{object:?}") };
    let word = |(port, endpoint): &(Option<u16>, Endpoint)| {
        let address = &endpoint.address;
        let word = port.map_or(address.to_string(), |port| format!("{address} {port}"));
        if endpoint.is_ready() { word } else { format!("({word})") }
    };
    addresses.iter().map(word).collect()
}

fn row(name: &str, port: Option<u16>, addresses: &str) -> (String, Option<u16>, String) {
    (name.into(), port, addresses.into())
}

#[test]
fn a_service_has_the_namespace_and_labels_of_kecs() {
    let mut world = World::default();
    let namespace = world.namespace("eu.prod.local");
    let service = world.service(&namespace, "backend");
    world.instance(&service, "web-1", &[(AWS_INSTANCE_IPV4, "10.0.0.1")]);
    let objects = world.objects(&service);
    let [head, slice] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!((&*head.key.namespace, &*head.key.name), ("euprodlocal", "sd-backend"));
    assert_eq!((head.key.kind, slice.key.kind), (Kind::Service, Kind::EndpointSlice));
    for (key, value) in [
        ("kecs.io/service-discovery", "true"),
        ("kecs.io/namespace", "eu.prod.local"),
        ("kecs.io/service", "backend"),
        ("app.kubernetes.io/managed-by", "cloudmap-dns"),
        ("cloudmap-dns.io/installation", "cloudmap-dns"),
    ] {
        assert_eq!((head.labels[key].as_str(), slice.labels[key].as_str()), (value, value));
    }
    assert_eq!(slice.labels["kubernetes.io/service-name"], "sd-backend");
    assert_eq!(head.annotations["kecs.io/service-id"], service.as_str());
    assert_eq!(head.annotations["kecs.io/namespace-id"], namespace.as_str());
    let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:service/{service}");
    assert_eq!(head.annotations["kecs.io/service-arn"], arn);
}

#[test]
fn namespaces_have_the_names_of_kecs_and_are_unique() {
    let mut world = World::default();
    let ids: Vec<_> = ["prod.local", "PRODlocal", "pro.dlocal", "kube-system", "_x.local", "demo.local"]
        .map(|name| world.namespace(name))
        .into();
    let http = world.namespace_of("http.local", NamespaceKind::Http);
    let names = names::namespaces(&world.state);
    let hash = |at: usize| ids[at].as_str().trim_start_matches("ns-").to_string();
    for (at, expected) in [
        (0, "prodlocal".to_string()),
        (1, format!("prodlocal-{}", hash(1))),
        (2, format!("prodlocal-{}", hash(2))),
        (3, format!("kube-system-{}", hash(3))),
        (4, format!("xlocal-{}", hash(4))),
        (5, "demolocal".to_string()),
    ] {
        assert_eq!(*names[&ids[at]], *expected);
    }
    assert_eq!(names.get(&http), None);
    let service = world.service(&http, "web");
    assert_eq!(world.objects(&service), []);
}

#[test]
fn endpoints_are_ready_as_dns_serves_them() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.pod(&service, "a", "10.42.0.1", Readiness::Ready);
    world.pod(&service, "b", "10.42.0.2", Readiness::NeverReady);
    world.pod(&service, "c", "10.42.0.3", Readiness::NotReady);
    world.instance(&service, "d", &[(AWS_INSTANCE_IPV4, "192.0.2.4")]);
    let expected = |addresses| vec![row("sd-web-ipv4", None, addresses)];
    assert_eq!(slices(&world.objects(&service)), expected("10.42.0.1 10.42.0.2 (10.42.0.3) 192.0.2.4"));
    let withheld = world.objects_with(&service, UnknownHealth::Withhold);
    assert_eq!(slices(&withheld), expected("10.42.0.1 (10.42.0.2) (10.42.0.3) 192.0.2.4"));
    // An instance that was reported unhealthy is not ready, if its service has a custom health check.
    let checked = world.service_with(&namespace, "checked", |service| {
        service.custom_health_check =
            Some(crate::model::service::CustomHealthCheck { failure_threshold: None });
    });
    let sick = world.pod(&checked, "a", "10.42.0.1", Readiness::Ready);
    let report = PodSignals {
        pod: "default/a".into(),
        pod_uid: sick.pod_uid().unwrap(),
        signals: samples::report(CustomHealthStatus::Unhealthy),
    };
    world.state.apply(&Change::PutPodSignals(checked.clone(), "a".into(), report.into()));
    assert_eq!(slices(&world.objects(&checked)), [row("sd-checked-ipv4", None, "(10.42.0.1)")]);
    let objects = world.objects(&service);
    let Body::Slice { endpoints, .. } = &objects[1].body else { panic!("{objects:?}") };
    assert_eq!(endpoints[0].pod, Some(("default".into(), "a".into())));
    assert_eq!(endpoints[3].pod, None);
}

#[test]
fn pods_terminate_in_slices_and_not_in_endpoints() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        world.pod(&service, name, &format!("10.42.0.{}", number + 1), Readiness::Ready);
    }
    world.terminate(&service, "a", terminating(&service, "a", "10.42.0.1", true));
    world.terminate(&service, "b", terminating(&service, "b", "10.42.0.2", false));
    let expected = |addresses| vec![row("sd-web-ipv4", None, addresses)];
    assert_eq!(slices(&world.objects(&service)), expected("10.42.0.3 -10.42.0.1 !10.42.0.2"));
    assert_eq!(addresses(&world.endpoints(&service)), ["10.42.0.3"]);
    let objects = world.objects(&service);
    let conditions = objects[1].to_slice(None).unwrap().endpoints.into_iter().map(|endpoint| {
        let conditions = endpoint.conditions.unwrap();
        (conditions.ready.unwrap(), conditions.serving.unwrap(), conditions.terminating.unwrap())
    });
    let expected_conditions = [(true, true, false), (false, true, true), (false, false, true)];
    assert_eq!(conditions.collect::<Vec<_>>(), expected_conditions);
    let Body::Slice { endpoints, .. } = &objects[1].body else { panic!("{objects:?}") };
    assert_eq!(endpoints[1].pod, Some(("default".into(), "a".into())));
    // A pod that has the address of another one, such as that of their node, is the endpoint.
    world.pod(&service, "d", "10.42.0.1", Readiness::NotReady);
    assert_eq!(slices(&world.objects(&service)), expected("10.42.0.3 (10.42.0.1) !10.42.0.2"));
    world.pods.remove("default/b", Uid::of("b"));
    assert_eq!(slices(&world.objects(&service)), expected("10.42.0.3 (10.42.0.1)"));
}

#[test]
fn terminating_endpoints_have_their_own_slices_by_family_and_port() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.instance(&service, "a", &[(AWS_INSTANCE_IPV4, "10.42.0.1"), (AWS_INSTANCE_PORT, "80")]);
    let both = ["10.42.0.1".parse().unwrap(), "fd00::1".parse().unwrap(), "fe80::1".parse().unwrap()];
    let dual = TerminatingEndpoint {
        addresses: Box::new(both),
        port: Some(8080),
        ..terminating(&service, "b", "10.42.0.1", true)
    };
    world.terminate(&service, "b", dual);
    assert_eq!(
        slices(&world.objects(&service)),
        [
            row("sd-web-ipv4-80", Some(80), "10.42.0.1"),
            row("sd-web-ipv4-8080", Some(8080), "-10.42.0.1"),
            row("sd-web-ipv6-8080", Some(8080), "-fd00::1"),
        ]
    );
}

#[test]
fn a_pod_stays_in_its_slice_while_it_terminates() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    for number in 0..200 {
        world.pod(&service, &format!("web-{number}"), &format!("10.42.0.{number}"), Readiness::Ready);
    }
    let of_slices = |world: &World| -> Vec<(String, usize)> {
        let slices = slices(&world.objects(&service)).into_iter();
        slices.map(|(name, _, addresses)| (name, addresses.split(' ').count())).collect()
    };
    let before = of_slices(&world);
    assert!(before.len() > 2, "{before:?}");
    for number in (0..200).step_by(3) {
        let name = format!("web-{number}");
        let endpoint = terminating(&service, &name, &format!("10.42.0.{number}"), true);
        world.terminate(&service, &name, endpoint);
    }
    assert_eq!(of_slices(&world), before);
}

#[test]
fn endpoints_have_the_node_and_zone_of_their_pod_or_the_zone_of_their_instance() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    let on = |node: &str, zone: &str| Placement { node: Some(node.into()), zone: Some(zone.into()) };
    world.pod(&service, "a", "10.42.0.1", Readiness::Ready);
    world.pods.set_placement(Uid::of("a"), &on("node-1", "rack-1"), [&service].into_iter());
    world.pod(&service, "b", "10.42.0.2", Readiness::Ready);
    let endpoint = terminating(&service, "c", "10.42.0.3", true);
    world.terminate(&service, "c", TerminatingEndpoint { placement: on("node-3", "rack-3"), ..endpoint });
    let long = "x".repeat(64);
    for (number, zone) in ["us-east-1b", "not a zone", "-", &long, &long[1..]].into_iter().enumerate() {
        let address = format!("192.0.2.{number}");
        let attributes = [(AWS_INSTANCE_IPV4, address.as_str()), (AVAILABILITY_ZONE, zone)];
        world.instance(&service, &format!("i-{number}"), &attributes);
    }
    world.instance(&service, "no-zone", &[(AWS_INSTANCE_IPV4, "192.0.2.9")]);
    let slice = world.objects(&service)[1].to_slice(None).unwrap();
    let endpoints = slice.endpoints.iter();
    let found = endpoints.map(|endpoint| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        (endpoint.addresses[0].as_str(), text(&endpoint.node_name), text(&endpoint.zone))
    });
    let row = |address, node: &str, zone: &str| (address, node.to_string(), zone.to_string());
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            row("10.42.0.1", "node-1", "rack-1"),
            row("10.42.0.2", "-", "-"),
            row("192.0.2.0", "-", "us-east-1b"),
            row("192.0.2.1", "-", "-"),
            row("192.0.2.2", "-", "-"),
            row("192.0.2.3", "-", "-"),
            row("192.0.2.4", "-", &long[1..]),
            row("192.0.2.9", "-", "-"),
            row("10.42.0.3", "node-3", "rack-3"),
        ]
    );
    let endpoints = world.endpoints(&service).to_endpoints(None).unwrap().subsets.unwrap();
    assert!(endpoints[0].addresses.iter().flatten().all(|address| address.node_name.is_none()));
}

#[test]
fn slices_are_by_family_and_port() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    let dual = [(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_IPV6, "fd00::1"), (AWS_INSTANCE_PORT, "8080")];
    world.instance(&service, "a", &dual);
    world.instance(&service, "b", &[(AWS_INSTANCE_IPV4, "10.0.0.2"), (AWS_INSTANCE_PORT, "9090")]);
    world.instance(&service, "c", &[(AWS_INSTANCE_IPV4, "10.0.0.3"), (AWS_INSTANCE_PORT, "8080")]);
    world.instance(&service, "d", &[("AWS_INSTANCE_CNAME", "example.com")]);
    for (id, address) in [("e", "127.0.0.1"), ("f", "169.254.1.1"), ("g", "0.0.0.0"), ("h", "224.0.0.1")] {
        world.instance(&service, id, &[(AWS_INSTANCE_IPV4, address)]);
    }
    for (id, address) in
        [("i", "::1"), ("j", "fe80::1"), ("k", "::"), ("l", "ff02::1"), ("m", "::ffff:10.0.0.1")]
    {
        world.instance(&service, id, &[(AWS_INSTANCE_IPV6, address)]);
    }
    assert_eq!(
        slices(&world.objects(&service)),
        [
            row("sd-web-ipv4-8080", Some(8080), "10.0.0.1 10.0.0.3"),
            row("sd-web-ipv4-9090", Some(9090), "10.0.0.2"),
            row("sd-web-ipv6-8080", Some(8080), "fd00::1"),
        ]
    );
    let hidden = world.service_with(&namespace, "hidden", |service| service.api_only = true);
    assert_eq!(world.objects(&hidden), []);
}

/// Names and numbers of the ports of the Service and of each slice.
fn ports(objects: &[Object]) -> Vec<String> {
    let port = |name: Option<String>, port: i32| format!("{}={port}", name.unwrap());
    let of_object = |object: &Object| -> Vec<String> {
        if let Some(service) = object.to_service(None) {
            let ports = service.spec.unwrap().ports.unwrap();
            return ports.into_iter().map(|found| port(found.name, found.port)).collect();
        }
        let ports = object.to_slice(None).unwrap().ports.unwrap();
        ports.into_iter().map(|found| port(found.name, found.port.unwrap())).collect()
    };
    objects.iter().map(|object| of_object(object).join(" ")).collect()
}

#[test]
fn a_cluster_ip_has_the_ports_of_the_instances() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    assert_eq!(ports(&world.with_cluster_ip(&service, &[])), ["http=80"]);
    world.instance(&service, "a", &[(AWS_INSTANCE_IPV4, "10.0.0.1")]);
    assert_eq!(ports(&world.with_cluster_ip(&service, &[])), ["http=80", ""]);
    // Ports remain while no instance has one.
    assert_eq!(ports(&world.with_cluster_ip(&service, &[8080])), ["http=80 port-8080=8080", ""]);
    for (id, port) in [("b", "9090"), ("c", "8080"), ("d", "80")] {
        world.instance(&service, id, &[(AWS_INSTANCE_IPV4, "10.0.0.2"), (AWS_INSTANCE_PORT, port)]);
    }
    assert_eq!(
        ports(&world.with_cluster_ip(&service, &[7070])),
        [
            "http=80 port-8080=8080 port-9090=9090",
            "",
            "http=80",
            "http=8080 port-8080=8080",
            "http=9090 port-9090=9090",
        ]
    );
    let spec = world.with_cluster_ip(&service, &[])[0].to_service(None).unwrap().spec.unwrap();
    assert_eq!((spec.cluster_ip, spec.ip_family_policy.as_deref()), (None, Some("PreferDualStack")));
    let headless = world.objects(&service);
    assert_eq!(ports(&headless), ["http=80", "", "http=80", "http=8080", "http=9090"]);
}

#[test]
fn a_cluster_ip_has_no_ports_of_instances_that_are_too_many() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    for number in 0..PORTS_MAX {
        let port = (32_768 + number).to_string();
        let attributes = [(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_PORT, port.as_str())];
        world.instance(&service, &format!("web-{number}"), &attributes);
    }
    let count = |world: &World| world.with_cluster_ip(&service, &[])[0].head().unwrap().ports.len();
    assert_eq!(count(&world), PORTS_MAX);
    world.instance(&service, "one", &[(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_PORT, "80")]);
    assert_eq!(count(&world), PORTS_MAX);
    world.instance(&service, "two", &[(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_PORT, "81")]);
    assert_eq!(count(&world), 0);
}

#[test]
fn a_service_of_another_form_is_replaced() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.instance(&service, "a", &[(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_PORT, "8080")]);
    let (headless, cluster_ip) = (world.objects(&service), world.with_cluster_ip(&service, &[]));
    for (before, after) in [(&headless, &cluster_ip), (&cluster_ip, &headless)] {
        let mut cache = ObjectCache::default();
        before.iter().for_each(|object| drop(upsert(&mut cache, object, "uid", 1)));
        assert_eq!(cache.ports(service.as_str()), before[0].head().unwrap().ports);
        let expected = [
            Action::Delete(before[0].key.clone(), "uid".into()),
            Action::Apply(after[0].clone(), None),
            Action::Apply(after[1].clone(), Some("uid".into())),
        ];
        assert_eq!(cache.plan(service.as_str(), after.clone()), expected);
    }
}

#[test]
fn what_others_add_to_a_cluster_ip_remains() {
    let key = Key { kind: Kind::Service, namespace: "demolocal".into(), name: "sd-web".into() };
    let body = Body::Service(Head::cluster_ip(vec![8080]));
    let whole = Object { key, labels: BTreeMap::new(), annotations: BTreeMap::new(), body };
    let mut service = whole.to_service(None).unwrap();
    let spec = service.spec.as_mut().unwrap();
    (spec.type_, spec.cluster_ip) = (Some("LoadBalancer".into()), Some("10.96.0.9".into()));
    let ports = spec.ports.as_mut().unwrap();
    let added = |name: &str, protocol: &str, port| core::ServicePort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        port,
        ..core::ServicePort::default()
    };
    ports.push(added("metrics", "TCP", 9100));
    ports.push(added("quic", "UDP", 8080));
    assert_eq!(Object::of_service(&service), Some(whole.clone()));
    let changes: [fn(&mut core::ServiceSpec); 4] = [
        |spec| spec.ports.as_mut().unwrap().retain(|port| port.port != 8080),
        |spec| spec.ports.as_mut().unwrap()[0].port = 81,
        |spec| spec.selector = Some(BTreeMap::from([("app".into(), "x".into())])),
        |spec| spec.type_ = Some("ExternalName".into()),
    ];
    for change in changes {
        let mut changed = service.clone();
        change(changed.spec.as_mut().unwrap());
        assert_ne!(Object::of_service(&changed), Some(whole.clone()));
    }
    // Ports with names of the mirror that it would not write are replaced.
    let spec = service.spec.as_mut().unwrap();
    let in_place = |head: &Head, spec: &core::ServiceSpec| {
        let port = |port: &core::ServicePort| format!("{} {}", port.name.clone().unwrap(), port.port);
        head.ports_in_place_of(spec).map(|ports| ports.iter().map(port).collect::<Vec<_>>().join(", "))
    };
    let head = whole.head().unwrap();
    assert_eq!(in_place(head, spec), None);
    let ports = spec.ports.as_mut().unwrap();
    ports[0].port = 81;
    ports.push(added("port-9090", "TCP", 9090));
    ports.push(added("port-80", "TCP", 80));
    let expected = "port-8080 8080, metrics 9100, quic 8080, http 80";
    assert_eq!(in_place(head, spec).as_deref(), Some(expected));
    assert_eq!(in_place(&Head::headless(), spec).as_deref(), Some("http 80"));
    spec.ports = Some(vec![added("theirs", "TCP", 80)]);
    assert_eq!(in_place(&Head::cluster_ip(Vec::new()), spec).as_deref(), Some("http 80"));
}

#[test]
fn an_endpoints_object_has_the_addresses_of_all_slices() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    assert_eq!(addresses(&world.endpoints(&service)), [""; 0]);
    world.pod(&service, "a", "10.42.0.1", Readiness::Ready);
    world.pod(&service, "b", "10.42.0.2", Readiness::NotReady);
    world.instance(&service, "c", &[(AWS_INSTANCE_IPV4, "10.0.0.3"), (AWS_INSTANCE_PORT, "8080")]);
    world.instance(&service, "d", &[(AWS_INSTANCE_IPV6, "fd00::4"), (AWS_INSTANCE_PORT, "8080")]);
    let found = world.endpoints(&service);
    assert_eq!(addresses(&found), ["10.42.0.1", "(10.42.0.2)", "10.0.0.3 8080", "fd00::4 8080"]);
    assert_eq!((&*found.key.namespace, &*found.key.name), ("demolocal", "sd-web"));
    let head = world.objects(&service).remove(0);
    let mut labels = head.labels.clone();
    labels.insert("endpointslice.kubernetes.io/skip-mirror".into(), "true".into());
    assert_eq!((found.labels, found.annotations), (labels, head.annotations));
}

#[test]
fn an_address_of_several_instances_is_in_an_endpoints_object_once() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.pod(&service, "a", "10.42.0.1", Readiness::NotReady);
    world.pod(&service, "b", "10.42.0.1", Readiness::Ready);
    world.pod(&service, "c", "10.42.0.2", Readiness::Ready);
    world.instance(&service, "d", &[(AWS_INSTANCE_IPV4, "10.42.0.2"), (AWS_INSTANCE_PORT, "80")]);
    world.instance(&service, "e", &[(AWS_INSTANCE_IPV4, "10.42.0.2"), (AWS_INSTANCE_PORT, "81")]);
    assert_eq!(addresses(&world.endpoints(&service)), ["10.42.0.1", "10.42.0.2 80", "10.42.0.2 81"]);
}

#[test]
fn an_endpoints_object_is_truncated_after_a_thousand_addresses() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    let over_capacity =
        |object: &Object| object.annotations.get("endpoints.kubernetes.io/over-capacity").cloned();
    for number in 0..ENDPOINTS_ADDRESSES_MAX {
        let address = format!("10.0.{}.{}", number / 200, number % 200 + 1);
        let readiness = if number < 3 { Readiness::NotReady } else { Readiness::Ready };
        world.pod(&service, &format!("web-{number}"), &address, readiness);
    }
    let full = world.endpoints(&service);
    assert_eq!((addresses(&full).len(), over_capacity(&full)), (1_000, None));
    world.pod(&service, "one-more", "10.9.0.1", Readiness::Ready);
    let found = world.endpoints(&service);
    assert_eq!(over_capacity(&found).as_deref(), Some("truncated"));
    let found = addresses(&found);
    assert_eq!(found.len(), 1_000);
    assert_eq!(found[..3], ["(10.0.0.1)", "(10.0.0.2)", "10.0.0.4"]);
    assert_eq!(found[999], "10.9.0.1");
}

#[test]
fn one_more_instance_changes_one_slice_of_many() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    for number in 0..1_000 {
        let address = format!("10.0.{}.{}", number / 200, number % 200 + 1);
        world.instance(&service, &format!("web-{number}"), &[(AWS_INSTANCE_IPV4, &address)]);
    }
    let before = world.objects(&service);
    let sizes: Vec<usize> = before
        .iter()
        .filter_map(|object| match &object.body {
            Body::Slice { endpoints, .. } => Some(endpoints.len()),
            Body::Service(_) | Body::Endpoints(_) | Body::Other => None,
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1_000);
    assert!(sizes.iter().all(|size| (1..=SLICE_ADDRESSES_MAX).contains(size)), "{sizes:?}");
    let mut cache = ObjectCache::default();
    before.iter().for_each(|object| drop(upsert(&mut cache, object, "1", 1)));
    assert_eq!(cache.plan(service.as_str(), before), []);
    world.instance(&service, "one-more", &[(AWS_INSTANCE_IPV4, "10.1.0.1")]);
    let actions = cache.plan(service.as_str(), world.objects(&service));
    assert!(matches!(actions.as_slice(), [Action::Apply(_, Some(_))]), "{actions:?}");
}

fn upsert(cache: &mut ObjectCache, object: &Object, uid: &str, version: u64) -> Vec<Box<str>> {
    let service = object.service_id().unwrap_or_default().into();
    let (fingerprint, head) = (object.fingerprint(), object.head().cloned());
    let actual = LiveObject { uid: uid.into(), version, fingerprint, service, head };
    cache.upsert(object.key.clone(), actual)
}

#[test]
fn differences_are_written_and_objects_without_a_service_deleted() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.instance(&service, "a", &[(AWS_INSTANCE_IPV4, "10.0.0.1")]);
    let objects = world.objects(&service);
    let mut cache = ObjectCache::default();
    let all_new: Vec<_> = objects.iter().map(|object| Action::Apply(object.clone(), None)).collect();
    assert_eq!(cache.plan(service.as_str(), objects.clone()), all_new);

    for object in &objects {
        assert_eq!(upsert(&mut cache, object, "uid", 5), [Box::from(service.as_str())]);
        assert!(upsert(&mut cache, object, "uid", 6).is_empty(), "nothing is new");
    }
    assert_eq!(cache.plan(service.as_str(), objects.clone()), []);

    // Somebody changes the object; an event that is older than the known version is ignored.
    let mut changed = objects[1].clone();
    changed.labels.clear();
    changed.annotations.clear();
    assert!(upsert(&mut cache, &changed, "uid", 4).is_empty());
    assert_eq!(upsert(&mut cache, &changed, "uid", 7), [Box::from(service.as_str())]);
    let again = Action::Apply(objects[1].clone(), Some("uid".into()));
    assert_eq!(cache.plan(service.as_str(), objects.clone()), [again]);

    // The addresses move to another slice, which is written before the old one is deleted.
    let port = [(AWS_INSTANCE_IPV4, "10.0.0.1"), (AWS_INSTANCE_PORT, "80")];
    world.instance(&service, "a", &port);
    let moved = world.objects(&service);
    let expected =
        [Action::Apply(moved[1].clone(), None), Action::Delete(objects[1].key.clone(), "uid".into())];
    assert_eq!(cache.plan(service.as_str(), moved), expected);

    let deleted = cache.plan(service.as_str(), Vec::new());
    let keys: Vec<_> = deleted
        .iter()
        .map(|action| match action {
            Action::Delete(key, _) => key.kind,
            Action::Apply(..) => panic!("{action:?}"),
        })
        .collect();
    assert_eq!(keys, [Kind::EndpointSlice, Kind::Service]);
}

#[test]
fn a_complete_list_removes_objects_that_it_lacks() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let (one, two) = (world.service(&namespace, "one"), world.service(&namespace, "two"));
    let (one, two) = (world.objects(&one).remove(0), world.objects(&two).remove(0));
    let mut cache = ObjectCache::default();
    upsert(&mut cache, &one, "1", 1);
    upsert(&mut cache, &two, "2", 1);
    cache.list_begins(Kind::Service);
    upsert(&mut cache, &two, "2", 1);
    assert_eq!(cache.list_ends(Kind::Service), [Box::from(one.service_id().unwrap())]);
    assert_eq!(cache.services().collect::<Vec<_>>(), [two.service_id().unwrap()]);
    cache.list_begins(Kind::EndpointSlice);
    assert!(cache.list_ends(Kind::EndpointSlice).is_empty());
    assert_eq!(cache.len(), 1);
}

#[test]
fn endpoints_are_compared_whatever_their_subsets() {
    let mut world = World::default();
    let namespace = world.namespace("demo.local");
    let service = world.service(&namespace, "web");
    world.pod(&service, "a", "10.42.0.1", Readiness::Ready);
    world.pod(&service, "b", "10.42.0.2", Readiness::NotReady);
    for (id, port) in [("c", "80"), ("d", "81")] {
        let port = [(AWS_INSTANCE_IPV4, "10.0.0.3"), (AWS_INSTANCE_PORT, port)];
        world.instance(&service, id, &port);
    }
    let whole = world.endpoints(&service);
    let mut endpoints = whole.to_endpoints(Some("uid")).unwrap();
    assert_eq!(Object::of_endpoints(&endpoints), Some(whole.clone()));
    // The API server stores one subset for an address with two ports.
    let subsets = endpoints.subsets.as_mut().unwrap();
    assert_eq!(subsets.len(), 3);
    let last = subsets.pop().unwrap();
    subsets[1].ports.as_mut().unwrap().extend(last.ports.unwrap());
    subsets.reverse();
    assert_eq!(Object::of_endpoints(&endpoints), Some(whole.clone()));
    endpoints.subsets.as_mut().unwrap().pop();
    assert_ne!(Object::of_endpoints(&endpoints), Some(whole));
}

#[test]
fn written_objects_are_equal_when_read_back() {
    let key = |kind| Key { kind, namespace: "demolocal".into(), name: "sd-web".into() };
    let labels = names::labels("here", ("demo.local", "ns-1"), ("web", "srv-1"));
    let annotations = BTreeMap::from([("kecs.io/service-id".to_string(), "srv-1".to_string())]);
    let object = |kind, body| Object {
        key: key(kind),
        labels: labels.clone(),
        annotations: annotations.clone(),
        body,
    };
    let head = object(Kind::Service, Body::Service(Head::headless()));
    let mut service = head.to_service(Some("uid")).unwrap();
    assert_eq!(Object::of_service(&service), Some(head.clone()));
    service.metadata.labels.get_or_insert_default().insert("team".into(), "network".into());
    assert_eq!(Object::of_service(&service), Some(head.clone()));
    service.spec.get_or_insert_default().selector = Some(BTreeMap::from([("app".into(), "x".into())]));
    assert_ne!(Object::of_service(&service), Some(head));

    let endpoint = |address: &str, pod: Option<(&str, &str)>| Endpoint {
        address: address.parse().unwrap(),
        state: if pod.is_some() { EndpointState::Ready } else { EndpointState::NotReady },
        pod: pod.map(|(namespace, name)| (namespace.into(), name.into())),
        placement: Placement { node: pod.map(|_| "node-1".into()), zone: Some("rack-1".into()) },
    };
    let mut endpoints = vec![endpoint("10.0.0.1", Some(("default", "web-1"))), endpoint("10.0.0.2", None)];
    for is_serving in [true, false] {
        let state = EndpointState::Terminating { is_serving };
        endpoints.push(Endpoint { state, ..endpoint("10.0.0.3", None) });
    }
    let body = |is_port_named| Body::Slice {
        family: Family::V4,
        port: Some(8080),
        is_port_named,
        endpoints: endpoints.clone(),
    };
    let named = object(Kind::EndpointSlice, body(true));
    assert_eq!(Object::of_slice(&named.to_slice(None).unwrap()), Some(named));
    let whole = object(Kind::EndpointSlice, body(false));
    let mut slice = whole.to_slice(None).unwrap();
    assert_eq!(Object::of_slice(&slice), Some(whole.clone()));
    let changes: [fn(&mut discovery::Endpoint); 4] = [
        |endpoint| endpoint.conditions.as_mut().unwrap().ready = Some(false),
        |endpoint| endpoint.conditions.as_mut().unwrap().terminating = Some(true),
        |endpoint| endpoint.node_name = None,
        |endpoint| endpoint.zone = Some("rack-2".into()),
    ];
    for change in changes {
        let mut changed = slice.clone();
        change(&mut changed.endpoints[0]);
        assert_ne!(Object::of_slice(&changed), Some(whole.clone()));
    }
    slice.endpoints[0].conditions.as_mut().unwrap().ready = Some(false);
    assert_ne!(Object::of_slice(&slice), Some(whole));
}
