"""Attributes of RegisterInstance that a service's records require or forbid, in strict and in lenient mode."""

import pytest

from harness.cloudmap import Refused, unique

A, AAAA, SRV, CNAME = "A", "AAAA", "SRV", "CNAME"
IPV4, IPV6 = {"AWS_INSTANCE_IPV4": "10.0.0.1"}, {"AWS_INSTANCE_IPV6": "fd00::1"}
PORT, TARGET = {"AWS_INSTANCE_PORT": "8080"}, {"AWS_INSTANCE_CNAME": "target.example"}
ALIAS = {"AWS_ALIAS_DNS_NAME": "lb-1.us-east-1.elb.amazonaws.com"}
EC2 = {"AWS_EC2_INSTANCE_ID": "i-0abcdef0123456789"}
STATUS = {"AWS_INIT_HEALTH_STATUS": "UNHEALTHY"}
CUSTOM = {"stage": "blue", "AWS_INSTANCE_ID": "i-1"}


class Kinds:
    """Services by their records, each created once."""

    def __init__(self, cloudmap):
        self.cloudmap = cloudmap
        self.private, self.public = cloudmap.private_namespace(), cloudmap.public_namespace()
        self.http = cloudmap.http_namespace()
        self._made = {}

    def service(self, kind):
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _make(self, kind):
        if kind == "HTTP namespace":
            return self.cloudmap.service(self.http)
        if kind == "Type HTTP":
            return self.cloudmap.service(self.private, Type="HTTP")
        words = kind.split()
        records = {word: 60 for word in words[0].split("+")}
        routing = "WEIGHTED" if "weighted" in words or CNAME in records else "MULTIVALUE"
        if "checked" in words:
            return self.cloudmap.service(self.public, routing=routing, HealthCheckConfig={"Type": "TCP"}, **records)
        return self.cloudmap.service(self.private, routing=routing, custom_health="custom" in words, **records)

    def register(self, kind, attributes, instance="i-1"):
        self.cloudmap.done(self.cloudmap.RegisterInstance(
            ServiceId=self.service(kind), InstanceId=instance, Attributes=attributes))


@pytest.fixture(scope="module")
def strict(start_shared):
    return Kinds(start_shared("--store", "memory", "--validation", "strict").cloudmap())


@pytest.fixture(scope="module")
def lenient(shared):
    return Kinds(shared.cloudmap())


ACCEPTED = [
    ("HTTP namespace", {}), ("HTTP namespace", IPV4 | PORT | CUSTOM), ("HTTP namespace", EC2),
    ("HTTP namespace", EC2 | STATUS | {"stage": "blue"}), ("Type HTTP", {}), ("Type HTTP", IPV4 | IPV6 | PORT),
    ("A", IPV4), ("A", IPV4 | PORT | IPV6 | CUSTOM), ("A", IPV4 | STATUS), ("A custom", IPV4 | STATUS),
    ("A weighted", ALIAS), ("A weighted", IPV4), ("AAAA", IPV6), ("AAAA weighted", ALIAS),
    ("A+AAAA", IPV4), ("A+AAAA", IPV6), ("A+AAAA", IPV4 | IPV6), ("A+AAAA weighted", ALIAS),
    ("SRV", PORT | IPV4), ("SRV", PORT | IPV6), ("SRV", PORT | IPV4 | IPV6),
    ("A+SRV", IPV4 | PORT), ("AAAA+SRV", IPV6 | PORT), ("CNAME", TARGET), ("A checked", IPV4 | PORT),
]


@pytest.mark.parametrize("kind, attributes", ACCEPTED, ids=str)
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_attributes_that_fit_the_records_are_accepted(request, mode, kind, attributes):
    request.getfixturevalue(mode).register(kind, attributes)


REFUSED = [
    ("HTTP namespace", EC2 | IPV4), ("HTTP namespace", EC2 | PORT),
    ("A", {}), ("A", IPV6), ("A", PORT), ("A", EC2 | IPV4), ("A", ALIAS), ("A weighted", ALIAS | IPV4),
    ("A weighted", ALIAS | PORT), ("AAAA", {}), ("AAAA", IPV4), ("AAAA", ALIAS), ("A+AAAA", {}), ("A+AAAA", PORT),
    ("A+AAAA", ALIAS), ("SRV", {}), ("SRV", PORT), ("SRV", IPV4), ("SRV", IPV6), ("SRV weighted", ALIAS),
    ("SRV weighted", ALIAS | PORT), ("A+SRV", IPV4), ("A+SRV", PORT), ("A+SRV", IPV6 | PORT), ("A+SRV", ALIAS),
    ("AAAA+SRV", IPV4 | PORT), ("AAAA+SRV", IPV6), ("CNAME", {}), ("CNAME", IPV4), ("CNAME", ALIAS),
    ("A checked", IPV4),
]


@pytest.mark.parametrize("kind, attributes", REFUSED, ids=str)
def test_attributes_that_do_not_fit_are_invalid_in_strict_mode(strict, kind, attributes):
    with pytest.raises(Refused) as refused:
        strict.register(kind, attributes, "refused")
    assert refused.value.code == "InvalidInput"


def test_a_refused_registration_leaves_nothing_behind(strict):
    service = strict.service("A")
    before = (strict.cloudmap.GetService(Id=service), strict.cloudmap.ListOperations())
    with pytest.raises(Refused):
        strict.register("A", {}, "nothing")
    assert (strict.cloudmap.GetService(Id=service), strict.cloudmap.ListOperations()) == before


MALFORMED = [
    *(("A", {"AWS_INSTANCE_IPV4": text})
      for text in ("", "10.0.0", "10.0.0.256", "10.0.0.1.", "010.0.0.1", "localhost", "fd00::1")),
    *(("AAAA", {"AWS_INSTANCE_IPV6": text}) for text in ("10.0.0.1", "fd00::1::2", "fd00", "[fd00::1]", "fe80::1%eth0")),
    *(("SRV", IPV4 | {"AWS_INSTANCE_PORT": text}) for text in ("", "65536", "-1", "http", "80.0", "0x50", "8 0")),
    *(("CNAME", {"AWS_INSTANCE_CNAME": text}) for text in ("a..b", "l" * 64 + ".example", "x." * 127 + "example")),
    ("A custom", IPV4 | {"AWS_INIT_HEALTH_STATUS": "UNKNOWN"}),
    ("A custom", IPV4 | {"AWS_INIT_HEALTH_STATUS": "healthy"}),
]


@pytest.mark.parametrize("kind, attributes", MALFORMED, ids=str)
def test_values_that_cannot_be_in_a_record_are_invalid_in_strict_mode(strict, kind, attributes):
    with pytest.raises(Refused) as refused:
        strict.register(kind, attributes, "malformed")
    assert refused.value.code == "InvalidInput"


@pytest.mark.parametrize("kind, attributes", MALFORMED, ids=str)
def test_values_that_cannot_be_in_a_record_never_get_into_one(shared, lenient, kind, attributes):
    """Lenient mode may store the instance, but DNS answers do not change."""
    service = lenient.service(kind)
    namespace = lenient.cloudmap.GetNamespace(Id=lenient.private)["Namespace"]["Name"]
    name, rrtype = lenient.cloudmap.GetService(Id=service)["Service"]["Name"], kind.split()[0]
    before = shared.resolver.addresses(f"{name}.{namespace}", rrtype)
    reply = lenient.cloudmap.reply("RegisterInstance", {
        "ServiceId": service, "InstanceId": "malformed", "Attributes": attributes})
    assert reply.status == 200 or reply.code == "InvalidInput"
    if "AWS_INIT_HEALTH_STATUS" not in attributes:
        assert shared.resolver.addresses(f"{name}.{namespace}", rrtype) == before
    if reply.status == 200:
        lenient.cloudmap.deregister(service, "malformed")


@pytest.mark.parametrize("attributes", [
    {f"key-{number}": "" for number in range(31)},
    {f"key-{number}": "v" * 1000 for number in range(5)},
], ids=["31 attributes", "5,000 characters"])
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_too_many_attributes_are_invalid(request, mode, attributes):
    kinds = request.getfixturevalue(mode)
    with pytest.raises(Refused) as refused:
        kinds.register("HTTP namespace", attributes, "large")
    assert refused.value.code == "InvalidInput"


def test_thirty_attributes_of_5000_characters_are_accepted(strict):
    attributes = {f"key-{number:02}": "v" * 160 for number in range(30)}
    assert sum(len(key) + len(value) for key, value in attributes.items()) == 4980
    strict.register("HTTP namespace", attributes | {"key-29": "v" * 180}, "largest")


def test_an_id_longer_than_a_label_is_accepted_with_any_records(strict, lenient):
    """Its SRV record points to a name that is derived from the id (test_names.py)."""
    for kinds in (strict, lenient):
        kinds.register("SRV", PORT | IPV4, "i" * 64)
        kinds.register("A", IPV4, "i" * 64)
        kinds.register("SRV", PORT | IPV4, "i" * 63)


def test_lenient_mode_stores_instances_that_dns_answers_in_part(shared):
    """AWS refuses an instance of an A+SRV service without a port; lenient mode serves its A record and no SRV record."""
    cloudmap = shared.cloudmap()
    name = f"{unique('part')}.local"
    service = cloudmap.service(cloudmap.private_namespace(name), "web", A=60, SRV=60)
    cloudmap.instance(service, "whole", ipv4="10.0.0.1", port=80)
    cloudmap.instance(service, "part", ipv4="10.0.0.2")
    assert set(cloudmap.listed_instances(service)) == {"whole", "part"}
    shared.dig(f"web.{name}", "A").assert_positive("10.0.0.1", "10.0.0.2")
    shared.dig(f"web.{name}", "SRV").assert_positive(f"1 1 80 whole.web.{name}.")
