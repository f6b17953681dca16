"""Pods of tasks as instances, with a real API server: they are in DNS while they are ready, and leave it at their end."""

import signal
import socket
import threading

import pytest

from harness import kecs
from harness.cloudmap import Refused, unique
from harness.deadline import eventually
from harness.kecs import BACKEND, NGINX

DEAD_WATCH_SECONDS = 45.0


class World:
    """A server that watches the cluster, and a private namespace."""

    def __init__(self, server, cluster, kubelet):
        self.server, self.cluster, self.kubelet = server, cluster, kubelet
        self.zone = f"{unique('pods')}.local"
        self.namespace = self.cloudmap.private_namespace(self.zone)

    @property
    def cloudmap(self):
        return self.server.cloudmap()

    def service(self, name="backend", **more):
        return self.cloudmap.service(self.namespace, name, **({"A": 60} | more))

    def served(self, name="backend"):
        return set(self.server.resolver.addresses(f"{name}.{self.zone}"))

    def serves(self, *addresses, name="backend"):
        """Waits until DNS answers exactly these addresses."""
        def check():
            assert self.served(name) == set(addresses)
            return True
        eventually(check)


@pytest.fixture
def world(start, cluster, kubelet):
    """A server that watches an empty cluster."""
    cluster.apply(kecs.namespace())
    world = World(start("--kubeconfig", cluster.kubeconfig), cluster, kubelet)
    world.server.until_metric("kubernetes_watch_stale", 0)
    return world


def test_explain_says_why_a_pod_is_not_served(world):
    """test_kecs_scenarios.py tests that services follow the readiness of pods."""
    service = world.service()
    pods = [world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.7.{number}") for number in (1, 2)]
    world.serves("10.42.7.1", "10.42.7.2")
    world.kubelet.set_ready(pods[0], False)
    world.serves("10.42.7.2")
    explained = world.server.page(f"/explain?name=backend.{world.zone}")
    assert f"not served: pod {kecs.namespace_of()}/{pods[0]['metadata']['name']} is not ready any more" in explained
    world.kubelet.restart(pods[1])
    world.serves()
    explained = world.server.page(f"/explain?name=backend.{world.zone}")
    assert f"not served: pod {kecs.namespace_of()}/{pods[1]['metadata']['name']} is not ready any more" in explained


def test_an_instance_of_a_pod_has_the_attributes_of_its_task(world):
    service = world.service(SRV=60)
    pod = world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.0.24", "fd00::24")
    world.serves("10.42.0.24")
    task = kecs.task_id(pod)
    assert world.cloudmap.listed_instances(service) == {task: {
        "AWS_INSTANCE_IPV4": "10.42.0.24", "AWS_INSTANCE_IPV6": "fd00::24", "AWS_INSTANCE_PORT": "8080",
        "AVAILABILITY_ZONE": "us-east-1a", "REGION": "us-east-1", "ECS_SERVICE_NAME": "backend-api-service",
        "ECS_CLUSTER_NAME": "default", "ECS_TASK_DEFINITION_FAMILY": "backend-api",
        "AWS_INSTANCE_ID": pod["metadata"]["name"], "ECS_CLUSTER": "default", "K8S_NAMESPACE": "default-us-east-1",
        "ECS_TASK_ARN": f"arn:aws:ecs:us-east-1:000000000000:task/default/{task}", "CONTAINER_NAME": "backend",
        "PORT": "8080"}}
    # The API server copies the zone of the node to the pod.
    world.cluster.kubectl("-n", BACKEND.namespace, "label", "pod", pod["metadata"]["name"],
                          "topology.kubernetes.io/zone=us-east-1c")
    eventually(lambda: world.cloudmap.listed_instances(service)[task]["AVAILABILITY_ZONE"] == "us-east-1c")
    srv = world.server.dig(f"backend.{world.zone}", "SRV")
    assert srv.data("SRV") == [f"1 1 8080 {task}.backend.{world.zone}."]


def test_pods_of_both_label_families_count_and_others_do_not(world):
    service, other = world.service(), world.service("webapp")
    world.kubelet.create(kecs.task_set_pod(service.rpartition("/")[2], other), "10.42.1.1")
    world.kubelet.create(BACKEND.pod(kecs.registry(service, port=80)), "10.42.1.2")
    world.kubelet.create(BACKEND.pod(BACKEND.registry(service), kecs.registry(other)), "10.42.1.3")
    world.kubelet.create(NGINX.pod(), "10.42.1.4")
    world.kubelet.create(kecs.standalone_pod(), "10.42.1.5")
    world.kubelet.finish(world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.1.6"), "Failed",
                         reason="Evicted")
    world.kubelet.create(BACKEND.at("default").pod(BACKEND.registry(service), hostNetwork=True), "10.0.7.7")
    world.serves("10.42.1.1", "10.42.1.2", "10.42.1.3", "10.0.7.7")
    world.serves("10.42.1.1", "10.42.1.3", name="webapp")
    # A pod without an address is served as soon as it has one.
    late = world.cluster.create(BACKEND.pod(BACKEND.registry(service)))
    world.kubelet.run(late, "10.42.1.8")
    world.serves("10.42.1.1", "10.42.1.2", "10.42.1.3", "10.0.7.7", "10.42.1.8")


def test_a_pod_that_was_never_ready_is_served_by_default(world):
    service = world.service()
    pod = world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.2.1", ready=False)
    world.serves("10.42.2.1")
    assert world.cloudmap.health(service) == {kecs.task_id(pod): "UNKNOWN"}
    world.cloudmap.set_attribute(service, "unknown", "withhold")
    assert world.served() == set()
    world.kubelet.set_ready(pod, True)
    world.serves("10.42.2.1")
    world.kubelet.set_ready(pod, False)
    world.serves()
    assert world.cloudmap.health(service) == {kecs.task_id(pod): "UNHEALTHY"}


def test_pods_wait_for_their_service_and_come_back_with_it(world):
    service = world.service()
    world.cloudmap.DeleteService(Id=service)
    world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.3.1")
    world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.3.2")
    world.server.until_metric("kubernetes_pending_instances", 2)
    explained = world.server.page(f"/explain?name=backend.{world.zone}")
    assert f"2 pods wait for the service backend ({service}), which is not there" in explained
    # The namespace may be missing too, because ids are derived from names.
    world.cloudmap.done(world.cloudmap.DeleteNamespace(Id=world.namespace))
    for name in (f"backend.{world.zone}", f"any.backend.{world.zone}"):
        explained = world.server.page(f"/explain?name={name}")
        [line] = [line for line in explained.splitlines() if "pods wait for" in line]
        assert f"2 pods wait for the service backend ({service}), which is not there, nor is its DNS_PRIVATE namespace" in line
        assert f"{world.zone} ({world.namespace}): {BACKEND.namespace}/backend-api-service-" in line
        assert "answer    REFUSED" in explained
    world.namespace = world.cloudmap.private_namespace(world.zone)
    assert world.service() == service
    world.serves("10.42.3.1", "10.42.3.2")
    world.server.until_metric("kubernetes_pending_instances", 0)


def test_a_malformed_annotation_is_a_warning_and_affects_no_other_pod(world):
    service = world.service()
    bad = BACKEND.pod(annotations={"kecs.dev/service-registries": '[{"registryArn": 5}'})
    bad = world.kubelet.create(bad, "10.42.4.1")
    world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.4.2")
    world.serves("10.42.4.2")
    world.server.until_metric("kubernetes_malformed_pods", 1)

    def warning():
        events = world.cluster.list("events.k8s.io/v1/Event", BACKEND.namespace)
        return [event for event in events if event["regarding"]["name"] == bad["metadata"]["name"]]

    [event] = eventually(lambda: warning() or None)
    assert (event["type"], event["reason"]) == ("Warning", "CloudMapAnnotationMalformed")
    assert "kecs.dev/service-registries is not a JSON list" in event["note"]
    right = kecs.registries_annotation([BACKEND.registry(service)])
    world.cluster.patch("Pod", bad["metadata"]["name"], BACKEND.namespace,
                        {"metadata": {"annotations": {"kecs.dev/service-registries": right}}})
    world.serves("10.42.4.1", "10.42.4.2")
    world.server.until_metric("kubernetes_malformed_pods", 0)


def test_an_annotation_is_the_weight_of_a_pod(world):
    service = world.service(SRV=60)
    pods = [world.kubelet.create(BACKEND.pod(BACKEND.registry(service), annotations={"cloudmap-dns.io/weight": weight}), ipv4)
            for weight, ipv4 in (("7", "10.42.6.1"), ("1", "10.42.6.2"))]
    world.serves("10.42.6.1", "10.42.6.2")
    name = f"backend.{world.zone}"

    def annotate(pod, weight):
        world.cluster.patch("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"],
                            {"metadata": {"annotations": {"cloudmap-dns.io/weight": weight}}})

    def weights():
        return sorted(data.split()[1] for data in world.server.dig(name, "SRV").data("SRV"))

    assert weights() == ["1", "7"]
    annotate(pods[0], "0")
    world.serves("10.42.6.2")
    annotate(pods[0], "heavy")
    world.serves("10.42.6.1", "10.42.6.2")
    assert weights() == ["1", "1"]
    [event] = eventually(lambda: [event for event in world.cluster.list("events.k8s.io/v1/Event", pods[0]["metadata"]["namespace"])
                                  if event["regarding"]["name"] == pods[0]["metadata"]["name"]] or None)
    assert "cloudmap-dns.io/weight has the value \"heavy\", which is not a weight from 0 to 255" in event["note"]


def annotate(world, pod, **annotations):
    world.cluster.patch("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], {"metadata": {"annotations": {
        f"cloudmap-dns.io/{key.replace('_', '-')}": value for key, value in annotations.items()}}})


def test_an_annotation_takes_a_pod_out_for_maintenance(world):
    service = world.service()
    pods = [world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.8.{number}") for number in (1, 2)]
    world.serves("10.42.8.1", "10.42.8.2")
    world.cloudmap.set_attribute(service, "fail-open", "true")
    annotate(world, pods[0], maintenance="disk swap")
    world.serves("10.42.8.2")
    assert "not served: maintenance: disk swap" in world.server.page(f"/explain?name=backend.{world.zone}")
    assert world.cloudmap.health(service)[kecs.task_id(pods[0])] == "UNHEALTHY"
    annotate(world, pods[1], maintenance="on")
    world.serves()
    annotate(world, pods[0], maintenance="off")
    annotate(world, pods[1], maintenance=None)
    world.serves("10.42.8.1", "10.42.8.2")
    history = world.server.run("history", f"backend.{world.zone}").stdout
    task = kecs.task_id(pods[0])
    assert f"{task}  HEALTHY -> UNHEALTHY  maintenance: disk swap" in history
    assert f"{task}  UNHEALTHY -> HEALTHY  maintenance lifted: pod" in history


def test_a_sick_sidecar_harms_nobody_where_the_container_counts(world):
    service = world.service()
    sidecar = {"name": "sidecar", "image": "envoy"}
    pod = BACKEND.pod(BACKEND.registry(service))
    pod["spec"]["containers"].insert(0, sidecar)
    pod = world.kubelet.create(pod, "10.42.9.1")
    world.serves("10.42.9.1")

    def containers(**ready):
        """Reports the readiness of each container, and that of the pod which follows from it."""
        found = world.kubelet.set_ready(pod, all(ready.values()))
        statuses = [status | {"ready": ready[status["name"]]} for status in found["status"]["containerStatuses"]]
        world.cluster.patch("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"],
                            {"status": {"containerStatuses": statuses}}, "status")

    containers(backend=True, sidecar=False)
    world.serves()
    world.cloudmap.set_attribute(service, "health-of", "container")
    world.serves("10.42.9.1")
    explained = world.server.page(f"/explain?name=backend.{world.zone}")
    assert f"served: container of pod {kecs.namespace_of()}/{pod['metadata']['name']} is ready" in explained
    annotate(world, pod, health_of="pod")
    world.serves()
    annotate(world, pod, health_of="node")
    world.serves("10.42.9.1")
    [event] = eventually(lambda: [event for event in world.cluster.list("events.k8s.io/v1/Event", pod["metadata"]["namespace"])
                                  if event["regarding"]["name"] == pod["metadata"]["name"]] or None)
    assert "cloudmap-dns.io/health-of has the value \"node\", which is not one of pod, container" in event["note"]
    containers(backend=False, sidecar=True)
    world.serves()
    world.cloudmap.DeleteServiceAttributes(ServiceId=service, Attributes=["health-of"])
    annotate(world, pod, health_of="container")
    containers(backend=True, sidecar=False)
    world.serves("10.42.9.1")


def test_the_api_changes_only_the_reported_health_of_pods(world):
    service = world.service(custom_health=True)
    pod = world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.5.1")
    task = kecs.task_id(pod)
    world.serves("10.42.5.1")
    world.cloudmap.instance(service, "external", ipv4="192.0.2.1")
    assert world.served() == {"10.42.5.1", "192.0.2.1"}
    name = f"{BACKEND.namespace}/{pod['metadata']['name']}"
    for refused in (lambda: world.cloudmap.DeregisterInstance(ServiceId=service, InstanceId=task),
                    lambda: world.cloudmap.instance(service, task, ipv4="192.0.2.2")):
        with pytest.raises(Refused) as error:
            refused()
        assert error.value.code == "ResourceInUse" and name in error.value.message

    # Either source of UNHEALTHY is sufficient, and a report is kept as long as the pod exists.
    world.cloudmap.set_health(service, task, "UNHEALTHY")
    assert world.served() == {"192.0.2.1"}
    world.kubelet.set_ready(pod, False)
    eventually(lambda: "is not ready any more" in world.server.page(f"/explain?name=backend.{world.zone}"))
    world.kubelet.set_ready(pod, True)
    eventually(lambda: "is not ready any more" not in world.server.page(f"/explain?name=backend.{world.zone}"))
    assert world.cloudmap.health(service) == {task: "UNHEALTHY", "external": "HEALTHY"}
    world.cloudmap.set_health(service, task, "HEALTHY")
    assert world.served() == {"10.42.5.1", "192.0.2.1"}

    world.cloudmap.deregister(service, "external")
    with pytest.raises(Refused) as error:
        world.cloudmap.DeleteService(Id=service)
    assert error.value.code == "ResourceInUse"
    world.cluster.delete("Pod", pod["metadata"]["name"], BACKEND.namespace, grace_seconds=30)
    world.serves()
    world.cloudmap.DeleteService(Id=service)


def test_the_setting_names_instances_by_their_pods(start, cluster, kubelet):
    cluster.apply(kecs.namespace())
    world = World(start("--kubeconfig", cluster.kubeconfig, "--instance-id", "pod"), cluster, kubelet)
    service = world.service()
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.6.1")
    world.serves("10.42.6.1")
    assert set(world.cloudmap.listed_instances(service)) == {pod["metadata"]["name"]}


def test_without_an_api_server_the_last_known_pods_are_answered_as_stale(world):
    service = world.service()
    pods = [world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.8.{number}") for number in (1, 2)]
    world.serves("10.42.8.1", "10.42.8.2")
    world.cluster.kill_api_server()
    world.server.until_metric("kubernetes_watch_stale", 1)
    assert world.served() == {"10.42.8.1", "10.42.8.2"}
    assert world.server.page("/readyz") == "ok\n"
    world.server.until_readiness("kubernetes: stale since")
    # Answers to queries with EDNS have an extended error (RFC 8914 §4.4 and §4.20), over UDP and TCP and in every zone.
    for name, status, error in ((f"backend.{world.zone}", "NOERROR", "EDE: 3 (Stale Answer)"),
                                (f"nobody.{world.zone}", "NXDOMAIN", "EDE: 19 (Stale NXDOMAIN Answer)")):
        for transport in ("+notcp", "+tcp"):
            answer = world.server.dig(name, "A", "+edns", transport)
            assert (answer.status, answer.options) == (status, [error]), answer.text
        plain = world.server.dig(name)
        assert (plain.status, plain.options) == (status, []), plain.text
    # The API still works.
    world.cloudmap.instance(service, "external", ipv4="192.0.2.1")
    assert world.served() == {"10.42.8.1", "10.42.8.2", "192.0.2.1"}
    world.cluster.start_api_server()
    world.server.until_metric("kubernetes_watch_stale", 0)
    for name in (f"backend.{world.zone}", f"nobody.{world.zone}"):
        assert world.server.dig(name, "A", "+edns").options == []
    world.kubelet.set_ready(pods[0], False)
    world.serves("10.42.8.2", "192.0.2.1")


def test_missed_events_are_listed_again_and_a_list_without_most_pods_is_not_trusted_at_once(world):
    service = world.service()
    pods = [world.kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.9.{number}") for number in range(1, 9)]
    world.serves(*(f"10.42.9.{number}" for number in range(1, 9)))
    lists = world.server.metric("kubernetes_lists_total")
    world.server.process.send_signal(signal.SIGSTOP)
    try:
        # Its connections are cut, so that it misses the following events, and its resource version is compacted.
        world.cluster.kill_api_server()
        world.cluster.start_api_server()
        for pod in pods[:7]:
            world.kubelet.end(pod)
        world.cluster.compact()
        world.cluster.kill_api_server()
        world.cluster.start_api_server()
    finally:
        world.server.process.send_signal(signal.SIGCONT)
    world.server.wait_for_log(lambda _, fields: "lacks most" in fields.get("message", ""))
    assert len(world.served()) == 8
    world.serves("10.42.9.8")
    world.server.until_metric("kubernetes_watch_stale", 0)
    assert world.server.metric("kubernetes_lists_total") >= lists + 2


def test_a_server_starts_without_an_api_server_and_connects_later(start, cluster, kubelet):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig)
    world = World(server, cluster, kubelet)
    service = world.service()
    world.cloudmap.instance(service, "external", ipv4="192.0.2.1")
    kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.10.1")
    world.serves("10.42.10.1", "192.0.2.1")
    revision = world.cloudmap.revision(world.zone, "backend")
    serial = int(server.dig(world.zone, "SOA").data("SOA")[0].split()[2])
    cluster.kill_api_server()
    server.restart()
    assert world.served() == {"192.0.2.1"}
    assert world.server.metric("kubernetes_watch_stale") == 1
    # Revisions that only pods had are not reused.
    assert world.cloudmap.revision(world.zone, "backend") >= revision
    assert int(server.dig(world.zone, "SOA").data("SOA")[0].split()[2]) >= serial
    cluster.start_api_server()
    world.serves("10.42.10.1", "192.0.2.1")
    assert world.cloudmap.revision(world.zone, "backend") > revision


def test_an_invalid_kubeconfig_ends_the_start(start, tmp_path):
    server = start("--kubeconfig", tmp_path / "missing", wait=False)
    server.launch()
    assert server.wait() != 0
    assert "--kubeconfig" in server.log_tail() and "missing" in server.log_tail()


class Freezer:
    """A TCP proxy that can stop passing bytes, like a network that drops all packets silently."""

    def __init__(self, port):
        self.target, self.is_frozen = port, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._move, args=(source, sink), daemon=True).start()

    def _move(self, source, sink):
        try:
            while data := source.recv(65536):
                if self.is_frozen.is_set():
                    # Keep the connection open without passing anything.
                    continue
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()


def test_a_watch_on_a_silently_dead_connection_is_detected(start, cluster, kubelet, tmp_path):
    cluster.apply(kecs.namespace())
    proxy = Freezer(cluster.port)
    text = cluster.kubeconfig.read_text().replace(f":{cluster.port}", f":{proxy.port}")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text)
    world = World(start("--kubeconfig", kubeconfig), cluster, kubelet)
    service = world.service()
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.11.1")
    world.serves("10.42.11.1")
    proxy.is_frozen.set()
    kubelet.set_ready(pod, False)
    world.server.until_metric("kubernetes_watch_stale", 1, DEAD_WATCH_SECONDS)
    assert world.served() == {"10.42.11.1"}
    proxy.is_frozen.clear()
    world.serves()
    world.server.until_metric("kubernetes_watch_stale", 0)
