"""Active health checks of instances whose service has a HealthCheckConfig, against listeners of the tests."""

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
import urllib.request

import pytest

from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kubernetes import defined_cluster

ALLOWED = ("--checks-allow", "127.0.0.0/8", "--checks-allow", "::1", "--checks-interval", "1")
# A server that takes over waits for the Lease of the one that was lost.
TAKEOVER_SECONDS = 60.0


class Listener:
    """A listener whose behaviour the test sets: a status of HTTP, or None for an answer that never comes."""

    def __init__(self, address="127.0.0.1", status=200, context=None):
        self.status, self.requests, self.context, self.connections = status, [], context, 0
        self._address, self.port = address, 0
        self.open()

    def open(self):
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status = listener.status
                listener.requests.append((self.path, self.headers["Host"], self.headers["User-Agent"], status))
                if status is None:
                    listener.silent.wait(20)
                    return
                self.send_response(status)
                self.send_header("Location", "http://192.0.2.1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in listener._address else socket.AF_INET

            def get_request(self):
                connection, client = super().get_request()
                listener.connections += 1
                if listener.context:
                    connection = listener.context.wrap_socket(connection, server_side=True)
                return connection, client

            def handle_error(self, *_):
                pass

        self.silent = threading.Event()
        self._server = Server((self._address, self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def until_connections(self, count):
        eventually(lambda: self.connections >= count)

    def close(self):
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listen():
    """Starts listeners that end with the test."""
    made = []

    def start(*arguments, **more):
        made.append(Listener(*arguments, **more))
        return made[-1]
    yield start
    for listener in made:
        listener.close()


@pytest.fixture(scope="module")
def checking(start_shared):
    return start_shared("--store", "memory", *ALLOWED)


class Service:
    """A service of a public namespace with a HealthCheckConfig."""

    made = []

    def __init__(self, server, kind="TCP", threshold=1, path=None, private=False):
        self.server = server
        self.made.append(self)
        self.zone = f"{unique('checks')}.test"
        cloudmap = server.cloudmap()
        self.config = {"Type": kind, "FailureThreshold": threshold} | ({"ResourcePath": path} if path else {})
        namespace = cloudmap.private_namespace(self.zone) if private else cloudmap.public_namespace(self.zone)
        self.id = cloudmap.service(namespace, "web", A=60, AAAA=60, HealthCheckConfig=self.config)
        self.name = f"web.{self.zone}"

    def add(self, listener, address="127.0.0.1", **more):
        family = "ipv6" if ":" in address else "ipv4"
        return self.server.cloudmap().instance(self.id, unique("i"), port=listener.port, **{family: address}, **more)

    def end(self):
        cloudmap = self.server.cloudmap()
        for instance in cloudmap.health(self.id):
            cloudmap.deregister(self.id, instance)

    def status(self, instance, server=None):
        return (server or self.server).cloudmap().health(self.id).get(instance)

    def has(self, instance, status, seconds=30.0, server=None):
        def check():
            assert self.status(instance, server) == status
            return True
        eventually(check, seconds)

    def line(self, instance):
        return self.server.explained(self.name, instance)

    def history(self):
        return self.server.run("history", self.name).stdout


@pytest.fixture(autouse=True)
def services(request):
    """Removes the instances of the shared server, because a listener of a later test may get the port of one of them."""
    yield
    if "checking" in request.fixturenames:
        for service in Service.made:
            service.end()
    Service.made.clear()


def checks(server, result):
    return server.metric("health_checks_total", result=result)


# -- kinds of checks --------------------------------------------------------------------------------------------------

def test_an_instance_follows_its_tcp_port_and_dns_follows_the_instance(checking, listen):
    service, listener, other = Service(checking), listen(), listen("127.0.0.2")
    sick, well = service.add(listener), service.add(other, "127.0.0.2")
    service.has(sick, "HEALTHY")
    service.has(well, "HEALTHY")
    assert "UNKNOWN -> HEALTHY  check passed: 1 of 1" in service.history()
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.1", "127.0.0.2"}
    listener.close()
    service.has(sick, "UNHEALTHY")
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.2"}
    assert service.status(well) == "HEALTHY"
    # Where the first check met the listener while it closed, "connection reset".
    failed = re.search(r"check failed: connection (refused|reset), 1 of 1", service.line(sick))
    assert failed
    listener.open()
    service.has(sick, "HEALTHY")
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.1", "127.0.0.2"}
    history = service.history()
    assert f"HEALTHY -> UNHEALTHY  {failed[0]}" in history
    assert "UNHEALTHY -> HEALTHY  check passed: 1 of 1" in history
    assert checking.metric("health_transitions_total", cause="check") >= 2
    assert checking.metric("health_check_seconds_total", result="passed") > 0


def test_a_status_changes_after_so_many_results_in_a_row(checking, listen):
    service, listener = Service(checking, "HTTP", threshold=3, path="/ready"), listen(status=503)
    instance = service.add(listener)
    service.has(instance, "UNHEALTHY")
    assert "check failed: status 503, 3 of 3" in service.line(instance)
    assert len(listener.requests) >= 3
    listener.status = 200
    service.has(instance, "HEALTHY")
    assert len([request for request in listener.requests if request[3] == 200]) >= 3
    assert "check passed: 3 of 3" in service.history()


def test_an_instance_is_unknown_until_its_first_check(checking, listen):
    service, silent, well = Service(checking, "HTTP", threshold=10), listen(status=None), listen("127.0.0.2")
    instance = service.add(silent)
    silent.until_connections(2)
    # One that failed fewer times than the threshold is as unknown as one that was not checked yet.
    assert service.status(instance) == "UNKNOWN"
    assert "no result of its health check counts yet" in service.line(instance)
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.1"}, "no other instance is HEALTHY"
    other = service.add(well, "127.0.0.2")
    service.has(other, "HEALTHY")
    assert len(well.requests) < 10, "the first one that passed is enough"
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.2"}
    assert service.status(instance) == "UNKNOWN"


def test_a_policy_demands_more_results_than_the_threshold(checking, listen):
    service, listener = Service(checking, "HTTP"), listen()
    checking.cloudmap().UpdateServiceAttributes(ServiceId=service.id, Attributes={"up-after": "2", "down-after": "2s"})
    instance = service.add(listener)
    service.has(instance, "HEALTHY")
    assert "check passed: 2 of 2" in service.history() and len(listener.requests) >= 2
    listener.status = 500
    service.has(instance, "UNHEALTHY")
    assert len([request for request in listener.requests if request[3] == 500]) >= 3, "two seconds have passed"


def test_a_check_that_fails_makes_nothing_unhealthy_in_the_grace_period(checking, listen):
    service, listener = Service(checking, "HTTP"), listen(status=500)
    checking.cloudmap().set_attribute(service.id, "grace", "1h")
    instance = service.add(listener)
    eventually(lambda: len(listener.requests) >= 3)
    assert service.status(instance) == "UNKNOWN"
    listener.status = 200
    service.has(instance, "HEALTHY")
    listener.status = 500
    service.has(instance, "UNKNOWN")
    assert "HEALTHY -> UNKNOWN" in service.history() and "UNHEALTHY" not in service.history()
    checking.cloudmap().DeleteServiceAttributes(ServiceId=service.id, Attributes=["grace"])
    service.has(instance, "UNHEALTHY")


@pytest.mark.parametrize("status, expected", [(200, "HEALTHY"), (204, "HEALTHY"), (302, "HEALTHY"), (399, "HEALTHY"),
                                              (400, "UNHEALTHY"), (500, "UNHEALTHY")])
def test_2xx_and_3xx_are_healthy_and_redirects_are_not_followed(checking, listen, status, expected):
    service, listener = Service(checking, "HTTP", path="/ready?deep=1"), listen(status=status)
    instance = service.add(listener)
    eventually(lambda: len(listener.requests) >= 2)
    service.has(instance, expected)
    path, host, agent, _ = listener.requests[0]
    assert (path, host) == ("/ready?deep=1", service.name) and agent.startswith("cloudmap-dns/")


def test_a_listener_that_does_not_answer_or_speak_http_is_unhealthy(checking, listen):
    service, silent = Service(checking, "HTTP"), listen(status=None)
    instance = service.add(silent)
    service.has(instance, "UNHEALTHY")
    assert "check failed: no response within 2s, 1 of 1" in service.line(instance)
    tls = Service(checking, "HTTPS")
    plain = tls.add(listen())
    tls.has(plain, "UNHEALTHY")
    assert "check failed: no TLS" in tls.line(plain)


def test_https_takes_any_certificate(checking, listen, tmp_path):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=elsewhere", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    service, listener = Service(checking, "HTTPS", path="/ready"), listen(context=context)
    instance = service.add(listener)
    service.has(instance, "HEALTHY")
    listener.status = 503
    service.has(instance, "UNHEALTHY")
    assert "check failed: status 503" in service.line(instance)


def test_ipv6_is_checked(checking, listen):
    service, listener = Service(checking), listen("::1")
    instance = service.add(listener, "::1")
    service.has(instance, "HEALTHY")
    listener.close()
    service.has(instance, "UNHEALTHY")
    listener.open()
    service.has(instance, "HEALTHY")


def test_an_instance_that_moves_is_checked_at_its_new_address(checking, listen):
    service, old, new = Service(checking), listen(), listen("127.0.0.3")
    old.close()
    instance = service.add(old)
    service.has(instance, "UNHEALTHY")
    checking.cloudmap().instance(service.id, instance, ipv4="127.0.0.3", port=new.port)
    service.has(instance, "HEALTHY")
    old.open()


# -- which instances are checked --------------------------------------------------------------------------------------

@pytest.mark.parametrize("allowed", ["127.0.0.9", "0.0.0.0/0,127.0.0.9"])
def test_an_instance_outside_of_the_allowed_networks_is_not_checked(start, listen, allowed):
    server = start("--checks-allow", allowed, "--checks-interval", "1")
    service, refused, checked = Service(server, "HTTP"), listen(status=500), listen("127.0.0.9", status=500)
    outside, inside = service.add(refused), service.add(checked, "127.0.0.9")
    service.has(inside, "UNHEALTHY")
    eventually(lambda: len(checked.requests) >= 3)
    assert refused.requests == [] and service.status(outside) == "HEALTHY"
    assert server.metric("health_checked_instances") == 1


def test_nothing_is_checked_by_default(start, listen):
    server, listener = start("--checks-interval", "1"), listen(status=500)
    service = Service(server, "HTTP")
    instance = service.add(listener)
    # The second server shows that the time was long enough.
    other = Service(start(*ALLOWED), "HTTP")
    other.has(other.add(listen(status=500)), "UNHEALTHY")
    assert service.status(instance) == "HEALTHY" and listener.requests == []
    assert server.metric("health_checked_instances") == 0


def test_a_check_on_a_private_namespace_stays_reported_health(checking, listen):
    service, listener = Service(checking, "HTTP", private=True), listen(status=500)
    instance = service.add(listener)
    public = Service(checking, "HTTP")
    public.has(public.add(listen(status=500)), "UNHEALTHY")
    assert service.status(instance) == "HEALTHY" and listener.requests == []
    checking.cloudmap().set_health(service.id, instance, "UNHEALTHY")
    assert service.status(instance) == "UNHEALTHY"


def test_a_result_ends_with_the_configuration_of_the_check(checking, listen):
    service, listener = Service(checking, "HTTP"), listen(status=500)
    instance = service.add(listener)
    service.has(instance, "UNHEALTHY")
    records = [{"Type": "A", "TTL": 60}, {"Type": "AAAA", "TTL": 60}]
    checking.cloudmap().UpdateService(Id=service.id, Service={"DnsConfig": {"DnsRecords": records}})
    service.has(instance, "UNKNOWN")
    assert set(checking.resolver.addresses(service.name)) == {"127.0.0.1"}


def test_a_result_survives_a_restart_and_ends_when_checks_are_off(start, listen):
    server, listener = start("--checks-allow", "127.0.0.1", "--checks-interval", "1"), listen(status=500)
    service = Service(server, "HTTP")
    instance = service.add(listener)
    service.has(instance, "UNHEALTHY")
    server.kill9()
    listener.status = 200
    # So long an interval that no check changes the status.
    kept = service.server = start("--checks-allow", "127.0.0.1", "--checks-interval", "3600", directory=server.directory)
    assert service.status(instance) == "UNHEALTHY"
    kept.stop()
    service.server = start(directory=server.directory)
    service.has(instance, "HEALTHY")
    assert service.server.metric("health_checks_total", result="passed") == 0


def test_the_name_of_the_source_belongs_to_the_checks(start):
    server = start("--webhook", "on")
    service = Service(server)
    instance = server.cloudmap().instance(service.id, unique("i"), ipv4="10.0.0.1", port=80)
    host, port = server.addresses["api"]
    body = json.dumps({"instance": instance, "status": "UNHEALTHY", "source": "health check"}).encode()
    request = urllib.request.Request(f"http://{host}:{port}/health", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        [result] = json.load(answer)["results"]
    assert result["result"] == "failed" and "health check" in result["message"]
    assert service.status(instance) == "HEALTHY"


# -- several servers --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_one_of_several_servers_checks_and_another_takes_over(replica, listen):
    one, two = replica(*ALLOWED), replica(*ALLOWED)
    service, listener = Service(one, "HTTP", threshold=2), listen()
    instance = service.add(listener)
    eventually(lambda: len(listener.requests) >= 2)
    leader = eventually(lambda: next((server for server in (one, two) if checks(server, "passed")), None))
    other = two if leader is one else one
    assert checks(other, "passed") == 0 and other.metric("health_checked_instances") == 0
    listener.status = 500
    for server in (one, two):
        service.has(instance, "UNHEALTHY", server=server)
    leader.kill9()
    assert service.status(instance, other) == "UNHEALTHY", "the last status holds"
    listener.status = 200
    service.has(instance, "HEALTHY", TAKEOVER_SECONDS, server=other)
    assert checks(other, "passed") >= 2
