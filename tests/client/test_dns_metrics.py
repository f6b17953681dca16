"""Counts of queries by zone, and the names that CoreDNS has for them."""

import re

import pytest

from harness.cloudmap import unique
from harness.deadline import eventually

SAMPLE = re.compile(r'^(\w+)\{(.*)\} (\S+)$', re.MULTILINE)
# Zones with a label of their own, `other` and `dropped`.
LABELS_MAX = 102


def samples(server, name):
    """The values of a metric by their labels, without those of zones that other tests made."""
    page = server.page("/metrics")
    return {tuple(re.findall(r'(\w+)="([^"]*)"', labels)): float(value)
            for found, labels, value in SAMPLE.findall(page) if found == name}


def by_zone(server, name, zone):
    return {value: count for labels, count in samples(server, name).items()
            for key, value in labels if key != "zone" and dict(labels)["zone"] == zone}


def zone_with_service(server):
    cloudmap, zone = server.cloudmap(), f"{unique('counted')}.local"
    namespace = cloudmap.private_namespace(zone)
    cloudmap.instance(cloudmap.service(namespace, "web", A=60), "one", ipv4="192.0.2.1", port=80)
    return zone, namespace


def ask(server, zone):
    server.dig(f"web.{zone}")
    server.dig(f"web.{zone}")
    server.dig(f"web.{zone}", "AAAA")
    server.dig(f"web.{zone}", "TXT", "+tcp", "+edns=0")
    server.dig(f"nothing.{zone}")


def test_queries_are_counted_by_zone_type_and_response_code(start):
    server = start("--store", "memory")
    (one, namespace), (other, _) = zone_with_service(server), zone_with_service(server)
    ask(server, one)
    server.dig(f"web.{other}")
    server.dig("example.org")

    def check():
        assert by_zone(server, "cloudmap_dns_dns_queries_by_type_total", f"{one}.") == {"A": 3, "AAAA": 1, "TXT": 1}
        assert by_zone(server, "cloudmap_dns_dns_zone_responses_total", f"{one}.") == {"NOERROR": 4, "NXDOMAIN": 1}
        assert by_zone(server, "cloudmap_dns_dns_zone_responses_total", f"{other}.") == {"NOERROR": 1}
        assert by_zone(server, "cloudmap_dns_dns_zone_responses_total", "dropped") == {"REFUSED": 1}
        return True
    eventually(check)

    # A zone that is made again is the same one.
    cloudmap = server.cloudmap()
    [service] = cloudmap.ListServices(Filters=[{"Name": "NAMESPACE_ID", "Values": [namespace]}])["Services"]
    cloudmap.deregister(service["Id"], "one")
    cloudmap.DeleteService(Id=service["Id"])
    cloudmap.DeleteNamespace(Id=namespace)
    assert server.dig(f"web.{one}").status == "REFUSED"
    assert by_zone(server, "cloudmap_dns_dns_zone_responses_total", f"{one}.") == {"NOERROR": 4, "NXDOMAIN": 1}
    cloudmap.private_namespace(one)
    server.dig(f"web.{one}")
    eventually(lambda: by_zone(server, "cloudmap_dns_dns_zone_responses_total", f"{one}.") == {"NOERROR": 4, "NXDOMAIN": 2})


def test_zones_beyond_the_first_hundred_share_a_label(start):
    server = start("--store", "memory")
    cloudmap = server.cloudmap()
    zones = [f"{unique('many')}.local" for _ in range(LABELS_MAX + 3)]
    for zone in zones:
        cloudmap.private_namespace(zone)
    for zone in zones:
        server.dig(zone, "SOA")

    def check():
        found = [(dict(labels)["zone"], count) for labels, count in samples(
            server, "cloudmap_dns_dns_queries_by_type_total").items()]
        assert sum(count for _, count in found) == len(zones)
        labels = {zone for zone, _ in found}
        assert "other" in labels and len(labels) <= LABELS_MAX - 1
        return True
    eventually(check)


@pytest.mark.parametrize("transport, options, labels", [
    ("udp", (), {"server": "dns://", "proto": "udp"}), ("tcp", ("+tcp",), {"server": "dns://", "proto": "tcp"})])
def test_metrics_have_the_names_of_coredns_where_they_are_asked_for(start, transport, options, labels):
    server = start("--store", "memory", "--metrics-coredns", "on")
    zone, _ = zone_with_service(server)
    for name in (f"web.{zone}", f"nothing.{zone}"):
        server.dig(name, "A", *options)
    whole = {"view": "", "zone": f"{zone}."} | labels

    def of(name, **more):
        wanted = {**{key: value for key, value in whole.items() if key not in more}, **more}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        return next((count for found, count in samples(server, name).items() if dict(found) == wanted), None)

    def check():
        assert of("coredns_dns_requests_total", type="A") == 2
        for rcode in ("NOERROR", "NXDOMAIN"):
            assert of("coredns_dns_responses_total", rcode=rcode, plugin="cloudmap-dns", proto=None) == 1
        for histogram in ("coredns_dns_response_size_bytes", "coredns_dns_request_duration_seconds"):
            assert of(f"{histogram}_count", zone=None) == 2
        return True
    eventually(check)
    # The own names remain.
    assert server.metric("dns_queries_total", transport=transport) >= 2


def test_metrics_have_only_the_own_names_by_default(shared):
    shared.dig("example.org")
    assert "coredns_" not in shared.page("/metrics")
