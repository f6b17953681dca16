"""A DNS name belongs to one service or instance, and SRV records point to valid host names for instance ids of any form."""

import itertools
import json
import os
import re
import shutil
import subprocess

import pytest

from harness import kecs
from harness.cloudmap import Refused, unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster
from test_dns_records import Zone
from test_kubernetes_store import a_records, answered, apply, at_once, condition

# Targets that the resolvers of programming languages accept, in lower case.
HOST_NAME = re.compile(r"^[a-z0-9-]+(\.[a-z0-9_-]+)*\.$")
IDS = ["task:1", "a@b", "x/y", "a_b", "Task", "task", "TASK", "Ab",
       "aB", "-a", "l" * 64, "a..b", "i.j", "i-1", ":", "x.y:z"]

_addresses = itertools.count(1)


@pytest.fixture
def zone(shared):
    return Zone(shared)


def address():
    number = next(_addresses)
    return f"10.7.{number // 250}.{number % 250 + 1}"


def register(zone, service, instance, port=80):
    """Registers an instance and returns its address."""
    ipv4 = address()
    zone.cloudmap.instance(service, instance, ipv4=ipv4, port=port)
    return ipv4


def srv(zone, name):
    """The targets of a service's SRV records with their additional addresses, by port."""
    found = zone.dig(name, "SRV", "+tcp")
    beside = {owner.lower(): data for owner, data in found.additional_data("A")}
    fields = [data.split() for data in found.data("SRV")]
    return {int(port): (target, beside[target.lower()]) for _, _, port, target in fields}


def is_refused(call, *words):
    """Asserts that a call is refused as invalid input, with these words in the message."""
    with pytest.raises(Refused) as refused:
        call()
    assert refused.value.code == "InvalidInput"
    for word in words:
        assert word in refused.value.message, refused.value.message


def all_ids(zone, records):
    """Creates a service with an instance of each id. Returns the addresses by port; each id has its own port."""
    service = zone.service("web", **records)
    return service, {port: register(zone, service, instance, port) for port, instance in enumerate(IDS, 1000)}


def all_targets(zone, count):
    """The targets of all instances, collected from as many answers as that takes."""
    seen = {}

    def draw():
        seen.update(srv(zone, "web"))
        return len(seen) == count

    eventually(draw)
    return seen


@pytest.mark.parametrize("records", [{"SRV": 60}, {"A": 60, "SRV": 60}], ids=["SRV", "A and SRV"])
def test_every_srv_target_is_a_host_name_and_resolves_to_its_own_instance(zone, records):
    _, addresses = all_ids(zone, records)
    targets = all_targets(zone, len(IDS))
    assert {port: ipv4 for port, (_, ipv4) in targets.items()} == addresses
    assert len({target.lower() for target, _ in targets.values()}) == len(IDS)
    for target, ipv4 in targets.values():
        assert HOST_NAME.match(target.lower()), target
        zone.server.dig(target, "A").assert_positive(ipv4)
    by_id = {instance: targets[port][0] for port, instance in enumerate(IDS, 1000)}
    for instance in ("task", "i.j", "i-1"):
        assert by_id[instance] == zone.full(f"{instance}.web")
    for instance, readable in (("task:1", "task-1"), ("a@b", "a-b"), ("TASK", "task"), (":", "i"), ("a..b", "a-b"),
                               ("l" * 64, "l" * 52), ("x.y:z", "x-y-z"), ("-a", "a")):
        assert re.fullmatch(rf"{re.escape(readable)}-[0-9a-z]{{10}}\.web\..*", by_id[instance]), by_id[instance]
    # The label depends only on the id.
    assert by_id["task:1"] == zone.full("task-1-l7ve9knt9k.web")


def test_conflicts_are_refused_before_an_operation_is_created(zone):
    client = zone.server.clients.boto()
    db, web = zone.service("db.web", A=60), zone.service("web", A=60, SRV=60)
    attributes = {"AWS_INSTANCE_IPV4": "10.0.3.2", "AWS_INSTANCE_PORT": "80"}
    client.register_instance(ServiceId=db, InstanceId="x", Attributes=attributes)
    with pytest.raises(client.exceptions.InvalidInput, match="the instance x of the service db.web"):
        client.register_instance(ServiceId=web, InstanceId="x.db", Attributes=attributes)
    with pytest.raises(client.exceptions.InvalidInput, match="the instance x of the service db.web"):
        client.create_service(Name="X.db.web", NamespaceId=zone.namespace, DnsConfig={
            "DnsRecords": [{"Type": "A", "TTL": 60}]})
    client.register_instance(ServiceId=web, InstanceId="task:1", Attributes=attributes)
    assert srv(zone, "web") == {80: (zone.full("task-1-l7ve9knt9k.web"), "10.0.3.2")}


def test_own_names_resolve_where_they_are_unambiguous(zone):
    _, addresses = all_ids(zone, {"SRV": 60})
    by_id = {instance: addresses[port] for port, instance in enumerate(IDS, 1000)}
    for instance in ("task:1", "a@b", "x/y", "a_b", "-a", "i.j", "task", ":", "x.y:z"):
        zone.dig(f"{instance}.web", "A").assert_positive(by_id[instance])
    # If ids differ only in case, the name belongs to the one without capital letters.
    zone.dig("TASK.web", "A").assert_positive(by_id["task"])
    zone.assert_nxdomain("ab.web")
    zone.assert_nxdomain(f"{'l' * 63}.web")
    zone.assert_nodata("y:z.web", "A")


def test_of_ids_that_differ_only_in_case_one_has_the_name(zone):
    service = zone.service("web", SRV=60)
    upper = register(zone, service, "Task", 1)
    assert srv(zone, "web")[1][0] == zone.full("Task.web")
    lower = register(zone, service, "task", 2)
    found = srv(zone, "web")
    assert found[2] == (zone.full("task.web"), lower)
    assert re.match(r"task-[0-9a-z]{10}\.web\.", found[1][0]) and found[1][1] == upper
    zone.cloudmap.deregister(service, "task")
    assert srv(zone, "web") == {1: (zone.full("Task.web"), upper)}
    zone.dig("task.web", "A").assert_positive(upper)


def test_a_name_of_an_instance_is_refused_to_another_service(zone):
    db = zone.service("db.web", A=60)
    web = zone.service("web", A=60, SRV=60)
    ipv4 = register(zone, db, "x")
    is_refused(lambda: register(zone, web, "x.db"), "x.db.web", "the instance x of the service db.web", db)
    is_refused(lambda: register(zone, web, "X.Db"), "x.db.web")
    zone.dig("x.db.web", "A").assert_positive(ipv4)
    # A repeated registration of the instance is no conflict, and its deregistration frees the name.
    zone.cloudmap.instance(db, "x", ipv4=ipv4, port=81)
    zone.cloudmap.deregister(db, "x")
    ipv4 = register(zone, web, "x.db")
    assert srv(zone, "web") == {80: (zone.full("x.db.web"), ipv4)}
    zone.dig("x.db.web", "A").assert_positive(ipv4)
    is_refused(lambda: register(zone, db, "x"), "the instance x.db of the service web", web)


def test_services_and_instances_share_no_name_with_any_record_types(zone):
    web = zone.service("web", A=60)
    apex = zone.service(".", A=60)
    register(zone, web, "v1")
    register(zone, apex, "mail")
    zone.service("v2.web", A=60)
    is_refused(lambda: zone.service("V1.web", A=60), "the instance v1 of the service web")
    is_refused(lambda: zone.service("mail", A=60), "the instance mail of the service .")
    is_refused(lambda: register(zone, web, "V2"), "the service v2.web")
    is_refused(lambda: register(zone, apex, "web"), "the service web")
    is_refused(lambda: register(zone, apex, "ns.dns"), "the zone's own name server")
    # A service that is not in DNS has no DNS name.
    zone.service("v3.web", Type="HTTP")
    register(zone, web, "v3")
    zone.service("v1.web", Type="HTTP")


def test_an_id_that_is_anothers_target_is_refused(zone):
    service = zone.service("web", SRV=60)
    register(zone, service, "task:1")
    label = srv(zone, "web")[80][0].split(".")[0]
    is_refused(lambda: register(zone, service, label), "the instance task:1", "SRV record")
    is_refused(lambda: zone.service(f"{label}.web", A=60), "the instance task:1")
    zone.cloudmap.deregister(service, "task:1")
    register(zone, service, label)
    is_refused(lambda: register(zone, service, "task:1"), f"the instance {label}")


def test_an_instance_is_refused_if_its_target_would_be_too_long(shared):
    cloudmap = shared.cloudmap()
    long = ".".join(["z" * 60] * 4)
    service = cloudmap.service(cloudmap.private_namespace(long), "ab", SRV=60)
    cloudmap.instance(service, "short", ipv4="10.0.0.1", port=80)
    is_refused(lambda: cloudmap.instance(service, "a:1", ipv4="10.0.0.1", port=80), "target")


def test_explain_and_zone_show_targets_and_own_names(zone):
    service = zone.service("web", SRV=60)
    ipv4 = register(zone, service, "task:1")
    target = srv(zone, "web")[80][0]
    said = zone.server.run("explain", zone.full("web"), "SRV").stdout
    assert f"its SRV record points to {target.split('.')[0]}" in said, said
    printed = zone.server.run("zone", zone.name).stdout
    assert f"1 1 80 {target.split('.')[0]}.web" in printed or f"1 1 80 {target}" in printed, printed
    assert printed.count(ipv4) == 2, printed


# -- resolvers of programming languages -------------------------------------------------------------------------------

def program(name):
    """The path of a program. If it is not installed, the test fails in CI and is skipped elsewhere."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed, so its resolver was not tried"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


NODE = """
const { Resolver } = require('node:dns').promises;
const resolver = new Resolver();
resolver.setServers([process.argv[1]]);
resolver.resolveSrv(process.argv[2])
  .then((found) => console.log(JSON.stringify(found.map((one) => [one.port, one.name]))));
"""

GO = """
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
)

func main() {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, os.Args[1])
	}}
	_, found, err := resolver.LookupSRV(context.Background(), "", "", os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	all := [][2]any{}
	for _, one := range found {
		all = append(all, [2]any{one.Port, one.Target})
	}
	json.NewEncoder(os.Stdout).Encode(all)
}
"""


def looked_up(command, zone, seconds=120):
    host, port = zone.server.dns_address
    done = subprocess.run([*command, f"{host}:{port}", zone.full("web")], capture_output=True, text=True,
                          timeout=seconds, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return {port: target.rstrip(".").lower() + "." for port, target in json.loads(done.stdout)}


@pytest.mark.parametrize("ids", [IDS[:8], IDS[8:]], ids=["first", "rest"])
def test_resolvers_of_node_and_go_accept_every_target(zone, ids, tmp_path):
    node, go = program("node"), program("go")
    service = zone.service("web", SRV=60)
    for port, instance in enumerate(ids, 1000):
        register(zone, service, instance, port)
    expected = {port: target.lower() for port, (target, _) in srv(zone, "web").items()}
    assert len(expected) == len(ids)
    assert looked_up([node, "-e", NODE], zone) == expected
    source = tmp_path / "lookup.go"
    source.write_text(GO, encoding="utf-8")
    assert looked_up([go, "run", str(source)], zone) == expected


# -- pods -------------------------------------------------------------------------------------------------------------

def test_a_pod_whose_annotation_names_a_service_twice_is_registered_once_with_a_warning(start, cluster, kubelet):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig)
    server.until_metric("kubernetes_watch_stale", 0)
    zone = Zone(server)
    service = zone.service("backend", A=60, SRV=60)
    two = [kecs.registry(service, "backend", port) for port in (8080, 9090)]
    equal = [kecs.registry(service, "backend", 8080)] * 2
    pod = kubelet.create(BACKEND.pod(*two), "10.42.9.1")
    kubelet.create(BACKEND.pod(*equal), "10.42.9.2")
    eventually(lambda: len(zone.answer("backend", "SRV")) == 2)
    assert {data.split()[2] for data in zone.answer("backend", "SRV")} == {"8080"}
    assert server.metric("kubernetes_malformed_pods") == 0

    def warnings():
        return cluster.list("events.k8s.io/v1/Event", BACKEND.namespace)

    [event] = eventually(lambda: warnings() or None)
    assert (event["type"], event["reason"]) == ("Warning", "CloudMapAnnotationContradictory")
    assert event["regarding"]["name"] == pod["metadata"]["name"]
    for word in ("8080", "9090", "the first counts"):
        assert word in event["note"], event["note"]

    def is_explained():
        explained = server.page(f"/explain?name=backend.{zone.name}")
        lines = [line for line in explained.splitlines() if "the first counts" in line]
        assert len(lines) == 1 and "10.42.9.1" in lines[0] and "9090" in lines[0], explained
        return True

    eventually(is_explained)


def test_a_pod_with_the_name_of_another_instance_or_service_is_refused(start, cluster, kubelet):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig)
    server.until_metric("kubernetes_watch_stale", 0)
    zone = Zone(server)
    web, db = zone.service("web", A=60), zone.service("db.web", A=60)
    ipv4 = register(zone, db, "x")
    kubelet.create(BACKEND.pod(kecs.registry(web, "backend", 8080), task_id="x.db"), "10.42.9.3")
    kubelet.create(BACKEND.pod(kecs.registry(web, "backend", 8080), task_id="y.db"), "10.42.9.4")
    eventually(lambda: zone.answer("web", "A") == ["10.42.9.4"])
    server.until_metric("kubernetes_refused_instances", 1)
    zone.dig("x.db.web", "A").assert_positive(ipv4)
    is_refused(lambda: register(zone, db, "y"), "the instance y.db of the service web")


# -- several servers --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def defined(tmp_path_factory):
    """A separate cluster with the definitions of the custom resources."""
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def replicas(start, cluster, count=2):
    place = cluster.namespace(unique("names"))
    options = ("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", cluster.kubeconfig)
    return place, [start(*options) for _ in range(count)]


def test_of_two_servers_that_assign_one_name_at_once_one_succeeds(start, defined):
    _, servers = replicas(start, defined)
    one, two = (server.cloudmap() for server in servers)
    namespace = one.private_namespace("race.local")
    web, db = one.service(namespace, "web", A=60), one.service(namespace, "db.web", A=60)
    for service in (web, db):
        answered(two.GetService, Id=service)

    def call(cloudmap, service, instance):
        attributes = {"AWS_INSTANCE_IPV4": "10.0.0.1" if service == web else "10.0.0.2"}
        return lambda: cloudmap.RegisterInstance(ServiceId=service, InstanceId=instance, Attributes=attributes)

    for number in range(15):
        results = at_once(call(one, web, f"x{number}.db"), call(two, db, f"x{number}"))
        refused = [isinstance(result, Refused) for result in results]
        assert sorted(refused) == [False, True], results
        expected = "10.0.0.2" if refused[0] else "10.0.0.1"
        for server in servers:
            eventually(lambda: a_records(server, f"x{number}.db.web.race.local") == [expected])
    for number in range(15):
        results = at_once(call(one, web, f"s{number}"),
                          lambda: two.CreateService(Name=f"s{number}.web", NamespaceId=namespace, DnsConfig={
                              "DnsRecords": [{"Type": "A", "TTL": 60}]}))
        refused = [isinstance(result, Refused) for result in results]
        assert sorted(refused) == [False, True], results


def test_of_two_objects_the_older_one_gets_the_name_and_the_other_one_has_a_status(start, defined):
    place, [server] = replicas(start, defined, 1)
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("age.local")
    web, db = cloudmap.service(namespace, "web", A=60), cloudmap.service(namespace, "db.web", A=60)
    cloudmap.instance(db, "x", ipv4="10.0.0.1")
    apply(defined, place, "CloudMapInstance", "younger", {
        "instanceId": "x.db", "serviceId": web, "attributes": {"AWS_INSTANCE_IPV4": "10.0.0.2"}})
    found = eventually(lambda: condition(defined, place, "CloudMapInstance", "younger") or None)
    assert found["status"] == "False" and "the instance x of the service db.web" in found["message"], found
    assert a_records(server, "x.db.web.age.local") == ["10.0.0.1"]
    cloudmap.deregister(db, "x")
    eventually(lambda: a_records(server, "x.db.web.age.local") == ["10.0.0.2"])
    eventually(lambda: condition(defined, place, "CloudMapInstance", "younger").get("status") == "True")
