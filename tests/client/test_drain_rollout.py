"""Rolling updates during which clients connect to the addresses that CoreDNS has given them, for as long as the TTLs allow.

A pod that is being deleted leaves DNS at once, but CoreDNS and clients still have its address. Pods that wait in their preStop
hook until /drained confirms that nobody can have it are never missed; pods that stop at once are.
"""

import itertools
import json
import random
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException

import dns.rcode
import dns.rdatatype
import pytest
from dns.exception import DNSException

from harness import kecs
from harness.agreement import instance_id
from harness.background import Background
from harness.deadline import PATIENCE_SECONDS, eventually
from harness.kecs import BACKEND, GRACE_SECONDS
from harness.kubelet import Kubelet
from harness.program import free_port

ZONE, NAME = "demo.local", "backend-api"
HOST = f"{NAME}.{ZONE}"
TASKS = 3
ONE_MORE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
NEW_IMAGE = "registry.kecs.local:5000/backend:2"
# CoreDNS keeps answers for at least 5 seconds, and rounds the remaining time up: in the last second it returns a TTL of 1. So
# clients may hold an address for 6 seconds with the short TTL, and for 9 with the long one.
SHORT_TTL, LONG_TTL = 2, 8
CONNECTORS, CONNECT_SECONDS = 3, 0.02
RESOLVE_SECONDS = 0.05
# Duration of one poll of a preStop hook. A drained pod has several, so that both answers of /drained are seen.
WAIT_SECONDS = 2
RETRY_SECONDS = 0.2
# Failed connections to each address that the report of a failure has in full.
FAILURES_SHOWN = 3


# -- the account of a failure ---------------------------------------------------------------------------------------------

class Journal:
    """Times of the events in the life of each address, printed if a test fails."""

    def __init__(self):
        self._start = time.monotonic()
        self._events = []
        self._latest = {}

    def note(self, address, event):
        self._events.append((time.monotonic(), address, event))

    def note_latest(self, address, kind, details=""):
        """Replaces the event of this kind, because only the last one matters."""
        self._latest[address, kind] = time.monotonic(), details

    def account(self, connections):
        """The events by address and time, with the first connections that failed."""
        events = [*self._events]
        events += [(at, address, f"for the last time {kind}{details}")
                   for (address, kind), (at, details) in self._latest.copy().items()]
        failed = {}
        for connection in connections:
            if connection.error:
                failed.setdefault(connection.address, []).append(connection)
        for address, found in failed.items():
            events += [(each.ended, address, self._failure(each)) for each in found[:FAILURES_SHOWN]]
            events.append((found[-1].ended, address, f"last of {len(found)} connections that failed"))
        lines = []
        for address in sorted({address for _, address, _ in events}, key=socket.inet_aton):
            of_address = sorted((at, event) for at, where, event in events if where == address)
            lines += ["", address] + [f"  {self.clock(at)}  {event}" for at, event in of_address]
        return "\n".join(lines)

    def clock(self, at):
        return f"{at - self._start:7.3f} s"

    def _failure(self, connection):
        late = "" if connection.is_within_ttl() else ", and does not count because it ended after that"
        return (f"FAILED: {connection.error!r} {connection.ended - connection.began:.3f} s after it began; "
                f"the address was held until {self.clock(connection.held_until).strip()}{late}")


# -- pods -----------------------------------------------------------------------------------------------------------------

class Task:
    """The program of a pod: it sends its pod's name to everybody who connects."""

    def __init__(self, pod, address, port):
        self.name, self.instance, self.address = pod["metadata"]["name"], instance_id(pod), address
        self.deleted_at = None
        self._listener = socket.create_server((address, port), backlog=128)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        """Closes the port, so that connections are refused. The address remains, as on every loopback interface."""
        # A close alone leaves the port open while the thread accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.sendall(self.name.encode())


class TaskKubelet(Kubelet):
    """A kubelet that runs a Task for each pod, and the preStop hook `pre_stop(task, deadline)` of each deleted one.

    A pod becomes ready as soon as `wait_for_probe()` returns.
    """

    def __init__(self, cluster, port, journal):
        super().__init__(cluster)
        self.tasks = {}
        self.wait_for_probe = self.pre_stop = None
        self._port, self._journal = port, journal
        self._loopbacks = (f"127.42.0.{host}" for host in itertools.count(2))

    def run(self, pod, *ips, ready=True):
        uid = pod["metadata"]["uid"]
        if uid not in self.tasks:
            task = self.tasks[uid] = Task(pod, next(self._loopbacks), self._port)
            self._journal.note(task.address, f"{task.name} listens")
        task = self.tasks[uid]
        running = super().run(pod, task.address, ready=False)
        threading.Thread(target=self._probe, args=(running, task), daemon=True).start()
        return running

    def end(self, pod):
        task = self.tasks.get(pod["metadata"]["uid"])
        if task is None:
            super().end(pod)
        elif task.deleted_at is None:
            task.deleted_at = time.monotonic()
            threading.Thread(target=self._terminate, args=(pod, task), daemon=True).start()

    def close(self):
        for task in self.tasks.values():
            task.close()

    def of(self, pods):
        return [self.tasks[pod["metadata"]["uid"]] for pod in pods]

    def _probe(self, pod, task):
        if self.wait_for_probe:
            self.wait_for_probe()
        self._journal.note(task.address, "is ready")
        self.set_ready(pod, True)

    def _terminate(self, pod, task):
        grace_seconds = pod["metadata"]["deletionGracePeriodSeconds"]
        self._journal.note(task.address, f"has a deletionTimestamp, and {grace_seconds} s to stop")
        if self.pre_stop:
            self.pre_stop(task, task.deleted_at + grace_seconds)
        task.close()
        self._journal.note(task.address, "has closed its port")
        super().end(pod)


@dataclass
class DrainedReply:
    """A response of /drained."""

    instance: str
    status: int
    retry_after: str | None
    body: str


class Drain:
    """A preStop hook that polls /drained until it confirms that the pod may stop. Each poll goes to any of the servers."""

    def __init__(self, servers, journal):
        self._servers, self._journal = servers, journal
        self.replies = []

    def __call__(self, task, deadline):
        while time.monotonic() < deadline:
            number = random.randrange(len(self._servers))
            try:
                reply = self._poll(self._servers[number], task.instance)
            except (OSError, HTTPException) as error:
                self._journal.note(task.address, f"/drained of server {number + 1}: {error!r}")
                time.sleep(RETRY_SECONDS)
                continue
            self.replies.append(reply)
            self._journal.note(task.address, f"/drained of server {number + 1}: {reply.status} {reply.body.strip()}")
            if reply.status == 200:
                return
            if reply.status != 202:
                time.sleep(RETRY_SECONDS)
        self._journal.note(task.address, "is killed: its preStop hook has not ended within the grace period")

    def check(self, tasks):
        """Asserts that each of these pods was confirmed once, and had to wait for it."""
        for task in tasks:
            replies = [reply for reply in self.replies if reply.instance == task.instance]
            assert [reply.status for reply in replies].count(200) == 1 and replies[-1].status == 200, replies
            assert {202} <= {reply.status for reply in replies} <= {200, 202, 503}, replies
        for reply in self.replies:
            if reply.status == 200:
                assert json.loads(reply.body)["drained"] is True, reply
            if reply.status == 202:
                body = json.loads(reply.body)
                assert body["drained"] is False and body["seconds"] >= 0 and int(reply.retry_after) >= 1, reply

    def _poll(self, server, instance):
        connection = HTTPConnection(*server.api_address, timeout=WAIT_SECONDS + PATIENCE_SECONDS)
        try:
            connection.request("GET", f"/drained/{HOST}/{instance}?wait={WAIT_SECONDS}")
            response = connection.getresponse()
            return DrainedReply(instance, response.status, response.headers["Retry-After"], response.read().decode())
        finally:
            connection.close()


# -- clients --------------------------------------------------------------------------------------------------------------

@dataclass
class Attempt:
    """An attempt to connect to an address: its times, the name that was received, or the error."""

    address: str
    held_until: float
    began: float
    ended: float = 0.0
    name: str = ""
    error: OSError | None = None

    def is_within_ttl(self):
        """False if this thread was stopped meanwhile, so that the attempt may have been made after the end of the TTL."""
        return self.ended <= self.held_until


class CachingClients(Background):
    """Clients that hold the addresses of each answer of CoreDNS until its TTL ends, and connect to a random one of them.

    The name is resolved many times in a second, because an answer from the last moment of CoreDNS's cache is held the longest.
    """

    def __init__(self, coredns, servers, port, journal):
        self._coredns, self._servers, self._port, self._journal = coredns, servers, port, journal
        super().__init__([self._resolve, self._watch_servers] + [self._connect] * CONNECTORS)
        self._held = {}
        self._refreshes = 0
        self.connections, self.failures = [], []

    def held(self):
        """The addresses, and the times until which clients may use them."""
        now = time.monotonic()
        return {address: until for address, until in self._held.copy().items() if until > now}

    def wait_for_connections(self, tasks):
        """Waits until clients have connected to each of these tasks."""
        def is_connected():
            missing = {task.name for task in tasks} - {connection.name for connection in self.connections.copy()}
            assert not missing, f"no connection to {missing}\n{self.account()}"
            return True
        eventually(is_connected)

    def wait_for_release(self, tasks):
        """Waits until no client may use the addresses of these tasks any more."""
        def is_released():
            kept = {task.address for task in tasks} & self.held().keys()
            assert not kept, f"clients still have {kept}\n{self.account()}"
            return True
        eventually(is_released)

    def wait_for_refresh(self):
        """Waits until CoreDNS has a new answer. An address that leaves DNS now is in its cache for the longest time."""
        before = self._refreshes
        eventually(lambda: self._refreshes > before)

    def failed(self):
        """The connections that failed although the client was allowed to use the address."""
        return [connection for connection in self.connections if connection.error and connection.is_within_ttl()]

    def account(self):
        return self._journal.account(self.connections.copy())

    def _resolve(self):
        last_ttl = 0
        while not self._ended.wait(RESOLVE_SECONDS):
            try:
                reply = self._coredns.resolver.ask(HOST)
            except (OSError, DNSException) as error:
                self.failures.append(repr(error))
                continue
            received = time.monotonic()
            records = [rrset for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A]
            if reply.rcode() != dns.rcode.NOERROR or not records:
                self.failures.append(reply.to_text())
                continue
            [rrset] = records
            until = received + rrset.ttl
            for address in [rdata.address for rdata in rrset]:
                self._held[address] = max(until, self._held.get(address, until))
                self._journal.note_latest(address, "in an answer of CoreDNS",
                                          f": TTL {rrset.ttl}, held until {self._journal.clock(self._held[address]).strip()}")
            self._refreshes += rrset.ttl > last_ttl
            last_ttl = rrset.ttl

    def _watch_servers(self):
        while not self._ended.wait(RESOLVE_SECONDS):
            for number, server in enumerate(self._servers, 1):
                with suppress(OSError, DNSException):
                    for address in server.resolver.addresses(HOST):
                        self._journal.note_latest(address, f"in an answer of server {number}")

    def _connect(self):
        while not self._ended.wait(CONNECT_SECONDS):
            held = self.held()
            if not held:
                continue
            address, until = random.choice([*held.items()])
            made = Attempt(address, until, time.monotonic())
            try:
                with socket.create_connection((address, self._port), PATIENCE_SECONDS) as connection:
                    made.name = connection.makefile().read()
            except OSError as error:
                made.error = error
            made.ended = time.monotonic()
            self.connections.append(made)


# -- the update -----------------------------------------------------------------------------------------------------------

class Scene:
    """An ECS service of KECS whose tasks are registered by one or more servers, behind CoreDNS with a cache."""

    def __init__(self, cluster, coredns, servers):
        self.cluster, self.coredns, self.servers = cluster, coredns, servers
        self.journal = Journal()
        self.ecs = replace(BACKEND, port=free_port())
        self.kubelet = TaskKubelet(cluster, self.ecs.port, self.journal)
        self.drain = Drain(servers, self.journal)

    def deploy(self, ttl):
        """Creates the service, and returns its tasks as soon as every server answers all of them."""
        cloudmap = self.servers[0].cloudmap()
        service = cloudmap.service(cloudmap.private_namespace(ZONE), NAME, A=ttl)
        self.coredns.set_block(f"{NAME}.server", block(self.servers))
        self.cluster.apply(kecs.namespace())
        self.cluster.create(self.ecs.deployment(self.ecs.registry(service), replicas=TASKS, strategy=ONE_MORE))
        self.kubectl("rollout", "status", f"deployment/{self.ecs.name}", "--timeout=60s")
        tasks = self.kubelet.of(self.pods())
        assert len(tasks) == TASKS, tasks
        for server in self.servers:
            eventually(lambda: server.resolver.addresses(HOST) == {task.address for task in tasks})
        self.coredns.wait_for(ZONE)
        return tasks

    def update(self):
        """Replaces all tasks, and returns the new ones when the old ones have ended."""
        old = {pod["metadata"]["uid"] for pod in self.pods()}
        self.kubectl("set", "image", f"deployment/{self.ecs.name}", f"{self.ecs.container}={NEW_IMAGE}")
        self.kubectl("rollout", "status", f"deployment/{self.ecs.name}", "--timeout=60s")

        def is_replaced():
            pods = self.pods()
            left = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["uid"] in old]
            assert not left, f"not replaced yet: {left}\n{self.journal.account([])}"
            return pods
        pods = eventually(is_replaced, GRACE_SECONDS + PATIENCE_SECONDS)
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {NEW_IMAGE}, pods
        return self.kubelet.of(pods)

    def kubectl(self, *arguments):
        return self.cluster.kubectl("-n", self.ecs.namespace, *arguments)

    def pods(self):
        return self.cluster.list("Pod", self.ecs.namespace, f"app={self.ecs.name}")


def block(servers):
    """A server block for the zone, with the cache of Kubernetes' and KECS's default Corefiles."""
    forward = " ".join("{}:{}".format(*server.dns_address) for server in servers)
    return f"{ZONE}:53 {{\n    errors\n    cache 30\n    forward . {forward} {{\n        policy random\n    }}\n}}\n"


def update_under_load(scene, ttl):
    """Replaces all tasks while clients connect. Returns the clients, and the tasks of before and after the update."""
    with scene.kubelet.follow(scene.ecs.namespace, ready_after_seconds=None):
        old = scene.deploy(ttl)
        with CachingClients(scene.coredns, scene.servers, scene.ecs.port, scene.journal) as clients:
            clients.wait_for_connections(old)
            # An old task is deleted when a new one becomes ready.
            scene.kubelet.wait_for_probe = clients.wait_for_refresh
            new = scene.update()
            clients.wait_for_release(old)
            clients.wait_for_connections(new)
    assert len(new) == TASKS and not {task.name for task in old} & {task.name for task in new}, (old, new)
    reached = {connection.name for connection in clients.connections if not connection.error}
    assert reached == {task.name for task in old + new}, clients.account()
    assert not clients.failures, f"not resolved: {clients.failures}\n{clients.account()}"
    return clients, old, new


@pytest.fixture
def servers(request, cluster, start, replica):
    """One server that stores nothing, or two that share custom resources."""
    if request.param == "two_servers":
        cluster.define()
        return [replica(), replica()]
    server = start("--kubeconfig", cluster.kubeconfig, "--store", "memory")
    server.until_metric("kubernetes_watch_stale", 0)
    return [server]


@pytest.fixture
def scene(cluster, servers, coredns):
    scene = Scene(cluster, coredns, servers)
    yield scene
    scene.kubelet.close()


@pytest.mark.parametrize("servers, ttl", [("one_server", SHORT_TTL), ("one_server", LONG_TTL), ("two_servers", SHORT_TTL)],
                         indirect=["servers"])
def test_clients_reach_every_address_they_hold_if_pods_stop_only_when_drained(scene, ttl):
    scene.kubelet.pre_stop = scene.drain
    clients, old, _ = update_under_load(scene, ttl)
    failed = clients.failed()
    assert not failed, f"{len(failed)} of {len(clients.connections)} connections failed\n{clients.account()}"
    scene.drain.check(old)
    for task in old:
        after_deletion = [connection for connection in clients.connections
                          if connection.name == task.name and connection.began > task.deleted_at]
        assert after_deletion, f"nobody had {task.address} any more when it was deleted\n{clients.account()}"


@pytest.mark.parametrize("servers", ["one_server"], indirect=True)
def test_clients_find_closed_ports_if_pods_stop_without_draining(scene):
    clients, old, _ = update_under_load(scene, SHORT_TTL)
    failed = clients.failed()
    assert failed and all(isinstance(connection.error, ConnectionError) for connection in failed), clients.account()
    assert any(isinstance(connection.error, ConnectionRefusedError) for connection in failed), clients.account()
    assert {connection.address for connection in failed} <= {task.address for task in old}, clients.account()
