"""The whole system with its real parts: three servers with the rights of the chart, behind the cluster's DNS. The test runs
all steps from the creation of a namespace to its deletion, with the failures of a cluster in between."""

import functools
import itertools
import json
import shlex
import signal

import pytest

from harness import helm, kecs
from harness.agreement import UNHEALTHY, UNKNOWN, Agreement, of_pods
from harness.background import Background
from harness.coredns import CoreDns
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.proxy import Proxy
from harness.witness import Witness, by_dns

ZONE, NAME = "demo.local", "backend-api"
REPLICAS = 3
PODS = f"app={BACKEND.name}"
COREDNS = "CoreDNS"
# After a restart of the API server, its clients reconnect within about ten seconds.
RETURN_SECONDS = 45.0
# A killed leader holds its Lease for 15 seconds. Another server checks it every 2 seconds, and then writes.
TAKEOVER_SECONDS = 30.0
WRITE_PAUSE_SECONDS = 0.05


class System:
    """All parts of an installation, and an ECS service in the cluster."""

    def __init__(self, cluster, kubelet, replicas, coredns):
        self.cluster, self.kubelet, self.replicas, self.coredns = cluster, kubelet, replicas, coredns
        self.seen = None

    # -- replicas -----------------------------------------------------------------------------------------------------

    def running(self):
        return [replica for replica in self.replicas if replica.is_running()]

    def leaders(self):
        return [replica for replica in self.running() if replica.metric("kubernetes_leader") == 1]

    def aws(self, number, command):
        """Sends an aws command to a replica, which may need a moment to learn of changes that another one has acknowledged."""
        aws = self.replicas[number].clients.aws

        def output():
            done = aws(command, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip() or "{}"
        return json.loads(eventually(output, poll_seconds=0.1))

    # -- the ECS service ----------------------------------------------------------------------------------------------

    def pods(self):
        """The pods that are not being deleted, sorted by name."""
        found = [pod for pod in self.cluster.list("Pod", BACKEND.namespace, PODS)
                 if "deletionTimestamp" not in pod["metadata"]]
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    def run(self, count, ready=True):
        """Runs the pods that are not running yet. Returns all pods as soon as there are so many."""
        def there():
            found = self.pods()
            assert len(found) == count, [pod["metadata"]["name"] for pod in found]
            return found
        return [pod if "podIP" in pod["status"] else self.kubelet.run(pod, ready=ready)
                for pod in eventually(there, RETURN_SECONDS)]

    def kubectl(self, *arguments):
        return self.cluster.kubectl("-n", BACKEND.namespace, *arguments)

    def scaled(self, count):
        """Scales to this number of tasks while a kubelet runs and ends pods. Returns the pods."""
        self.kubectl("scale", "deployment", BACKEND.name, f"--replicas={count}")
        with self.kubelet.follow(BACKEND.namespace):
            self.kubectl("rollout", "status", f"deployment/{BACKEND.name}", "--timeout=60s")
            def only_these():
                found = self.cluster.list("Pod", BACKEND.namespace, PODS)
                return found if len(found) == count and all("podIP" in pod["status"] for pod in found) else None
            return eventually(only_these)

    def witness(self, replicas):
        """Queries these replicas and CoreDNS, whose answers may be from any of the replicas."""
        resolvers = {str(replica.directory): replica.resolver for replica in replicas} | {COREDNS: self.coredns.resolver}
        sources = {who: by_dns(resolver, f"{NAME}.{ZONE}") for who, resolver in resolvers.items()}
        return Witness(sources, lambda: self.cluster.list("Pod", BACKEND.namespace, PODS), behind=(COREDNS,))

    def away(self, during=lambda: None):
        """Stops the API server, calls a function, and starts the API server again."""
        self.cluster.kill_api_server()
        try:
            during()
        finally:
            self.cluster.start_api_server()


@pytest.fixture
def system(cluster, start, kubelet, tmp_path):
    cluster.apply(kecs.namespace())
    options = helm.account(cluster, tmp_path, {"replicas": REPLICAS})
    cluster.wait_for_definitions()
    replicas = [start(*options) for _ in range(REPLICAS)]
    # A proxy in place of kube-proxy and the Service's EndpointSlices.
    behind = Proxy(lambda: [replica.dns_address for replica in replicas if replica.is_running() and replica.addresses])
    service = cluster.get("Service", "cloudmap", helm.NAMESPACE)["spec"]["clusterIP"]
    here = "{}:{}".format(*behind.start().address)
    coredns = CoreDns(cluster, tmp_path / "coredns", {f"{service}:53": here})
    try:
        coredns.start()
        yield System(cluster, kubelet, replicas, coredns)
    finally:
        coredns.stop()
        behind.stop()


class Load(Background):
    """Registers instances at every replica continuously, and records the acknowledged ones."""

    def __init__(self, system, service):
        self._replicas, self._service = system.replicas, service
        super().__init__([functools.partial(self._write, number) for number in range(len(system.replicas))])
        self.acknowledged = [set() for _ in self._replicas]

    def wait_for_writes(self, *replicas, count=10):
        """Waits until each of these replicas has acknowledged so many more."""
        numbers = [self._replicas.index(replica) for replica in replicas]
        enough = {number: len(self.acknowledged[number]) + count for number in numbers}
        eventually(lambda: all(len(self.acknowledged[number]) >= enough[number] for number in numbers), RETURN_SECONDS)

    def _write(self, number):
        for count in itertools.count():
            instance = f"w{number}-{count}"
            try:
                self._replicas[number].cloudmap().RegisterInstance(
                    ServiceId=self._service, InstanceId=instance, Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1"})
                self.acknowledged[number].add(instance)
            except Exception:  # noqa: BLE001 - after any error, the write was not acknowledged
                pass
            if self._ended.wait(WRITE_PAUSE_SECONDS):
                return


def test_from_the_first_command_to_the_last(system):
    namespace, service = creates_a_namespace_and_a_service(system)
    tasks_start_fail_and_recover(system)
    a_task_is_stopped_and_replaced(system)
    the_service_is_scaled_out_and_in(system)
    a_rolling_update_never_answers_nothing(system)
    the_history_is_lost(system, service)
    every_replica_is_killed_in_turn(system)
    removes_everything(system, namespace, service)


def creates_a_namespace_and_a_service(system):
    # Send each command to another replica.
    operation = system.aws(0, f"create-private-dns-namespace --name {ZONE} --vpc vpc-12345678")["OperationId"]
    done = system.aws(1, f"get-operation --operation-id {operation}")["Operation"]
    assert done["Status"] == "SUCCESS"
    namespace = done["Targets"]["NAMESPACE"]
    dns_config = shlex.quote(f"NamespaceId={namespace},DnsRecords=[{{Type=A,TTL=60}}]")
    made = system.aws(2, f"create-service --name {NAME} --namespace-id {namespace} --dns-config {dns_config} "
                         "--health-check-custom-config FailureThreshold=1")
    service = made["Service"]["Id"]
    # The server configures CoreDNS to forward to the address of the server's Service, which it has found.
    system.coredns.wait_for(ZONE)
    assert set(system.coredns.blocks()) == {"cloudmap-dns.server"}
    eventually(lambda: len(system.leaders()) == 1)

    def shown():
        row = system.cluster.kubectl("-n", helm.NAMESPACE, "get", "cloudmapservices").splitlines()[1].split()
        assert row[:2] == [service, "DNS_HTTP"] and f"{NAME}.{ZONE}" in row
        return True
    eventually(shown)
    system.seen = Agreement(system.running, ZONE, NAME, service, system.cluster, system.coredns)
    system.seen.wait_for({})
    eventually(lambda: system.seen.mirror.services() == {f"sd-{NAME}"}, poll_seconds=0.1)
    system.coredns.dig(f"{NAME}.{ZONE}").assert_nodata(f"{ZONE}.")
    system.cluster.create(BACKEND.deployment(BACKEND.registry(service), replicas=2))
    return namespace, service


def tasks_start_fail_and_recover(system):
    pods = system.run(2, ready=False)
    system.seen.wait_for(of_pods(*pods, status=UNKNOWN))
    for pod in pods:
        system.kubelet.set_ready(pod, True)
    system.seen.wait_for(of_pods(*pods))
    answer = system.coredns.dig(f"{NAME}.{ZONE}")
    assert answer.ttls() == {60} and answer.owners() == {f"{NAME}.{ZONE}."}
    system.kubelet.set_ready(pods[0], False)
    system.seen.wait_for(of_pods(pods[0], status=UNHEALTHY) | of_pods(pods[1]))
    system.kubelet.set_ready(pods[1], False)
    system.seen.wait_for(of_pods(*pods, status=UNHEALTHY))
    system.coredns.dig(f"{NAME}.{ZONE}").assert_nodata(f"{ZONE}.")
    for pod in pods:
        system.kubelet.set_ready(pod, True)
    system.seen.wait_for(of_pods(*pods))


def a_task_is_stopped_and_replaced(system):
    old, other = system.pods()
    system.cluster.delete("Pod", old["metadata"]["name"], BACKEND.namespace, grace_seconds=kecs.GRACE_SECONDS)
    # The instance is removed as soon as the pod is deleted, while the pod still exists.
    system.seen.wait_for(of_pods(other))
    assert system.cluster.get("Pod", old["metadata"]["name"], BACKEND.namespace)["metadata"]["deletionTimestamp"]
    pods = system.run(2)
    system.seen.wait_for(of_pods(*pods))
    # The end of the pod has no further effect.
    system.kubelet.end(old)
    system.seen.wait_for(of_pods(*pods))


def the_service_is_scaled_out_and_in(system):
    for count in (5, 1):
        pods = system.scaled(count)
        system.seen.wait_for(of_pods(*pods))


def a_rolling_update_never_answers_nothing(system):
    old = {pod["status"]["podIP"] for pod in system.scaled(3)}
    name = f"{NAME}.{ZONE}"
    with system.witness(system.replicas) as witness, system.kubelet.follow(BACKEND.namespace):
        system.kubectl("set", "image", f"deployment/{BACKEND.name}", "backend=registry.kecs.local:5000/backend:2")
        eventually(lambda: system.replicas[0].resolver.addresses(name) - old)

        def noticed():
            for replica in system.replicas:
                replica.until_metric("kubernetes_watch_stale", 1)
            witness.wait_for_answers(100)
        # Stop the API server in the middle of the update.
        system.away(noticed)
        system.kubectl("rollout", "status", f"deployment/{BACKEND.name}", "--timeout=60s")
        eventually(lambda: len(system.pods()) == 3, RETURN_SECONDS)
        system.seen.wait_for(of_pods(*system.pods()), RETURN_SECONDS)
    witness.judge()
    # The witness has both kinds of answers: stale ones while the API server was stopped, and others.
    assert {heard.is_stale for heard in witness.heard if heard.who != COREDNS} == {True, False}
    assert not old & system.replicas[0].resolver.addresses(name)
    for replica in system.replicas:
        replica.until_metric("kubernetes_watch_stale", 0)


def the_history_is_lost(system, service):
    pods = system.pods()
    lists = [replica.metric("kubernetes_lists_total") for replica in system.replicas]
    for replica in system.replicas:
        replica.process.send_signal(signal.SIGSTOP)
    try:
        # Their watches are cut, so that they miss the following events: a task is replaced, and kubectl creates an instance.
        system.away()
        system.kubelet.end(pods[0])
        after = system.run(3)
        system.cluster.apply({
            "apiVersion": "cloudmap-dns.io/v1alpha1", "kind": "CloudMapInstance",
            "metadata": {"name": "by-hand", "namespace": helm.NAMESPACE},
            "spec": {"instanceId": "by-hand", "serviceId": service, "attributes": {"AWS_INSTANCE_IPV4": "192.0.2.9"}}})
        # The resource versions of their watches are compacted, so that they get 410 Gone.
        system.cluster.compact()
        system.away()
    finally:
        for replica in system.replicas:
            replica.process.send_signal(signal.SIGCONT)
    system.seen.wait_for(of_pods(*after) | {"by-hand": ("192.0.2.9", "HEALTHY")}, RETURN_SECONDS)
    for replica, before in zip(system.replicas, lists):
        assert replica.metric("kubernetes_lists_total") > before
    system.cluster.kubectl("-n", helm.NAMESPACE, "delete", "cmi", "by-hand")
    system.seen.wait_for(of_pods(*after))


def every_replica_is_killed_in_turn(system):
    pods = system.pods()
    namespace = system.replicas[0].cloudmap().http_namespace("load")
    load_service = eventually(lambda: system.replicas[0].cloudmap().service(namespace, "load"))
    for replica in system.replicas:
        eventually(lambda: load_service in known_services(replica))
    [leader] = eventually(lambda: system.leaders() or None, TAKEOVER_SECONDS)
    followers = [replica for replica in system.replicas if replica is not leader]
    with Load(system, load_service) as load:
        load.wait_for_writes(*system.replicas)
        for victim in (*followers, leader):
            others = [replica for replica in system.replicas if replica is not victim]
            with system.witness(others) as witness:
                victim.kill9()
                load.wait_for_writes(*others)
                witness.wait_for_answers(50)
                if victim is leader:
                    [successor] = eventually(lambda: system.leaders() or None, TAKEOVER_SECONDS)
                    assert successor in followers
                    # The other replica writes the following changes.
                    system.kubelet.set_ready(pods[0], False)
                    system.seen.wait_for(of_pods(pods[0], status=UNHEALTHY) | of_pods(*pods[1:]), TAKEOVER_SECONDS)
                    system.kubelet.set_ready(pods[0], True)
            witness.judge()
            victim.start()
            system.seen.wait_for(of_pods(*pods))
            load.wait_for_writes(victim)
    acknowledged = set().union(*load.acknowledged)
    for replica in system.replicas:
        def has_all():
            missing = acknowledged - set(replica.cloudmap().listed_instances(load_service))
            assert not missing, (len(missing), len(acknowledged), replica.directory)
            return True
        eventually(has_all)


def known_services(replica):
    return {service["Id"] for page in replica.cloudmap().pages("ListServices") for service in page["Services"]}


def removes_everything(system, namespace, service):
    system.kubectl("delete", "deployment", BACKEND.name, "--wait=false")
    system.seen.wait_for({})
    system.aws(0, f"delete-service --id {service}")
    for replica in system.replicas:
        eventually(lambda: replica.dig(f"{NAME}.{ZONE}").status == "NXDOMAIN")
    system.coredns.dig(f"{NAME}.{ZONE}").assert_nxdomain(f"{ZONE}.")
    eventually(lambda: system.seen.mirror.services() == set(), poll_seconds=0.1)
    system.aws(1, f"delete-namespace --id {namespace}")
    for replica in system.replicas:
        eventually(lambda: replica.dig(ZONE, "SOA").status == "REFUSED")
    assert [found["Name"] for found in system.aws(2, "list-namespaces")["Namespaces"]] == ["load"]
    eventually(lambda: system.coredns.blocks() == {})
    eventually(lambda: system.coredns.dig(ZONE, "SOA").status != "NOERROR")
