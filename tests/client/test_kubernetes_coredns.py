"""The server configures CoreDNS to forward its zones, by a key of coredns-custom or by a block in the Corefile."""

import re

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.program import free_port

KEY = "cloudmap-dns.server"
THEIRS = "# somebody's\nexample.org:53 {\n    errors\n    forward . 127.0.0.1:1\n}\n"


def config_map(cluster, name):
    found = cluster.get("ConfigMap", name, "kube-system")
    return (found or {}).get("data", {})


def block(zone, port):
    return f"{zone}:53 {{\n    errors\n    forward . 127.0.0.1:{port}\n}}\n"


@pytest.fixture
def zone():
    return f"{unique('coredns')}.local"


@pytest.fixture
def start_telling(cluster, start, dns_port):
    """Starts a server that configures CoreDNS, and waits until it has the Lease."""
    def start_one(mode):
        server = start("--kubeconfig", cluster.kubeconfig, "--coredns", mode, "--store", "memory",
                       "--dns", f"127.0.0.1:{dns_port}", "--coredns-forward", f"127.0.0.1:{dns_port}")
        server.until_metric("kubernetes_leader", 1)
        return server
    return start_one


@pytest.fixture
def dns_port():
    return free_port()


def serve(server, zone, address="192.0.2.1"):
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace(zone)
    service = cloudmap.service(namespace, "web", A=60)
    cloudmap.instance(service, "one", ipv4=address)
    return namespace, service


def test_a_new_namespace_resolves_through_coredns(start_telling, cluster, coredns, zone, dns_port):
    coredns.set_block("theirs.server", THEIRS)
    server = start_telling("custom")
    namespace, service = serve(server, zone)
    eventually(lambda: coredns.dig(f"web.{zone}").data() == ["192.0.2.1"])
    assert config_map(cluster, "coredns-custom") == {"theirs.server": THEIRS, KEY: block(zone, dns_port)}
    # Query over TCP too, as NodeLocal DNSCache does.
    assert coredns.dig(f"web.{zone}", "A", "+tcp").data() == ["192.0.2.1"]

    cloudmap = server.cloudmap()
    cloudmap.deregister(service, "one")
    cloudmap.instance(service, "two", ipv4="192.0.2.2")
    # CoreDNS does not cache the answers.
    assert coredns.dig(f"web.{zone}").data() == ["192.0.2.2"]
    cloudmap.deregister(service, "two")
    cloudmap.DeleteService(Id=service)
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    eventually(lambda: config_map(cluster, "coredns-custom") == {"theirs.server": THEIRS})


def test_a_deleted_or_changed_key_is_restored(start_telling, cluster, zone, dns_port):
    server = start_telling("custom")
    serve(server, zone)
    ours = block(zone, dns_port)
    eventually(lambda: config_map(cluster, "coredns-custom") == {KEY: ours})
    for change in (None, "# nothing\n"):
        cluster.patch("ConfigMap", "coredns-custom", "kube-system", {"data": {KEY: change}})
        eventually(lambda: config_map(cluster, "coredns-custom") == {KEY: ours}, 5.0)
    cluster.delete("ConfigMap", "coredns-custom", "kube-system")
    eventually(lambda: config_map(cluster, "coredns-custom") == {KEY: ours}, 5.0)


def test_a_foreign_block_for_the_same_zone_is_not_changed(start_telling, cluster, coredns, zone, dns_port):
    server = start_telling("custom")
    namespace, _ = serve(server, zone)
    other_zone = f"other-{zone}"
    serve(server, other_zone)
    eventually(lambda: coredns.dig(f"web.{zone}").data() == ["192.0.2.1"])
    key, text = kecs.coredns_block(namespace, zone)
    coredns.set_block(key, text)
    eventually(lambda: config_map(cluster, "coredns-custom") == {key: text, KEY: block(other_zone, dns_port)})
    server.until_metric("kubernetes_coredns_clashes", 1)
    why = f"{key} of ConfigMap coredns-custom has a block for this zone"
    assert f"coredns   is not told to forward this zone: {why}" in server.page(f"/explain?name=web.{zone}&type=A")
    server.until_readiness(f"not {zone}")
    warnings = eventually(lambda: [event for event in cluster.list("Event", "kube-system")
                                   if event["reason"] == "CloudMapZoneClash"] or None)
    assert zone in warnings[0]["message"] and warnings[0]["involvedObject"]["name"] == "coredns-custom"
    # CoreDNS still forwards the other zones.
    eventually(lambda: coredns.dig(f"web.{other_zone}").data() == ["192.0.2.1"])

    cluster.patch("ConfigMap", "coredns-custom", "kube-system", {"data": {key: None}})
    server.until_metric("kubernetes_coredns_clashes", 0)
    eventually(lambda: coredns.dig(f"web.{zone}").data() == ["192.0.2.1"])


def test_zones_that_the_cluster_needs_are_never_forwarded(start_telling, cluster, coredns, zone):
    server = start_telling("custom")
    for guarded in ("local", "cluster.local", "kecs.local"):
        server.cloudmap().private_namespace(guarded)
    serve(server, zone)
    server.until_metric("kubernetes_coredns_guarded_zones", 3)
    eventually(lambda: coredns.dig(f"web.{zone}").data() == ["192.0.2.1"])
    assert set(re.findall(r"^(\S+):53 ", config_map(cluster, "coredns-custom")[KEY], re.MULTILINE)) == {zone}
    assert coredns.dig("kubernetes.default.svc.cluster.local").status == "NOERROR"


def test_the_block_in_a_corefile_is_between_marks_and_the_rest_is_not_changed(start_telling, cluster, coredns, zone):
    before = config_map(cluster, "coredns")["Corefile"]
    server = start_telling("corefile")
    namespace, service = serve(server, zone)
    eventually(lambda: coredns.dig(f"web.{zone}").data() == ["192.0.2.1"])
    found = config_map(cluster, "coredns")["Corefile"]
    assert found.startswith(before) and found.count("# cloudmap-dns: ") == 2, found
    cluster.patch("ConfigMap", "coredns", "kube-system", {"data": {"Corefile": before + "# mine\n"}})
    eventually(lambda: f"{zone}:53" in config_map(cluster, "coredns")["Corefile"], 5.0)
    assert config_map(cluster, "coredns")["Corefile"].startswith(before + "# mine\n")
    cloudmap = server.cloudmap()
    cloudmap.deregister(service, "one")
    cloudmap.DeleteService(Id=service)
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    eventually(lambda: config_map(cluster, "coredns")["Corefile"] == before + "# mine\n")


def test_the_address_of_the_server_s_own_service_is_found(cluster, start, zone):
    server = start("--kubeconfig", cluster.kubeconfig, "--coredns", "custom", "--store", "memory")
    serve(server, zone)
    server.until_readiness("there is no Service default/cloudmap")
    assert config_map(cluster, "coredns-custom") == {}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cloudmap", "namespace": "default"},
                   "spec": {"clusterIP": "10.43.0.53", "ports": [
                       {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "api", "port": 80}]}})
    eventually(lambda: "forward . 10.43.0.53:53\n" in config_map(cluster, "coredns-custom").get(KEY, ""))
