"""The two sides that are compared: instances written through the server, and objects written by a plain client."""

import json
from collections import deque

from . import cluster
from .load import Wrong
from .server import successful
from .world import compact, instance_id

# Kubernetes namespace in which the server reads nothing.
PLAIN = "plain"
WRITTEN_BY = "cloudmap-dns.io/written-by"
# Tolerance for values without a fixed length: addresses, names of Kubernetes namespaces and resource versions.
SIZE_DIFFERENCE_BYTES_MAX = 16


class Side:
    """A way to write instances. `versions` maps the number of an instance to its acknowledged version."""

    def __init__(self, bench):
        self.bench, self.world = bench, bench.world
        self.versions = {}
        # Instances without a request in flight, the least recently written one first.
        self.idle = deque()

    def register(self):
        number = self.bench.next_number
        self.bench.next_number += 1

        def done(status, body):
            self.check(number, status, body)
            self.versions[number] = 0
            self.idle.append(number)
        return self.create(number), done

    def register_again(self):
        if not self.idle:
            raise Wrong("fewer instances were registered than there are connections: --seconds has to be longer")
        number = self.idle.popleft()
        version = self.versions[number] + 1

        def done(status, body):
            self.check(number, status, body)
            self.versions[number] = version
            self.idle.append(number)
        return self.replace(number, version), done

    def deregister(self):
        if not self.idle:
            return None
        number = self.idle.popleft()

        def done(status, body):
            self.check_deletion(status, body)
            del self.versions[number]
        return self.delete(number), done


class ThroughServer(Side):
    """RegisterInstance and DeregisterInstance of the server."""

    name = "cloudmap-dns"

    @property
    def target(self):
        return self.bench.stored.target

    def create(self, number):
        return self.bench.stored.request("RegisterInstance", self.world.registration(number, 0))

    def replace(self, number, version):
        return self.bench.stored.request("RegisterInstance", self.world.registration(number, version))

    def delete(self, number):
        parameters = {"ServiceId": self.world.ids[self.world.service(number)], "InstanceId": instance_id(number)}
        return self.bench.stored.request("DeregisterInstance", parameters)

    def check(self, _number, status, body):
        operation_of(successful("RegisterInstance", status, body))

    def check_deletion(self, status, body):
        operation_of(successful("DeregisterInstance", status, body))


class PlainClient(Side):
    """The objects that the server would write, written to the API server in another Kubernetes namespace."""

    name = "plain client"

    def __init__(self, bench):
        super().__init__(bench)
        self.target = bench.target
        # The last resource version of each object, which a request to replace a custom resource has to contain.
        self.resource_versions = {}

    def manifest(self, number, version):
        annotations = dict(self.bench.template["metadata"]["annotations"])
        mark = annotations[WRITTEN_BY]
        annotations[WRITTEN_BY] = f"{number:x}.{version:x}".rjust(len(mark), "0")
        metadata = {"name": self.world.object_name(number), "annotations": annotations}
        if number in self.resource_versions:
            metadata["resourceVersion"] = self.resource_versions[number]
        return {"apiVersion": cluster.VERSION, "kind": "CloudMapInstance", "metadata": metadata,
                "spec": self.world.object_spec(number, version)}

    def create(self, number):
        return self.target.request("POST", cluster.instances_path(PLAIN) + cluster.PARAMETERS, compact(self.manifest(number, 0)))

    def replace(self, number, version):
        path = cluster.instances_path(PLAIN, self.world.object_name(number)) + cluster.PARAMETERS
        return self.target.request("PUT", path, compact(self.manifest(number, version)))

    def delete(self, number):
        del self.resource_versions[number]
        return self.target.request("DELETE", cluster.instances_path(PLAIN, self.world.object_name(number)))

    def check(self, number, status, body):
        stored = json.loads(successful("plain client", status, body))
        self.resource_versions[number] = stored["metadata"]["resourceVersion"]

    def check_deletion(self, status, body):
        successful("plain client", status, body)


def check_sizes(sides, bench):
    """Checks that the plain client's objects are about as long as the server's."""
    _, directly = sides
    request, done = directly.register()
    done(*bench.target.call(request))
    number = directly.idle[0]
    theirs = len(compact(bench.cluster.get(f"{cluster.VERSION}/CloudMapInstance", bench.world.object_name(number), PLAIN)))
    ours = len(compact(bench.template))
    print(f"object of an instance: {ours} bytes of JSON by the server, {theirs} by the plain client", flush=True)
    if abs(ours - theirs) > SIZE_DIFFERENCE_BYTES_MAX:
        raise Wrong("the plain client's objects have another size")


def operation_of(body):
    return json.loads(body)["OperationId"]
