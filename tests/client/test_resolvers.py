"""Answers that do not fit into a datagram, read by resolvers that ignore TC, have no EDNS, or retry over TCP."""

import threading

import pycares
import pytest

from harness import musl
from harness.cloudmap import address
from harness.container import PodNetwork
from harness.deadline import PATIENCE_SECONDS, eventually
from harness.haproxy import HaProxy

ZONE = "production.local"
SERVICE = "_http._tcp"
# The SRV records of so many tasks, with target labels of 32 characters, fit into 512 bytes; those of six do not.
TASKS_THAT_FIT = 5


def task_id(number):
    return f"{number:032x}"


@pytest.fixture
def service(cloudmap):
    """A service whose tasks have ids in the format of ECS."""
    return cloudmap.service(cloudmap.private_namespace(ZONE), SERVICE, A=60, SRV=60)


@pytest.fixture
def haproxy(server, tmp_path):
    made = []

    def start(options=""):
        made.append(HaProxy(tmp_path / f"haproxy-{len(made)}", server.dns_address, f"{SERVICE}.{ZONE}", options))
        return made[-1].start()
    yield start
    for one in made:
        one.kill()


def grow(cloudmap, service, tasks):
    """Registers tasks up to this number and returns the addresses of all."""
    for number in range(len(cloudmap.listed_instances(service)), tasks):
        cloudmap.instance(service, task_id(number), ipv4=address(number), port=8080)
    return {address(number) for number in range(tasks)}


def test_haproxy_keeps_servers_when_their_records_no_longer_fit(cloudmap, server, service, haproxy):
    expected = grow(cloudmap, service, TASKS_THAT_FIT)
    proxy = haproxy()
    eventually(lambda: proxy.addresses() == expected)
    for tasks in (6, 8):
        expected = grow(cloudmap, service, tasks)
        assert "tc" in server.dig(f"{SERVICE}.{ZONE}", "SRV", "+notcp", "+ignore").flags
        # Each answer has five random tasks. HAProxy drops the server that is missing until a later answer has its address again.
        for moment in proxy.during_answers(40):
            assert len(moment) >= 2 * TASKS_THAT_FIT - tasks and moment <= expected, moment


@pytest.mark.parametrize("options", ["hold obsolete 5s", "accepted_payload_size 1232"])
def test_haproxy_uses_every_task_with_either_documented_setting(cloudmap, service, haproxy, options):
    grow(cloudmap, service, TASKS_THAT_FIT)
    proxy = haproxy(options)
    for tasks in (6, 8):
        expected = grow(cloudmap, service, tasks)
        eventually(lambda: proxy.addresses() == expected)
        assert all(len(moment) == tasks for moment in proxy.during_answers(15))


# -- a name with more addresses than fit ----------------------------------------------------------------------------------

MANY = {f"10.2.0.{number}" for number in range(60)}


@pytest.fixture
def many(server):
    """A server with a name whose 60 addresses take 1,000 bytes."""
    records = "".join(f"many A {ipv4}\n" for ipv4 in sorted(MANY))
    (server.zones / "shop.internal.zone").write_text(f"$TTL 60\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\n{records}")
    server.reload()
    eventually(lambda: server.resolver.addresses("many.shop.internal") == MANY)
    return server


def test_musl_gets_the_addresses_that_fit(many, tmp_path):
    """musl sends no EDNS. Before version 1.2.4 it has no TCP, and uses the records of a truncated answer."""
    program = musl.getaddrinfo(tmp_path)
    network = PodNetwork(tmp_path / "pod", many.dns_address)
    try:
        network.start()
        # The name ends in a dot, because this server refuses the names of the search list, which in a pod CoreDNS answers.
        done = network.run(program, "many.shop.internal.")
    finally:
        network.stop()
    found = done.stdout.split()
    assert done.returncode == 0 and len(found) >= 28 and set(found) <= MANY, done


def cares(server, name, rrtype, flags):
    """Data of the records that c-ares returns for a name."""
    arrived, results = threading.Event(), []

    def take(result, error):
        results.append((result, error))
        arrived.set()
    host, port = server.dns_address
    channel = pycares.Channel(servers=[host], udp_port=port, tcp_port=port, flags=flags, timeout=PATIENCE_SECONDS)
    channel.query(name, rrtype, callback=take)
    assert arrived.wait(PATIENCE_SECONDS)
    channel.close()
    [(result, error)] = results
    assert error is None, pycares.errno.strerror(error)
    return [record.data for record in result.answer]


@pytest.mark.parametrize("flags", [0, pycares.ARES_FLAG_EDNS, pycares.ARES_FLAG_USEVC])
def test_c_ares_gets_every_record(many, cloudmap, service, flags):
    assert {data.addr for data in cares(many, "many.shop.internal", pycares.QUERY_TYPE_A, flags)} == MANY
    grow(cloudmap, service, 8)
    found = cares(many, f"{SERVICE}.{ZONE}", pycares.QUERY_TYPE_SRV, flags)
    assert {data.target for data in found} == {f"{task_id(number)}.{SERVICE}.{ZONE}" for number in range(8)}


def test_c_ares_that_ignores_tc_gets_the_records_that_fit(many, cloudmap, service):
    flags = pycares.ARES_FLAG_IGNTC
    assert len(found := cares(many, "many.shop.internal", pycares.QUERY_TYPE_A, flags)) >= 28, found
    grow(cloudmap, service, 8)
    assert len(cares(many, f"{SERVICE}.{ZONE}", pycares.QUERY_TYPE_SRV, flags)) == TASKS_THAT_FIT
