"""Reports of health: thresholds, heartbeats and the webhook, with times that are as short as the settings allow."""

import json
import time
import urllib.error
import urllib.request

import pytest

from harness.cloudmap import code_of, unique
from harness.deadline import eventually


class Service:
    """A service with custom health and two instances."""

    def __init__(self, server, custom_health=True, **policies):
        self.server = server
        self.zone = f"{unique('news')}.local"
        self.namespace = self.cloudmap.private_namespace(self.zone)
        self.id = self.cloudmap.service(self.namespace, "web", A=60, custom_health=custom_health)
        self.name = f"web.{self.zone}"
        for policy, value in policies.items():
            self.cloudmap.set_attribute(self.id, policy.replace("_", "-"), value)
        self.ids = [unique("i"), unique("i")]
        self.addresses = [f"10.{abs(hash(instance)) % 250}.7.{number}" for number, instance in enumerate(self.ids)]
        for instance, address in zip(self.ids, self.addresses):
            self.cloudmap.instance(self.id, instance, ipv4=address, port=8080)

    @property
    def cloudmap(self):
        """A client, which is a new one after a restart."""
        return self.server.cloudmap()

    def report(self, number, status):
        self.cloudmap.set_health(self.id, self.ids[number], status)

    def status(self, number):
        return self.cloudmap.health(self.id)[self.ids[number]]

    def has(self, number, status):
        """Waits for the status of an instance."""
        def check():
            assert self.status(number) == status
            return True
        eventually(check)

    def answered(self):
        return {self.addresses.index(address) for address in self.server.resolver.addresses(self.name)}

    def history(self):
        return self.server.run("history", self.name).stdout


def post(server, body, **headers):
    """The status and the answer of a request to the webhook."""
    host, port = server.addresses["api"]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{host}:{port}/health", data=data, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def hooked(start_shared):
    return start_shared("--webhook", "on")


# -- thresholds -------------------------------------------------------------------------------------------------------

def test_a_status_counts_after_so_many_reports_in_a_row(shared):
    service = Service(shared, down_after="3", up_after="2")
    for _ in range(2):
        service.report(0, "UNHEALTHY")
        assert service.status(0) == "HEALTHY"
    service.report(0, "HEALTHY")
    for _ in range(2):
        service.report(0, "UNHEALTHY")
        assert service.status(0) == "HEALTHY", "the report of HEALTHY began the count again"
    service.report(0, "UNHEALTHY")
    assert service.status(0) == "UNHEALTHY" and service.answered() == {1}
    service.report(0, "HEALTHY")
    assert service.status(0) == "UNHEALTHY"
    service.report(0, "HEALTHY")
    assert service.status(0) == "HEALTHY" and service.answered() == {0, 1}


@pytest.mark.parametrize("policy", ["down-after", "custom-health-delay"])
def test_a_status_counts_after_a_time_even_over_a_restart(start, policy):
    by_setting = Service(start(f"--{policy}", "4s"))
    by_attribute = Service(start(), **{policy.replace("-", "_"): "5s"})
    for service in (by_setting, by_attribute):
        service.report(0, "UNHEALTHY")
        assert service.status(0) == "HEALTHY" and service.answered() == {0, 1}
        service.report(1, "UNHEALTHY")
        service.report(1, "HEALTHY")
    by_attribute.server.kill9()
    by_attribute.server.start()
    for service in (by_setting, by_attribute):
        service.has(0, "UNHEALTHY")
        assert service.answered() == {1}, "the opposite report cancelled the other one"
        assert "HEALTHY -> UNHEALTHY  reported UNHEALTHY by " in service.history()


def test_a_threshold_that_is_lowered_acts_at_once(shared):
    service = Service(shared, down_after="1h")
    service.report(0, "UNHEALTHY")
    assert service.status(0) == "HEALTHY"
    service.cloudmap.DeleteServiceAttributes(ServiceId=service.id, Attributes=["down-after"])
    service.has(0, "UNHEALTHY")


# -- heartbeats -------------------------------------------------------------------------------------------------------

def test_an_instance_without_heartbeat_is_unhealthy_and_then_deregistered(start):
    service = Service(start(), heartbeat="4s", expire="16s")
    assert service.status(0) == "UNKNOWN", "its first report is to come"
    service.report(0, "HEALTHY")
    assert service.status(0) == "HEALTHY"
    service.has(0, "UNHEALTHY")
    service.has(1, "UNHEALTHY")
    assert "heartbeat missed: no report for 4s" in service.history()
    explained = service.server.run("explain", service.name).stdout
    assert "not served: heartbeat missed: no report for 4s" in explained
    service.report(0, "HEALTHY")
    assert service.status(0) == "HEALTHY", "a report ends it"

    def expired():
        listed = set(service.cloudmap.health(service.id))
        assert service.ids[1] not in listed
        return True
    eventually(expired, 60.0)
    operations = service.cloudmap.ListOperations(Filters=[{"Name": "TYPE", "Values": ["DEREGISTER_INSTANCE"]}])["Operations"]
    assert operations


def test_heartbeats_keep_an_instance(start):
    service = Service(start(), heartbeat="8s")
    service.report(0, "HEALTHY")
    seen = []

    def the_silent_one_is_unhealthy():
        service.report(0, "HEALTHY")
        seen.append(service.status(0))
        return service.status(1) == "UNHEALTHY"
    eventually(the_silent_one_is_unhealthy, 60.0, poll_seconds=0.3)
    assert set(seen) == {"HEALTHY"}
    service.cloudmap.DeleteServiceAttributes(ServiceId=service.id, Attributes=["heartbeat"])
    service.has(1, "HEALTHY")


def test_no_heartbeat_is_missed_in_the_grace_period(start):
    before = time.time()
    service = Service(start(), grace="6s", heartbeat="1s")
    service.has(0, "UNHEALTHY")
    assert time.time() - before >= 6
    assert "UNKNOWN -> UNHEALTHY  heartbeat missed" in service.history()
    # A registration begins it anew.
    service.cloudmap.instance(service.id, service.ids[0], ipv4=service.addresses[0], port=9090)
    assert service.status(0) == "UNKNOWN"


def test_without_a_custom_health_check_there_is_no_heartbeat(start):
    service = Service(start("--heartbeat", "1s", "--expire", "1s"), custom_health=False)
    other = Service(service.server, custom_health=True)
    eventually(lambda: not other.cloudmap.health(other.id))
    assert service.answered() == {0, 1}


@pytest.mark.parametrize("policy, value", [
    ("grace", "2h"), ("grace", "5"), ("up-after", "0"), ("up-after", "11"), ("down-after", "61m"), ("heartbeat", "25h"),
    ("expire", "-1s"), ("custom-health-delay", "soon"), ("settling-ttl", "1m1s"), ("health-of", "task")])
def test_wrong_values_are_refused_with_the_right_ones(shared, policy, value):
    service = Service(shared)
    assert code_of(service.cloudmap.set_attribute, service.id, policy, value) == "InvalidInput"
    checked = shared.run("check", f"--{policy}={value}", check=False)
    assert checked.returncode == 1 and f"`{value}` is " in checked.stderr


# -- the webhook ------------------------------------------------------------------------------------------------------

def test_the_webhook_is_off_by_default(shared):
    assert post(shared, {"instance": "x", "status": "HEALTHY"})[0] == 404


@pytest.mark.parametrize("custom_health", [True, False])
def test_a_report_by_id_or_address_is_applied_and_withdrawn(hooked, custom_health):
    service = Service(hooked, custom_health=custom_health)
    item = {"service": service.name, "instance": service.ids[0], "status": "UNHEALTHY", "reason": "disk full"}
    status, answer = post(hooked, item)
    assert (status, answer) == (200, {"results": [
        {"result": "applied", "instances": [{"service": service.id, "instance": service.ids[0]}]}]})
    assert service.answered() == {1}
    assert "not served: reported UNHEALTHY by webhook: disk full" in hooked.run("explain", service.name).stdout
    assert "-> UNHEALTHY  reported UNHEALTHY by webhook: disk full" in service.history()
    post(hooked, [{"address": service.addresses[1], "status": "UNHEALTHY"}, {"instance": service.ids[0], "status": "UNKNOWN"}])
    assert service.answered() == {0}
    post(hooked, {"address": f"{service.addresses[1]}:8080", "status": "HEALTHY"})
    assert service.answered() == {0, 1}
    status, answer = post(hooked, {"address": f"{service.addresses[1]}:81", "status": "UNHEALTHY"})
    assert (status, answer["results"][0]["result"]) == (200, "failed")
    assert service.answered() == {0, 1}


def test_each_source_has_its_own_report(hooked):
    service = Service(hooked)

    def send(source, status):
        assert post(hooked, {"instance": service.ids[0], "source": source, "status": status})[0] == 200
    send("nagios", "UNHEALTHY")
    send("icinga", "HEALTHY")
    service.report(0, "HEALTHY")
    assert service.status(0) == "UNHEALTHY"
    hooked.kill9()
    hooked.start()
    assert service.status(0) == "UNHEALTHY"
    send("nagios", "UNKNOWN")
    assert service.status(0) == "HEALTHY"
    for number in range(15):
        send(f"source-{number}", "HEALTHY")
    status, answer = post(hooked, {"instance": service.ids[0], "source": "one more", "status": "UNHEALTHY"})
    assert status == 200 and "16 sources" in answer["results"][0]["message"]


def test_a_report_ends_with_its_time(hooked):
    service = Service(hooked)
    post(hooked, {"instance": service.ids[0], "status": "UNHEALTHY", "valid-for": "4s"})
    assert service.status(0) == "UNHEALTHY"
    service.has(0, "HEALTHY")
    assert "withdrawn" in service.history()


def test_alerts_of_alertmanager_are_reports(hooked):
    service = Service(hooked)

    def alert(name, state, **labels):
        return {"status": state, "labels": {"alertname": name, **labels}, "annotations": {"summary": f"{name} is bad"},
                "startsAt": "2026-11-30T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": name}

    def notify(*alerts):
        body = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": alerts[0]["status"], "receiver": "cloudmap",
                "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": list(alerts)}
        status, answer = post(hooked, body)
        assert status == 200
        return [result["result"] for result in answer["results"]]

    by_address = {"instance": f"{service.addresses[0]}:9100"}
    by_id = {"cloudmap_service": service.id, "cloudmap_instance": service.ids[1], "instance": "node-7"}
    assert notify(alert("disk", "firing", **by_address), alert("load", "firing", **by_address),
                  alert("load", "firing", **by_id), alert("load", "firing"), alert("x", "firing", instance="node-7")) == [
        "applied", "applied", "applied", "failed", "failed"]
    assert service.answered() == set()
    assert "by alertmanager disk disk: disk is bad" in service.history()
    assert notify(alert("disk", "resolved", **by_address), alert("load", "resolved", **by_id)) == ["applied", "applied"]
    assert service.answered() == {1}, "one alert is still firing"
    notify(alert("load", "resolved", **by_address))
    assert service.answered() == {0, 1}


def test_wrong_items_do_not_affect_the_others(hooked):
    service = Service(hooked)
    right = {"instance": service.ids[0], "status": "UNHEALTHY"}
    wrong = [
        {}, {"instance": service.ids[0]}, right | {"status": "SICK"}, right | {"address": "10.0.0.1"}, {"status": "HEALTHY"},
        right | {"instance": "nobody"}, right | {"service": "nowhere"}, {"address": "node-7", "status": "HEALTHY"},
        right | {"reason": "x" * 201}, right | {"source": ""}, right | {"valid-for": "0s"}, right | {"valid-for": "25h"},
        right | {"validfor": "1m"}, 7, None, "x"]
    status, answer = post(hooked, [*wrong, right])
    results = [result["result"] for result in answer["results"]]
    assert (status, results) == (200, ["failed"] * len(wrong) + ["applied"])
    assert all(result["message"] for result in answer["results"][:-1])
    assert service.answered() == {1}
    for body in (b"", b"{", b"[1"):
        assert post(hooked, body)[0] == 400
    assert post(hooked, right | {"status": "HEALTHY"}, Origin="http://example.com")[0] == 403
    assert service.answered() == {1}
    assert post(hooked, [right] * 1001)[0] == 400
    assert post(hooked, b" " * (1 << 20) + b"{}")[0] == 413
    assert post(hooked, [right] * 1000)[0] == 200
