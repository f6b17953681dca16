"""Grace, up-after and down-after of pods, and timers with several servers: one of them runs the timers, all apply them."""

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster

NAME = "backend"
# A server acquires the Lease of another one that was killed 15 seconds after its last renewal.
TAKEOVER_SECONDS = 45.0


class Scene:
    """A Cloud Map service with pods, and servers that share custom resources or have a store of their own."""

    def __init__(self, cluster, kubelet, start):
        self.cluster, self.kubelet, self._start = cluster, kubelet, start
        self.zone, self.service = f"{unique('time')}.local", None
        self.tasks = BACKEND.at(unique("time"))
        cluster.apply(kecs.namespace(self.tasks.cluster))
        self.place = cluster.namespace(unique("store"))

    def server(self, store, *options):
        shared = ("--store-namespace", self.place) if store == "kubernetes" else ()
        server = self._start("--store", store, "--kubeconfig", self.cluster.kubeconfig, *shared, *options)
        server.until_metric("kubernetes_watch_stale", 0)
        if self.service is None:
            cloudmap = server.cloudmap()
            self.service = cloudmap.service(cloudmap.private_namespace(self.zone), NAME, A=60, custom_health=True)
        return server

    def task(self, ready=True, **annotations):
        annotations = {f"cloudmap-dns.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        pod = self.tasks.pod(self.tasks.registry(self.service), annotations=annotations)
        return self.kubelet.create(pod, ready=ready)

    def policies(self, server, **policies):
        for key, value in policies.items():
            server.cloudmap().set_attribute(self.service, key.replace("_", "-"), value)

    def status(self, server, pod):
        return server.cloudmap().health(self.service).get(kecs.task_id(pod))

    def has(self, status, pod, *servers, seconds=30.0):
        def check():
            for server in servers:
                assert self.status(server, pod) == status
            return True
        eventually(check, seconds)

    def explained(self, server, pod):
        return server.explained(f"{NAME}.{self.zone}", kecs.task_id(pod))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def scene(cluster, kubelet, start):
    return Scene(cluster, kubelet, start)


def test_a_pod_that_is_not_ready_for_a_moment_stays_healthy(scene, store):
    server = scene.server(store)
    scene.policies(server, down_after="1h")
    pod, own = scene.task(), scene.task(down_after="1s")
    scene.has("HEALTHY", pod, server)
    scene.has("HEALTHY", own, server)
    for found in (pod, own):
        scene.kubelet.set_ready(found, False)
    scene.has("UNHEALTHY", own, server)
    assert scene.status(server, pod) == "HEALTHY"
    assert "is not ready any more, but not for long enough" in scene.explained(server, pod)
    scene.kubelet.set_ready(own, True)
    scene.has("HEALTHY", own, server)
    # The next interruption has its own time.
    scene.policies(server, down_after="1s")
    scene.has("UNHEALTHY", pod, server)
    server.kill9()
    server.start()
    server.until_metric("kubernetes_watch_stale", 0)
    scene.has("UNHEALTHY", pod, server)


def test_a_pod_has_to_be_ready_for_a_time(scene, store):
    server = scene.server(store)
    scene.policies(server, up_after="2s")
    other, pod = scene.task(up_after="0s"), scene.task()
    scene.has("HEALTHY", other, server)
    eventually(lambda: scene.status(server, pod) in ("UNKNOWN", "HEALTHY"))
    scene.has("HEALTHY", pod, server)
    scene.kubelet.set_ready(pod, False)
    scene.has("UNHEALTHY", pod, server)
    scene.policies(server, up_after="1h")
    scene.kubelet.set_ready(pod, True)
    eventually(lambda: "is ready, but not for long enough" in scene.explained(server, pod))
    assert scene.status(server, pod) == "UNHEALTHY"


def test_readiness_makes_no_pod_unhealthy_in_its_grace_period(scene, store):
    server = scene.server(store)
    scene.policies(server, grace="1h")
    pod, short = scene.task(), scene.task(grace="1s")
    scene.has("HEALTHY", pod, server)
    for found in (pod, short):
        scene.kubelet.set_ready(found, False)
    scene.has("UNKNOWN", pod, server)
    scene.has("UNHEALTHY", short, server)
    # A restarted container does not renew it, and explicit reports act at once.
    scene.kubelet.restart(short)
    server.cloudmap().set_health(scene.service, kecs.task_id(pod), "UNHEALTHY")
    assert scene.status(server, pod) == "UNHEALTHY"
    scene.has("UNHEALTHY", short, server)


def test_all_servers_change_a_status_together_and_survive_the_one_with_the_timers(scene):
    one, two = scene.server("kubernetes"), scene.server("kubernetes")
    scene.policies(one, down_after="12s")
    pod = scene.task()
    scene.has("HEALTHY", pod, one, two)
    leader = eventually(lambda: next((server for server in (one, two) if server.metric("kubernetes_leader") == 1), None))
    other = two if leader is one else one
    scene.kubelet.set_ready(pod, False)
    eventually(lambda: "but not for long enough" in scene.explained(other, pod))
    leader.kill9()
    assert scene.status(other, pod) == "HEALTHY", "the last status holds"
    scene.has("UNHEALTHY", pod, other, seconds=TAKEOVER_SECONDS)
    leader.start()
    leader.until_metric("kubernetes_watch_stale", 0)
    scene.has("UNHEALTHY", pod, leader, other)
    assert "readiness lost: pod" in other.run("history", f"{NAME}.{scene.zone}").stdout


def test_heartbeats_and_reports_that_end_are_the_same_at_all_servers(scene):
    one, two = scene.server("kubernetes"), scene.server("kubernetes")
    scene.policies(one, heartbeat="10s", expire="35s")
    cloudmap = one.cloudmap()
    cloudmap.instance(scene.service, "external", ipv4="192.0.2.1")

    def statuses():
        return [server.cloudmap().health(scene.service).get("external") for server in (one, two)]
    eventually(lambda: statuses() == ["UNKNOWN"] * 2)
    two.cloudmap().set_health(scene.service, "external", "HEALTHY")
    eventually(lambda: statuses() == ["HEALTHY"] * 2)
    eventually(lambda: statuses() == ["UNHEALTHY"] * 2, 60.0)
    eventually(lambda: statuses() == [None] * 2, 60.0)
