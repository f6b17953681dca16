"""Health in DNS: unhealthy instances leave the answers at once, and settings change that."""

import pytest

from harness.cloudmap import unique


class Checked:
    """A service with custom health and three instances. `up()` returns the instances that DNS answers."""

    def __init__(self, server, **records):
        self.server, self.cloudmap = server, server.cloudmap()
        self.zone = f"{unique('health')}.local"
        self.service = self.cloudmap.service(self.cloudmap.private_namespace(self.zone), "web", custom_health=True,
                                             **(records or {"A": 60}))
        self.name = f"web.{self.zone}"
        for number in range(3):
            self.cloudmap.instance(self.service, f"i-{number}", ipv4=f"10.0.0.{number}", port=80)

    def set(self, status, *numbers):
        for number in numbers:
            self.cloudmap.set_health(self.service, f"i-{number}", status)

    def up(self):
        return {int(address.rpartition(".")[2]) for address in self.server.resolver.addresses(self.name)}


def test_every_flip_is_seen_by_the_next_query(shared):
    checked = Checked(shared)
    assert checked.up() == {0, 1, 2}
    for _ in range(20):
        checked.set("UNHEALTHY", 1)
        assert checked.up() == {0, 2}
        checked.set("HEALTHY", 1)
        assert checked.up() == {0, 1, 2}


def test_service_without_a_healthy_instance_is_nodata(shared):
    checked = Checked(shared, A=60, SRV=60)
    checked.set("UNHEALTHY", 0, 1, 2)
    for rrtype in ("A", "SRV"):
        shared.dig(checked.name, rrtype).assert_nodata(f"{checked.zone}.")
    checked.set("HEALTHY", 2)
    shared.dig(checked.name, "A").assert_positive("10.0.0.2")


def test_names_of_unhealthy_instances_still_resolve(shared):
    checked = Checked(shared, A=60, SRV=60)
    checked.set("UNHEALTHY", 1)
    shared.dig(f"i-1.{checked.name}", "A").assert_positive("10.0.0.1")


def test_instances_that_start_unhealthy_are_not_answered(shared):
    checked = Checked(shared)
    checked.cloudmap.instance(checked.service, "i-9", ipv4="10.0.0.9", status="UNHEALTHY")
    assert checked.up() == {0, 1, 2}
    checked.set("HEALTHY", 9)
    assert checked.up() == {0, 1, 2, 9}


def test_without_a_health_check_the_initial_status_does_not_count(shared):
    cloudmap, zone = shared.cloudmap(), f"{unique('plain')}.local"
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1", status="UNHEALTHY")
    shared.dig(f"web.{zone}").assert_positive("10.0.0.1")


def test_instances_without_a_health_check_are_served(shared):
    """Their status in the API is UNKNOWN, and it never changes."""
    cloudmap, zone = shared.cloudmap(), f"{unique('plain')}.local"
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    assert cloudmap.health(service) == {"a": "UNKNOWN"}
    shared.dig(f"web.{zone}").assert_positive("10.0.0.1")


def test_instances_without_a_health_check_are_served_also_when_unknown_ones_are_withheld(start):
    server = start("--unknown", "withhold")
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    server.dig("web.production.local").assert_positive("10.0.0.1")


def test_fail_open_answers_unhealthy_instances_when_there_are_no_others(start):
    server = start("--fail-open", "true")
    checked = Checked(server)
    checked.set("UNHEALTHY", 0, 1)
    assert checked.up() == {2}
    checked.set("UNHEALTHY", 2)
    assert checked.up() == {0, 1, 2}
    checked.set("HEALTHY", 0)
    assert checked.up() == {0}


def test_fail_open_answers_at_most_eight_or_one(start):
    server = start("--fail-open", "true")
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("production.local")
    for name, routing, count in (("many", "MULTIVALUE", 8), ("one", "WEIGHTED", 1)):
        service = cloudmap.service(namespace, name, routing=routing, custom_health=True, A=60)
        for number in range(12):
            cloudmap.instance(service, f"i-{number}", ipv4=f"10.0.0.{number}", status="UNHEALTHY")
        assert len(server.dig(f"{name}.production.local").data("A")) == count


@pytest.mark.parametrize("setting, attribute, answered", [("false", "true", {0, 1, 2}), ("true", "false", set())])
def test_fail_open_of_a_service_overrides_the_setting(start, setting, attribute, answered):
    server = start("--fail-open", setting)
    checked, other = Checked(server), Checked(server)
    for service in (checked, other):
        service.set("UNHEALTHY", 0, 1, 2)
    checked.cloudmap.set_attribute(checked.service, "fail-open", attribute)
    assert checked.up() == answered
    assert other.up() == {0, 1, 2} - answered, "the setting"
    checked.cloudmap.DeleteServiceAttributes(ServiceId=checked.service, Attributes=["fail-open"])
    assert checked.up() == other.up()


def test_replacing_an_instance_resets_its_health(shared):
    checked = Checked(shared)
    checked.set("UNHEALTHY", 0)
    checked.cloudmap.instance(checked.service, "i-0", ipv4="10.0.0.7", status="HEALTHY")
    assert checked.up() == {7, 1, 2}


def test_discovery_without_a_filter_and_dns_agree_on_fail_open(start):
    """One policy applies to both. A client that asks for healthy instances only gets none."""
    server = start("--fail-open", "true")
    checked = Checked(server)
    checked.set("UNHEALTHY", 0, 1, 2)
    assert checked.up() == {0, 1, 2}
    assert set(checked.cloudmap.discovered(checked.zone, "web")) == {"i-0", "i-1", "i-2"}
    assert checked.cloudmap.discovered(checked.zone, "web", HealthStatus="HEALTHY") == {}


def test_two_instances_lose_one_and_get_it_back(server):
    """DNS answers two addresses, one while an instance is UNHEALTHY, and two after its recovery; the API agrees."""
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("production.local")
    service = cloudmap.service(namespace, "health-test-service", A=30, custom_health=True)
    name, addresses = "health-test-service.production.local", {"task-1": "10.42.0.24", "task-2": "10.42.0.25"}
    for instance, ipv4 in addresses.items():
        cloudmap.instance(service, instance, ipv4=ipv4, ECS_SERVICE_NAME="health-test-service")

    def assert_everywhere(**expected):
        assert cloudmap.health(service) == {instance.replace("_", "-"): status for instance, status in expected.items()}
        healthy = {instance.replace("_", "-") for instance, status in expected.items() if status == "HEALTHY"}
        found = server.dig(name)
        found.assert_positive(*(addresses[instance] for instance in healthy))
        assert found.ttls() == {30}
        assert set(cloudmap.discovered("production.local", "health-test-service")) == healthy

    assert_everywhere(task_1="HEALTHY", task_2="HEALTHY")
    cloudmap.set_health(service, "task-1", "UNHEALTHY")
    assert_everywhere(task_1="UNHEALTHY", task_2="HEALTHY")
    cloudmap.set_health(service, "task-1", "HEALTHY")
    assert_everywhere(task_1="HEALTHY", task_2="HEALTHY")
