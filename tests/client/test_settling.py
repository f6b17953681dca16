"""settling-ttl: answers of a service that changes, or whose instances are not ready yet, have a smaller TTL."""

import time

import pytest
from test_dns_transfer import transferred

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as defined:
        yield defined


class Service:
    """A service with an instance, whose records have a TTL of ten seconds."""

    def __init__(self, server, **service):
        self.server, self.cloudmap = server, server.cloudmap()
        self.zone = f"{unique('settle')}.local"
        self.id = self.cloudmap.service(self.cloudmap.private_namespace(self.zone), "web", custom_health=True,
                                        **(service or {"A": 10, "SRV": 10}))
        self.name = f"web.{self.zone}"
        self.register("a")

    def register(self, instance, **more):
        self.cloudmap.instance(self.id, instance, ipv4=f"10.0.0.{ord(instance)}", port=80, **more)

    def ttls(self, rrtype="A", server=None):
        answer = (server or self.server).resolver.dig(self.name, rrtype)
        return {record.ttl for record in answer.answer + answer.additional}

    def until_ttl(self, ttl, **more):
        eventually(lambda: self.ttls(**more) == {ttl})


@pytest.mark.parametrize("way", ["setting", "attribute"])
def test_a_service_that_changes_has_the_smaller_ttl_for_its_ttl(start, way):
    service = Service(start(*(("--settling-ttl", "2s") if way == "setting" else ())))
    if way == "attribute":
        assert service.ttls() == {10}
        service.cloudmap.set_attribute(service.id, "settling-ttl", "2s")
    assert (service.ttls(), service.ttls("SRV")) == ({2}, {2})
    assert "ttl       at most 2 s while the service settles\n" in service.server.run("explain", service.name).stdout
    # Transfers do not depend on the moment.
    owners = {name: ttl for name, ttl, rrtype, _ in transferred(service.server, f"{service.zone}.") if rrtype != "SOA"}
    assert owners[f"{service.name}."] == 10 and owners[f"a.{service.name}."] == 10, owners
    serial = service.server.resolver.serial(service.zone)
    service.until_ttl(10)
    assert service.ttls("SRV") == {10}
    assert service.server.resolver.serial(service.zone) == serial
    for change in (lambda: service.register("b"), lambda: service.cloudmap.set_health(service.id, "b", "UNHEALTHY"),
                   lambda: service.cloudmap.deregister(service.id, "b")):
        change()
        assert service.ttls() == {2}
    service.until_ttl(10)
    # What changes nothing of the answers does not unsettle it.
    service.cloudmap.set_health(service.id, "a", "HEALTHY")
    assert service.ttls() == {10}
    service.cloudmap.set_attribute(service.id, "settling-ttl", "0s")
    service.register("c")
    assert service.ttls() == {10}


def test_the_ttl_is_never_raised(start):
    service = Service(start("--settling-ttl", "1h"))
    assert (service.ttls(), service.ttls("SRV")) == ({10}, {10})
    assert "ttl       at most 3600 s while the service settles\n" in service.server.run("explain", service.name).stdout


def test_instances_that_are_not_ready_keep_it_small(start, cluster, kubelet):
    server = start("--kubeconfig", cluster.kubeconfig, "--store", "memory", "--settling-ttl", "2s")
    service = Service(server)
    cluster.apply(kecs.namespace())
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service.id)), ready=False)
    eventually(lambda: len(service.cloudmap.health(service.id)) == 2)
    # Longer than the TTL of the records.
    end = time.monotonic() + 12
    while time.monotonic() < end:
        assert service.ttls() == {2}
        time.sleep(0.2)
    kubelet.set_ready(pod, True)
    eventually(lambda: len(server.resolver.addresses(service.name)) == 2)
    assert service.ttls() == {2}
    service.until_ttl(10)


def test_all_servers_settle(replica):
    one, other = replica("--settling-ttl", "2s"), replica("--settling-ttl", "2s")
    service = Service(one)
    eventually(lambda: service.ttls(server=other) == {2})
    service.until_ttl(10, server=other)
    service.until_ttl(10)
