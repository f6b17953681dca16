"""Reported health of pods: a report is durable once it is acknowledged, and applies to one pod only."""

import itertools
import re
import time
from contextlib import contextmanager

import pytest

from harness import kecs
from harness.cloudmap import Refused, unique
from harness.deadline import PATIENCE_SECONDS, eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster

NAME = "backend"
# Limit of the delay until a server answers with a report that another one acknowledged.
FOLLOW_SECONDS = 5.0
# Limit of the time until a report that cannot be stored is refused.
REFUSAL_SECONDS = 2.0
# After a restart of the API server, its clients reconnect within about ten seconds.
RETURN_SECONDS = 45.0
TIME = re.compile(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*")

_places = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Scene:
    """A Cloud Map service with a custom health check, and an ECS cluster with the service's tasks."""

    def __init__(self, cluster, kubelet, start):
        self.cluster, self.kubelet, self._start = cluster, kubelet, start
        self.zone, self.service = f"{unique('reports')}.local", None
        self.tasks = BACKEND.at(unique("reports"))
        cluster.apply(kecs.namespace(self.tasks.cluster))
        # The Kubernetes namespace of the custom resources.
        self.place = cluster.namespace(f"store-{next(_places)}")

    # -- servers ------------------------------------------------------------------------------------------------------

    def server(self, store):
        """A server that watches pods. Servers whose store is custom resources share them."""
        shared = ("--store-namespace", self.place) if store == "kubernetes" else ()
        server = self._start("--store", store, "--kubeconfig", self.cluster.kubeconfig, *shared)
        server.until_metric("kubernetes_watch_stale", 0)
        if self.service is None:
            cloudmap = server.cloudmap()
            namespace = cloudmap.private_namespace(self.zone)
            self.service = cloudmap.service(namespace, NAME, A=60, custom_health=True)
        return server

    # -- tasks --------------------------------------------------------------------------------------------------------

    def task(self, number):
        """A ready task. Its name and id are determined by the number; its uid and address are always new."""
        manifest = self.tasks.pod(self.tasks.registry(self.service), name=f"task-{number}", task_id=f"{number:032x}")
        return self.kubelet.create(manifest)

    @contextmanager
    def away(self):
        """A context in which the API server is stopped."""
        self.cluster.kill_api_server()
        try:
            yield
        finally:
            self.cluster.start_api_server()

    # -- reports ------------------------------------------------------------------------------------------------------

    def report(self, server, pod, status):
        server.clients.aws(f"update-instance-custom-health-status --service-id {self.service} "
                           f"--instance-id {kecs.task_id(pod)} --status {status}")

    def stored(self):
        """The names of the reports in the cluster."""
        return self.cluster.kubectl("-n", self.place, "get", "cloudmaphealthreports", "-o", "name").split()

    # -- views --------------------------------------------------------------------------------------------------------

    def addresses(self, server):
        return server.resolver.addresses(f"{NAME}.{self.zone}")

    def answers_now(self, server, *pods):
        """Asserts that DNS answers exactly these pods, and that they are the only HEALTHY instances."""
        assert self.addresses(server) == {pod["status"]["podIP"] for pod in pods}
        health = server.cloudmap().health(self.service)
        assert {instance for instance, status in health.items() if status == "HEALTHY"} == {
            kecs.task_id(pod) for pod in pods}

    def answers(self, *servers, pods, never=(), seconds=PATIENCE_SECONDS):
        """Waits until all servers answer exactly these pods. No answer until then may have a pod of `never`."""
        heard = set()

        def check():
            for server in servers:
                heard.update(self.addresses(server))
                self.answers_now(server, *pods)
            return True
        eventually(check, seconds)
        assert heard.isdisjoint(pod["status"]["podIP"] for pod in never)

    def explained(self, server, pod):
        """The line of `cloudmap-dns explain` about the pod."""
        return server.explained(f"{NAME}.{self.zone}", kecs.task_id(pod))


@pytest.fixture
def scene(cluster, kubelet, start):
    return Scene(cluster, kubelet, start)


def restart_after_kill(*servers):
    for server in servers:
        server.kill9()
    for server in servers:
        server.start()
        server.until_metric("kubernetes_watch_stale", 0)


def test_a_report_applies_at_once_and_survives_a_crash(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    scene.answers_now(server, well)
    restart_after_kill(server)
    scene.answers(server, pods=[well], never=[sick])
    assert server.cloudmap().health(scene.service)[kecs.task_id(sick)] == "UNHEALTHY"
    # A readiness probe that fails and then succeeds does not override the report.
    scene.kubelet.set_ready(sick, False)
    eventually(lambda: "is not ready any more" in scene.explained(server, sick))
    scene.kubelet.set_ready(sick, True)
    eventually(lambda: "is not ready any more" not in scene.explained(server, sick))
    scene.answers_now(server, well)
    scene.report(server, sick, "HEALTHY")
    scene.answers_now(server, sick, well)
    restart_after_kill(server)
    scene.answers(server, pods=[sick, well])


def test_explain_shows_the_report_and_its_time(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    verdict = scene.explained(server, sick)
    reported_at = TIME.search(verdict)
    assert "not served" in verdict and "UNHEALTHY" in verdict and reported_at, verdict
    assert not TIME.search(scene.explained(server, well))
    restart_after_kill(server)
    scene.answers(server, pods=[well], never=[sick])
    assert reported_at[0] in scene.explained(server, sick)


def test_the_last_of_several_reports_applies_after_a_crash(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    for status in ("UNHEALTHY", "HEALTHY", "UNHEALTHY"):
        scene.report(server, sick, status)
    scene.report(server, well, "HEALTHY")
    restart_after_kill(server)
    scene.answers(server, pods=[well], never=[sick])


def test_a_report_to_one_server_applies_on_the_other(scene):
    one, two = scene.server("kubernetes"), scene.server("kubernetes")
    sick, well = scene.task(1), scene.task(2)
    scene.answers(one, two, pods=[sick, well])
    scene.report(one, sick, "UNHEALTHY")
    scene.answers_now(one, well)
    scene.answers(two, pods=[well], seconds=FOLLOW_SECONDS)
    assert len(scene.stored()) == 1
    for restarted in ([one], [two], [one, two]):
        restart_after_kill(*restarted)
        scene.answers(one, two, pods=[well], never=[sick])
    # A report to the other server replaces it.
    scene.report(two, sick, "HEALTHY")
    scene.answers_now(two, sick, well)
    scene.answers(one, pods=[sick, well], seconds=FOLLOW_SECONDS)


def test_a_report_does_not_apply_to_the_next_pod_of_that_name(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    scene.answers_now(server, well)
    scene.kubelet.end(sick)
    successor = scene.task(1)
    assert successor["metadata"]["uid"] != sick["metadata"]["uid"]
    scene.answers(server, pods=[successor, well], never=[sick])
    restart_after_kill(server)
    scene.answers(server, pods=[successor, well])


def test_a_report_does_not_apply_to_a_pod_that_was_created_while_no_server_ran(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    scene.answers_now(server, well)
    server.stop()
    scene.kubelet.end(sick)
    successor = scene.task(1)
    server.start()
    scene.answers(server, pods=[successor, well])


def test_reports_are_deleted_with_their_pods(scene):
    one, two = scene.server("kubernetes"), scene.server("kubernetes")
    first, second, third = pods = [scene.task(number) for number in (1, 2, 3)]
    scene.answers(one, two, pods=pods)
    for server, pod in ((one, first), (two, second), (one, third)):
        scene.report(server, pod, "UNHEALTHY")
    scene.answers(one, two, pods=[])
    assert len(scene.stored()) == 3
    # One pod is deleted while both servers run, one while one server runs, and one while none runs.
    scene.kubelet.end(first)
    eventually(lambda: len(scene.stored()) == 2, poll_seconds=0.2)
    one.stop()
    scene.kubelet.end(second)
    eventually(lambda: len(scene.stored()) == 1, poll_seconds=0.2)
    two.stop()
    scene.kubelet.end(third)
    one.start()
    eventually(lambda: scene.stored() == [], poll_seconds=0.2)


def test_a_report_applies_while_the_api_server_is_stopped(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    with scene.away():
        server.until_metric("kubernetes_watch_stale", 1)
        scene.answers_now(server, well)
    server.until_metric("kubernetes_watch_stale", 0, RETURN_SECONDS)
    scene.answers(server, pods=[well], never=[sick])


def test_a_report_that_cannot_be_stored_is_refused_quickly_and_changes_nothing(scene):
    server = scene.server("kubernetes")
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    scene.report(server, sick, "UNHEALTHY")
    with scene.away():
        for pod, status in ((well, "UNHEALTHY"), (sick, "HEALTHY")):
            began = time.monotonic()
            with pytest.raises(Refused) as refused:
                server.cloudmap().set_health(scene.service, kecs.task_id(pod), status)
            assert time.monotonic() - began <= REFUSAL_SECONDS
            # A server error, which SDKs retry.
            assert refused.value.status // 100 == 5
            scene.answers_now(server, well)
    for metric in ("kubernetes_watch_stale", "kubernetes_store_stale"):
        server.until_metric(metric, 0, RETURN_SECONDS)
    scene.answers(server, pods=[well], never=[sick])

    def accepted():
        try:
            server.cloudmap().set_health(scene.service, kecs.task_id(sick), "HEALTHY")
        except Refused as refused:
            raise AssertionError from refused
        return True
    eventually(accepted, RETURN_SECONDS)
    scene.answers_now(server, sick, well)


def test_the_embedded_store_accepts_reports_without_an_api_server(scene):
    server = scene.server("embedded")
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    with scene.away():
        server.until_metric("kubernetes_watch_stale", 1)
        scene.report(server, sick, "UNHEALTHY")
        scene.answers_now(server, well)
        server.kill9()
    server.start()
    scene.answers(server, pods=[well], never=[sick], seconds=RETURN_SECONDS)


# -- maintenance ------------------------------------------------------------------------------------------------------

def test_maintenance_of_a_pod_survives_a_crash_and_ends_with_it(scene, store):
    server = scene.server(store)
    sick, well = scene.task(1), scene.task(2)
    scene.answers(server, pods=[sick, well])
    server.run("maintenance", "on", kecs.task_id(sick), "--reason", "disk swap")
    scene.answers_now(server, well)
    restart_after_kill(server)
    scene.answers(server, pods=[well], never=[sick])
    assert "not served: maintenance: disk swap" in scene.explained(server, sick)
    # The report and the maintenance are stored side by side.
    scene.report(server, sick, "UNHEALTHY")
    server.run("maintenance", "off", kecs.task_id(sick))
    scene.answers_now(server, well)
    server.run("maintenance", "on", kecs.task_id(sick))
    scene.report(server, sick, "HEALTHY")
    scene.answers_now(server, well)
    scene.kubelet.end(sick)
    again = scene.task(1)
    scene.answers(server, pods=[again, well], never=[sick])


def test_maintenance_ordered_at_one_server_holds_at_all(scene):
    one, two = scene.server("kubernetes"), scene.server("kubernetes")
    sick, well = scene.task(1), scene.task(2)
    scene.answers(one, two, pods=[sick, well])
    one.run("maintenance", "on", kecs.task_id(sick), "--service", NAME, "--reason", "disk swap")
    scene.answers_now(one, well)
    scene.answers(two, pods=[well], seconds=FOLLOW_SECONDS)
    assert "maintenance: disk swap" in scene.explained(two, sick)
    one.kill9()
    scene.answers_now(two, well)
    two.run("maintenance", "off", kecs.task_id(sick))
    scene.answers_now(two, sick, well)
    assert scene.stored() == []
    # Instances of the API have theirs in their own objects.
    two.cloudmap().instance(scene.service, "external", ipv4="192.0.2.1", status="HEALTHY")
    two.run("maintenance", "on", "external", "--reason", "leaving")
    one.start()
    one.until_metric("kubernetes_watch_stale", 0)
    scene.answers(one, two, pods=[sick, well])
    [found] = scene.cluster.list("cloudmap-dns.io/v1alpha1/CloudMapInstance", scene.place)
    assert found["status"]["signals"]["maintenance"]["reason"] == "leaving"
    one.cloudmap().instance(scene.service, "external", ipv4="192.0.2.2", status="HEALTHY")
    scene.answers(one, two, pods=[sick, well])
    one.run("maintenance", "off", "external")
    assert scene.addresses(one) == {"192.0.2.2", sick["status"]["podIP"], well["status"]["podIP"]}
    history = two.run("history", f"{NAME}.{scene.zone}").stdout
    assert "external  - -> HEALTHY  registered" in history
    eventually(lambda: "external  UNHEALTHY -> HEALTHY  maintenance lifted: " in
               two.run("history", f"{NAME}.{scene.zone}").stdout)
