"""The store in Kubernetes: custom resources in a real API server and etcd, with one to three servers and kubectl."""

import itertools
import json
import subprocess
import threading

import pytest

from harness import kecs
from harness.cloudmap import Refused
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubelet import Kubelet
from harness.kubernetes import DEFINITION, Cluster, defined_cluster
from harness.race import at_once, outcome
from harness.sdk import AWS
from harness.server import Server, plain_environment, binary


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def a_records(server, name):
    """The sorted addresses that DNS answers."""
    host, port = server.dns_address
    done = subprocess.run(["dig", f"@{host}", "-p", str(port), "+short", "+tries=1", "+time=2", name, "A"],
                          capture_output=True, text=True)
    return sorted(done.stdout.split())


def apply(cluster, place, kind, name, spec, check=True):
    """Applies an object with kubectl. Without `check`, returns the finished process."""
    manifest = {"apiVersion": "cloudmap-dns.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return cluster.kubectl("-n", place, "apply", "-f", "-", stdin=json.dumps(manifest), check=check)


def names(cluster, place, kind):
    return cluster.kubectl("-n", place, "get", kind, "-o", "name").split()


def name_of(cluster, place, kind, **spec):
    """The name of the object with these values in its spec."""
    [name] = [one["metadata"]["name"] for one in cluster.list(f"cloudmap-dns.io/v1alpha1/{kind}", place)
              if spec.items() <= one["spec"].items()]
    return name


def spec_of(cluster, place, kind, name):
    return cluster.get(f"cloudmap-dns.io/v1alpha1/{kind}", name, place)["spec"]


def status_of(cluster, place, kind, name):
    return cluster.get(f"cloudmap-dns.io/v1alpha1/{kind}", name, place).get("status", {})


def condition(cluster, place, kind, name):
    found = status_of(cluster, place, kind, name).get("conditions", [])
    return {one["type"]: one for one in found}.get("Accepted", {})


def web(cloudmap, namespace="shop.local", **more):
    namespace_id = cloudmap.private_namespace(namespace)
    return namespace_id, cloudmap.service(namespace_id, "web", A=60, **more)


def test_an_api_call_is_an_object_and_is_answered_by_every_replica(cluster, place, replica):
    one, two = replica(), replica()
    namespace, service = web(one.cloudmap(), custom_health=True)
    one.cloudmap().instance(service, "i-1", ipv4="10.0.0.1")
    assert a_records(one, "web.shop.local") == ["10.0.0.1"]
    eventually(lambda: a_records(two, "web.shop.local") == ["10.0.0.1"])
    assert names(cluster, place, "cloudmapnamespaces") == [f"cloudmapnamespace.cloudmap-dns.io/{namespace}"]
    assert names(cluster, place, "cloudmapservices") == [f"cloudmapservice.cloudmap-dns.io/{service}"]
    instance = name_of(cluster, place, "CloudMapInstance", serviceId=service, instanceId="i-1")
    assert names(cluster, place, "cloudmapinstances") == [f"cloudmapinstance.cloudmap-dns.io/{instance}"]
    spec = spec_of(cluster, place, "CloudMapInstance", instance)
    assert spec == {"instanceId": "i-1", "serviceId": service, "attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1"}}

    two.cloudmap().set_health(service, "i-1", "UNHEALTHY")
    assert a_records(two, "web.shop.local") == []
    eventually(lambda: a_records(one, "web.shop.local") == [])
    eventually(lambda: status_of(cluster, place, "CloudMapService", service).get("health") == "0/1")
    two.cloudmap().deregister(service, "i-1")
    eventually(lambda: one.cloudmap().listed_instances(service) == {})
    assert names(cluster, place, "cloudmapinstances") == []
    eventually(lambda: len(one.cloudmap().ListOperations()["Operations"]) == 3)


def test_kubectl_get_reads_well(cluster, place, replica):
    cloudmap = replica().cloudmap()
    namespace, service = web(cloudmap, custom_health=True, routing="WEIGHTED")
    cloudmap.instance(service, "i-1", ipv4="10.0.0.1")
    cloudmap.instance(service, "i-2", ipv4="10.0.0.2", status="UNHEALTHY")
    eventually(lambda: status_of(cluster, place, "CloudMapService", service).get("health") == "1/2")
    head, row = cluster.kubectl("-n", place, "get", "cloudmapservices").splitlines()
    assert head.split() == ["NAME", "TYPE", "ROUTING", "RECORDS", "ADDRESS", "HEALTH", "ACCEPTED", "ID", "AGE"]
    assert row.split()[:8] == [service, "DNS_HTTP", "WEIGHTED", "A/60", "web.shop.local", "1/2", "True", service]
    assert namespace in cluster.kubectl("-n", place, "get", "cmns")
    chosen = cluster.kubectl("-n", place, "get", "cmi", f"--field-selector=spec.serviceId={service}", "-o", "name")
    assert len(chosen.split()) == 2


def test_health_counts_tasks_and_is_not_written_for_each_change_of_a_task(cluster, place, replica, kubelet):
    servers = [replica(), replica()]
    cluster.apply(kecs.namespace())
    _, service = web(servers[0].cloudmap())
    servers[0].cloudmap().instance(service, "i-1", ipv4="10.0.0.1")
    pods = [kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.9.{number}") for number in (1, 2)]

    def health():
        return status_of(cluster, place, "CloudMapService", service).get("health")
    eventually(lambda: health() == "3/3")
    versions = set()

    def look():
        versions.add(cluster.get("cloudmap-dns.io/v1alpha1/CloudMapService", service, place)["metadata"]["resourceVersion"])
        return health()
    for is_ready in (False, True) * 20:
        kubelet.set_ready(pods[0], is_ready)
        look()
    kubelet.set_ready(pods[0], False)
    eventually(lambda: look() == "2/3")
    assert len(versions) <= 3, versions
    # A server does not count pods that were deleted before its start.
    for server in servers:
        server.stop()
    for pod in pods:
        cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_seconds=0)
    replica()
    eventually(lambda: health() == "1/1")


def test_an_object_from_kubectl_is_equivalent_to_an_api_call(cluster, place, replica):
    server = replica()
    cloudmap = server.cloudmap()
    # Instances and services come first, because the order must not matter.
    apply(cluster, place, "CloudMapInstance", "first", {
        "instanceId": "i-1", "serviceName": "Api", "namespaceName": "k.local",
        "attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1"}})
    apply(cluster, place, "CloudMapService", "any-name", {
        "name": "Api", "namespaceName": "k.local", "dnsConfig": {"dnsRecords": [{"type": "A", "ttl": 5}]},
        "healthCheckCustomConfig": {}, "tags": {"team": "a"}})
    eventually(lambda: condition(cluster, place, "CloudMapService", "any-name").get("reason") == "NamespaceNotFound")
    eventually(lambda: condition(cluster, place, "CloudMapInstance", "first").get("reason") == "ServiceNotFound")
    apply(cluster, place, "CloudMapNamespace", "zone", {"name": "k.local", "type": "DNS_PRIVATE", "vpc": "vpc-1"})
    eventually(lambda: a_records(server, "api.k.local") == ["10.0.0.1"])
    eventually(lambda: condition(cluster, place, "CloudMapInstance", "first").get("status") == "True")
    eventually(lambda: status_of(cluster, place, "CloudMapService", "any-name").get("id"))
    status = status_of(cluster, place, "CloudMapService", "any-name")
    assert status["address"] == "Api.k.local"
    assert cloudmap.GetService(Id=status["id"])["Service"]["Name"] == "Api"
    assert cloudmap.ListTagsForResource(ResourceARN=cloudmap.GetService(Id=status["id"])["Service"]["Arn"])["Tags"] == [
        {"Key": "team", "Value": "a"}]

    # Change the object by the API and by kubectl, and delete it by the API.
    cloudmap.set_health(status["id"], "i-1", "UNHEALTHY")
    assert a_records(server, "api.k.local") == []
    cloudmap.set_health(status["id"], "i-1", "HEALTHY")
    before = cloudmap.revision("k.local", "Api")
    cluster.kubectl("-n", place, "patch", "cmi", "first", "--type=merge", "-p",
                    json.dumps({"spec": {"attributes": {"AWS_INSTANCE_IPV4": "10.0.0.2"}}}))
    eventually(lambda: a_records(server, "api.k.local") == ["10.0.0.2"])
    assert cloudmap.revision("k.local", "Api") > before
    cloudmap.deregister(status["id"], "i-1")
    assert names(cluster, place, "cloudmapinstances") == []
    cloudmap.DeleteService(Id=status["id"])
    assert names(cluster, place, "cloudmapservices") == []


def test_an_invalid_object_has_an_error_status_and_does_not_affect_dns(cluster, place, replica):
    server = replica()
    cloudmap = server.cloudmap()
    namespace, service = web(cloudmap)
    cloudmap.instance(service, "i-1", ipv4="10.0.0.1")
    instance = name_of(cluster, place, "CloudMapInstance", instanceId="i-1")
    records = {"dnsRecords": [{"type": "A", "ttl": 5}]}

    # The API server refuses objects that violate the schema.
    def refused(kind, spec):
        done = apply(cluster, place, kind, "wrong", spec, check=False)
        assert done.returncode != 0
        return done.stderr

    assert "routingPolicy must be WEIGHTED" in refused("CloudMapService", {
        "name": "x", "namespaceId": namespace,
        "dnsConfig": {"routingPolicy": "MULTIVALUE", "dnsRecords": [{"type": "CNAME", "ttl": 1}]}})
    assert "exactly one of" in refused("CloudMapService", {"name": "x"})
    assert "vpc is for" in refused("CloudMapNamespace", {"name": "x", "type": "HTTP", "vpc": "v"})
    assert "spec.instanceId" in refused("CloudMapInstance", {"instanceId": "a b", "serviceId": service})

    # Other errors are in the status.
    for name, spec, reason, words in [
        ("no-address", {"instanceId": "i-2", "serviceId": service, "attributes": {"AWS_INSTANCE_IPV4": "1.2.3"}},
         "InvalidInput", "must be an IPv4 address"),
        ("again", {"instanceId": "i-1", "serviceId": service, "attributes": {"AWS_INSTANCE_IPV4": "10.9.9.9"}},
         "AnotherStands", instance),
        ("nowhere", {"instanceId": "i-1", "serviceId": "srv-none", "attributes": {}}, "ServiceNotFound", "Service"),
    ]:
        apply(cluster, place, "CloudMapInstance", name, spec)
        found = eventually(lambda: condition(cluster, place, "CloudMapInstance", name) or None)
        assert (found["status"], found["reason"]) == ("False", reason)
        assert words in found["message"]
    apply(cluster, place, "CloudMapService", "again", {"name": "WEB", "namespaceId": namespace, "dnsConfig": records})
    found = eventually(lambda: condition(cluster, place, "CloudMapService", "again") or None)
    assert found["reason"] == "AnotherStands"
    apply(cluster, place, "CloudMapNamespace", "again", {"name": "shop.local", "type": "DNS_PUBLIC"})
    assert eventually(lambda: condition(cluster, place, "CloudMapNamespace", "again") or None)["status"] == "False"
    assert a_records(server, "web.shop.local") == ["10.0.0.1"]
    assert list(cloudmap.listed_instances(service)) == ["i-1"]

    # When the older object is deleted, the younger one is accepted.
    cluster.kubectl("-n", place, "delete", "cmi", instance)
    eventually(lambda: a_records(server, "web.shop.local") == ["10.9.9.9"])
    eventually(lambda: condition(cluster, place, "CloudMapInstance", "again").get("status") == "True")


def answered(call, *arguments, **parameters):
    """The result of a call, as soon as it is not refused: other replicas need a moment to follow."""
    def ask():
        result = outcome(call, *arguments, **parameters)
        assert not isinstance(result, Refused), result
        return result or True
    return eventually(ask)


def test_of_two_concurrent_creations_one_succeeds_and_the_other_is_refused(cluster, place, replica):
    one, two = replica().cloudmap(), replica().cloudmap()
    namespace = one.private_namespace("race.local")
    answered(two.GetNamespace, Id=namespace)
    for number in range(15):
        name = f"s-{number}"
        results = at_once(*(
            lambda cloudmap=cloudmap, text=text: cloudmap.CreateService(Name=name, NamespaceId=namespace, Description=text)
            for cloudmap, text in ((one, "one"), (two, "two"))))
        won = [result for result in results if not isinstance(result, Refused)]
        lost = [result for result in results if isinstance(result, Refused)]
        assert len(won) == 1 and len(lost) == 1, results
        service = won[0]["Service"]
        assert (lost[0].code, lost[0].data["ServiceId"]) == ("ServiceAlreadyExists", service["Id"]), lost
        for cloudmap in (one, two):
            assert answered(cloudmap.GetService, Id=service["Id"])["Service"]["Description"] == service["Description"]


def test_an_owner_is_not_deleted_while_another_replica_creates_an_object_in_it(cluster, place, replica):
    one, two = replica().cloudmap(), replica().cloudmap()
    namespace = one.private_namespace("owner.local")
    for number in range(20):
        service = one.service(namespace, f"s-{number}", A=5)
        answered(two.GetService, Id=service)
        deleted, registered = at_once(
            lambda: one.DeleteService(Id=service),
            lambda: two.RegisterInstance(ServiceId=service, InstanceId="i", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1"}))
        is_deleted, is_registered = not isinstance(deleted, Refused), not isinstance(registered, Refused)
        assert is_deleted != is_registered, (deleted, registered)
        assert registered.code == "ServiceNotFound" if is_deleted else deleted.code == "ResourceInUse"
        for cloudmap in (one, two):
            if is_deleted:
                eventually(lambda: getattr(outcome(cloudmap.GetService, Id=service), "code", None) == "ServiceNotFound")
            else:
                eventually(lambda: list(cloudmap.listed_instances(service)) == ["i"])


def test_the_error_of_a_conflict_contains_the_name_of_an_applied_object(cluster, place, replica):
    cloudmap = replica().cloudmap()
    namespace, _ = web(cloudmap)
    taken = cloudmap.service(namespace, "api")
    cloudmap.DeleteService(Id=taken)
    apply(cluster, place, "CloudMapService", taken, {"name": "other", "namespaceId": namespace})
    eventually(lambda: condition(cluster, place, "CloudMapService", taken).get("status") == "True")
    refused = outcome(cloudmap.service, namespace, "api")
    assert refused.code == "InternalFailure" and taken in refused.message


def test_an_object_that_is_not_accepted_prevents_the_deletion_of_its_owner(cluster, place, replica):
    cloudmap = replica().cloudmap()
    _, service = web(cloudmap)
    apply(cluster, place, "CloudMapInstance", "wrong", {
        "instanceId": "i-1", "serviceId": service, "attributes": {"AWS_INSTANCE_IPV4": "1.2.3"}})
    eventually(lambda: condition(cluster, place, "CloudMapInstance", "wrong").get("status") == "False")
    refused = outcome(cloudmap.DeleteService, Id=service)
    assert refused.code == "ResourceInUse" and "CloudMapInstance wrong" in refused.message
    cluster.kubectl("-n", place, "delete", "cmi", "wrong")
    answered(cloudmap.DeleteService, Id=service)


def test_operations_and_revisions_are_equal_on_every_replica(cluster, place, replica):
    servers = [replica() for _ in range(3)]
    clients = [server.cloudmap() for server in servers]
    _, service = web(clients[0])
    for client in clients:
        answered(client.GetService, Id=service)
    last, operations = 0, []
    for number in range(12):
        client = clients[number % 3]
        output = client.RegisterInstance(ServiceId=service, InstanceId=f"i-{number}",
                                         Attributes={"AWS_INSTANCE_IPV4": f"10.0.0.{number + 1}"})
        operations.append(output["OperationId"])
        revision = client.revision("shop.local", "web")
        assert last < revision < 2 ** 53
        last = revision
        if number % 4 == 3:
            instance = f"i-{number - 1}"
            answered(client.GetInstance, ServiceId=service, InstanceId=instance)
            operations.append(client.DeregisterInstance(ServiceId=service, InstanceId=instance)["OperationId"])
            assert client.revision("shop.local", "web") > last
            last = client.revision("shop.local", "web")
    assert len(set(operations)) == len(operations)
    for client in clients:
        eventually(lambda: client.revision("shop.local", "web") == last)
        for operation in operations:
            assert answered(client.operation, operation)["Status"] == "SUCCESS"
    cluster.kubectl("-n", place, "delete", "cmi", name_of(cluster, place, "CloudMapInstance", instanceId="i-0"))
    eventually(lambda: clients[0].revision("shop.local", "web") > last)
    later = clients[0].revision("shop.local", "web")
    for client in clients:
        eventually(lambda: client.revision("shop.local", "web") == later)
    # A replica that was started later returns the data of the others.
    eventually(lambda: status_of(cluster, place, "CloudMapService", service).get("instancesRevision", 0) >= later)
    fresh = replica().cloudmap()
    for client in clients:
        eventually(lambda: client.revision("shop.local", "web") == fresh.revision("shop.local", "web") > later)
    # All replicas forget the operation of the object that kubectl deleted.
    eventually(lambda: fresh.ListOperations()["Operations"] == clients[0].ListOperations()["Operations"])
    assert len(fresh.ListOperations()["Operations"]) == len(operations)
    again = clients[1].RegisterInstance(ServiceId=service, InstanceId="i-t", CreatorRequestId="token",
                                        Attributes={"AWS_INSTANCE_IPV4": "10.0.1.1"})
    answered(fresh.GetInstance, ServiceId=service, InstanceId="i-t")
    answered(fresh.operation, again["OperationId"])
    assert again == fresh.RegisterInstance(ServiceId=service, InstanceId="i-t", CreatorRequestId="token",
                                           Attributes={"AWS_INSTANCE_IPV4": "10.0.1.1"})


def test_no_acknowledged_write_is_lost_when_replicas_are_killed(cluster, place, replica):
    servers = [replica() for _ in range(3)]
    _, service = web(servers[0].cloudmap())
    for server in servers:
        answered(server.cloudmap().GetService, Id=service)
    acknowledged, lock, stop = set(), threading.Lock(), threading.Event()

    def write(number):
        for count in itertools.count():
            if stop.is_set():
                return
            instance = f"w{number}-{count}"
            try:
                servers[number].cloudmap().RegisterInstance(
                    ServiceId=service, InstanceId=instance, Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1"})
            except Exception:  # noqa: BLE001 - after any error, the write was not acknowledged
                stop.wait(0.05)
                continue
            with lock:
                acknowledged.add(instance)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        for victim in (0, 1, 2):
            count = len(acknowledged)
            eventually(lambda: len(acknowledged) > count + 20)
            servers[victim].kill9()
            others = [server for server in servers if server is not servers[victim]]
            for server in others:
                assert server.cloudmap().listed_instances(service)
            servers[victim].start()
        count = len(acknowledged)
        eventually(lambda: len(acknowledged) > count + 20)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    for server in servers:
        eventually(lambda: acknowledged <= set(server.cloudmap().listed_instances(service)))
    everywhere = [set(server.cloudmap().listed_instances(service)) for server in servers]
    assert everywhere[0] == everywhere[1] == everywhere[2]


def test_a_restart_of_the_api_server_does_not_stop_the_server(cluster, place, replica):
    server = replica()
    cloudmap = server.cloudmap()
    _, service = web(cloudmap)
    cloudmap.instance(service, "i-1", ipv4="10.0.0.1")
    cluster.kill_api_server()
    try:
        refused = outcome(cloudmap.RegisterInstance, ServiceId=service, InstanceId="i-2",
                          Attributes={"AWS_INSTANCE_IPV4": "10.0.0.2"})
        assert refused.status == 500 and "Kubernetes" in refused.message
        assert a_records(server, "web.shop.local") == ["10.0.0.1"]
        late = replica(wait=False).launch()
        late.wait_for_message("the Kubernetes API does not answer; nothing of the store is known until it does")
        # No other replica could store the change either, so the server answers with an error and remains ready.
        server.until_readiness("custom resources: they may be old")
        server.until_readiness("store: the last change could not be stored")
        assert server.page("/readyz") == "ok\n"
        assert server.metric("kubernetes_store_stale") == 1
    finally:
        cluster.start_api_server()
    eventually(lambda: not isinstance(outcome(cloudmap.instance, service, "i-3", ipv4="10.0.0.3"), Refused), seconds=40)
    expected = a_records(server, "web.shop.local")
    assert {"10.0.0.1", "10.0.0.3"} <= set(expected)
    late.wait_for_message("ready")
    eventually(lambda: a_records(late, "web.shop.local") == expected, seconds=40)
    for one in (server, late):
        one.until_readiness("\ncustom resources: ok", seconds=40)
        one.until_metric("kubernetes_store_stale", 0, seconds=40)


def test_a_cluster_without_the_definitions_is_reported_at_the_start(tmp_path):
    bare = Cluster(tmp_path / "bare")
    try:
        bare.start()
        server = Server(tmp_path / "server", "--store", "kubernetes", "--kubeconfig", bare.kubeconfig).launch()
        assert server.wait() == 1
        assert "kubectl apply -f deploy/helm/cloudmap-dns/crds" in server.log_tail()
    finally:
        bare.stop()


def test_older_definitions_lose_no_field(tmp_path, start):
    """An API server drops fields that its definitions lack. The server acknowledges no change with such a field."""
    older = Cluster(tmp_path / "older")
    try:
        older.start()
        older.define()
        services, reports = (older.get(DEFINITION, f"{kind}.cloudmap-dns.io")
                             for kind in ("cloudmapservices", "cloudmaphealthreports"))
        del services["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["attributes"]
        older.request("PUT", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{services['metadata']['name']}", services)
        older.delete(DEFINITION, reports["metadata"]["name"])
        eventually(lambda: not older.serves("cloudmap-dns.io/v1alpha1/CloudMapHealthReport"))

        place, kubelet = older.namespace("older"), Kubelet(older)
        server = start("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", older.kubeconfig)
        cloudmap = server.cloudmap()
        service = cloudmap.service(cloudmap.private_namespace("older.local"), "web", A=60, custom_health=True)
        older.apply(kecs.namespace())
        pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)))
        instance = kecs.task_id(pod)
        eventually(lambda: cloudmap.health(service) == {instance: "HEALTHY"})

        for what in (lambda: cloudmap.set_attribute(service, "team", "blue"),
                     lambda: cloudmap.set_health(service, instance, "UNHEALTHY")):
            with pytest.raises(Refused) as refused:
                what()
            assert refused.value.status == 500
            assert "kubectl apply -f deploy/helm/cloudmap-dns/crds" in str(refused.value), str(refused.value)
        assert cloudmap.GetServiceAttributes(ServiceId=service)["ServiceAttributes"]["Attributes"] == {}
        assert cloudmap.health(service) == {instance: "HEALTHY"}

        older.define()

        def is_taken():
            try:
                cloudmap.set_attribute(service, "team", "blue")
                cloudmap.set_health(service, instance, "UNHEALTHY")
            except Refused as refused:
                raise AssertionError from refused
            return True
        eventually(is_taken)
        assert cloudmap.GetServiceAttributes(ServiceId=service)["ServiceAttributes"]["Attributes"] == {"team": "blue"}
        assert cloudmap.health(service) == {instance: "UNHEALTHY"}
    finally:
        older.stop()


def exported(server, *options):
    command = [binary(), "export", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment(server.directory), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(server, text, *options):
    command = [binary(), "import", *map(str, options)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60,
                          env=plain_environment(server.directory))
    return done


def everything(cloudmap, service):
    """The API's data: the service, its instances and their health, its revision, and the operations."""
    return {
        "service": cloudmap.GetService(Id=service)["Service"],
        "instances": cloudmap.listed_instances(service),
        "health": cloudmap.health(service),
        "operations": [cloudmap.operation(one["Id"]) for one in cloudmap.ListOperations()["Operations"]],
        "namespaces": cloudmap.ListNamespaces()["Namespaces"],
        "tags": cloudmap.ListTagsForResource(ResourceARN=cloudmap.GetService(Id=service)["Service"]["Arn"]),
        "attributes": cloudmap.GetServiceAttributes(ServiceId=service),
    }


def test_all_data_can_be_moved_between_the_stores(cluster, place, start, replica, tmp_path):
    old = start()
    cloudmap = old.cloudmap()
    _, service = web(cloudmap, custom_health=True, Tags=[{"Key": "team", "Value": "a"}], Description="text")
    cloudmap.http_namespace("Only_HTTP")
    cloudmap.set_attribute(service, "fail-open", "true")
    cloudmap.instance(service, "i-1", ipv4="10.0.0.1")
    cloudmap.instance(service, "I/2", ipv4="10.0.0.2", status="UNHEALTHY")
    cloudmap.deregister(service, cloudmap.instance(service, "i-3", ipv4="10.0.0.3"))
    # Sequence numbers that are above those of the cluster.
    before, revision = everything(cloudmap, service), cloudmap.revision("shop.local", "web")
    old.stop()

    there = ("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", cluster.kubeconfig)
    text = exported(old, "--data-dir", old.data)
    text = text.replace('{"sequence":', '{"sequence":9000000000') if '"sequence":' in text else text
    done = imported(old, text, *there)
    assert done.returncode == 0, done.stderr
    assert "imported 2 namespaces, 1 services, 2 instances" in done.stderr
    again = imported(old, text, *there)
    assert again.returncode == 1 and "import into an empty one" in again.stderr

    new = replica()
    cloudmap = new.cloudmap()
    assert everything(cloudmap, service) == before
    assert cloudmap.revision("shop.local", "web") >= revision
    cloudmap.instance(service, "i-4", ipv4="10.0.0.4")
    assert cloudmap.revision("shop.local", "web") > 9000000000
    before, revision = everything(cloudmap, service), cloudmap.revision("shop.local", "web")
    other = replica()
    eventually(lambda: revision < other.cloudmap().revision("shop.local", "web") == cloudmap.revision("shop.local", "web"))
    other.stop()
    revision = cloudmap.revision("shop.local", "web")

    back = start(wait=False)
    done = imported(back, exported(new, *there), "--data-dir", back.data)
    assert done.returncode == 0, done.stderr
    back.start()
    assert everything(back.cloudmap(), service) == before
    assert back.cloudmap().revision("shop.local", "web") == revision


def test_the_aws_cli_works_with_this_store(replica, place):
    server = replica()
    environment = server.clients.environment()

    def aws(*arguments):
        done = subprocess.run([AWS, "servicediscovery", *arguments, "--output", "json"], capture_output=True, text=True,
                              env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    operation = aws("create-private-dns-namespace", "--name", "cli.local", "--vpc", "vpc-1")["OperationId"]
    found = aws("get-operation", "--operation-id", operation)["Operation"]
    assert found["Status"] == "SUCCESS"
    service = aws("create-service", "--name", "web", "--namespace-id", found["Targets"]["NAMESPACE"], "--dns-config",
                  "DnsRecords=[{Type=A,TTL=60}]")["Service"]["Id"]
    aws("register-instance", "--service-id", service, "--instance-id", "i-1", "--attributes", "AWS_INSTANCE_IPV4=10.0.0.9")
    assert a_records(server, "web.cli.local") == ["10.0.0.9"]
