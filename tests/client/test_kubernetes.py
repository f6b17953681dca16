"""Checks of the test cluster itself: it behaves like Kubernetes in all that other tests rely on."""

import pytest

from harness import kecs
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import ApiError

SLICES = "discovery.k8s.io/v1/EndpointSlice"
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend", "namespace": BACKEND.namespace},
           "spec": {"clusterIP": "None", "selector": {"app": BACKEND.name}, "ports": [{"port": 8080}]}}


def endpoints(cluster):
    """(ready, serving, terminating) of the headless Service by address."""
    found = cluster.list(SLICES, BACKEND.namespace, "kubernetes.io/service-name=backend")
    return {address: tuple(endpoint["conditions"][name] for name in ("ready", "serving", "terminating"))
            for piece in found for endpoint in piece["endpoints"] or () for address in endpoint["addresses"]}


def test_a_kubelet_s_reports_move_endpoints(cluster, kubelet):
    cluster.apply(kecs.namespace())
    cluster.create(SERVICE)
    pod = kubelet.create(BACKEND.pod(), "10.42.0.24", ready=False)
    eventually(lambda: endpoints(cluster) == {"10.42.0.24": (False, False, False)})
    kubelet.set_ready(pod, True)
    eventually(lambda: endpoints(cluster) == {"10.42.0.24": (True, True, False)})
    assert kubelet.restart(pod)["status"]["containerStatuses"][0]["restartCount"] == 1
    eventually(lambda: endpoints(cluster) == {"10.42.0.24": (False, False, False)})
    kubelet.set_ready(pod, True)

    # A graceful deletion only marks the pod; the kubelet ends it.
    cluster.delete("Pod", pod["metadata"]["name"], BACKEND.namespace)
    eventually(lambda: endpoints(cluster) == {"10.42.0.24": (False, True, True)})
    assert "deletionTimestamp" in cluster.get("Pod", pod["metadata"]["name"], BACKEND.namespace)["metadata"]
    kubelet.end(pod)
    eventually(lambda: endpoints(cluster) == {})
    assert cluster.get("Pod", pod["metadata"]["name"], BACKEND.namespace) is None


def test_deployments_keep_their_replicas_while_a_kubelet_follows(cluster, kubelet):
    cluster.apply(kecs.namespace())
    cluster.create(BACKEND.deployment(BACKEND.registry("srv-backend"), replicas=2))
    with kubelet.follow(BACKEND.namespace):
        eventually(lambda: ready_replicas(cluster) == 2)
        cluster.kubectl("-n", BACKEND.namespace, "scale", "deployment", BACKEND.name, "--replicas=5")
        eventually(lambda: ready_replicas(cluster) == 5)
        cluster.kubectl("-n", BACKEND.namespace, "scale", "deployment", BACKEND.name, "--replicas=1")
        eventually(lambda: len(cluster.list("Pod", BACKEND.namespace)) == 1)
    [pod] = cluster.list("Pod", BACKEND.namespace)
    assert pod["metadata"]["annotations"]["kecs.dev/service-registries"] == (
        '[{"containerName":"backend","containerPort":8080,'
        '"registryArn":"arn:aws:servicediscovery:us-east-1:000000000000:service/srv-backend"}]')


def ready_replicas(cluster):
    status = cluster.get("apps/v1/Deployment", BACKEND.name, BACKEND.namespace)["status"]
    return status.get("readyReplicas", 0)


def test_the_api_server_comes_back_on_its_port_with_what_etcd_has(cluster):
    cluster.namespace("kept")
    cluster.kill_api_server()
    assert not cluster.is_ready()
    cluster.start_api_server()
    assert cluster.get("Namespace", "kept")["status"]["phase"] == "Active"


def test_a_watch_from_before_a_compaction_gets_410_gone(cluster):
    before = cluster.request("GET", "/api/v1/namespaces")["metadata"]["resourceVersion"]
    for number in range(3):
        cluster.namespace(f"later-{number}")
    cluster.compact()
    cluster.kill_api_server()
    cluster.start_api_server()
    try:
        said = cluster.text("GET", f"/api/v1/namespaces?watch=true&timeoutSeconds=5&resourceVersion={before}")
        assert '"code":410' in said
    except ApiError as error:
        assert error.status == 410


@pytest.mark.parametrize("service", [kecs.BACKEND, kecs.FRONTEND, kecs.HEALTH_TEST, kecs.NGINX, kecs.USERS, kecs.GATEWAY])
def test_services_of_kecs_are_accepted_by_the_api_server(cluster, service):
    cluster.apply(kecs.namespace())
    for made in (cluster.create(service.pod(service.registry("srv-1"))),
                 cluster.create(service.deployment(service.registry("srv-1")))["spec"]["template"]):
        assert made["metadata"]["annotations"]["kecs.dev/service-registries"] == (
            f'[{{"containerName":"{service.container}","containerPort":{service.port},'
            '"registryArn":"arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1"}]')
        [container] = made["spec"]["containers"]
        # Both probes run the health check's command, and the readiness probe starts after at most ten seconds.
        assert ("readinessProbe" in container) == (service.health_check is not None)
        assert container.get("readinessProbe", {}).get("initialDelaySeconds", 0) <= 10


def test_objects_of_kecs_are_as_kecs_writes_them(cluster, kubelet):
    cluster.apply(kecs.namespace())
    nothing = cluster.create(kecs.NGINX.pod())
    assert nothing["metadata"]["annotations"]["kecs.dev/service-registries"] == "null"
    task_set = cluster.create(kecs.task_set_pod("srv-webapp-sd"))
    assert task_set["metadata"]["annotations"] == {
        "kecs.dev/task-arn": "arn:aws:ecs:us-east-1:000000000000:task/default/ts-537efbba",
        "kecs.dev/task-definition-arn": "arn:aws:ecs:us-east-1:000000000000:task-definition/webapp:1",
        "kecs.io/sd-registry-0": "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-webapp-sd"}
    assert "kecs.dev/managed-by" not in task_set["metadata"]["labels"]
    alone = kubelet.create(kecs.standalone_pod())
    assert kubelet.finish(alone, "Failed", reason="Evicted")["status"]["podIP"]
    assert len(kecs.task_id(cluster.create(BACKEND.pod()))) == 32
    assert "kecs.dev/task-id" not in cluster.create(BACKEND.pod(task_id=""))["metadata"]["labels"]
    alias = cluster.create(kecs.alias_service("backend-api", "demo.local", "srv-backend", "ns-demo",
                                              "backend-api-service.default-us-east-1.svc.cluster.local"))
    assert alias["metadata"]["labels"]["kecs.io/namespace"] == "demo.local"
    elsewhere = BACKEND.at("my-app-prod", "us-gov-west-1").pod()["metadata"]
    assert elsewhere["namespace"] == "my-app-prod-us-gov-west-1"
    assert elsewhere["annotations"]["kecs.dev/service-arn"] == (
        "arn:aws:ecs:us-gov-west-1:000000000000:service/my-app-prod/backend-api-service")
