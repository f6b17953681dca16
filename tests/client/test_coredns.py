"""CoreDNS forwards a namespace's zone to the server, and its clients get the answers that the server's clients get."""

import pytest

from harness import kecs
from harness.deadline import eventually

ZONE = "production.local"


def block(server):
    """The server block of docs/kubernetes.md. It has no cache, so that the next query shows a change."""
    return "%s:53 {\n    errors\n    forward . %s:%d\n}\n" % (ZONE, *server.dns_address)


@pytest.fixture
def cloudmap(server):
    return server.cloudmap()


@pytest.fixture
def backend(server, cloudmap, coredns):
    """A service of eight instances in a zone that CoreDNS forwards."""
    namespace = cloudmap.private_namespace(ZONE)
    service = cloudmap.service(namespace, "backend", A=60, SRV=60, custom_health=True)
    for number in range(8):
        cloudmap.instance(service, f"web-{number}", ipv4=f"10.42.0.{number}", port=8080)
    coredns.set_block("cloudmap-dns.server", block(server))
    coredns.wait_for(ZONE)
    return service


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_answers_come_through_coredns_whole(backend, coredns, transport):
    name = f"backend.{ZONE}"
    addresses = {f"10.42.0.{number}" for number in range(8)}

    a = coredns.dig(name, "A", transport)
    assert (a.status, set(a.data("A")), a.ttls(), a.owners()) == ("NOERROR", addresses, {60}, {f"{name}."}), a.text

    srv = coredns.dig(name, "SRV", transport, "+edns", "+bufsize=1232")
    assert set(srv.data("SRV")) == {f"1 1 8080 web-{number}.{name}." for number in range(8)}, srv.text
    assert {data for _, data in srv.additional_data("A")} == addresses, srv.text

    missing = coredns.dig(f"nobody.{ZONE}", "A", transport)
    missing.assert_nxdomain(f"{ZONE}.")
    # The owner name has the case of the question, which resolvers that randomize it (0x20) check.
    assert coredns.dig(f"BackEnd.{ZONE}", "A", transport).owners() == {f"BackEnd.{ZONE}."}


def test_changes_show_with_the_next_query(backend, coredns, cloudmap):
    def served():
        return set(coredns.dig(f"backend.{ZONE}").data("A"))

    assert len(served()) == 8
    cloudmap.set_health(backend, "web-3", "UNHEALTHY")
    assert served() == {f"10.42.0.{number}" for number in range(8) if number != 3}
    cloudmap.set_health(backend, "web-3", "HEALTHY")
    assert len(served()) == 8
    for number in range(8):
        cloudmap.deregister(backend, f"web-{number}")
    coredns.dig(f"backend.{ZONE}").assert_nodata(f"{ZONE}.")


def test_names_of_the_cluster_still_resolve(backend, coredns, cluster):
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "default"},
                   "spec": {"ports": [{"port": 80}], "clusterIP": "10.43.7.7"}})
    eventually(lambda: coredns.dig("shop.default.svc.cluster.local").data("A") == ["10.43.7.7"])


def test_a_zone_is_not_forwarded_after_its_block_is_removed(backend, coredns, cluster):
    cluster.patch("ConfigMap", "coredns-custom", "kube-system", {"data": {"cloudmap-dns.server": None}})
    # CoreDNS answers SERVFAIL if it has no server to forward to.
    eventually(lambda: coredns.dig(f"backend.{ZONE}").status == "SERVFAIL")


def test_a_block_in_the_corefile_itself_works_too(server, cloudmap, coredns, cluster):
    cloudmap.instance(cloudmap.service(cloudmap.private_namespace(ZONE), "backend", A=60), "web", ipv4="10.42.0.24")
    corefile = cluster.get("ConfigMap", "coredns", "kube-system")["data"]["Corefile"]
    cluster.patch("ConfigMap", "coredns", "kube-system", {"data": {"Corefile": corefile + block(server)}})
    coredns.wait_for(ZONE)
    assert coredns.dig(f"backend.{ZONE}").data() == ["10.42.0.24"]


def test_a_block_of_kecs_for_the_same_zone_does_not_stop_a_running_coredns(backend, coredns, cluster):
    key, text = kecs.coredns_block("ns-0123456789abcdef", ZONE)
    coredns.set_block(key, text)
    # Two blocks for one zone are an error. CoreDNS keeps its last valid configuration until one of them is removed.
    eventually(lambda: "cannot serve dns://production.local." in coredns.program.log_tail())
    assert len(coredns.dig(f"backend.{ZONE}").data("A")) == 8
    assert set(coredns.blocks()) == {"cloudmap-dns.server", key}
