"""Changes of health and their causes: `cloudmap-dns history`, explain and the metric."""

import re

import pytest

from harness.cloudmap import unique

TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


@pytest.fixture
def service(start):
    server = start()
    cloudmap = server.cloudmap()
    server.zone = f"{unique('past')}.local"
    server.namespace = cloudmap.private_namespace(server.zone)
    server.service = cloudmap.service(server.namespace, "web", A=60, custom_health=True)
    return server


def history(server, name=None):
    """The lines of the history without their times."""
    lines = server.run("history", name or f"web.{server.zone}").stdout.splitlines()[2:]
    return [re.sub(f"^{TIME}  ", "", line) for line in lines]


def transitions(server, cause):
    return server.metric("health_transitions_total", cause=cause)


def test_each_change_of_health_has_a_cause(service):
    cloudmap = service.cloudmap()
    assert history(service) == ["no change of health since this server was started"]
    cloudmap.instance(service.service, "web-1", ipv4="10.0.0.1", status="UNHEALTHY")
    cloudmap.set_health(service.service, "web-1", "HEALTHY")
    cloudmap.set_health(service.service, "web-1", "HEALTHY")
    service.run("maintenance", "on", "web-1", "--reason", "disk swap")
    service.run("maintenance", "off", "web-1")
    cloudmap.deregister(service.service, "web-1")
    expected = [
        "web-1  - -> UNHEALTHY  registered: custom health status UNHEALTHY at its registration",
        "web-1  UNHEALTHY -> HEALTHY  reported HEALTHY by AKIDEXAMPLE at 127.0.0.1",
        "web-1  HEALTHY -> UNHEALTHY  maintenance: disk swap",
        "web-1  UNHEALTHY -> HEALTHY  maintenance lifted: reported HEALTHY by AKIDEXAMPLE at 127.0.0.1",
        "web-1  HEALTHY -> -  deregistered",
    ]
    client = re.compile(r"by .+ at 127\.0\.0\.1")
    assert [client.sub("by AKIDEXAMPLE at 127.0.0.1", line) for line in history(service)] == expected
    assert history(service, f"web-1.web.{service.zone}") == history(service)
    explained = service.run("explain", f"web.{service.zone}").stdout
    assert re.search(f"\nhistory\n  {TIME}  web-1  - -> UNHEALTHY  registered", explained)
    counts = {cause: transitions(service, cause) for cause in ("registration", "report", "maintenance", "removal", "readiness")}
    assert counts == {"registration": 1, "report": 1, "maintenance": 2, "removal": 1, "readiness": 0}


def test_a_policy_that_changes_statuses_is_a_cause(service):
    cloudmap = service.cloudmap()
    plain = cloudmap.service(service.namespace, "plain", A=60)
    cloudmap.instance(plain, "i-1", ipv4="10.0.0.1")
    assert history(service, f"plain.{service.zone}") == ["i-1  - -> UNKNOWN  registered"]
    cloudmap.set_attribute(plain, "unknown", "serve")
    assert len(history(service, f"plain.{service.zone}")) == 1, "no status has changed"


def test_the_last_hundred_of_a_service_are_kept(service):
    cloudmap = service.cloudmap()
    cloudmap.instance(service.service, "web-1", ipv4="10.0.0.1")
    for number in range(102):
        cloudmap.set_health(service.service, "web-1", "UNHEALTHY" if number % 2 == 0 else "HEALTHY")
    lines = history(service)
    assert lines[-1] == "the last 100; earlier ones are not kept"
    assert len(lines) == 102 and not any("registered" in line for line in lines)


def test_services_outside_of_dns_have_a_history_too(service):
    cloudmap = service.cloudmap()
    http = unique("http")
    id = cloudmap.service(cloudmap.http_namespace(http), "web")
    cloudmap.instance(id, "i-1", ipv4="10.0.0.1")
    assert history(service, f"web.{http}") == ["i-1  - -> UNKNOWN  registered"]


def test_mistakes_are_named(service):
    failed = service.run("history", f"nothing.{service.zone}", check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"neither a service nor an instance of one is named nothing.{service.zone}.")
    failed = service.run("history", "a..b", check=False)
    assert failed.returncode == 1 and "can't be a domain name" in failed.stderr
