"""Each policy of health with two servers that share custom resources: what one is told, the other one follows."""

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as defined:
        yield defined


class Pair:
    """A service with custom health that the first server makes, and the second one answers."""

    def __init__(self, replica, cluster, kubelet):
        self.one, self.two = replica(), replica()
        for server in (self.one, self.two):
            server.until_metric("kubernetes_watch_stale", 0)
        self.cluster, self.kubelet = cluster, kubelet
        self.zone = f"{unique('pair')}.local"
        self.cloudmap, self.name = self.one.cloudmap(), f"web.{self.zone}"
        self.tasks = BACKEND.at(unique("pair"))

    def service(self, instances=0, routing=None, **records):
        self.id = self.cloudmap.service(self.cloudmap.private_namespace(self.zone), "web", custom_health=True, routing=routing,
                                        **(records or {"A": 60}))
        for number in range(instances):
            self.cloudmap.instance(self.id, f"i-{number}", ipv4=f"10.0.0.{number + 1}")
        return self.id

    def policy(self, key, value):
        self.cloudmap.set_attribute(self.id, key, value)

    def task(self, ready=True, **spec):
        self.cluster.apply(kecs.namespace(self.tasks.cluster))
        return self.kubelet.create(self.tasks.pod(self.tasks.registry(self.id), **spec), ready=ready)

    def answers(self, *expected):
        """Waits until the other server answers these addresses."""
        eventually(lambda: self.two.resolver.addresses(self.name) == set(expected))

    def has(self, instance, status):
        """Waits until the other server says that an instance has this health."""
        def check():
            assert self.two.cloudmap().health(self.id).get(instance) == status
            return True
        eventually(check)


@pytest.fixture
def pair(replica, cluster, kubelet):
    return Pair(replica, cluster, kubelet)


def test_unknown(pair):
    pair.service()
    pod = pair.task(ready=False)
    pair.answers(pod["status"]["podIP"])
    pair.policy("unknown", "withhold")
    pair.answers()
    ready = pair.task()
    pair.answers(ready["status"]["podIP"])
    pair.policy("unknown", "serve")
    pair.answers(ready["status"]["podIP"], pod["status"]["podIP"])


def test_minimum_healthy_and_fail_open(pair):
    pair.service(instances=2)
    pair.cloudmap.set_health(pair.id, "i-0", "UNHEALTHY")
    pair.answers("10.0.0.2")
    pair.policy("minimum-healthy", "100%")
    pair.answers("10.0.0.1", "10.0.0.2")
    pair.cloudmap.DeleteServiceAttributes(ServiceId=pair.id, Attributes=["minimum-healthy"])
    pair.cloudmap.set_health(pair.id, "i-1", "UNHEALTHY")
    pair.answers()
    pair.policy("fail-open", "true")
    pair.answers("10.0.0.1", "10.0.0.2")


def test_answer_max_and_weight(pair):
    pair.service(instances=10)
    eventually(lambda: len(pair.two.resolver.addresses(pair.name)) == 8)
    pair.policy("answer-max", "9")
    eventually(lambda: len(pair.two.resolver.addresses(pair.name)) == 9)
    pair.policy("answer-max", "64")
    pair.cloudmap.instance(pair.id, "i-0", ipv4="10.0.0.1", WEIGHT="0")
    pair.answers(*(f"10.0.0.{number}" for number in range(2, 11)))


def test_counts_of_reports_go_over_all_servers(pair):
    pair.service(instances=1)
    pair.policy("down-after", "3")
    pair.has("i-0", "HEALTHY")
    other = pair.two.cloudmap()
    for number, cloudmap in enumerate((pair.cloudmap, other, pair.cloudmap)):
        # A server that does not know the last report yet is told so by the store, and decides again.
        pair.has("i-0", "HEALTHY")
        cloudmap.set_health(pair.id, "i-0", "UNHEALTHY")
    pair.has("i-0", "UNHEALTHY")


def test_custom_health_delay(pair):
    pair.service(instances=2)
    pair.policy("custom-health-delay", "2s")
    for instance in ("i-0", "i-1"):
        pair.cloudmap.set_health(pair.id, instance, "UNHEALTHY")
    assert pair.two.cloudmap().health(pair.id)["i-0"] == "HEALTHY"
    # The opposite report cancels the first one, at whichever server.
    pair.two.cloudmap().set_health(pair.id, "i-1", "HEALTHY")
    pair.has("i-0", "UNHEALTHY")
    pair.has("i-1", "HEALTHY")


def test_settling_ttl(pair):
    pair.service(instances=1)
    pair.answers("10.0.0.1")
    pair.policy("settling-ttl", "3s")
    pair.cloudmap.instance(pair.id, "i-9", ipv4="10.0.0.9")
    pair.answers("10.0.0.1", "10.0.0.9")
    assert {record.ttl for record in pair.two.dig(pair.name).answer} == {3}


def test_health_of_and_times_of_pods(pair):
    pair.service()
    pair.policy("health-of", "container")
    pair.policy("grace", "1h")
    pod = pair.task()
    instance = kecs.task_id(pod)
    pair.has(instance, "HEALTHY")
    pair.kubelet.set_ready(pod, False)
    pair.has(instance, "UNKNOWN")
    pair.policy("grace", "0s")
    pair.has(instance, "UNHEALTHY")
    pair.policy("up-after", "1h")
    pair.kubelet.set_ready(pod, True)
    eventually(lambda: "is ready, but not for long enough" in pair.two.explained(pair.name, instance))
    pair.policy("up-after", "1s")
    pair.has(instance, "HEALTHY")
    pair.policy("down-after", "1h")
    pair.kubelet.set_ready(pod, False)
    eventually(lambda: "container of pod" in pair.two.explained(pair.name, instance)
               and "but not for long enough" in pair.two.explained(pair.name, instance))
    pair.has(instance, "HEALTHY")
