"""Operations in custom resources, and reads on one server right after an acknowledgement by another."""

import re
import time

import pytest

from harness.cloudmap import Refused, code_of
from harness.deadline import eventually
from harness.kubernetes import defined_cluster
from harness.race import at_once, outcome

ROUNDS = 200
VERSION = "cloudmap-dns.io/v1alpha1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def writes(cluster):
    """Number of writes to custom resources in the API server, by verb and kind, without those of statuses."""
    found = {}
    for line in cluster.kubectl("get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{") and 'group="cloudmap-dns.io"' in line:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["verb"] in ("POST", "PUT", "PATCH", "DELETE") and not labels["subresource"]:
                key = labels["verb"], labels["resource"], labels["code"]
                found[key] = found.get(key, 0) + float(line.rpartition(" ")[2])
    return found


def idle_writes(cluster):
    """The writes as soon as they stop: a server renumbers a moment after it has listed pods."""
    last = [writes(cluster)]

    def check():
        time.sleep(0.4)
        last.append(writes(cluster))
        return last[-1] == last[-2]
    eventually(check)
    return last[-1]


def written(cluster, call):
    """The result of a call, and the writes to custom resources that it caused."""
    before = idle_writes(cluster)
    result = call()
    after = writes(cluster)
    return result, {key[:2]: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}


def address(number):
    return f"10.2.{number // 250}.{number % 250 + 1}"


def register(cloudmap, service, instance, ipv4="10.0.0.1", **more):
    return cloudmap.RegisterInstance(
        ServiceId=service, InstanceId=instance, Attributes={"AWS_INSTANCE_IPV4": ipv4}, **more)["OperationId"]


def operations(cloudmap, **more):
    """The ids of all operations in their order, from all pages."""
    return [one["Id"] for page in cloudmap.pages("ListOperations", **more) for one in page["Operations"]]


def test_an_instance_and_its_operation_are_found_at_another_server_at_once(replica):
    one, two = replica().cloudmap(), replica().cloudmap()
    service = one.service(one.private_namespace("found.local"), "web", A=60)
    assert two.GetService(Id=service)["Service"]["Name"] == "web"
    for number in range(ROUNDS):
        writer, reader = (one, two) if number % 2 else (two, one)
        operation = register(writer, service, f"i-{number}", address(number))
        assert reader.operation(operation)["Targets"]["INSTANCE"] == f"i-{number}", number
        register(writer, service, f"j-{number}", address(number))
        assert reader.GetInstance(ServiceId=service, InstanceId=f"j-{number}"), number


def test_owners_are_found_at_another_server_at_once(replica):
    one, two = replica().cloudmap(), replica().cloudmap()
    for number in range(30):
        created = one.CreatePrivateDnsNamespace(Name=f"n{number}.local", Vpc="vpc-1")["OperationId"]
        namespace = two.operation(created)["Targets"]["NAMESPACE"]
        assert two.GetNamespace(Id=namespace)
        service = one.CreateService(Name="web", NamespaceId=namespace, HealthCheckCustomConfig={"FailureThreshold": 1},
                                    DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 5}]})["Service"]
        # This makes the other server read both.
        register(two, service["Id"], "i")
        one.set_health(service["Id"], "i", "UNHEALTHY")
        namespace = one.http_namespace(f"h{number}")
        resource = two.service(namespace, "Web")
        one.TagResource(ResourceARN=one.GetService(Id=resource)["Service"]["Arn"], Tags=[{"Key": "a", "Value": "1"}])
        register(two, resource, "gone")
        one.DeregisterInstance(ServiceId=resource, InstanceId="gone")


def test_operations_are_found_after_their_object_is_replaced_or_deleted(cluster, place, replica):
    servers = [replica(), replica()]
    one, two = (server.cloudmap() for server in servers)
    made = one.CreatePrivateDnsNamespace(Name="kept.local", Vpc="vpc-1")["OperationId"]
    namespace = one.operation(made)["Targets"]["NAMESPACE"]
    updated = one.UpdatePrivateDnsNamespace(Id=namespace, Namespace={"Description": "d"})["OperationId"]
    service = one.service(namespace, "web", A=60)
    changed = two.UpdateService(Id=service, Service={"Description": "d", "DnsConfig": {
        "DnsRecords": [{"Type": "A", "TTL": 5}]}})["OperationId"]
    registered = [register(cloudmap, service, "i", address(number), CreatorRequestId=f"t{number}")
                  for number, cloudmap in enumerate((one, one, one, one))]
    assert register(two, service, "i", address(3), CreatorRequestId="t3") == registered[-1]
    kinds = {made: "CREATE_NAMESPACE", updated: "UPDATE_NAMESPACE", changed: "UPDATE_SERVICE",
             **dict.fromkeys(registered, "REGISTER_INSTANCE")}

    def assert_all():
        for server in servers:
            cloudmap = server.cloudmap()
            for operation, kind in kinds.items():
                assert eventually(lambda: outcome(cloudmap.operation, operation)["Type"]) == kind
            eventually(lambda: operations(cloudmap) == operations(servers[0].cloudmap()))
            assert sorted(operations(cloudmap)) == sorted(kinds)

    assert_all()
    assert cluster.list(f"{VERSION}/CloudMapOperation", place) == []
    kinds[two.DeregisterInstance(ServiceId=service, InstanceId="i")["OperationId"]] = "DEREGISTER_INSTANCE"
    for operation, kind in kinds.items():
        assert one.operation(operation)["Type"] == kind
    two.DeleteService(Id=service)
    kinds[two.DeleteNamespace(Id=namespace)["OperationId"]] = "DELETE_NAMESPACE"
    assert_all()
    order = operations(one)
    for server in servers:
        server.restart()
    assert_all()
    assert operations(servers[0].cloudmap()) == order


def test_unknown_ids_are_not_found_and_quickly_without_an_api_server(cluster, replica):
    server = replica()
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("unknown.local"), "web", A=60)
    operation = register(cloudmap, service, "i")
    calls = [
        ("OperationNotFound", lambda: cloudmap.GetOperation(OperationId=operation[:-8] + "00000000")),
        ("OperationNotFound", lambda: cloudmap.GetOperation(OperationId="r" * 32 + "-00000001")),
        ("OperationNotFound", lambda: cloudmap.GetOperation(OperationId="x")),
        ("InstanceNotFound", lambda: cloudmap.GetInstance(ServiceId=service, InstanceId="none")),
        ("InstanceNotFound", lambda: cloudmap.DeregisterInstance(ServiceId=service, InstanceId="none")),
        ("ServiceNotFound", lambda: cloudmap.GetService(Id="srv-0000000000000000")),
        ("ServiceNotFound", lambda: cloudmap.GetService(Id="Not/A name?")),
        ("ServiceNotFound", lambda: register(cloudmap, "srv-0000000000000000", "i")),
        ("NamespaceNotFound", lambda: cloudmap.GetNamespace(Id="ns-0000000000000000")),
        ("NamespaceNotFound", lambda: cloudmap.CreateService(Name="x", NamespaceId="ns-0000000000000000")),
    ]

    def assert_none_found(seconds):
        for code, call in calls:
            started = time.monotonic()
            assert code_of(call) == code
            assert time.monotonic() - started < seconds, code

    assert_none_found(5)
    cluster.kill_api_server()
    try:
        server.until_metric("kubernetes_store_stale", 1)
        assert_none_found(1)
        assert cloudmap.operation(operation)["Status"] == "SUCCESS"
    finally:
        cluster.start_api_server()


def test_an_api_write_is_one_write_to_the_api_server(cluster, place, replica):
    cloudmap = replica().cloudmap()
    made, took = written(cluster, lambda: cloudmap.CreatePrivateDnsNamespace(Name="once.local", Vpc="vpc-1"))
    assert took == {("POST", "cloudmapnamespaces"): 1}
    namespace = cloudmap.done(made)["NAMESPACE"]
    service, took = written(cluster, lambda: cloudmap.service(namespace, "web", A=60))
    assert took == {("POST", "cloudmapservices"): 1}
    _, took = written(cluster, lambda: cloudmap.UpdateService(
        Id=service, Service={"Description": "d", "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 5}]}}))
    assert took == {("PUT", "cloudmapservices"): 1}
    _, took = written(cluster, lambda: register(cloudmap, service, "i", CreatorRequestId="t"))
    assert took == {("POST", "cloudmapinstances"): 1}
    _, took = written(cluster, lambda: register(cloudmap, service, "i", "10.0.0.2", CreatorRequestId="u"))
    assert took == {("PUT", "cloudmapinstances"): 1}
    _, took = written(cluster, lambda: register(cloudmap, service, "i", "10.0.0.2", CreatorRequestId="u"))
    assert took == {}
    _, took = written(cluster, lambda: cloudmap.DeregisterInstance(ServiceId=service, InstanceId="i"))
    assert took == {("DELETE", "cloudmapinstances"): 1, ("POST", "cloudmapoperations"): 1}


def test_operations_of_deletions_share_records_and_are_listed_once(cluster, place, replica):
    server, other = replica(), replica().cloudmap()
    cloudmap, count = server.cloudmap(), 60
    service = cloudmap.service(cloudmap.private_namespace("many.local"), "web", A=60)
    instances = [f"i-{number}" for number in range(count)]
    registered = at_once(*(lambda one=one: register(server.cloudmap(), service, one) for one in instances))
    deregistered, took = written(cluster, lambda: at_once(*(
        lambda one=one: server.cloudmap().DeregisterInstance(ServiceId=service, InstanceId=one)["OperationId"]
        for one in instances)))
    assert not [one for one in registered + deregistered if isinstance(one, Refused)]
    assert took[("DELETE", "cloudmapinstances")] == count
    assert took[("POST", "cloudmapoperations")] <= count / 3, took
    known = operations(cloudmap)
    assert sorted(known[1:]) == sorted(registered + deregistered)
    for size in (1, 7, 100):
        assert operations(cloudmap, MaxResults=size) == known
    eventually(lambda: operations(other, MaxResults=7) == known)
    server.restart()
    assert operations(server.cloudmap(), MaxResults=7) == known


def test_a_record_is_deleted_with_its_last_operation(cluster, place, replica):
    cloudmap = replica("--operations-retained", "1").cloudmap()
    namespace = cloudmap.http_namespace("short")
    service = cloudmap.service(namespace, "web")
    for number in range(12):
        register(cloudmap, service, "i")
        cloudmap.DeregisterInstance(ServiceId=service, InstanceId="i")
    eventually(lambda: len(cluster.list(f"{VERSION}/CloudMapOperation", place)) <= 6)
    # Young operations are kept up to ten times the retention limit.
    assert 2 <= len(operations(cloudmap)) <= 11


def test_two_servers_do_not_give_one_zone_to_two_kinds_of_namespaces(replica):
    one, two = replica().cloudmap(), replica().cloudmap()
    for number in range(10):
        name = f"kinds-{number}.local"
        results = at_once(
            lambda: one.operation(one.CreatePrivateDnsNamespace(Name=name, Vpc="vpc-1")["OperationId"])["Status"],
            lambda: two.operation(two.CreatePublicDnsNamespace(Name=name)["OperationId"])["Status"])
        assert sorted(map(str, results)) == ["FAIL", "SUCCESS"], results


def test_the_lag_of_the_watch_is_a_metric(replica):
    server = replica()
    server.cloudmap().http_namespace("lag")

    def check():
        page = server.page("/metrics")
        assert 'kubernetes_store_lag_writes_total{kind="cloudmapnamespaces"} ' in page
        count = re.search(r'kubernetes_store_lag_writes_total{kind="cloudmapnamespaces"} (\S+)', page)
        assert float(count[1]) >= 1
        assert 'kubernetes_store_lag_seconds{kind="cloudmapnamespaces"} 0' in page
        return True
    eventually(check)
