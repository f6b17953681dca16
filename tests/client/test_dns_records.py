"""DNS records of services and instances, for all combinations of a service's records and an instance's attributes."""

import pytest

from harness.cloudmap import unique


class Zone:
    """A namespace, and a client for names in its zone."""

    def __init__(self, server, name=None, **more):
        self.server, self.cloudmap = server, server.cloudmap()
        self.name = name or f"{unique('zone')}.local"
        self.namespace = self.cloudmap.private_namespace(self.name, **more)

    def service(self, name, **more):
        return self.cloudmap.service(self.namespace, name, **more)

    def full(self, name):
        return f"{name}.{self.name}." if name else f"{self.name}."

    def dig(self, name, rrtype="A", *options):
        return self.server.dig(self.full(name), rrtype, *options)

    def answer(self, name, rrtype):
        return sorted(self.dig(name, rrtype).data(rrtype))

    def assert_nodata(self, name, *rrtypes):
        for rrtype in rrtypes:
            self.dig(name, rrtype).assert_nodata(self.full(""))

    def assert_nxdomain(self, name, rrtype="A"):
        self.dig(name, rrtype).assert_nxdomain(self.full(""))


@pytest.fixture
def zone(shared):
    return Zone(shared)


def test_a_services_answer_addresses_with_their_ttl(zone):
    service = zone.service("web", A=42)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80, ipv6="fd00::1")
    zone.cloudmap.instance(service, "b", ipv4="10.0.0.2")
    found = zone.dig("web")
    found.assert_positive("10.0.0.1", "10.0.0.2")
    assert found.ttls() == {42} and found.owners() == {zone.full("web")}
    assert found.authority == [] and "ra" not in found.flags
    zone.assert_nodata("web", "AAAA", "SRV", "CNAME", "TXT", "MX", "NS", "SOA")


def test_aaaa_services(zone):
    service = zone.service("web", AAAA=30)
    zone.cloudmap.instance(service, "a", ipv6="fd00::1", ipv4="10.0.0.1")
    zone.dig("web", "AAAA").assert_positive("fd00::1")
    zone.assert_nodata("web", "A", "SRV")


def test_dual_stack_services_answer_the_addresses_that_an_instance_has(zone):
    service = zone.service("web", A=60, AAAA=30)
    zone.cloudmap.instance(service, "both", ipv4="10.0.0.1", ipv6="fd00::1")
    zone.cloudmap.instance(service, "four", ipv4="10.0.0.2")
    zone.cloudmap.instance(service, "six", ipv6="fd00::2")
    a, aaaa = zone.dig("web", "A"), zone.dig("web", "AAAA")
    a.assert_positive("10.0.0.1", "10.0.0.2")
    aaaa.assert_positive("fd00::1", "fd00::2")
    assert (a.ttls(), aaaa.ttls()) == ({60}, {30})


def test_srv_services_answer_ports_targets_and_their_addresses(zone):
    service = zone.service("_http._tcp", SRV=25)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", port=8080)
    zone.cloudmap.instance(service, "b", ipv4="10.0.0.2", ipv6="fd00::2", port=9090)
    found = zone.dig("_http._tcp", "SRV")
    a, b = zone.full("a._http._tcp"), zone.full("b._http._tcp")
    found.assert_positive(f"1 1 8080 {a}", f"1 1 9090 {b}")
    assert found.ttls() == {25}
    assert found.additional_data("A") == {(a, "10.0.0.1"), (b, "10.0.0.2")}
    assert found.additional_data("AAAA") == {(b, "fd00::2")}
    zone.assert_nodata("_http._tcp", "A", "AAAA")


def test_instance_names_resolve_in_srv_services(zone):
    service = zone.service("web", SRV=25)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", ipv6="fd00::1", port=80)
    zone.cloudmap.instance(service, "b", ipv4="10.0.0.2", port=80)
    a = zone.dig("a.web", "A")
    a.assert_positive("10.0.0.1")
    assert a.ttls() == {25}
    zone.dig("a.web", "AAAA").assert_positive("fd00::1")
    zone.dig("b.web", "A").assert_positive("10.0.0.2")
    zone.assert_nodata("b.web", "AAAA", "SRV", "TXT")
    zone.assert_nxdomain("c.web")
    zone.assert_nxdomain("x.a.web")


def test_a_and_srv_services(zone):
    service = zone.service("web", A=60, SRV=30)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", ipv6="fd00::1", port=80)
    zone.dig("web", "A").assert_positive("10.0.0.1")
    zone.dig("web", "SRV").assert_positive(f"1 1 80 {zone.full('a.web')}")
    zone.assert_nodata("web", "AAAA")
    zone.dig("a.web", "A").assert_positive("10.0.0.1")


def test_aaaa_and_srv_services(zone):
    service = zone.service("web", AAAA=60, SRV=30)
    zone.cloudmap.instance(service, "a", ipv6="fd00::1", port=80)
    zone.dig("web", "AAAA").assert_positive("fd00::1")
    found = zone.dig("web", "SRV")
    found.assert_positive(f"1 1 80 {zone.full('a.web')}")
    assert found.additional_data("AAAA") == {(zone.full("a.web"), "fd00::1")}


def test_cname_services_answer_one_name_for_every_type(zone):
    service = zone.service("web", CNAME=15, routing="WEIGHTED")
    zone.cloudmap.instance(service, "a", cname="target.example.com")
    for rrtype in ("CNAME", "A", "AAAA", "TXT"):
        found = zone.dig("web", rrtype)
        found.assert_positive("target.example.com.")
        assert found.ttls() == {15} and found.soa is None
    zone.cloudmap.instance(service, "b", cname="other.example.com.")
    seen = {tuple(zone.dig("web", "CNAME").data()) for _ in range(40)}
    assert seen == {("target.example.com.",), ("other.example.com.",)}


def test_cnames_into_their_own_zone_are_followed(zone):
    web = zone.service("web", A=60)
    zone.cloudmap.instance(web, "a", ipv4="10.0.0.1")
    alias = zone.service("alias", CNAME=15, routing="WEIGHTED")
    zone.cloudmap.instance(alias, "a", cname=f"web.{zone.name}")
    found = zone.dig("alias", "A")
    assert [(record.type, record.data) for record in found.answer] == [("CNAME", zone.full("web")), ("A", "10.0.0.1")]
    assert [record.ttl for record in found.answer] == [15, 60]


def test_instances_without_an_address_in_dns_are_not_answered(zone):
    service = zone.service("web", A=60)
    zone.cloudmap.RegisterInstance(ServiceId=service, InstanceId="a", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1"})
    zone.dig("web").assert_positive("10.0.0.1")
    zone.cloudmap.deregister(service, "a")
    zone.assert_nodata("web", "A")


def test_a_service_without_instances_is_nodata_and_an_unknown_one_nxdomain(zone):
    zone.service("web", A=60, SRV=60)
    zone.assert_nodata("web", "A", "SRV", "AAAA", "TXT")
    zone.assert_nxdomain("nope")
    zone.assert_nxdomain("a.web")


def test_api_only_services_are_not_in_dns(zone):
    service = zone.service("calls", Type="HTTP")
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80)
    zone.assert_nxdomain("calls")


def test_names_above_a_service_are_empty_non_terminals(zone):
    zone.service("_http._tcp.web", SRV=60)
    zone.assert_nodata("_tcp.web", "A", "SRV")
    zone.assert_nodata("web", "A", "SRV")
    zone.assert_nxdomain("_udp.web")


def test_ids_with_dots_are_several_labels(zone):
    service = zone.service("web", SRV=60)
    zone.cloudmap.instance(service, "x.y.z", ipv4="10.0.0.1", port=80)
    found = zone.dig("web", "SRV")
    found.assert_positive(f"1 1 80 {zone.full('x.y.z.web')}")
    zone.dig("x.y.z.web").assert_positive("10.0.0.1")
    zone.assert_nodata("y.z.web", "A")
    zone.assert_nodata("z.web", "A")
    zone.assert_nxdomain("x.z.web")
    zone.cloudmap.deregister(service, "x.y.z")
    zone.assert_nxdomain("z.web")


@pytest.mark.parametrize("instance, target", [
    ("10.0.0.1", "10.0.0.1"), ("a/b", "a-b-o2ckufheot"), ("host:8080", "host-8080-8o4jyk04tz"),
    ("user@host", "user-host-hagvsd3tdt"), ("A_b-c", "a-b-c-eqjso8g3l4"), ("i" * 63, "i" * 63)])
def test_ids_of_every_form_have_srv_targets_that_are_host_names(zone, instance, target):
    service = zone.service("web", SRV=60)
    zone.cloudmap.instance(service, instance, ipv4="10.0.0.9", port=80)
    found = zone.dig("web", "SRV")
    assert found.data() == [f"1 1 80 {zone.full(f'{target}.web')}"]
    assert found.additional_data("A") == {(zone.full(f"{target}.web"), "10.0.0.9")}
    for name in (target, instance):
        zone.dig(f"{name}.web", "A").assert_positive("10.0.0.9")


def test_the_case_of_the_question_is_kept(zone):
    service = zone.service("Web", A=60, SRV=60)
    zone.cloudmap.instance(service, "Task-1", ipv4="10.0.0.1", port=80)
    name = zone.full("wEb").replace("local", "LoCaL")
    found = zone.server.dig(name, "A")
    found.assert_positive("10.0.0.1")
    assert found.question == name and found.owners() == {name}
    zone.dig("tASK-1.WEB", "A").assert_positive("10.0.0.1")
    negative = zone.server.dig(f"NoPe.{name}", "A")
    assert negative.status == "NXDOMAIN" and negative.question == f"NoPe.{name}"


def test_the_service_named_dot_is_at_the_apex(zone):
    service = zone.service(".", A=60)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1")
    zone.dig("", "A").assert_positive("10.0.0.1")
    assert zone.dig("", "SOA").data("SOA")


def test_ttls_follow_updates_and_zero_is_legal(zone):
    service = zone.service("web", A=60)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1")
    for ttl in (0, 2147483647, 5):
        zone.cloudmap.done(zone.cloudmap.UpdateService(
            Id=service, Service={"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": ttl}]}}))
        assert zone.dig("web").ttls() == {ttl}


def test_records_removed_from_a_service_leave_dns(zone):
    service = zone.service("web", A=60, SRV=60)
    zone.cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80)
    zone.cloudmap.done(zone.cloudmap.UpdateService(
        Id=service, Service={"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 60}]}}))
    zone.assert_nodata("web", "SRV")
    zone.dig("web", "A").assert_positive("10.0.0.1")


def test_instances_with_the_same_address_are_one_record(zone):
    service = zone.service("web", A=60, SRV=60)
    for number in range(3):
        zone.cloudmap.instance(service, f"i-{number}", ipv4="10.0.0.1", port=8080 + number)
    zone.dig("web", "A").assert_positive("10.0.0.1")
    assert len(zone.answer("web", "SRV")) == 3


def test_everything_answers_the_same_after_a_restart(server):
    zone = Zone(server, "production.local")
    service = zone.service("web", A=60, SRV=30, custom_health=True)
    for number in range(4):
        zone.cloudmap.instance(service, f"i-{number}", ipv4=f"10.0.0.{number}", port=80)
    zone.cloudmap.set_health(service, "i-0", "UNHEALTHY")
    questions = [("web", "A"), ("web", "SRV"), ("i-0.web", "A"), ("i-1.web", "A"), ("", "NS")]
    before = [zone.answer(*question) for question in questions]
    server.restart()
    assert [zone.answer(*question) for question in questions] == before
