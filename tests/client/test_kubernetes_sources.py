"""Sources of health that meet in a cluster: the webhook with several servers and with pods, and active checks of pods."""

import json

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster
from harness.program import free_port
from test_health_checks import Listener
from test_health_reports import post

CHECKS = ("--checks-allow", "127.0.0.0/8", "--checks-interval", "1")
SOURCES_MAX = 16


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as defined:
        yield defined


def private_service(server, **service):
    cloudmap, zone = server.cloudmap(), f"{unique('sources')}.local"
    return cloudmap.service(cloudmap.private_namespace(zone), "web", A=60, **service), f"web.{zone}"


# -- the webhook ----------------------------------------------------------------------------------------------------------

def test_the_webhook_knows_what_another_server_registered_a_moment_ago(replica):
    one, two = replica("--webhook", "on"), replica("--webhook", "on")
    two.until_metric("kubernetes_watch_stale", 0)
    service, name = private_service(one)
    eventually(lambda: service in [found["Id"] for found in two.cloudmap().ListServices()["Services"]])
    for number, named in enumerate([service, "web", name] * 5):
        instance = f"i-{number}"
        one.cloudmap().instance(service, instance, ipv4=f"10.0.0.{number + 1}")
        status, answer = post(two, {"service": named, "instance": instance, "status": "UNHEALTHY"})
        assert (status, answer["results"][0]["result"]) == (200, "applied"), answer
    # What nobody has is wrong for good.
    status, answer = post(two, {"service": service, "instance": "nobody", "status": "UNHEALTHY"})
    assert (status, answer["results"][0]["result"]) == (200, "failed")


def test_a_report_about_what_may_be_a_pod_can_be_sent_again(start, tmp_path):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "away", "users": [],
        "clusters": [{"name": "away", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": ""}}]}))
    server = start("--webhook", "on", "--kubeconfig", kubeconfig)
    service, _ = private_service(server)
    server.cloudmap().instance(service, "known", ipv4="10.0.0.1")
    status, answer = post(server, [{"service": service, "instance": instance, "status": "UNHEALTHY"}
                                   for instance in ("known", "later")])
    known, later = answer["results"]
    assert status == 503 and known["result"] == "applied" and later["result"] == "not stored", answer
    assert "not all pods are known yet" in later["message"]


# -- active checks --------------------------------------------------------------------------------------------------------

class CheckedPods:
    """A service with a HealthCheckConfig, whose instances are pods behind listeners of the test."""

    def __init__(self, server, cluster, kubelet):
        self.server, self.kubelet, self.listeners = server, kubelet, []
        cloudmap, self.zone = server.cloudmap(), f"{unique('checked-pods')}.test"
        config = {"Type": "HTTP", "FailureThreshold": 1}
        self.service = cloudmap.service(cloudmap.public_namespace(self.zone), "web", A=60, HealthCheckConfig=config)
        self.tasks = BACKEND.at(unique("checked"))
        cluster.apply(kecs.namespace(self.tasks.cluster))

    def task(self, address, status=200, **options):
        listener = Listener(address, status)
        self.listeners.append(listener)
        registry = kecs.registry(self.service, BACKEND.container, listener.port)
        return listener, self.kubelet.create(self.tasks.pod(registry, **options), address)

    def status(self, pod):
        return self.server.cloudmap().health(self.service).get(kecs.task_id(pod))

    def has(self, pod, status):
        def check():
            assert self.status(pod) == status
            return True
        eventually(check)


@pytest.fixture
def pods(cluster, kubelet, start):
    pods = CheckedPods(start("--kubeconfig", cluster.kubeconfig, *CHECKS), cluster, kubelet)
    yield pods
    for listener in pods.listeners:
        listener.close()


def test_a_pod_is_healthy_while_it_is_ready_and_its_check_passes(pods):
    listener, pod = pods.task("127.0.0.21")
    _, other = pods.task("127.0.0.22")
    for one in (pod, other):
        pods.has(one, "HEALTHY")
    listener.status = 500
    pods.has(pod, "UNHEALTHY")
    assert set(pods.server.resolver.addresses(f"web.{pods.zone}")) == {"127.0.0.22"}
    # A check that passes makes no pod HEALTHY that is not ready.
    pods.kubelet.set_ready(pod, False)
    listener.status = 200
    passed = pods.server.metric("health_checks_total", result="passed")
    eventually(lambda: pods.server.metric("health_checks_total", result="passed") >= passed + 4)
    assert pods.status(pod) == "UNHEALTHY"
    pods.kubelet.set_ready(pod, True)
    pods.has(pod, "HEALTHY")


def test_a_check_that_fails_counts_for_a_pod_after_its_grace_period(pods):
    listener, pod = pods.task("127.0.0.23", status=500, annotations={"cloudmap-dns.io/grace": "1h"})
    _, short = pods.task("127.0.0.24", status=500, annotations={"cloudmap-dns.io/grace": "1s"})
    pods.has(short, "UNHEALTHY")
    eventually(lambda: len(listener.requests) >= 2)
    assert pods.status(pod) == "HEALTHY", "it is ready"


def test_a_check_has_its_place_beside_the_most_reports_of_others(start):
    server = start("--webhook", "on", *CHECKS)
    listener = Listener("127.0.0.25")
    try:
        cloudmap = server.cloudmap()
        service = cloudmap.service(cloudmap.public_namespace(), A=60, HealthCheckConfig={"Type": "HTTP", "FailureThreshold": 1})
        instance = cloudmap.instance(service, "one", ipv4="127.0.0.25", port=listener.port)
        items = [{"instance": instance, "service": service, "status": "HEALTHY", "source": f"source {number}"}
                 for number in range(SOURCES_MAX + 1)]
        _, answer = post(server, items)
        results = [result["result"] for result in answer["results"]]
        assert results == ["applied"] * SOURCES_MAX + ["failed"], answer
        listener.status = 500
        eventually(lambda: cloudmap.health(service)[instance] == "UNHEALTHY")
        listener.status = 200
        eventually(lambda: cloudmap.health(service)[instance] == "HEALTHY")
    finally:
        listener.close()
