"""DiscoverInstances: selection by attributes and health, and the changes that increase the revision."""

from collections import Counter

import pytest

from harness.cloudmap import Refused, unique

FILTERS = ("HEALTHY", "UNHEALTHY", "ALL", "HEALTHY_OR_ELSE_ALL")


class Discovered:
    """A service of an HTTP namespace, and the instances that are discovered of it."""

    def __init__(self, cloudmap, custom_health=False):
        self.cloudmap, self.namespace_name, self.name = cloudmap, unique("calls"), "Backend"
        self.namespace = cloudmap.http_namespace(self.namespace_name)
        self.service = cloudmap.service(self.namespace, self.name, custom_health=custom_health)

    def add(self, instance, **attributes):
        self.cloudmap.instance(self.service, instance, **attributes)

    def found(self, **more):
        return self.cloudmap.discovered(self.namespace_name, self.name, **more)

    def revision(self):
        return self.cloudmap.revision(self.namespace_name, self.name)


@pytest.fixture
def plain(shared, protocol):
    return Discovered(shared.cloudmap(protocol))


@pytest.fixture
def checked(shared, protocol):
    return Discovered(shared.cloudmap(protocol), custom_health=True)


def test_query_parameters_must_all_match(plain):
    plain.add("a", stage="blue", zone="1")
    plain.add("b", stage="blue", zone="2")
    plain.add("c", stage="green", zone="1")
    assert set(plain.found(QueryParameters={"stage": "blue"})) == {"a", "b"}
    assert set(plain.found(QueryParameters={"stage": "blue", "zone": "1"})) == {"a"}
    assert plain.found(QueryParameters={"stage": "red"}) == {}
    assert plain.found(QueryParameters={"Stage": "blue"}) == {}, "keys have case"
    assert set(plain.found(QueryParameters={})) == {"a", "b", "c"}


def test_optional_parameters_count_only_when_something_matches_them(plain):
    plain.add("a", stage="blue", zone="1")
    plain.add("b", stage="blue", zone="2")
    plain.add("c", stage="green", zone="3")
    assert set(plain.found(OptionalParameters={"zone": "2"})) == {"b"}
    assert set(plain.found(OptionalParameters={"zone": "9"})) == {"a", "b", "c"}
    assert set(plain.found(OptionalParameters={"zone": "1", "stage": "green"})) == {"a", "b", "c"}
    assert set(plain.found(QueryParameters={"stage": "blue"}, OptionalParameters={"zone": "3"})) == {"a", "b"}


def test_without_a_health_check_every_instance_is_returned_as_unknown(plain):
    plain.add("a")
    for status in FILTERS:
        assert plain.found(HealthStatus=status) == {"a": "UNKNOWN"}
    assert plain.found() == {"a": "UNKNOWN"}
    assert plain.cloudmap.health(plain.service) == {"a": "UNKNOWN"}


def test_health_filters(checked):
    checked.add("up")
    checked.add("down", status="UNHEALTHY")
    everything = {"up": "HEALTHY", "down": "UNHEALTHY"}
    assert checked.found() == {"up": "HEALTHY"}, "healthy ones by default"
    assert checked.found(HealthStatus="HEALTHY") == {"up": "HEALTHY"}
    assert checked.found(HealthStatus="UNHEALTHY") == {"down": "UNHEALTHY"}
    assert checked.found(HealthStatus="ALL") == everything
    assert checked.found(HealthStatus="HEALTHY_OR_ELSE_ALL") == {"up": "HEALTHY"}
    checked.cloudmap.set_health(checked.service, "up", "UNHEALTHY")
    assert checked.found() == {}
    assert checked.found(HealthStatus="HEALTHY_OR_ELSE_ALL") == dict.fromkeys(everything, "UNHEALTHY")


def test_a_health_check_config_starts_healthy(shared, protocol):
    cloudmap = shared.cloudmap(protocol)
    name = f"{unique('checked')}.example"
    service = cloudmap.service(cloudmap.public_namespace(name), "web", A=60, HealthCheckConfig={"Type": "TCP"})
    cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80)
    assert cloudmap.discovered(name, "web") == {"a": "HEALTHY"}


def test_results_are_limited_to_100_or_to_max_results(shared, protocol):
    plain = Discovered(shared.cloudmap(protocol))
    for number in range(120):
        plain.add(f"i-{number}")
    assert len(plain.found()) == 100
    assert len(plain.found(MaxResults=1000)) == 120
    assert len(plain.found(MaxResults=7)) == 7
    seen = Counter(instance for _ in range(100) for instance in plain.found(MaxResults=20))
    assert len(seen) == 120, "the choice is random: every instance is found by some call"


def test_the_order_is_random(plain):
    for number in range(10):
        plain.add(f"i-{number}")
    orders = {tuple(plain.found()) for _ in range(10)}
    assert len(orders) > 1


def test_names_are_found_by_http_name_and_exactly(plain):
    cloudmap = plain.cloudmap
    for namespace, service, code in ((plain.namespace_name.upper(), plain.name, "NamespaceNotFound"),
                                     (plain.namespace_name, plain.name.lower(), "ServiceNotFound"),
                                     (plain.namespace, plain.name, "NamespaceNotFound")):
        with pytest.raises(Refused) as refused:
            cloudmap.discovered(namespace, service)
        assert refused.value.code == code


def test_names_of_dns_namespaces_and_services_have_no_case(shared, protocol):
    cloudmap = shared.cloudmap(protocol)
    name = f"{unique('Mixed')}.local"
    http, namespace = cloudmap.http_namespace(unique("Http")), cloudmap.private_namespace(name)
    service = cloudmap.service(namespace, "Web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    for written in (name, name.upper(), name.lower()):
        found = cloudmap.DiscoverInstances(NamespaceName=written, ServiceName="wEB")
        assert [instance["NamespaceName"] for instance in found["Instances"]] == [name]
        assert cloudmap.revision(written, "web") == found["InstancesRevision"]
    http_name = cloudmap.GetNamespace(Id=http)["Namespace"]["Name"]
    with pytest.raises(Refused) as refused:
        cloudmap.discovered(http_name.upper(), "web")
    assert refused.value.code == "NamespaceNotFound"
    # Names are compared with the HttpName, which is not the name if the name was taken when the namespace was created.
    taken = cloudmap.GetNamespace(Id=cloudmap.http_namespace(f"Taken-{name}"))["Namespace"]["Name"]
    second = cloudmap.private_namespace(taken)
    cloudmap.service(second, "web", A=60)
    with pytest.raises(Refused) as refused:
        cloudmap.discovered(taken.upper(), "web")
    assert refused.value.code == "NamespaceNotFound"
    http_name = cloudmap.GetNamespace(Id=second)["Namespace"]["Properties"]["HttpProperties"]["HttpName"]
    assert cloudmap.discovered(http_name, "web") == {}


def test_members_of_a_discovered_instance(plain):
    plain.add("a", stage="blue", AWS_INSTANCE_IPV4="10.0.0.1")
    found = plain.cloudmap.DiscoverInstances(NamespaceName=plain.namespace_name, ServiceName=plain.name)
    assert found["Instances"] == [{
        "InstanceId": "a", "NamespaceName": plain.namespace_name, "ServiceName": plain.name, "HealthStatus": "UNKNOWN",
        "Attributes": {"stage": "blue", "AWS_INSTANCE_IPV4": "10.0.0.1"}}]
    assert found["InstancesRevision"] == plain.revision()


def test_the_revision_grows_with_every_change_of_the_instances(checked):
    revisions = [checked.revision()]
    for change in (lambda: checked.add("a", stage="blue"), lambda: checked.add("b"),
                   lambda: checked.add("a", stage="green"),
                   lambda: checked.cloudmap.deregister(checked.service, "b"),
                   lambda: checked.add("b")):
        change()
        revisions.append(checked.revision())
    assert revisions == sorted(set(revisions)), "strictly growing"
    assert revisions[-1] <= 2**53 - 1


def test_the_revision_does_not_count_health_or_other_changes(checked):
    checked.add("a")
    before = checked.revision()
    for status in ("UNHEALTHY", "HEALTHY"):
        checked.cloudmap.set_health(checked.service, "a", status)
    checked.cloudmap.set_attribute(checked.service, "key", "value")
    other = Discovered(checked.cloudmap)
    other.add("x")
    assert checked.revision() == before


def test_the_revision_survives_restarts_and_never_goes_back(server):
    service = Discovered(server.cloudmap())
    service.add("a")
    service.add("b")
    before = service.revision()
    server.kill9()
    server.restart()
    service.cloudmap = server.cloudmap()
    assert service.revision() == before
    service.cloudmap.deregister(service.service, "b")
    assert service.revision() > before


def test_the_revision_of_a_service_created_again_is_not_smaller(server, protocol):
    service = Discovered(server.cloudmap(protocol))
    service.add("a")
    service.add("b")
    before = service.revision()
    for instance in "ab":
        service.cloudmap.deregister(service.service, instance)
    service.cloudmap.DeleteService(Id=service.service)
    assert service.cloudmap.service(service.namespace, service.name) == service.service, "the id is that of its name"
    service.add("a")
    assert service.revision() > before
