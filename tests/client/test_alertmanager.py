"""Reports of a real Alertmanager, with the configuration of docs/health.md."""

import re

import pytest

from harness.alertmanager import Alertmanager, alert
from harness.cloudmap import unique
from harness.deadline import PATIENCE_SECONDS, eventually
from harness.kubernetes import defined_cluster
from harness.program import free_port
from test_health_reports import Service, post

# Limit of the time until the server has reconnected to a restarted API server and Alertmanager has repeated the notification.
RETURN_SECONDS = 45.0


@pytest.fixture(scope="module")
def server(start_shared):
    return start_shared("--webhook", "on")


@pytest.fixture(scope="module")
def start_alertmanager(tmp_path_factory):
    """Starts Alertmanagers, each of which notifies one server and runs until the end of the module."""
    made = []

    def start_one(server):
        made.append(Alertmanager(tmp_path_factory.mktemp("alertmanager") / "files", server.endpoint))
        return made[-1].start()
    yield start_one
    for alertmanager in made:
        alertmanager.kill()


@pytest.fixture(scope="module")
def alertmanager(start_alertmanager, server):
    return start_alertmanager(server)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def answers(service, *numbers, seconds=PATIENCE_SECONDS):
    """Waits until DNS answers with exactly these instances."""
    def check():
        assert service.answered() == set(numbers)
        return True
    eventually(check, seconds)


def about(service, number, name=None):
    """An alert about an instance, by its id and the service's full name."""
    return alert(name or unique("Disk"), cloudmap_service=service.name, cloudmap_instance=service.ids[number])


def explained(service, number):
    return service.server.explained(service.name, service.ids[number])


def test_a_firing_alert_takes_its_instance_out_until_it_is_resolved(server, alertmanager):
    service = Service(server)
    disk = about(service, 0, name="Disk full")
    alertmanager.send(firing=[disk])
    answers(service, 1)
    report = r"reported UNHEALTHY by alertmanager [0-9a-f]{16} Disk full: Disk full is bad"
    assert re.search(f"not served: {report};", explained(service, 0))
    assert re.search(f"{service.ids[0]}  HEALTHY -> UNHEALTHY  {report}\n", service.history())
    assert service.status(0) == "UNHEALTHY"
    alertmanager.send(resolved=[disk])
    answers(service, 0, 1)
    assert re.search(r"UNHEALTHY -> HEALTHY  report of alertmanager [0-9a-f]{16} Disk full withdrawn: ", service.history())


def test_an_alert_about_an_address_is_about_all_instances_with_it(server, alertmanager):
    service, other = Service(server), Service(server, custom_health=False)
    server.cloudmap().instance(other.id, other.ids[0], ipv4=service.addresses[0], port=9090)
    other.addresses[0] = service.addresses[0]
    answers(other, 0, 1)
    load = alert(unique("Load"), instance=f"{service.addresses[0]}:9100", job="node")
    alertmanager.send(firing=[load])
    answers(service, 1)
    answers(other, 1)
    alertmanager.send(resolved=[load])
    answers(service, 0, 1)
    answers(other, 0, 1)


def test_an_instance_returns_when_its_last_alert_is_resolved(server, alertmanager):
    service = Service(server)
    disk = about(service, 0)
    load = alert(unique("Load"), instance=f"{service.addresses[0]}:9100")
    names = [one["labels"]["alertname"] for one in (disk, load)]
    alertmanager.send(firing=[disk, load])
    eventually(lambda: all(name in explained(service, 0) for name in names))
    alertmanager.send(resolved=[disk])
    eventually(lambda: names[0] not in explained(service, 0))
    assert service.answered() == {1}
    alertmanager.send(resolved=[load])
    answers(service, 0, 1)


def test_one_notification_has_several_alerts(server, alertmanager):
    service = Service(server)
    name, sent, failed = unique("Down"), alertmanager.requests(), alertmanager.failed_requests()
    # No instance has this address. The alert is in all notifications about its name, which Alertmanager need not repeat.
    alertmanager.send(firing=[alert(name, instance="192.0.2.1:9100")])
    eventually(lambda: alertmanager.requests() > sent)
    first, second = (about(service, number, name) for number in (0, 1))
    alertmanager.send(firing=[first, second])
    answers(service)
    alertmanager.send(resolved=[first])
    answers(service, 0)
    alertmanager.send(firing=[first], resolved=[second])
    answers(service, 1)
    assert alertmanager.failed_requests() == failed


def test_an_alert_that_ends_while_it_is_silenced_is_withdrawn_by_hand(server, alertmanager):
    service = Service(server)
    name = unique("Disk")
    silenced, other = (about(service, number, name) for number in (0, 1))
    alertmanager.send(firing=[silenced])
    answers(service, 1)
    silence = alertmanager.silence(silenced)
    # Alertmanager has processed the end of the silenced alert when it notifies about the other one.
    alertmanager.send(firing=[other], resolved=[silenced])
    answers(service)
    alertmanager.end_silence(silence)
    alertmanager.send(resolved=[other])
    answers(service, 1)
    [source] = re.findall(r"; UNHEALTHY reported by (alertmanager .*?) on ", explained(service, 0))
    status, answer = post(server, {"instance": service.ids[0], "source": source, "status": "UNKNOWN"})
    assert (status, answer["results"][0]["result"]) == (200, "applied")
    assert service.answered() == {0, 1}


def test_other_labels_name_the_instance(start, start_alertmanager):
    server = start("--webhook", "on", "--webhook-instance-label", "task", "--webhook-service-label", "service",
                   "--webhook-address-label", "host_ip")
    service, alertmanager = Service(server), start_alertmanager(server)
    by_id = about(service, 1)
    by_id["labels"] |= {"service": service.id, "task": service.ids[0], "instance": f"{service.addresses[1]}:9100"}
    by_address = alert(unique("Load"), host_ip=service.addresses[1])
    alertmanager.send(firing=[by_id])
    answers(service, 1)
    alertmanager.send(firing=[by_address])
    answers(service)
    alertmanager.send(resolved=[by_id, by_address])
    answers(service, 0, 1)


def test_alertmanager_repeats_notifications_while_the_server_is_down(start, start_alertmanager):
    server = start("--webhook", "on", "--api", f"127.0.0.1:{free_port()}")
    service, alertmanager = Service(server), start_alertmanager(server)
    name = unique("Down")
    first, second = (about(service, number, name) for number in (0, 1))
    alertmanager.send(firing=[first])
    answers(service, 1)
    server.kill9()
    alertmanager.send(firing=[second], resolved=[first])
    eventually(lambda: alertmanager.failed_requests() > 0)
    server.start()
    answers(service, 0)


def test_alertmanager_repeats_what_could_not_be_stored(cluster, replica, start_alertmanager):
    server = replica("--webhook", "on")
    service, alertmanager = Service(server), start_alertmanager(server)
    cluster.kill_api_server()
    try:
        alertmanager.send(firing=[about(service, 0)])
        eventually(lambda: "unexpected status code 503" in alertmanager.log_tail())
    finally:
        cluster.start_api_server()
    answers(service, 1, seconds=RETURN_SECONDS)
