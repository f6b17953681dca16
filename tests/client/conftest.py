"""Fixtures: servers that start in a moment and are gone after the test, with their log in a failure's report."""

import itertools
import shutil
from pathlib import Path

import pytest

from harness.coredns import CoreDns
from harness.kubelet import Kubelet
from harness.kubernetes import Cluster
from harness.packet import Client
from harness.program import Program
from harness.server import Server
from harness.wire import PROTOCOLS

_places = itertools.count(1)


@pytest.fixture
def start(tmp_path):
    """Makes and starts servers in directories of their own: `start("--store", "memory")`."""
    made = []

    def start_one(*options, wait=True, directory=None):
        server = Server(directory or tmp_path / f"server-{len(made)}", *options)
        made.append(server)
        return server.start() if wait else server

    yield start_one
    for server in made:
        server.end()


@pytest.fixture
def server(start):
    """A server with every default."""
    return start()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    """As `start`, for servers that live as long as their module."""
    made = []

    def start_one(*options):
        made.append(Server(tmp_path_factory.mktemp("shared"), *options))
        return made[-1].start()

    yield start_one
    for server in made:
        server.end()


@pytest.fixture(scope="module")
def shared(start_shared):
    """One server for all tests of a module that don't disturb each other; they take `unique` names."""
    return start_shared("--store", "memory")


@pytest.fixture(scope="module")
def zoned(tmp_path_factory):
    """A server that serves all of zones/, for all tests of a module."""
    server = Server(tmp_path_factory.mktemp("zoned"), "--store", "memory")
    shutil.copytree(Path(__file__).parent / "zones", server.zones, dirs_exist_ok=True)
    yield server.start()
    server.end()


@pytest.fixture(params=["udp", "tcp"])
def client(request, zoned):
    """Asks the server `zoned` over each transport."""
    return Client(zoned.resolver, request.param)


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


@pytest.fixture
def cloudmap(server):
    """The operations on a server with every default, in JSON."""
    return server.cloudmap()


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory):
    """The cluster of this worker, started for the first test that asks for it."""
    cluster = Cluster(tmp_path_factory.mktemp("kubernetes"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster):
    """A Kubernetes cluster as good as new."""
    yield running_cluster
    if running_cluster.api_server.has_ended():
        running_cluster.start_api_server()
    running_cluster.wipe()


@pytest.fixture
def kubelet(cluster):
    """The kubelet of a node."""
    return Kubelet(cluster)


@pytest.fixture
def coredns(cluster, tmp_path):
    """The cluster's CoreDNS, forwarding what the ConfigMap coredns-custom says."""
    coredns = CoreDns(cluster, tmp_path / "coredns")
    try:
        yield coredns.start()
    finally:
        coredns.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the log of every server, and of every program beside it, that runs when a test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in Server.running:
            report.sections.append((f"log of the server in {server.directory}", server.log_tail()))
        Server.running = [server for server in Server.running if server.process.poll() is None]
        for program in Program.running:
            report.sections.append((f"log of {program.name} in {program.directory}", program.log_tail()))


# They take the longest, or wait for the longest, beside all others.
FIRST = ("test_crashes", "test_kubernetes_system", "test_tokens_are_replaced_while_it_runs")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(name in item.nodeid for name in FIRST))


@pytest.fixture
def place(cluster):
    """A new Kubernetes namespace for custom resources; `cluster` is a module's, with their definitions."""
    return cluster.namespace(f"test-{next(_places)}")


@pytest.fixture
def replica(start, cluster, place):
    """Starts a server on the objects of `place`."""
    def start_one(*options, **more):
        return start("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", cluster.kubeconfig, *options,
                     **more)
    return start_one
