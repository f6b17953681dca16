//! Conversion of pods as KECS makes them (`kecs.dev/…`, `kecs.io/…`), in tables.

use super::*;

use kube::core::WatchEvent;
use serde_json::{Value, json};

use super::ids::name_digest;
use crate::model::Identity;

pub(crate) fn arn(service: &str) -> String {
    format!("arn:aws:servicediscovery:us-east-1:000000000000:service/{service}")
}

pub(crate) fn rules() -> PodRules {
    let identity = Identity { account_id: "000000000000".into(), region: "eu-central-1".into() };
    PodRules { instance_id: InstanceIdSource::Task, identity }
}

/// Ready pod of the example service-to-service: `backend-api` in the cluster `default`.
pub(crate) fn backend() -> Value {
    json!({
        "metadata": {
            "name": "backend-api-service-7d9c-x2x4z",
            "namespace": "default-us-east-1",
            "uid": "8f7cbb0e-0001-4b1e-9d5d-111111111111",
            "creationTimestamp": "2025-12-01T10:00:00Z",
            "labels": {
                "app": "backend-api-service",
                "kecs.dev/service": "backend-api-service",
                "kecs.dev/cluster": "default",
                "kecs.dev/launch-type": "FARGATE",
                "kecs.dev/managed-by": "kecs",
                "kecs.dev/task-id": "0123456789abcdef0123456789abcdef",
            },
            "annotations": {
                "kecs.dev/service-arn": "arn:aws:ecs:us-east-1:000000000000:service/default/backend-api-service",
                "kecs.dev/task-definition": "arn:aws:ecs:us-east-1:000000000000:task-definition/backend-api:1",
                "kecs.dev/service-registries": json!([
                    {"containerName": "backend", "containerPort": 8080, "registryArn": arn("srv-backend")},
                ]).to_string(),
            },
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "backend", "ports": [{"containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.42.0.24",
            "podIPs": [{"ip": "10.42.0.24"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-12-01T10:00:09Z"}],
            "containerStatuses": [container(json!({"running": {"startedAt": "2025-12-01T10:00:05Z"}}), 0)],
        },
    })
}

fn container(state: Value, restarts: i32) -> Value {
    let (name, image) = ("backend", "");
    json!({"name": name, "image": image, "imageID": "", "ready": false, "restartCount": restarts, "state": state})
}

/// Pod of a TaskSet, which has the other family of labels and annotations.
fn task_set() -> Value {
    let mut pod = backend();
    pod["metadata"]["name"] = json!("webapp-sd-service-ts-537efbba-5c7d-9xk2p");
    pod["metadata"]["labels"] = json!({
        "kecs.io/cluster": "default",
        "kecs.io/service": "webapp-sd-service",
        "kecs.io/taskset": "ts-537efbba",
        "kecs.io/role": "taskset-pod",
        "kecs.io/service-discovery-enabled": "true",
    });
    pod["metadata"]["annotations"] = json!({
        "kecs.dev/task-arn": "arn:aws:ecs:us-east-1:000000000000:task/default/ts-537efbba",
        "kecs.dev/task-definition-arn": "arn:aws:ecs:us-east-1:000000000000:task-definition/webapp:3",
        "kecs.io/sd-registry-0": arn("srv-webapp-sd"),
    });
    pod["spec"]["containers"] = json!([
        {"name": "sidecar"},
        {"name": "webapp", "ports": [{"containerPort": 80}, {"containerPort": 81}]},
    ]);
    pod
}

fn with_registries(registries: &str) -> Value {
    let mut pod = backend();
    pod["metadata"]["annotations"]["kecs.dev/service-registries"] = json!(registries);
    pod
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = backend();
    change(&mut pod);
    pod
}

pub(crate) fn read(pod: Value) -> ParsedPod {
    read_by(pod, &rules())
}

fn read_by(pod: Value, rules: &PodRules) -> ParsedPod {
    ParsedPod::of(&serde_json::from_value(pod).unwrap(), rules).unwrap()
}

fn lines(parsed: &ParsedPod) -> Vec<String> {
    let line = |registration: &Registration| {
        let pairs = registration.attributes.pairs().map(|(key, value)| format!(" {key}={value}"));
        format!("{} {}{}", registration.service, registration.id, pairs.collect::<String>())
    };
    parsed.registrations.iter().map(line).collect()
}

#[test]
fn a_pod_of_an_ecs_service_has_the_attributes_of_ecs_and_kecs() {
    let parsed = read(backend());
    assert_eq!(&*parsed.name, "default-us-east-1/backend-api-service-7d9c-x2x4z");
    assert_eq!((parsed.readiness, &parsed.problems[..]), (Some(Readiness::Ready), &[][..]));
    assert_eq!(
        lines(&parsed),
        ["srv-backend 0123456789abcdef0123456789abcdef \
          AVAILABILITY_ZONE=us-east-1a AWS_INSTANCE_ID=backend-api-service-7d9c-x2x4z AWS_INSTANCE_IPV4=10.42.0.24 \
          AWS_INSTANCE_PORT=8080 CONTAINER_NAME=backend ECS_CLUSTER=default ECS_CLUSTER_NAME=default \
          ECS_SERVICE_NAME=backend-api-service \
          ECS_TASK_ARN=arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef \
          ECS_TASK_DEFINITION_FAMILY=backend-api K8S_NAMESPACE=default-us-east-1 PORT=8080 REGION=us-east-1"]
    );
}

#[test]
fn a_pod_of_a_task_set_has_the_attributes_in_its_labels() {
    let parsed = read(task_set());
    // Without a label, KECS derives the task's id from the pod's name, and the instance's id is that name.
    assert_eq!(
        lines(&parsed),
        ["srv-webapp-sd webapp-sd-service-ts-537efbba-5c7d-9xk2p \
          AVAILABILITY_ZONE=us-east-1a AWS_INSTANCE_ID=webapp-sd-service-ts-537efbba-5c7d-9xk2p \
          AWS_INSTANCE_IPV4=10.42.0.24 AWS_INSTANCE_PORT=80 ECS_CLUSTER=default ECS_CLUSTER_NAME=default \
          ECS_SERVICE_NAME=webapp-sd-service \
          ECS_TASK_ARN=arn:aws:ecs:us-east-1:000000000000:task/default/"
            .to_string()
            + &name_digest("webapp-sd-service-ts-537efbba-5c7d-9xk2p")
            + " ECS_TASK_DEFINITION_FAMILY=webapp K8S_NAMESPACE=default-us-east-1 PORT=80 REGION=us-east-1"]
    );
}

#[test]
fn the_availability_zone_is_that_of_the_node_if_the_pod_is_labelled() {
    for (label, expected) in [
        (Some("eu-west-1c"), "eu-west-1c"),
        (Some("rack-7"), "rack-7"),
        (Some(""), "us-east-1a"),
        (None, "us-east-1a"),
    ] {
        let mut pod = backend();
        if let Some(label) = label {
            pod["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(label);
        }
        let attributes = &lines(&read(pod))[0];
        assert!(attributes.contains(&format!(" AVAILABILITY_ZONE={expected} ")), "{label:?}: {attributes}");
        assert!(attributes.contains(" REGION=us-east-1"), "{attributes}");
    }
}

#[test]
fn registries_are_read_one_by_one() {
    let one = json!({"registryArn": arn("srv-a"), "containerPort": 8080});
    let two = json!({"registryArn": arn("srv-b"), "port": 9090, "unknown": true});
    for (annotation, expected) in [
        ("null".to_string(), "; 0"),
        ("[]".to_string(), "; 0"),
        (json!([one]).to_string(), "srv-a 8080; 0"),
        (json!([one, two]).to_string(), "srv-a 8080, srv-b 9090; 0"),
        (json!([one, one]).to_string(), "srv-a 8080; 0"),
        (json!([{"registryArn": arn("srv-a")}]).to_string(), "srv-a 8080; 0"),
        (json!([{"registryArn": arn("srv-a"), "containerName": "other"}]).to_string(), "srv-a -; 0"),
        (json!([{"registryArn": arn("srv-a"), "containerPort": 0, "port": 7}]).to_string(), "srv-a 7; 0"),
        (json!([{"registryArn": "srv-a"}]).to_string(), "srv-a 8080; 0"),
        (json!([{"registryArn": 5}, two]).to_string(), "srv-b 9090; 1"),
        (json!([{"containerPort": 80}, two]).to_string(), "srv-b 9090; 1"),
        (json!([{"registryArn": "arn:aws:s3:::bucket/x"}, two]).to_string(), "srv-b 9090; 1"),
        (json!([{"registryArn": arn("srv-a"), "port": 70_000}, two]).to_string(), "srv-b 9090; 1"),
        (json!([{"registryArn": arn("srv-a b")}, null, "x"]).to_string(), "; 3"),
        (format!("[{}]", vec![r#"{"registryArn": "srv-"}"#; 40].join(",")), "srv- 8080; 0"),
        ("{".to_string(), "; 1"),
        (String::new(), "; 1"),
        (json!({"registryArn": arn("srv-a")}).to_string(), "; 1"),
        ("[".repeat(100_000), "; 1"),
    ] {
        let parsed = read(with_registries(&annotation));
        let port = |registration: &Registration| {
            let port = registration.attributes.get("AWS_INSTANCE_PORT").unwrap_or("-");
            format!("{} {port}", registration.service)
        };
        let found: Vec<_> = parsed.registrations.iter().map(port).collect();
        let found = format!("{}; {}", found.join(", "), parsed.problems.len());
        assert_eq!(found, expected, "{}", annotation.chars().take(200).collect::<String>());
    }
    let many: Vec<_> = (0..40).map(|number| json!({"registryArn": arn(&format!("srv-{number}"))})).collect();
    let parsed = read(with_registries(&json!(many).to_string()));
    assert_eq!((parsed.registrations.len(), parsed.problems.len()), (16, 16));
}

#[test]
fn both_forms_of_annotation_can_be_on_one_pod() {
    let mut pod = backend();
    pod["metadata"]["annotations"]["kecs.io/sd-registry-0"] = json!(arn("srv-backend"));
    pod["metadata"]["annotations"]["kecs.io/sd-registry-1"] = json!(arn("srv-other"));
    pod["metadata"]["annotations"]["kecs.io/sd-registry-2"] = json!("nonsense");
    let parsed = read(pod);
    let services: Vec<_> = parsed.registrations.iter().map(|one| one.service.as_str()).collect();
    assert_eq!((services, parsed.problems.len()), (vec!["srv-backend", "srv-other"], 1));
}

#[test]
fn the_second_entry_for_a_service_is_ignored_and_reported() {
    let entry = |port: u16, container: Option<&str>| json!({"registryArn": arn("srv-a"), "containerPort": port, "containerName": container});
    let read = |entries: Value| read(with_registries(&entries.to_string()));
    let parsed = read(json!([entry(8080, None), entry(9090, Some("web"))]));
    assert_eq!(parsed.registrations.len(), 1);
    assert_eq!(parsed.registrations[0].attributes.get("AWS_INSTANCE_PORT"), Some("8080"));
    let (service, text) = &parsed.contradictions[0];
    assert_eq!(service.as_str(), "srv-a");
    assert!(
        text.contains("the port 8080 and with the port 9090 of the container web, of which the first counts"),
        "{text}"
    );
    assert!(parsed.problems.is_empty());
    let equal = read(json!([entry(8080, Some("web")), entry(8080, Some("web"))]));
    assert_eq!((equal.registrations.len(), equal.contradictions.len()), (1, 0));
    let many: Vec<_> = (1..100).map(|port| entry(port, None)).collect();
    assert_eq!(read(json!(many)).contradictions.len(), 16);
    // An annotation that names only a service contradicts nothing.
    let mut both = with_registries(&json!([entry(8080, None)]).to_string());
    both["metadata"]["annotations"]["kecs.io/sd-registry-0"] = json!(arn("srv-a"));
    let both = super::tests::read(both);
    assert_eq!((both.registrations.len(), both.contradictions.len()), (1, 0));
}

#[test]
fn a_pod_without_registries_is_no_instance() {
    let mut without = backend();
    without["metadata"]["annotations"] = json!({});
    for pod in [without, with_registries("null")] {
        let parsed = read(pod);
        assert!(parsed.registrations.is_empty() && parsed.problems.is_empty());
    }
}

#[test]
fn readiness_follows_the_status_of_the_pod() {
    use Readiness::{NeverReady, NotReady, Ready};
    let ready =
        |status: &str, at: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": at}]);
    let (before, after) = ("2025-12-01T10:00:01Z", "2025-12-01T10:05:00Z");
    let unready = |pod: &mut Value| pod["status"]["conditions"] = ready("False", before);
    for (what, pod, expected) in [
        ("ready", backend(), Some(Ready)),
        ("running, and its first check has not finished", changed(unready), Some(NeverReady)),
        (
            "unknown readiness",
            changed(|pod| pod["status"]["conditions"] = ready("Unknown", before)),
            Some(NeverReady),
        ),
        ("no conditions", changed(|pod| pod["status"]["conditions"] = json!([])), Some(NeverReady)),
        (
            "was ready after its start, and is not now",
            changed(|pod| pod["status"]["conditions"] = ready("False", after)),
            Some(NotReady),
        ),
        (
            "restarted",
            changed(|pod| {
                unready(pod);
                let running = json!({"running": {"startedAt": after}});
                pod["status"]["containerStatuses"] = json!([container(running, 1)]);
            }),
            Some(NotReady),
        ),
        (
            "ended, and waits for its restart",
            changed(|pod| {
                unready(pod);
                let ended = json!({"terminated": {"exitCode": 1}});
                pod["status"]["containerStatuses"] = json!([container(ended, 0)]);
            }),
            Some(NotReady),
        ),
        (
            "restarted once, and ready again",
            changed(|pod| pod["status"]["containerStatuses"] = json!([container(json!({}), 3)])),
            Some(Ready),
        ),
        (
            "its image can't be pulled",
            changed(|pod| {
                unready(pod);
                pod["status"]["phase"] = json!("Pending");
                let waiting = json!({"waiting": {"reason": "ImagePullBackOff"}});
                pod["status"]["containerStatuses"] = json!([container(waiting, 0)]);
            }),
            None,
        ),
        (
            "no address yet",
            changed(|pod| {
                pod["status"]["podIPs"] = json!([]);
                pod["status"]["podIP"] = json!(null);
            }),
            None,
        ),
        ("going away", changed(|pod| pod["metadata"]["deletionTimestamp"] = json!(after)), None),
        ("succeeded", changed(|pod| pod["status"]["phase"] = json!("Succeeded")), None),
        (
            "evicted, with its address",
            changed(|pod| {
                pod["status"]["phase"] = json!("Failed");
                pod["status"]["reason"] = json!("Evicted");
            }),
            None,
        ),
        ("without a status", changed(|pod| pod["status"] = json!(null)), None),
    ] {
        let parsed = read(pod);
        assert_eq!(parsed.readiness, expected, "{what}");
        assert_eq!(parsed.registrations.is_empty(), expected.is_none(), "{what}");
    }
}

/// Deleted pod, with a change of its status.
fn deleted(change: impl FnOnce(&mut Value)) -> ParsedPod {
    read(changed(|pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2025-12-01T10:05:00Z");
        change(pod);
    }))
}

#[test]
fn a_deleted_pod_has_terminating_endpoints_until_it_has_ended() {
    let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
    for (what, parsed, expected) in [
        ("ready", deleted(|_| {}), Some(true)),
        ("not ready any more", deleted(|pod| pod["status"]["conditions"] = ready("False")), Some(false)),
        ("unknown readiness", deleted(|pod| pod["status"]["conditions"] = ready("Unknown")), Some(false)),
        (
            "its container has ended, the pod has not",
            deleted(|pod| {
                pod["status"]["conditions"] = ready("False");
                let ended = json!({"terminated": {"exitCode": 0}});
                pod["status"]["containerStatuses"] = json!([container(ended, 0)]);
            }),
            Some(false),
        ),
        ("succeeded", deleted(|pod| pod["status"]["phase"] = json!("Succeeded")), None),
        ("failed", deleted(|pod| pod["status"]["phase"] = json!("Failed")), None),
        (
            "never started",
            deleted(|pod| {
                pod["status"]["phase"] = json!("Pending");
                pod["status"]["conditions"] = ready("False");
            }),
            None,
        ),
        (
            "no address yet",
            deleted(|pod| {
                pod["status"]["podIPs"] = json!([]);
                pod["status"]["podIP"] = json!(null);
            }),
            None,
        ),
        ("without registries", deleted(|pod| pod["metadata"]["annotations"] = json!({})), None),
        ("not deleted", read(backend()), None),
    ] {
        let found: Vec<bool> = parsed.terminating.iter().map(|endpoint| endpoint.is_serving).collect();
        assert_eq!(found, Vec::from_iter(expected), "{what}");
        assert!(parsed.terminating.is_empty() || parsed.registrations.is_empty(), "{what}");
    }
}

#[test]
fn terminating_endpoints_have_the_id_addresses_and_port_of_the_instance() {
    let addresses = json!([{"ip": "10.42.0.24"}, {"ip": "fd00::24"}]);
    let parsed = deleted(|pod| {
        pod["status"]["podIPs"] = addresses.clone();
        pod["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("rack-7");
    });
    let [endpoint] = parsed.terminating.as_slice() else { panic!("{parsed:?}") };
    let placement = Placement { node: Some("node-1".into()), zone: Some("rack-7".into()) };
    assert_eq!(parsed.placement, placement);
    let expected = TerminatingEndpoint {
        pod: "default-us-east-1/backend-api-service-7d9c-x2x4z".into(),
        uid: parsed.uid,
        service: "srv-backend".into(),
        instance: "0123456789abcdef0123456789abcdef".into(),
        addresses: Box::new(["10.42.0.24".parse().unwrap(), "fd00::24".parse().unwrap()]),
        port: Some(8080),
        is_serving: true,
        placement,
    };
    assert_eq!(*endpoint, expected);
}

#[test]
fn the_placement_has_no_default() {
    let unlabelled = Placement { node: Some("node-1".into()), zone: None };
    assert_eq!(read(backend()).placement, unlabelled);
    let empty = read(changed(|pod| {
        pod["spec"]["nodeName"] = json!("");
        pod["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("");
    }));
    assert_eq!(empty.placement, Placement::default());
}

#[test]
fn addresses_are_one_of_each_family() {
    for (addresses, expected) in [
        (json!([{"ip": "10.42.0.24"}, {"ip": "fd00::24"}]), [Some("10.42.0.24"), Some("fd00::24")]),
        (json!([{"ip": "fd00::24"}, {"ip": "10.42.0.24"}]), [Some("10.42.0.24"), Some("fd00::24")]),
        (json!([{"ip": "10.42.0.24"}, {"ip": "10.42.0.25"}]), [Some("10.42.0.24"), None]),
        (json!([{"ip": "nonsense"}]), [Some("10.42.0.24"), None]),
        (json!(null), [Some("10.42.0.24"), None]),
    ] {
        let parsed = read(changed(|pod| pod["status"]["podIPs"] = addresses.clone()));
        let attributes = &parsed.registrations[0].attributes;
        let found = ["AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"].map(|key| attributes.get(key));
        assert_eq!(found, expected, "{addresses}");
        assert!(!parsed.own_addresses.is_empty());
    }
    let on_node = read(changed(|pod| pod["spec"]["hostNetwork"] = json!(true)));
    assert_eq!((on_node.own_addresses.len(), on_node.registrations.len()), (0, 1));
}

#[test]
fn an_annotation_sets_the_weight() {
    for (annotation, expected, problems) in
        [(None, None, 0), (Some("0"), Some("0"), 0), (Some("255"), Some("255"), 0), (Some("256"), None, 1)]
    {
        let parsed = read(changed(|pod| {
            if let Some(weight) = annotation {
                pod["metadata"]["annotations"]["cloudmap-dns.io/weight"] = json!(weight);
            }
        }));
        assert_eq!(parsed.registrations[0].attributes.get("WEIGHT"), expected, "{annotation:?}");
        assert_eq!(parsed.problems.len(), problems, "{annotation:?}: {:?}", parsed.problems);
    }
    let foreign = read(json!({
        "metadata": {"name": "web", "annotations": {"cloudmap-dns.io/weight": "heavy"}},
    }));
    assert!(foreign.problems.is_empty(), "{:?}", foreign.problems);
}

#[test]
fn the_readiness_of_a_container_counts_apart_from_that_of_the_pod() {
    use Readiness::{NeverReady, NotReady, Ready};
    let (before, after) = ("2025-12-01T10:00:01Z", "2025-12-01T10:05:00Z");
    let condition = |status: &str, at: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": at, "message": "unready: [sidecar]"}]);
    let containers = |app: bool, restarts: i32| {
        let running = json!({"running": {"startedAt": "2025-12-01T10:00:02Z"}});
        let (mut own, mut sidecar) = (container(running.clone(), restarts), container(running, 0));
        (own["name"], own["ready"]) = (json!("backend"), json!(app));
        (sidecar["name"], sidecar["ready"]) = (json!("sidecar"), json!(false));
        json!([sidecar, own])
    };
    let pod = |ready: (&str, &str), app: bool, restarts: i32, annotation: Option<&str>| {
        let parsed = read(changed(|pod| {
            pod["status"]["conditions"] = condition(ready.0, ready.1);
            pod["status"]["containerStatuses"] = containers(app, restarts);
            if let Some(annotation) = annotation {
                pod["metadata"]["annotations"]["cloudmap-dns.io/health-of"] = json!(annotation);
            }
        }));
        let found = &parsed.registrations[0];
        (found.readiness.readiness, found.container_readiness.readiness)
    };
    let (never, lost) = (("False", before), ("False", after));
    assert_eq!(pod(("True", after), true, 0, None), (Ready, Ready));
    assert_eq!(pod(lost, true, 0, None), (NotReady, Ready));
    assert_eq!(pod(lost, false, 0, None), (NotReady, NotReady));
    assert_eq!(pod(never, true, 0, None), (NeverReady, Ready));
    assert_eq!(pod(never, false, 0, None), (NeverReady, NeverReady));
    assert_eq!(pod(never, false, 1, None), (NotReady, NotReady));
    // The annotation decides which of the two counts, whatever the policy of the service is.
    assert_eq!(pod(lost, true, 0, Some("container")), (Ready, Ready));
    assert_eq!(pod(lost, true, 0, Some("pod")), (NotReady, NotReady));
    assert_eq!(pod(lost, true, 0, Some("node")), (NotReady, Ready));
    let parsed = read(changed(|pod| pod["status"]["conditions"] = condition("False", after)));
    assert_eq!(parsed.details.not_ready.as_deref(), Some("unready: [sidecar]"));
}

#[test]
fn an_annotation_orders_maintenance() {
    let long = "x".repeat(201);
    for (annotation, expected, problems) in [
        ("disk swap", Some("disk swap"), 0),
        ("on", Some(""), 0),
        ("true", Some(""), 0),
        ("", Some(""), 0),
        ("off", None, 0),
        ("false", None, 0),
        (long.as_str(), None, 1),
        ("a\nb", None, 1),
    ] {
        let parsed = read(changed(|pod| {
            pod["metadata"]["annotations"]["cloudmap-dns.io/maintenance"] = json!(annotation);
        }));
        assert_eq!(parsed.details.maintenance.as_deref(), expected, "{annotation:?}");
        assert_eq!(parsed.problems.len(), problems, "{annotation:?}: {:?}", parsed.problems);
    }
}

#[test]
fn the_setting_selects_the_id_of_an_instance() {
    let by_pod = PodRules { instance_id: InstanceIdSource::Pod, ..rules() };
    let named = |name: &str, task: Option<&str>| {
        changed(|pod| {
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["labels"]["kecs.dev/task-id"] = json!(task.unwrap_or_default());
        })
    };
    let long = "x".repeat(65);
    for (name, task, rules, expected) in [
        ("web-1", Some("0123abcd"), rules(), "0123abcd".to_string()),
        ("web-1", Some("0123abcd"), by_pod.clone(), "web-1".to_string()),
        ("web-1", None, rules(), "web-1".to_string()),
        (&long, None, rules(), name_digest(&long)),
        (&long, Some("0123abcd"), by_pod, name_digest(&long)),
    ] {
        assert_eq!(&*read_by(named(name, task), &rules).registrations[0].id, expected, "{name} {task:?}");
    }
    assert_eq!(name_digest("web-1"), "c4719afa76fa448b5eca99e673688584");
}

#[test]
fn cluster_and_region_are_read_from_label_arn_or_namespace() {
    let arn = "arn:aws:ecs:ap-south-1:111122223333:service/shop/web";
    for (namespace, cluster, service_arn, expected) in [
        ("default-us-east-1", Some("default"), None, "default us-east-1 000000000000"),
        ("default-us-east-1", None, None, "default us-east-1 000000000000"),
        ("my-app-prod-us-east-1", None, None, "my-app-prod us-east-1 000000000000"),
        ("my-app-us-gov-west-1", None, None, "my-app us-gov-west-1 000000000000"),
        ("my-app-us-gov-west-1", Some("my-app"), None, "my-app us-gov-west-1 000000000000"),
        ("elsewhere", Some("shop"), None, "shop eu-central-1 000000000000"),
        ("elsewhere", None, None, "- eu-central-1 -"),
        ("elsewhere", None, Some(arn), "shop ap-south-1 111122223333"),
        ("elsewhere", Some("label"), Some(arn), "label ap-south-1 111122223333"),
        ("elsewhere", None, Some("nonsense"), "- eu-central-1 -"),
    ] {
        let parsed = read(changed(|pod| {
            pod["metadata"]["namespace"] = json!(namespace);
            pod["metadata"]["labels"]["kecs.dev/cluster"] = json!(cluster.unwrap_or_default());
            pod["metadata"]["annotations"]["kecs.dev/service-arn"] = json!(service_arn.unwrap_or_default());
        }));
        let get = |key| parsed.registrations[0].attributes.get(key).unwrap_or("-");
        let account = get("ECS_TASK_ARN").split(':').nth(4).unwrap_or("-");
        let found = format!("{} {} {account}", get("ECS_CLUSTER_NAME"), get("REGION"));
        assert_eq!(found, expected, "{namespace} {cluster:?} {service_arn:?}");
        assert_eq!(get("AVAILABILITY_ZONE"), format!("{}a", get("REGION")));
    }
}

/// Watch of such a pod, recorded from a real API server.
const RECORDED: &str = include_str!("../../../benches/pods/watch.jsonl");

#[test]
fn recorded_events_of_an_api_server_are_read() {
    let read = |line: &str| match serde_json::from_str::<WatchEvent<Pod>>(line).unwrap() {
        WatchEvent::Modified(pod) => ("modified", ParsedPod::of(&pod, &rules()).unwrap()),
        WatchEvent::Deleted(pod) => ("deleted", ParsedPod::of(&pod, &rules()).unwrap()),
        other => panic!("{other:?} is not recorded"),
    };
    let found: Vec<_> = RECORDED.lines().map(read).collect();
    let found_readiness: Vec<_> = found.iter().map(|(event, parsed)| (*event, parsed.readiness)).collect();
    // All events are within one second, so that a loss of readiness after the start is not visible.
    let expected =
        [("modified", Some(Readiness::NeverReady)), ("modified", Some(Readiness::Ready)), ("deleted", None)];
    assert_eq!(found_readiness, expected);
    assert_eq!(
        lines(&found[1].1),
        ["srv-0123456789abcdef 0123456789abcdef0123456789abcdef \
          AVAILABILITY_ZONE=us-east-1a AWS_INSTANCE_ID=backend-api-service-6d4b75cb6d-x7k2q \
          AWS_INSTANCE_IPV4=10.42.0.24 AWS_INSTANCE_PORT=8080 CONTAINER_NAME=backend ECS_CLUSTER=default \
          ECS_CLUSTER_NAME=default ECS_SERVICE_NAME=backend-api-service \
          ECS_TASK_ARN=arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef \
          ECS_TASK_DEFINITION_FAMILY=backend-api K8S_NAMESPACE=default-us-east-1 PORT=8080 REGION=us-east-1"]
    );
}

#[test]
fn null_fields_are_read_as_missing() {
    for path in [
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/creationTimestamp",
        "/metadata/uid",
        "/spec",
        "/spec/nodeName",
        "/spec/containers",
        "/spec/containers/0/name",
        "/spec/containers/0/ports",
        "/spec/containers/0/ports/0/containerPort",
        "/status/phase",
        "/status/podIP",
        "/status/podIPs",
        "/status/podIPs/0/ip",
        "/status/conditions",
        "/status/conditions/0/type",
        "/status/conditions/0/status",
        "/status/conditions/0/lastTransitionTime",
        "/status/containerStatuses",
        "/status/containerStatuses/0/state",
        "/status/containerStatuses/0/state/running",
        "/status/containerStatuses/0/state/running/startedAt",
        "/status/containerStatuses/0/restartCount",
    ] {
        let (mut without, mut null) = (backend(), backend());
        *null.pointer_mut(path).unwrap() = Value::Null;
        let (parent, field) = path.rsplit_once('/').unwrap();
        without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        assert_eq!(read(null), read(without), "{path}");
    }
}
