"""The mirror with cluster IPs: a real kube-proxy connects clients to the instances, and Services keep their addresses."""

import json

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND, GRACE_SECONDS
from harness.kube_proxy import NODE_IPV4, REFUSED, KubeProxy
from harness.mirror import DRAINING, NOT_READY, READY, Mirror

SLICE = "discovery.k8s.io/v1/EndpointSlice"
NAME = "sd-web"
# With more ports of instances than this, the Service has none of them.
OWN_PORTS_MAX = 16


@pytest.fixture(scope="module")
def kube_proxy(running_cluster, tmp_path_factory):
    kube_proxy = KubeProxy(running_cluster, tmp_path_factory.mktemp("kube-proxy"))
    try:
        yield kube_proxy.start()
    finally:
        kube_proxy.stop()


# `cluster` is before `start`, so that servers stop before the cluster is emptied: they would write deleted objects again.
@pytest.fixture
def server(cluster, start):
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "clusterip")
    server.until_metric("kubernetes_leader", 1)
    return server


@pytest.fixture
def web(cluster, server):
    return Web(cluster, server)


class Web:
    """The Cloud Map service `web` of a new zone, and the objects that the mirror writes for it."""

    def __init__(self, cluster, server):
        zone = f"{unique('cluster-ip')}.local"
        self._cluster, self._server = cluster, server
        self.mirror = Mirror(cluster, zone)
        self.namespace = self.mirror.namespace
        self.id = self._cloudmap.service(self._cloudmap.private_namespace(zone), "web", A=60)

    @property
    def _cloudmap(self):
        # The address is another one after a restart.
        return self._server.cloudmap()

    def register(self, task, port=None, name=None, **attributes):
        self._cloudmap.instance(self.id, name or task.name, ipv4=task.ipv4, port=port, **attributes)

    def deregister(self, name):
        self._cloudmap.deregister(self.id, name)

    def service(self):
        """The Service, as soon as it exists."""
        return eventually(lambda: self._cluster.get("Service", NAME, self.namespace))

    def identity(self):
        """Parts of the Service that another one of its name would not have."""
        service = self.service()
        return service["metadata"]["uid"], service["spec"]["clusterIPs"]

    def address(self):
        return self.service()["spec"]["clusterIP"]

    def has_ports(self, *numbers):
        """Waits until the Service has these ports of instances, and port 80."""
        expected = {"http": 80} | {f"port-{number}": number for number in numbers}

        def check():
            service = self._cluster.get("Service", NAME, self.namespace)
            assert service, f"no Service {NAME}"
            assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == expected
            return True
        eventually(check)

    def slice_ports(self):
        """Names and numbers of the ports, once for each EndpointSlice."""
        pieces = self._cluster.list(SLICE, self.namespace, f"kubernetes.io/service-name={NAME}")
        return [{port["name"]: port["port"] for port in piece["ports"] or ()} for piece in pieces]

    def kubectl(self, verb, *arguments):
        """Runs kubectl for the Service, as a user does."""
        return self._cluster.kubectl("-n", self.namespace, verb, "service", NAME, *arguments)


def test_connections_reach_the_ready_tasks_and_without_any_those_that_terminate_and_still_serve(
        cluster, kubelet, kube_proxy, web):
    cluster.apply(kecs.namespace())

    def started(name):
        task = kube_proxy.task(name, BACKEND.port)
        return task, kubelet.create(BACKEND.pod(BACKEND.registry(web.id)), task.ipv4)

    def deleted(pod):
        cluster.delete("Pod", pod["metadata"]["name"], BACKEND.namespace, grace_seconds=GRACE_SECONDS)

    def serve(*names):
        for port in (80, BACKEND.port):
            kube_proxy.serves(web.address(), port, *(f"{name}:{BACKEND.port}" for name in names))

    (one, first), (two, second), (three, third) = [started(name) for name in ("one", "two", "three")]
    serve("one", "two", "three")
    kubelet.set_ready(third, False)
    serve("one", "two")
    deleted(first)
    serve("two")
    assert web.mirror.conditions(NAME) == {one.ipv4: DRAINING, two.ipv4: READY, three.ipv4: NOT_READY}
    # A task that terminates and still serves is the better choice if no task is ready.
    deleted(second)
    serve("one", "two")
    kubelet.set_ready(first, False)
    serve("two")
    kubelet.end(second)
    for port in (80, BACKEND.port):
        kube_proxy.serves(web.address(), port, REFUSED)
    started("four")
    serve("four")


def test_port_80_reaches_all_instances_and_another_port_those_that_have_it(kube_proxy, web):
    one, two, three = kube_proxy.task("one", 8080), kube_proxy.task("two", 8080, 9090), kube_proxy.task("three", 80)
    web.register(one, 8080, AWS_INSTANCE_IPV6=one.ipv6)
    web.register(two, 9090)
    web.register(three, 80)
    web.has_ports(8080, 9090)
    ipv4, ipv6 = web.service()["spec"]["clusterIPs"]
    kube_proxy.serves(ipv4, 80, "one:8080", "two:9090", "three:80")
    kube_proxy.serves(ipv4, 8080, "one:8080")
    kube_proxy.serves(ipv4, 9090, "two:9090")
    for port in (80, 8080):
        kube_proxy.serves(ipv6, port, "one:8080")

    # A second port of a task is another instance.
    web.register(two, 8080, name="two-again")
    kube_proxy.serves(ipv4, 8080, "one:8080", "two:8080")
    kube_proxy.serves(ipv4, 80, "one:8080", "two:8080", "two:9090", "three:80")
    web.deregister("two")
    web.has_ports(8080)
    kube_proxy.serves(ipv4, 9090, REFUSED)
    kube_proxy.serves(ipv4, 80, "one:8080", "two:8080", "three:80")


def test_with_more_than_16_ports_of_instances_the_service_has_port_80_only(kube_proxy, web):
    *ports, last = range(8001, 8001 + OWN_PORTS_MAX + 1)
    many = kube_proxy.task("many", *ports, last)
    for port in ports:
        web.register(many, port, name=f"at-{port}")
    web.has_ports(*ports)
    address = web.address()
    web.register(many, last, name=f"at-{last}")
    web.has_ports()
    kube_proxy.serves(address, 80, *(f"many:{port}" for port in (*ports, last)))
    kube_proxy.serves(address, ports[0], REFUSED)
    web.deregister(f"at-{last}")
    web.has_ports(*ports)
    kube_proxy.serves(address, ports[0], f"many:{ports[0]}")


def test_a_service_keeps_its_cluster_ips_always_and_its_ports_while_no_instance_has_one(server, kube_proxy, web):
    one, two = kube_proxy.task("one", 8080), kube_proxy.task("two", 9090)
    web.has_ports()
    identity, address = web.identity(), web.address()
    web.register(one, 8080)
    web.has_ports(8080)
    kube_proxy.serves(address, 8080, "one:8080")
    web.deregister("one")
    for port in (80, 8080):
        kube_proxy.serves(address, port, REFUSED)
    web.has_ports(8080)

    server.restart()
    # A new leader has compared the Service and the Endpoints object with those that it would write.
    server.until_metric("kubernetes_mirror_objects", 2)
    server.until_metric("kubernetes_mirror_waiting_services", 0)
    assert server.metric("kubernetes_mirror_writes_total") == 0
    # Without a port, the mirror cannot know where the instance listens.
    web.register(two)
    web.mirror.shows(NAME, {two.ipv4})
    web.has_ports(8080)
    web.register(two, 9090)
    web.has_ports(9090)
    kube_proxy.serves(address, 9090, "two:9090")
    server.restart()
    web.register(one, 8080)
    web.has_ports(8080, 9090)
    kube_proxy.serves(address, 80, "one:8080", "two:9090")
    assert web.identity() == identity


def test_another_form_of_the_mirror_replaces_the_service(server, kube_proxy, web):
    one = kube_proxy.task("one", 8080)
    web.register(one, 8080)
    web.has_ports(8080)
    identities = [web.identity()]

    def restart(form):
        server.stop()
        server.options[server.options.index("--mirror") + 1] = form
        server.start()
        eventually(lambda: web.identity()[0] != identities[-1][0])
        identities.append(web.identity())

    def has_objects(slice_ports):
        eventually(lambda: web.slice_ports() == [slice_ports])
        web.mirror.shows(NAME, {one.ipv4})
        eventually(lambda: web.mirror.addresses(NAME) == ({one.ipv4}, set()))

    restart("on")
    assert web.address() == "None"
    web.has_ports()
    has_objects({"http": 8080})
    restart("clusterip")
    web.has_ports(8080)
    has_objects({"http": 8080, "port-8080": 8080})
    for port in (80, 8080):
        kube_proxy.serves(web.address(), port, "one:8080")


def test_changes_of_users_to_other_fields_remain(kube_proxy, web):
    one, two = kube_proxy.task("one", 8080), kube_proxy.task("two", 9090)
    web.register(one, 8080)
    web.has_ports(8080)
    identity = web.identity()
    web.kubectl("patch", "-p", json.dumps({"spec": {"type": "NodePort"}}))
    web.kubectl("annotate", "team=web")
    node_ports = {port["name"]: port["nodePort"] for port in web.service()["spec"]["ports"]}
    kube_proxy.serves(NODE_IPV4, node_ports["http"], "one:8080")

    # The mirror writes the Service again.
    web.register(two, 9090)
    web.has_ports(8080, 9090)
    service = web.service()
    assert service["spec"]["type"] == "NodePort" and service["metadata"]["annotations"]["team"] == "web"
    assert {port["name"]: port["nodePort"] for port in service["spec"]["ports"]}.items() > node_ports.items()
    assert web.identity() == identity
    kube_proxy.serves(NODE_IPV4, node_ports["http"], "one:8080", "two:9090")
    kube_proxy.serves(web.address(), 80, "one:8080", "two:9090")


@pytest.mark.parametrize("ports", [
    [{"name": "http", "port": 80}],
    [{"name": "http", "port": 81}, {"name": "port-8080", "port": 8080}],
    [{"name": "theirs", "port": 80}, {"name": "port-8080", "port": 8080}],
    [{"name": "http", "port": 80}, {"name": "port-8080", "port": 8081}],
], ids=["removed", "moved", "renamed", "moved_own"])
def test_changed_ports_are_reverted(kube_proxy, web, ports):
    one = kube_proxy.task("one", 8080)
    web.register(one, 8080)
    web.has_ports(8080)
    identity = web.identity()
    web.kubectl("patch", "--type=merge", "-p", json.dumps({"spec": {"ports": ports}}))
    web.has_ports(8080)
    assert web.identity() == identity
    for port in (80, 8080):
        kube_proxy.serves(web.address(), port, "one:8080")


@pytest.mark.parametrize("port", [{"name": "http", "port": 81}, {"name": "port-80", "port": 80}, {"name": "theirs", "port": 80}],
                         ids=["moved", "renamed_as_an_own_one", "renamed"])
def test_the_only_port_is_reverted(web, port):
    web.has_ports()
    identity = web.identity()
    web.kubectl("patch", "--type=merge", "-p", json.dumps({"spec": {"ports": [port]}}))
    web.has_ports()
    assert web.identity() == identity


def test_a_selector_of_a_user_is_removed(server, web):
    web.has_ports()
    identity = web.identity()
    web.kubectl("patch", "--type=merge", "-p", json.dumps({"spec": {"selector": {"app": "theirs"}}}))
    eventually(lambda: not web.service()["spec"].get("selector"))
    assert web.identity() == identity


def test_a_service_that_may_not_be_changed_is_left_alone(cluster, server, kube_proxy, web):
    one, two = kube_proxy.task("one", 8080), kube_proxy.task("two", 9090)
    web.register(one, 8080)
    web.has_ports(8080)
    kube_proxy.serves(web.address(), 8080, "one:8080")
    identity = web.identity()
    # It refuses changes as a quota or a policy of the cluster does.
    hook = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": unique("refuses-services")},
            "webhooks": [{"name": "away.cloudmap-dns.test", "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 1,
                          "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"},
                          "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": web.namespace}},
                          "rules": [{"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
                                     "resources": ["services"]}]}]}
    cluster.apply(hook)
    try:
        # The API server takes a moment to use it.
        eventually(lambda: "failed calling webhook" in cluster.kubectl(
            "-n", web.namespace, "annotate", "--overwrite", "service", NAME, "x=y", check=False).stderr)
        web.register(two, 9090)
        server.until_metric("kubernetes_mirror_refused_objects", 1)
        kube_proxy.serves(web.address(), 80, "one:8080", "two:9090")
        kube_proxy.serves(web.address(), 8080, "one:8080")
        assert web.identity() == identity
    finally:
        cluster.kubectl("delete", "validatingwebhookconfigurations", hook["metadata"]["name"])
