"""Maintenance: `cloudmap-dns maintenance` takes an instance out of all answers until it is lifted."""

import json
import subprocess
import urllib.error
import urllib.request

import pytest

from harness.cloudmap import code_of, unique
from harness.server import binary, plain_environment


class Service:
    """A service with two instances."""

    def __init__(self, server, **service):
        self.server, self.cloudmap = server, server.cloudmap()
        self.zone = f"{unique('care')}.local"
        self.namespace = self.cloudmap.private_namespace(self.zone)
        self.id = self.cloudmap.service(self.namespace, "web", **{"A": 60, **service})
        self.name = f"web.{self.zone}"
        self.ids = [unique("i"), unique("i")]
        for number, instance in enumerate(self.ids):
            self.cloudmap.instance(self.id, instance, ipv4=f"10.0.0.{number}")

    def answered(self):
        return {int(address.rpartition(".")[2]) for address in self.server.resolver.addresses(self.name)}

    def maintain(self, state, number, *options, **more):
        return self.server.run("maintenance", state, self.ids[number], *options, **more)


def order(server, body, method="PUT"):
    """The status and the answer of a request to the API's port."""
    host, port = server.addresses["api"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{host}:{port}/maintenance", data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("custom_health", [True, False])
def test_an_instance_in_maintenance_is_nowhere_answered(start, custom_health):
    service = Service(start("--fail-open", "true"), custom_health=custom_health)
    cloudmap, server = service.cloudmap, service.server
    done = service.maintain("on", 0, "--reason", "disk swap")
    assert done.stdout == (f"{service.ids[0]} of {service.name} ({service.id}) is in maintenance, until "
                           f"`cloudmap-dns maintenance off {service.ids[0]}`\n")
    assert service.answered() == {1}
    assert set(cloudmap.discovered(service.zone, "web")) == {service.ids[1]}
    assert service.ids[0] in cloudmap.discovered(service.zone, "web", HealthStatus="UNHEALTHY")
    if custom_health:
        assert cloudmap.health(service.id)[service.ids[0]] == "UNHEALTHY"
    explained = server.run("explain", service.name).stdout
    assert "not served: maintenance: disk swap; maintenance ordered by a client at 127.0.0.1 on 20" in explained

    service.maintain("on", 1)
    assert service.answered() == set(), "fail-open answers no instance in maintenance"
    server.kill9()
    server.start()
    assert service.answered() == set()
    assert service.maintain("off", 0).stdout == f"{service.ids[0]} of {service.name} ({service.id}) is not in maintenance\n"
    assert service.answered() == {0}
    service.maintain("off", 0)
    service.maintain("off", 1)
    assert service.answered() == {0, 1}


def test_reports_and_registrations_do_not_lift_it(shared):
    service = Service(shared, custom_health=True)
    service.maintain("on", 0)
    service.cloudmap.set_health(service.id, service.ids[0], "HEALTHY")
    assert service.answered() == {1}
    service.cloudmap.instance(service.id, service.ids[0], ipv4="10.0.0.7", status="HEALTHY")
    assert service.answered() == {1}
    service.cloudmap.set_health(service.id, service.ids[0], "UNHEALTHY")
    service.maintain("off", 0)
    assert service.answered() == {1}, "the report was kept"
    service.cloudmap.set_health(service.id, service.ids[0], "HEALTHY")
    assert service.answered() == {1, 7}
    service.maintain("on", 0)
    service.cloudmap.deregister(service.id, service.ids[0])
    service.cloudmap.instance(service.id, service.ids[0], ipv4="10.0.0.8")
    assert service.answered() == {1, 8}, "a new registration starts anew"


def test_a_service_is_named_where_several_have_such_an_instance(shared):
    service = Service(shared)
    other = service.cloudmap.service(service.namespace, "api", A=60)
    service.cloudmap.instance(other, service.ids[0], ipv4="10.0.0.9")
    failed = service.maintain("on", 0, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"error: 2 services have an instance {service.ids[0]}: ")
    assert f"api.{service.zone}" in failed.stderr and service.name in failed.stderr
    for number, named in enumerate((f"api.{service.zone}", other, f"API.{service.zone}".replace("API", "Api"))):
        service.maintain("on", 0, "--service", named)
        assert service.answered() == {0, 1}
        assert "is not in maintenance" in service.maintain("off", 0, "--service", named).stdout, number
    assert service.maintain("on", 0, "--service", service.id).returncode == 0
    assert service.answered() == {1}


def test_mistakes_are_named(shared):
    service = Service(shared)
    for arguments, expected in (
            ((service.ids[0], "--service", "nowhere"), "error: there is no service nowhere\n"),
            (("nobody", "--service", service.id), f"error: there is no instance nobody of the service {service.id}\n"),
            (("nobody",), "error: there is no instance nobody\n"),
            ((service.ids[0], "--reason", "x" * 201), "error: the reason must have at most 200 bytes"),
            ((service.ids[0], "--reason", "a\tb"), "error: the reason must have at most 200 bytes")):
        failed = shared.run("maintenance", "on", *arguments, check=False)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.startswith(expected), failed.stderr
    failed = shared.run("maintenance", "maybe", "x", check=False)
    assert failed.returncode == 2
    host, port = shared.addresses["api"]
    failed = shared.run("maintenance", "on", "x", "--api", f"{host}:0", check=False)
    assert "error: the api port is 0" in failed.stderr

    order_for = {"instance": service.ids[0], "maintenance": True}
    assert order(shared, order_for)[0] == 200
    assert order(shared, order_for | {"maintenance": False})[0] == 200
    for wrong in ("", "[]", "{", {"instance": "x"}, order_for | {"reson": "x"}, order_for | {"maintenance": "on"}):
        status, answer = order(shared, wrong)
        assert status == 400 and answer["message"].startswith("the body is not a maintenance order: "), wrong
    assert order(shared, " " * (8 << 20))[0] == 413
    assert service.answered() == {0, 1}


def test_an_export_has_maintenance_and_reports(start):
    service = Service(start(), custom_health=True)
    service.maintain("on", 0, "--reason", "moving")
    service.cloudmap.set_health(service.id, service.ids[1], "UNHEALTHY")
    service.server.stop()
    exported = service.server.run("export").stdout
    other = start(wait=False)
    done = subprocess.run([binary(), "import"], input=exported, capture_output=True, text=True, timeout=60,
                          env=plain_environment(other.directory) | {"CLOUDMAP_DNS_DATA_DIR": str(other.data)})
    assert done.returncode == 0, done.stderr
    other.start()
    assert other.resolver.addresses(service.name) == set()
    explained = other.run("explain", service.name).stdout
    assert "not served: maintenance: moving; maintenance ordered by a client at 127.0.0.1 on 20" in explained
    assert "UNHEALTHY reported by " in explained


@pytest.mark.parametrize("custom_health", [True, False])
def test_health_is_that_of_maintenance_in_filters(shared, custom_health):
    service = Service(shared, custom_health=custom_health)
    service.maintain("on", 0)
    assert not custom_health or code_of(service.cloudmap.GetInstancesHealthStatus, ServiceId=service.id, Instances=["nobody"]) == "InstanceNotFound"
    assert set(service.cloudmap.discovered(service.zone, "web", HealthStatus="ALL")) == set(service.ids)
    assert set(service.cloudmap.discovered(service.zone, "web", HealthStatus="HEALTHY")) == {service.ids[1]}
