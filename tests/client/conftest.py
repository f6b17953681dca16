"""Fixtures: servers that are stopped after the test, and whose log is part of the report if the test fails."""

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
    """Creates and starts servers, each in a directory of its own: `start("--store", "memory")`."""
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
    """A server with default settings."""
    return start()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    """Like `start`, for servers that run until the end of the module."""
    made = []

    def start_one(*options):
        made.append(Server(tmp_path_factory.mktemp("shared"), *options))
        return made[-1].start()

    yield start_one
    for server in made:
        server.end()


@pytest.fixture(scope="module")
def shared(start_shared):
    """One server for all tests of a module. The tests use `unique` names, so that they don't affect each other."""
    return start_shared("--store", "memory")


@pytest.fixture(scope="module")
def zoned(tmp_path_factory):
    """A server with all zone files of zones/, for all tests of a module."""
    server = Server(tmp_path_factory.mktemp("zoned"), "--store", "memory")
    shutil.copytree(Path(__file__).parent / "zones", server.zones, dirs_exist_ok=True)
    yield server.start()
    server.end()


@pytest.fixture(params=["udp", "tcp"])
def client(request, zoned):
    """A client of the server `zoned`, once for each transport."""
    return Client(zoned.resolver, request.param)


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


@pytest.fixture
def cloudmap(server):
    """The API of a server with default settings, in JSON."""
    return server.cloudmap()


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory):
    """The Kubernetes cluster of this worker process, started for the first test that needs it."""
    cluster = Cluster(tmp_path_factory.mktemp("kubernetes"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster):
    """A Kubernetes cluster without objects of earlier tests."""
    yield running_cluster
    if running_cluster.api_server.has_ended():
        running_cluster.start_api_server()
    running_cluster.wipe()


@pytest.fixture(params=["embedded", "kubernetes"])
def store(request):
    """A kind of store, once for each that outlives the server."""
    return request.param


@pytest.fixture
def kubelet(cluster):
    """A fake kubelet with a node."""
    return Kubelet(cluster)


@pytest.fixture
def coredns(cluster, tmp_path):
    """The cluster's CoreDNS, with the server blocks of the ConfigMap coredns-custom."""
    coredns = CoreDns(cluster, tmp_path / "coredns")
    try:
        yield coredns.start()
    finally:
        coredns.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the logs of all servers and other programs that run at that time to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in Server.running:
            report.sections.append((f"log of the server in {server.directory}", server.log_tail()))
        Server.running = [server for server in Server.running if server.process.poll() is None]
        for program in Program.running:
            report.sections.append((f"log of {program.name} in {program.directory}", program.log_tail()))


# Tests that take or wait the longest. They start first, so that other workers run the rest of the tests meanwhile.
FIRST = ("test_crashes", "test_kubernetes_system", "test_tokens_are_replaced_while_it_runs")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(name in item.nodeid for name in FIRST))


@pytest.fixture
def place(cluster):
    """A new Kubernetes namespace for custom resources. The module has to define `cluster` as a cluster with their definitions."""
    return cluster.namespace(f"test-{next(_places)}")


@pytest.fixture
def replica(start, cluster, place):
    """Starts servers whose store is the custom resources in the Kubernetes namespace `place`."""
    def start_one(*options, **more):
        return start("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", cluster.kubeconfig, *options,
                     **more)
    return start_one
