"""Data of version 0.1.0, served by the version under test: no answer changes, and no revision or serial decreases."""

import copy
import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Callable

from harness.recorded import answer
from harness.server import binary, plain_environment

DATA = Path(__file__).parents[1] / "data" / "0.1.0"
# The Kubernetes namespace of the objects, and the name of the object that `cloudmap-dns import` creates for the store itself.
PLACE, STORE = "cloudmap-dns", "cloudmap-dns"
VERSION = "cloudmap-dns.io/v1alpha1"
REVISION = "InstancesRevision"


@dataclass
class Change:
    """A deliberate difference of newer versions. `alter` changes a recorded answer into the new one."""

    reason: str
    call: str
    applies: Callable[[dict], bool]
    alter: Callable[[dict], None]


# All deliberate differences from version 0.1.0, with their reasons.
CHANGES = [Change(
    "DiscoverInstances without HealthStatus answers with the instances that DNS answers with, so fail-open applies to it",
    "discover_instances",
    lambda parameters: parameters == {"NamespaceName": "production.local", "ServiceName": "open"},
    lambda output: output["Instances"].append({
        "InstanceId": "unhealthy", "NamespaceName": "production.local", "ServiceName": "open", "HealthStatus": "UNHEALTHY",
        "Attributes": {"AWS_INSTANCE_IPV4": "10.0.10.1"}}))]


class Recorded:
    """Calls with the answers of 0.1.0, and its sequence number and serials at that time."""

    def __init__(self, name):
        found = json.loads((DATA / f"{name}-expected.json").read_text(encoding="utf-8"))
        self.calls, self.serials, self.sequence = found["calls"], found["serials"], found["sequence"]

    def outputs(self, call, member):
        return [one["output"][member] for one in self.calls if one["call"] == call]

    def service(self, name):
        [found] = [service for service in self.outputs("get_service", "Service") if service["Name"] == name]
        return found

    def operation(self, kind, target, of):
        """The id of the operation of this type on this target."""
        [found] = [operation["Id"] for operation in self.outputs("get_operation", "Operation")
                   if (operation["Type"], operation["Targets"].get(target)) == (kind, of)]
        return found

    def assert_answered(self, server):
        """Asserts that the server answers every call as recorded, with revisions and serials that are not lower."""
        client, differing = server.clients.boto(), []
        for one in self.calls:
            call, parameters, wanted = one["call"], one["parameters"], self.wanted(one)
            found = answer(client, call, parameters)
            if REVISION in wanted:
                assert found.pop(REVISION) >= wanted.pop(REVISION), one
            if found != wanted:
                differing.append(f"{call} {parameters}\n  found    {found}\n  recorded {wanted}")
        assert not differing, f"{len(differing)} of {len(self.calls)} answers differ:\n" + "\n".join(differing)
        for zone, serial in self.serials.items():
            assert server.resolver.serial(zone) >= serial, zone

    @staticmethod
    def wanted(one):
        output = copy.deepcopy(one["output"])
        for change in CHANGES:
            if change.call == one["call"] and change.applies(one["parameters"]):
                change.alter(output)
                assert output != one["output"], f"this answer has not changed: {change.reason}"
        return output

    def assert_retries_are_known(self, server):
        """Asserts that repeated requests with a token of 0.1.0 get the answer of 0.1.0."""
        client, service = server.clients.boto(), self.service("a")
        for instance, token, ipv4 in (("with-token", "register-with-token", "10.0.1.1"),
                                      ("with-uuid", "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "10.0.1.2")):
            again = client.register_instance(ServiceId=service["Id"], InstanceId=instance, CreatorRequestId=token,
                                             Attributes={"AWS_INSTANCE_IPV4": ipv4})
            assert again["OperationId"] == self.operation("REGISTER_INSTANCE", "INSTANCE", instance)
        again = client.create_public_dns_namespace(
            Name="shop.example", CreatorRequestId="create-shop", Description="The public zone",
            Properties={"DnsProperties": {"SOA": {"TTL": 33}}}, Tags=[{"Key": "team", "Value": "shop"}])
        shop = self.service("checked")["NamespaceId"]
        assert again["OperationId"] == self.operation("CREATE_NAMESPACE", "NAMESPACE", shop)
        again = client.create_service(
            Name="a", NamespaceId=service["NamespaceId"], Description="A alone", CreatorRequestId="create-a",
            DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 60}]}, Tags=[{"Key": "team", "Value": "a"}])
        assert again["Service"]["Id"] == service["Id"]


def assert_writes_succeed(server, recorded):
    """Asserts that new writes are stored and served, with revisions and serials above those of 0.1.0."""
    cloudmap, service = server.cloudmap(), recorded.service("a")["Id"]
    before = server.resolver.addresses("a.production.local")
    done = cloudmap.RegisterInstance(ServiceId=service, InstanceId="new",
                                     Attributes={"AWS_INSTANCE_IPV4": "10.0.1.99"})
    assert done["OperationId"] not in {operation["Id"] for operation in recorded.outputs("get_operation", "Operation")}
    cloudmap.deregister(service, "without-token")
    # A new report replaces a status that was reported to 0.1.0.
    reported = recorded.service("reported")["Id"]
    cloudmap.set_health(reported, "unhealthy", "HEALTHY")

    def assert_written():
        assert cloudmap.operation(done["OperationId"])["Status"] == "SUCCESS"
        assert server.resolver.addresses("a.production.local") == before - {"10.0.1.3"} | {"10.0.1.99"}
        assert cloudmap.health(reported)["unhealthy"] == "HEALTHY"
        assert "10.0.9.3" in server.resolver.addresses("reported.production.local")
        assert cloudmap.revision("production.local", "a") > recorded.sequence
        assert server.resolver.serial("production.local") > recorded.serials["production.local"]

    assert_written()
    serial, revision = server.resolver.serial("production.local"), cloudmap.revision("production.local", "a")
    server.kill9()
    server.start()
    cloudmap = server.cloudmap()
    assert_written()
    assert server.resolver.serial("production.local") >= serial
    assert cloudmap.revision("production.local", "a") >= revision


def exported(server, *options):
    """The lines of `cloudmap-dns export`."""
    done = subprocess.run([binary(), "export", *map(str, options)], capture_output=True, text=True, timeout=60,
                          env=plain_environment(server.directory))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_serves(server, recorded):
    recorded.assert_answered(server)
    recorded.assert_retries_are_known(server)
    server.restart()
    recorded.assert_answered(server)
    assert_writes_succeed(server, recorded)


def test_an_embedded_store_of_0_1_0(start):
    server = start(wait=False)
    shutil.copytree(DATA / "store", server.data)
    recorded = Recorded("store")
    [sequence] = [line["sequence"] for line in exported(server, "--data-dir", server.data) if "sequence" in line]
    assert sequence == recorded.sequence
    assert_serves(server.start(), recorded)


def test_custom_resources_of_0_1_0(cluster, start):
    cluster.define()
    cluster.namespace(PLACE)
    recorded = Recorded("objects")
    objects = json.loads((DATA / "objects.json").read_text(encoding="utf-8"))["items"]
    store = {"apiVersion": VERSION, "kind": "CloudMapStore", "metadata": {"name": STORE, "namespace": PLACE},
             "spec": {"numberOffset": recorded.sequence}}
    for found in [store, *sorted(objects, key=lambda found: int(found["metadata"]["resourceVersion"]))]:
        create(cluster, found)
    options = ("--store", "kubernetes", "--store-namespace", PLACE, "--kubeconfig", cluster.kubeconfig)
    assert_serves(start(*options), recorded)


def create(cluster, found):
    """Creates an object in another cluster, as `cloudmap-dns import` does.

    Version 0.1.0 relied on the object's resource version in etcd and on its creation time, both of which are different
    in the new cluster. So the recorded ones are written to the status, and to the spec of an operation.
    """
    metadata, spec, status = found["metadata"], dict(found["spec"]), dict(found.get("status", {}))
    kind, name, place = f"{VERSION}/{found['kind']}", metadata["name"], metadata["namespace"]
    number = int(metadata.get("resourceVersion", 0))
    if found["kind"] == "CloudMapOperation":
        spec.setdefault("number", number)
    elif "resourceVersion" in metadata:
        status.setdefault("number", number)
        # The status applies to the first generation of the new object.
        status["observedGeneration"] = 1
        for condition in status.get("conditions", []):
            condition["observedGeneration"] = 1
    if found["kind"] in ("CloudMapNamespace", "CloudMapService"):
        created = datetime.fromisoformat(metadata["creationTimestamp"])
        status.setdefault("createDateMs", int(created.timestamp() * 1000))
    cluster.create({"apiVersion": VERSION, "kind": found["kind"], "spec": spec, "metadata": {
        "name": name, "namespace": place, "annotations": metadata.get("annotations", {})}})
    if status:
        cluster.patch(kind, name, place, {"status": status}, "status")
