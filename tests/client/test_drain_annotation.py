"""The annotation of pods that have left the answers, with the time from which no client holds them."""

import time
from datetime import datetime

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster
from test_drained import drained

ANNOTATION = "cloudmap-dns.io/drained-at"
TTL = 20
# As /drained counts.
HELD_SECONDS = TTL + 2
# A server acquires the Lease of one that was killed 15 seconds after its last renewal.
TAKEOVER_SECONDS = 45.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as defined:
        yield defined


class Scene:
    """A Cloud Map service with pods, and servers that annotate them."""

    def __init__(self, cluster, kubelet, start, store):
        self.cluster, self.kubelet, self._start = cluster, kubelet, start
        self.zone, self.service = f"{unique('annotated')}.local", None
        self.tasks = BACKEND.at(unique("annotated"))
        cluster.apply(kecs.namespace(self.tasks.cluster))
        self._store = ("--store", store)
        if store == "kubernetes":
            self._store += ("--store-namespace", cluster.namespace(unique("store")))

    def server(self, annotation="on"):
        server = self._start(*self._store, "--kubeconfig", self.cluster.kubeconfig, "--drain-annotation", annotation)
        server.until_metric("kubernetes_watch_stale", 0)
        if self.service is None:
            cloudmap = server.cloudmap()
            self.service = cloudmap.service(cloudmap.private_namespace(self.zone), "web", A=TTL)
        return server

    def task(self, **annotations):
        pod = self.tasks.pod(self.tasks.registry(self.service), annotations=annotations)
        return self.kubelet.create(pod)

    def answered(self, server, *pods):
        expected = {pod["status"]["podIP"] for pod in pods}
        eventually(lambda: server.resolver.addresses(f"web.{self.zone}") == expected)

    def annotation(self, pod):
        """The annotation as seconds since 1970; None without one."""
        name = pod["metadata"]["name"]
        found = self.cluster.get("Pod", name, self.tasks.namespace)["metadata"].get("annotations", {}).get(ANNOTATION)
        return found and datetime.fromisoformat(found).timestamp()

    def annotated(self, pod):
        return eventually(lambda: self.annotation(pod))

    def delete(self, pod):
        self.cluster.delete("Pod", pod["metadata"]["name"], self.tasks.namespace, grace_seconds=kecs.GRACE_SECONDS)

    def seconds(self, server, pod):
        return drained(server, self.service, kecs.task_id(pod))[1]["seconds"]


@pytest.fixture
def scene(cluster, kubelet, start, request):
    return Scene(cluster, kubelet, start, getattr(request, "param", "memory"))


def test_a_pod_that_is_deleted_says_when_it_is_drained(scene):
    server = scene.server()
    pod, other = scene.task(), scene.task()
    scene.answered(server, pod, other)
    before = time.time()
    scene.delete(pod)
    at = scene.annotated(pod)
    assert before + HELD_SECONDS - 1 <= at <= time.time() + HELD_SECONDS + 1
    assert abs(time.time() + scene.seconds(server, pod) - at) <= 2
    assert scene.annotation(other) is None


def test_a_pod_in_maintenance_is_annotated_until_it_is_answered_again(scene):
    server = scene.server()
    pod, other = scene.task(), scene.task()
    scene.answered(server, pod, other)
    before = time.time()
    assert server.run("maintenance", "on", kecs.task_id(pod)).returncode == 0
    assert scene.annotated(pod) >= before + TTL
    assert server.run("maintenance", "off", kecs.task_id(pod)).returncode == 0
    eventually(lambda: scene.annotation(pod) is None)
    # What another leader has annotated is not forgotten.
    name = other["metadata"]["name"]
    server.stop()
    scene.cluster.patch("Pod", name, scene.tasks.namespace, {"metadata": {"annotations": {ANNOTATION: "2026-01-01T00:00:00Z"}}})
    server.start()
    eventually(lambda: scene.annotation(other) is None)


def test_a_pod_without_weight_is_annotated(scene):
    server = scene.server()
    pod, other = scene.task(**{"cloudmap-dns.io/weight": "0"}), scene.task()
    scene.answered(server, other)
    scene.annotated(pod)
    assert scene.annotation(other) is None


def test_a_pod_that_another_service_answers_is_not_annotated(scene):
    server = scene.server()
    cloudmap = server.cloudmap()
    both = [scene.service, cloudmap.service(cloudmap.GetService(Id=scene.service)["Service"]["NamespaceId"], "api", A=TTL)]
    pod = scene.kubelet.create(scene.tasks.pod(*map(scene.tasks.registry, both)))
    shown, other = scene.task(), scene.task()
    scene.answered(server, pod, shown, other)

    def keep_out(service):
        assert server.run("maintenance", "on", kecs.task_id(pod), "--service", service).returncode == 0
    keep_out(both[0])
    scene.answered(server, shown, other)
    scene.delete(shown)
    scene.annotated(shown)
    assert scene.annotation(pod) is None, "api still answers with it"
    keep_out(both[1])
    scene.annotated(pod)


def test_no_pod_is_annotated_by_default(scene):
    server = scene.server(annotation="off")
    pod, other = scene.task(), scene.task()
    scene.answered(server, pod, other)
    scene.delete(pod)
    scene.answered(server, other)
    # Nothing else is written, so that the server is no candidate for the Lease.
    assert server.metric("kubernetes_leader") is None and scene.annotation(pod) is None


@pytest.mark.parametrize("scene", ["kubernetes"], indirect=True)
def test_the_time_is_that_of_all_servers_and_outlives_the_one_that_wrote_it(scene):
    one, two = scene.server(), scene.server()
    pods = [scene.task() for _ in range(3)]
    for server in (one, two):
        scene.answered(server, *pods)
    scene.delete(pods[0])
    at = scene.annotated(pods[0])
    for server in (one, two):
        assert abs(time.time() + scene.seconds(server, pods[0]) - at) <= 2
    leader = eventually(lambda: next((server for server in (one, two) if server.metric("kubernetes_leader") == 1), None))
    other = two if leader is one else one
    leader.kill9()
    scene.delete(pods[1])
    scene.answered(other, pods[2])
    # The one that was killed may have answered until it is known to have ended.
    assert eventually(lambda: scene.annotation(pods[1]), TAKEOVER_SECONDS) >= time.time()
