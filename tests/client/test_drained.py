"""GET /drained: an instance that has left can be stopped once no client that honours TTLs holds it any more."""

import json
import re
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster

# Caches keep answers for at least five seconds, and two are a margin.
SHORTEST = 7
# The time after which a server that was killed counts as ended, when its address refuses connections.
LEASE_SECONDS = 15


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as defined:
        yield defined


def drained(server, service, instance, **parameters):
    """The status, the answer and the header Retry-After."""
    host, port = server.addresses["api"]
    path = "/".join(urllib.parse.quote(part, safe="") for part in (service, instance))
    url = f"http://{host}:{port}/drained/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return answer.status, json.load(answer), answer.headers["Retry-After"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers["Retry-After"]


def status(*arguments, **parameters):
    return drained(*arguments, **parameters)[0]


def within(seconds, expected):
    """True if the seconds are those that are expected, less what has passed meanwhile."""
    return expected - 8 <= seconds <= expected


class Service:
    """A service with two instances."""

    def __init__(self, server, **service):
        self.server, self.cloudmap = server, server.cloudmap()
        self.zone = f"{unique('leave')}.local"
        self.namespace = self.cloudmap.private_namespace(self.zone)
        self.id = self.cloudmap.service(self.namespace, "web", **(service or {"A": 1}))
        self.name = f"web.{self.zone}"
        for number, instance in enumerate(("a", "b"), 1):
            self.cloudmap.instance(self.id, instance, ipv4=f"10.0.0.{number}", port=80)

    def drained(self, instance="a", **parameters):
        return drained(self.server, self.name, instance, **parameters)

    def seconds(self, instance="a"):
        code, answer, retry = self.drained(instance)
        assert (code, answer["drained"], retry) == (202, False, str(answer["seconds"]))
        return answer["seconds"]


def test_an_instance_is_drained_after_its_ttl(server):
    service = Service(server)
    code, answer, _ = service.drained()
    assert (code, answer) == (202, {"service": service.name, "instance": "a", "drained": False, "answered": True,
                                    "seconds": SHORTEST})
    service.cloudmap.deregister(service.id, "a")
    left = time.monotonic()
    code, answer, _ = service.drained()
    assert (code, answer["answered"]) == (202, False) and 1 <= answer["seconds"] <= SHORTEST
    assert re.search(r"^left\n  a: clients may hold it for [1-7] more seconds$", server.run("explain", service.name).stdout, re.M)
    assert status(server, service.id, "a", wait=1) == 202
    code, answer, retry = service.drained(wait=60)
    assert (code, answer["drained"], answer["seconds"], retry) == (200, True, 0, None)
    assert SHORTEST - 1 < time.monotonic() - left < SHORTEST + 5
    assert "clients may hold it" not in server.run("explain", service.name).stdout
    # The service has all forms of its name.
    for named in (service.id, f"arn:aws:servicediscovery:us-east-1:123456789012:service/{service.id}", service.name,
                  service.name.upper() + ".", "web", "WEB"):
        assert status(server, named, "a") == 200, named
    service.cloudmap.instance(service.id, "a", ipv4="10.0.0.1")
    assert service.drained()[1]["answered"]


def test_what_was_never_known_is_not_found(server):
    service = Service(server)
    assert drained(server, service.id, "nobody")[:2] == (
        404, {"message": f"no instance nobody of a service {service.id} is known, or was"})
    assert drained(server, "nowhere", "a")[:2] == (404, {"message": "no instance a of a service nowhere is known, or was"})
    for parameters, expected in (({"wait": "901"}, 'wait is "901"; it must be 0 to 900 seconds'),
                                 ({"until": "1"}, 'there is no parameter "until"; only wait is known')):
        assert drained(server, service.id, "a", **parameters)[:2] == (400, {"message": expected})
    host, port = server.addresses["api"]
    for path in ("/drained/", "/drained/web", "/drained/web/", "/drained//a"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10)
        assert error.value.code == 400, path


@pytest.mark.parametrize("records, expected", [
    ({"A": 30}, 32), ({"SRV": 30}, 32 + 5), ({"A": 100, "SRV": 30}, 102 + 5), ({"A": 12, "SRV": 0}, 14 + 5)])
def test_an_instance_in_maintenance_has_left(server, records, expected):
    service = Service(server, **records)
    server.run("maintenance", "on", "a", "--service", service.id)
    assert within(service.seconds(), expected)
    # Gone altogether, it is not held any longer.
    service.cloudmap.deregister(service.id, "a")
    assert within(service.seconds(), expected)


def test_an_instance_without_weight_has_left(server):
    service = Service(server, A=30)
    service.cloudmap.instance(service.id, "a", ipv4="10.0.0.1", WEIGHT="0")
    assert within(service.seconds(), 32) and not service.drained()[1]["answered"]


def test_an_instance_is_held_for_the_largest_ttl_that_was_answered(server):
    service = Service(server, A=300)
    change = {"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 10}]}}
    service.cloudmap.done(service.cloudmap.UpdateService(Id=service.id, Service=change))
    service.cloudmap.deregister(service.id, "a")
    assert within(service.seconds(), 302)


def test_a_service_that_is_deleted_is_known_by_its_name(server):
    service = Service(server)
    for instance in ("a", "b"):
        service.cloudmap.deregister(service.id, instance)
    service.cloudmap.DeleteService(Id=service.id)
    assert status(server, service.name, "a") == 202
    assert status(server, service.id, "b", wait=60) == 200
    assert status(server, service.name, "a") == 200


def test_one_service_is_meant(server):
    service, other = Service(server, A=30), Service(server, A=30)
    assert drained(server, "web", "a")[:2] == (
        409, {"message": "2 services are called web; give the full name or the id of one"})
    assert {service.drained()[0], other.drained()[0]} == {202}


def test_an_instance_that_only_the_api_finds_is_drained_at_once(server):
    cloudmap = server.cloudmap()
    namespace = cloudmap.http_namespace(unique("plain"))
    service = cloudmap.service(namespace, "web")
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    assert status(server, service, "a") == 202
    cloudmap.deregister(service, "a")
    assert status(server, service, "a") == 200


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_a_restart_forgets_nothing_that_clients_may_hold(server, end):
    service = Service(server, A=30)
    service.cloudmap.deregister(service.id, "a")
    getattr(server, end)()
    server.start()
    started = time.monotonic()
    code, answer, _ = service.drained()
    assert (code, answer["answered"]) == (202, False)
    assert 30 - (time.monotonic() - started) <= answer["seconds"] <= 32
    # A service of this process has had no instances before.
    other = Service(service.server)
    assert other.drained("nobody")[0] == 404


def test_a_server_that_stops_answers_those_that_wait(start):
    service = Service(start(), A=300)
    service.cloudmap.deregister(service.id, "a")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(service.drained, wait=100)
        service.server.until_metric("drains_waiting", 1)
        stopping = time.monotonic()
        service.server.stop()
        assert waiting.result()[:2] == (503, {"message": "this server stops; ask again"})
    assert time.monotonic() - stopping < 4


def test_those_that_wait_leave_room_for_others(start):
    service = Service(start("--api-connections-max", "8"), A=300)
    service.cloudmap.deregister(service.id, "a")
    codes = []
    waiting = [threading.Thread(target=lambda: codes.append(service.drained(wait=6)[0])) for _ in range(6)]
    for one in waiting:
        one.start()
    eventually(lambda: len(codes) == 2)
    assert set(codes) == {429}
    assert status(service.server, service.id, "a") == 202, "one that does not wait"
    for one in waiting:
        one.join()
    assert sorted(codes) == [202] * 4 + [429] * 2


def test_a_pod_is_drained_after_it_left(start, cluster, kubelet):
    server = start("--kubeconfig", cluster.kubeconfig, "--store", "memory")
    service = Service(server)
    cluster.apply(kecs.namespace())
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service.id)))
    name = pod["metadata"]["name"]
    instance = pod["metadata"]["labels"].get("kecs.dev/task-id", name)
    eventually(lambda: service.drained(instance)[0] == 202)
    eventually(lambda: service.drained(instance)[1]["answered"])
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(service.drained, instance, wait=60)
        server.until_metric("drains_waiting", 1)
        kubelet.end(pod)
        left = time.monotonic()
        assert waiting.result()[0] == 200
        assert time.monotonic() - left > SHORTEST - 1


class TestSeveralServers:
    def test_all_have_to_have_applied_it(self, replica):
        one, other = replica(), replica()
        service = Service(one)
        eventually(lambda: drained(other, service.id, "a")[1].get("answered"))
        service.cloudmap.deregister(service.id, "a")
        for server in (one, other):
            code, answer, _ = drained(server, service.id, "a", wait=60)
            assert (code, answer["drained"]) == (200, True), answer
        assert status(other, service.id, "nobody") == 404
        # A service that only the other one remembers.
        gone = Service(other, A=30)
        for instance in ("a", "b"):
            gone.cloudmap.deregister(gone.id, instance)
        gone.cloudmap.DeleteService(Id=gone.id)
        one.restart()
        for named in (gone.id, gone.name):
            assert status(one, named, "a") == 202
        # One that stops in order has answered with what it knew until then.
        one.cloudmap().deregister(service.id, "b")
        other.stop()
        assert status(one, service.id, "b", wait=60) == 200

    def test_one_that_was_killed_is_unknown_until_it_has_ended(self, replica):
        one, other = replica(), replica()
        service = Service(one)
        eventually(lambda: drained(other, service.id, "a")[1].get("answered"))
        other.kill9()
        service.cloudmap.deregister(service.id, "a")
        killed = time.monotonic()
        code, answer, retry = drained(one, service.id, "a")
        assert (code, retry) == (503, "1")
        assert "does not answer: connection refused" in answer["message"]
        assert status(one, service.id, "a", wait=60) == 200
        assert time.monotonic() - killed > LEASE_SECONDS

    def test_one_that_still_answers_with_the_instance_counts(self, replica):
        """A server that is stopped by SIGSTOP shows what one that does not answer would."""
        one, other = replica(), replica()
        service = Service(one)
        eventually(lambda: drained(other, service.id, "a")[1].get("answered"))
        other.process.send_signal(signal.SIGSTOP)
        try:
            service.cloudmap.deregister(service.id, "a")
            code, answer, _ = drained(one, service.id, "a", wait=SHORTEST + 5)
            assert code == 503 and "does not answer" in answer["message"]
        finally:
            other.process.send_signal(signal.SIGCONT)
        left = time.monotonic()
        assert status(one, service.id, "a", wait=60) == 200
        # It applied the departure when it ran again.
        assert time.monotonic() - left > SHORTEST - 2
