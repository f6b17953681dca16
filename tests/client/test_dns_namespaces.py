"""Zones of namespaces: apex, negative answers and their TTL, nested zones, and namespaces that are not in DNS."""

import pytest

from harness.cloudmap import unique

DEFAULT_NEGATIVE_TTL = 5


def name_of(prefix="zone"):
    return f"{unique(prefix)}.local"


def test_the_apex_has_soa_and_ns(shared):
    zone = name_of()
    shared.cloudmap().private_namespace(zone)
    soa = shared.dig(zone, "SOA")
    assert (soa.status, soa.owners(), len(soa.data("SOA"))) == ("NOERROR", {f"{zone}."}, 1)
    assert soa.data("SOA")[0].split()[0] == f"ns.dns.{zone}."
    shared.dig(zone, "NS").assert_positive(f"ns.dns.{zone}.")
    shared.dig(zone, "A").assert_nodata(f"{zone}.")
    server = shared.dig(f"ns.dns.{zone}", "A")
    assert server.status == "NOERROR" and "aa" in server.flags
    shared.dig(f"dns.{zone}", "A").assert_nodata(f"{zone}.")


def test_the_addresses_of_the_name_server_are_a_setting(start):
    server = start("--ns-address", "192.0.2.53", "--ns-address", "2001:db8::53")
    server.cloudmap().private_namespace("production.local")
    server.dig("ns.dns.production.local", "A").assert_positive("192.0.2.53")
    server.dig("ns.dns.production.local", "AAAA").assert_positive("2001:db8::53")
    assert server.dig("production.local", "NS").additional_data("A") == {("ns.dns.production.local.", "192.0.2.53")}


def assert_negative_ttl(server, zone, ttl):
    server.dig(f"nope.{zone}", "A").assert_nxdomain(f"{zone}.")
    server.dig(zone, "TXT").assert_nodata(f"{zone}.")
    for negative in (server.dig(f"nope.{zone}", "A"), server.dig(zone, "TXT")):
        assert negative.soa.ttl == ttl
        assert int(negative.soa.data.split()[6]) == ttl
    assert server.dig(zone, "SOA").ttls() == {ttl}


def test_the_negative_ttl_is_five_seconds(shared):
    zone = name_of()
    shared.cloudmap().private_namespace(zone)
    assert_negative_ttl(shared, zone, DEFAULT_NEGATIVE_TTL)


def test_the_negative_ttl_is_a_setting(start):
    server = start("--negative-ttl", "77")
    server.cloudmap().private_namespace("production.local")
    assert_negative_ttl(server, "production.local", 77)


def test_the_negative_ttl_is_the_soa_ttl_of_the_namespace(shared):
    zone = name_of()
    cloudmap = shared.cloudmap()
    namespace = cloudmap.private_namespace(zone, soa_ttl=33)
    assert_negative_ttl(shared, zone, 33)
    cloudmap.done(cloudmap.UpdatePrivateDnsNamespace(
        Id=namespace, Namespace={"Properties": {"DnsProperties": {"SOA": {"TTL": 44}}}}))
    assert_negative_ttl(shared, zone, 44)


def test_the_serial_grows_with_every_change_and_only_then(shared):
    zone, other = name_of(), name_of()
    cloudmap = shared.cloudmap()
    namespace, elsewhere = cloudmap.private_namespace(zone), cloudmap.private_namespace(other)
    serials = [shared.resolver.serial(zone)]
    service = cloudmap.service(namespace, "web", A=60, custom_health=True)
    serials.append(shared.resolver.serial(zone))
    for change in (lambda: cloudmap.instance(service, "a", ipv4="10.0.0.1"),
                   lambda: cloudmap.set_health(service, "a", "UNHEALTHY"),
                   lambda: cloudmap.deregister(service, "a")):
        change()
        serials.append(shared.resolver.serial(zone))
    assert serials == sorted(set(serials)), serials
    before = shared.resolver.serial(zone)
    cloudmap.service(elsewhere, "web", A=60)
    assert shared.resolver.serial(zone) == before, "zones are independent of each other"


def test_the_serial_does_not_go_back_over_restarts(server):
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60)
    cloudmap.instances(service, 5)
    for _ in range(2):
        before = server.resolver.serial("production.local")
        server.kill9()
        server.restart()
        assert server.resolver.serial("production.local") >= before


def test_http_namespaces_are_not_in_dns(shared):
    zone = name_of("http")
    cloudmap = shared.cloudmap()
    service = cloudmap.service(cloudmap.http_namespace(zone), "web")
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    for name in (zone, f"web.{zone}"):
        shared.dig(name, "A").assert_refused()


def test_public_namespaces_are_in_dns(shared):
    zone = f"{unique('public')}.example"
    cloudmap = shared.cloudmap()
    service = cloudmap.service(cloudmap.public_namespace(zone), "web", A=60)
    cloudmap.instance(service, "a", ipv4="192.0.2.1")
    shared.dig(f"web.{zone}").assert_positive("192.0.2.1")


@pytest.mark.parametrize("order", [("", "eu."), ("eu.", "")], ids=["parent first", "child first"])
def test_nested_namespaces_are_zones_of_their_own(shared, order):
    parent = name_of("nested")
    cloudmap = shared.cloudmap()
    made = {prefix: cloudmap.private_namespace(prefix + parent) for prefix in order}
    inner = cloudmap.service(made["eu."], "web", A=60)
    cloudmap.instance(inner, "a", ipv4="10.0.0.1")
    outer = cloudmap.service(made[""], "web", A=60)
    cloudmap.instance(outer, "a", ipv4="10.0.0.2")
    shared.dig(f"web.eu.{parent}").assert_positive("10.0.0.1")
    shared.dig(f"web.{parent}").assert_positive("10.0.0.2")
    shared.dig(f"nope.eu.{parent}").assert_nxdomain(f"eu.{parent}.")
    shared.dig(f"nope.{parent}").assert_nxdomain(f"{parent}.")
    assert shared.dig(f"eu.{parent}", "SOA").owners() == {f"eu.{parent}."}


def test_the_deepest_zone_answers_even_if_the_parent_has_the_name(shared):
    """`web.eu` is a service of the parent zone, and does not exist in the child zone."""
    parent = name_of("deep")
    cloudmap = shared.cloudmap()
    outer = cloudmap.service(cloudmap.private_namespace(parent), "web.eu", A=60)
    cloudmap.instance(outer, "a", ipv4="10.0.0.2")
    shared.dig(f"web.eu.{parent}").assert_positive("10.0.0.2")
    child = cloudmap.private_namespace(f"eu.{parent}")
    shared.dig(f"web.eu.{parent}").assert_nxdomain(f"eu.{parent}.")
    cloudmap.done(cloudmap.DeleteNamespace(Id=child))
    shared.dig(f"web.eu.{parent}").assert_positive("10.0.0.2")


def test_names_outside_of_all_zones_are_refused(shared):
    shared.cloudmap().private_namespace(name_of())
    for name, rrtype in (("www.example.com", "A"), (".", "NS"), ("local", "SOA"), ("4.3.2.10.in-addr.arpa", "PTR")):
        for options in ((), ("+tcp",), ("+rec",)):
            shared.dig(name, rrtype, *options).assert_refused()


def test_a_server_without_zones_refuses_everything(server):
    server.dig("production.local").assert_refused()
    server.dig(".", "NS").assert_refused()


def test_single_label_and_underscore_names_are_zones(shared):
    cloudmap = shared.cloudmap()
    for zone in (unique("single"), f"_{unique('under')}.local"):
        service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
        cloudmap.instance(service, "a", ipv4="10.0.0.1")
        shared.dig(f"web.{zone}").assert_positive("10.0.0.1")


def test_any_answers_one_rrset(shared):
    zone = name_of("any")
    cloudmap = shared.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60, SRV=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80)
    found = shared.dig(f"web.{zone}", "ANY", "+notcp")
    assert found.status == "NOERROR" and len({record.type for record in found.answer}) == 1
