"""KECS's own scripts, examples and scenarios, replayed against a real API server, with the assertions that they lack.

Each test has the name of the script or scenario that it replays. The test creates the objects that KECS would create, and
Kubernetes' controllers create the pods of Deployments. No container runs, so a fake kubelet reports the status of pods.
"""

import json
import re
import shlex
import subprocess
import sys

import pytest

from harness import kecs
from harness.agreement import HEALTHY, UNHEALTHY, UNKNOWN, Agreement, instance_id, of_pods
from harness.container import PodNetwork, inside
from harness.deadline import eventually
from harness.kecs import BACKEND, FRONTEND, GATEWAY, HEALTH_TEST, USERS
from harness.kubelet import conditions, containers
from harness.kubernetes import programs
from harness.program import free_port
from harness.sdk import AWS
from harness.server import plain_environment

TASK_SET = "ts-537efbba"


class Scene:
    """A cluster with KECS, and a server beside KECS that watches pods and mirrors services."""

    def __init__(self, server, cluster, kubelet):
        self.server, self.cluster, self.kubelet = server, cluster, kubelet
        self.cloudmap = server.cloudmap()
        self.aws = server.clients.aws

    # -- the aws CLI --------------------------------------------------------------------------------------------------

    def create_namespace(self, name):
        operation = self.aws(f"create-private-dns-namespace --name {name} --vpc vpc-12345678")["OperationId"]
        done = self.aws(f"get-operation --operation-id {operation}")["Operation"]
        assert done["Status"] == "SUCCESS"
        return done["Targets"]["NAMESPACE"]

    def create_service(self, namespace, name, ttl, *more):
        dns_config = shlex.quote(f"NamespaceId={namespace},DnsRecords=[{{Type=A,TTL={ttl}}}]")
        made = self.aws(f"create-service --name {name} --namespace-id {namespace} --dns-config {dns_config} "
                        + " ".join(more))
        return made["Service"]["Id"]

    # -- the cluster --------------------------------------------------------------------------------------------------

    def deploy(self, service, service_id, replicas):
        """Creates an ECS service with a registry and runs its tasks. Returns their pods."""
        self.cluster.create(service.deployment(service.registry(service_id), replicas=replicas))
        return self.run(f"app={service.name}", service.namespace, replicas)

    def run(self, selector, namespace, count):
        """Runs the pods that are not running yet. Returns all pods as soon as there are so many."""
        def there():
            found = self.pods(selector, namespace)
            assert len(found) == count, [pod["metadata"]["name"] for pod in found]
            return found
        return [pod if "podIP" in pod["status"] else self.kubelet.run(pod) for pod in eventually(there)]

    def pods(self, selector, namespace):
        """The pods that are not being deleted, sorted by name."""
        found = self.cluster.list("Pod", namespace, selector)
        return sorted((pod for pod in found if "deletionTimestamp" not in pod["metadata"]),
                      key=lambda pod: pod["metadata"]["name"])

    def stop_task(self, pod):
        """Stops a task like `aws ecs stop-task`: the pod gets half a minute to end."""
        metadata = pod["metadata"]
        self.cluster.delete("Pod", metadata["name"], metadata["namespace"], grace_seconds=kecs.GRACE_SECONDS)

    def scale(self, service, replicas):
        self.cluster.kubectl("-n", service.namespace, "scale", "deployment", service.name, f"--replicas={replicas}")

    # -- views --------------------------------------------------------------------------------------------------------

    def agreement(self, zone, name, service_id):
        return Agreement(lambda: [self.server], zone, name, service_id, self.cluster)

    def dig(self, name, rrtype="A"):
        return self.server.dig(name, rrtype)


# `cluster` is before `start`, so that servers stop before the cluster is emptied: they would write deleted objects again.
@pytest.fixture
def scene(cluster, start, kubelet):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    server.until_metric("kubernetes_watch_stale", 0)
    return Scene(server, cluster, kubelet)


def test_health_service_discovery_sh(scene):
    zone, name = "production.local", "health-test-service"
    # Steps 1 and 2 of the script: the namespace and the service.
    namespace = scene.create_namespace(zone)
    service = scene.create_service(namespace, name, 30)
    scene.dig(f"{name}.{zone}").assert_nodata(f"{zone}.")
    seen = scene.agreement(zone, name, service)
    # Steps 3 and 4: the task definition with its health check, and an ECS service of two tasks with the registry.
    pods = scene.deploy(HEALTH_TEST, service, 2)
    first, second = (pod["status"]["podIP"] for pod in pods)
    probe = pods[0]["spec"]["containers"][0]["readinessProbe"]
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (10, 5, 2)
    # Step 5: both tasks run.
    seen.wait_for(of_pods(*pods))
    # Step 6: list-instances shows them with their addresses.
    listed = scene.aws(f"list-instances --service-id {service}")["Instances"]
    assert {instance["Id"]: instance["Attributes"]["AWS_INSTANCE_IPV4"] for instance in listed} == {
        instance_id(pods[0]): first, instance_id(pods[1]): second}
    # Step 7: both are in DNS, with the service's TTL.
    answer = scene.dig(f"{name}.{zone}")
    answer.assert_positive(first, second)
    assert answer.ttls() == {30}
    # Steps 8 and 9: one task's health check fails, and all views show that.
    scene.kubelet.set_ready(pods[0], False)
    seen.wait_for(of_pods(pods[0], status=UNHEALTHY) | of_pods(pods[1]))
    reported = scene.aws(f"get-instances-health-status --service-id {service}")["Status"]
    assert reported == {instance_id(pods[0]): "UNHEALTHY", instance_id(pods[1]): "HEALTHY"}
    # Step 10: only the other one is in DNS.
    scene.dig(f"{name}.{zone}").assert_positive(second)
    found = scene.aws(f"discover-instances --namespace-name {zone} --service-name {name}")["Instances"]
    assert [instance["InstanceId"] for instance in found] == [instance_id(pods[1])]
    # Step 11: the task recovers.
    scene.kubelet.set_ready(pods[0], True)
    seen.wait_for(of_pods(*pods))
    scene.dig(f"{name}.{zone}").assert_positive(first, second)


class Demo:
    """The deployed example service-to-service-communication: two backends and a frontend in demo.local."""

    zone = "demo.local"

    def __init__(self, scene, namespace, backend, frontend):
        self.namespace, self.backend, self.frontend = namespace, backend, frontend
        self.backends = scene.deploy(BACKEND, backend, 2)
        self.frontends = scene.deploy(FRONTEND, frontend, 1)
        scene.agreement(self.zone, "backend-api", backend).wait_for(of_pods(*self.backends))
        scene.agreement(self.zone, "frontend-web", frontend).wait_for(of_pods(*self.frontends))


@pytest.fixture
def demo(scene):
    namespace = scene.cloudmap.private_namespace(Demo.zone)
    return Demo(scene, namespace, *(scene.cloudmap.service(namespace, name, A=60) for name in ("backend-api", "frontend-web")))


def addresses(pods):
    return {pod["status"]["podIP"] for pod in pods}


def test_deploy_sh(scene):
    namespace = scene.create_namespace(Demo.zone)
    services = [scene.create_service(namespace, name, 60, "--health-check-config",
                                     "Type=HTTP,ResourcePath=/health,FailureThreshold=3")
                for name in ("backend-api", "frontend-web")]
    demo = Demo(scene, namespace, *services)
    for name, pods, port in (("backend-api", demo.backends, "8080"), ("frontend-web", demo.frontends, "3000")):
        found = scene.aws(f"discover-instances --namespace-name {demo.zone} --service-name {name}")["Instances"]
        assert {instance["Attributes"]["AWS_INSTANCE_IPV4"] for instance in found} == addresses(pods)
        assert {instance["Attributes"]["AWS_INSTANCE_PORT"] for instance in found} == {port}
        assert {instance["HealthStatus"] for instance in found} == {"HEALTHY"}
    assert scene.cloudmap.GetService(Id=demo.backend)["Service"]["HealthCheckConfig"] == {
        "Type": "HTTP", "ResourcePath": "/health", "FailureThreshold": 3}


def test_communication_sh(scene, demo):
    for name, pods in (("backend-api", demo.backends), ("frontend-web", demo.frontends)):
        found = scene.cloudmap.DiscoverInstances(NamespaceName=demo.zone, ServiceName=name)["Instances"]
        assert {instance["Attributes"]["AWS_INSTANCE_IPV4"] for instance in found} == addresses(pods)
        for transport in ("+notcp", "+tcp"):
            answer = scene.server.dig(f"{name}.{demo.zone}", "A", transport)
            answer.assert_positive(*addresses(pods))
            assert answer.ttls() == {60}


def test_cleanup_sh(scene, demo):
    for service in (BACKEND, FRONTEND):
        scene.cluster.kubectl("-n", service.namespace, "delete", "deployment", service.name, "--wait=false")
    # The controllers delete the pods gracefully. Like the script, the test does not wait for the end of their grace period.
    eventually(lambda: not scene.pods("kecs.dev/managed-by=kecs", BACKEND.namespace))
    assert len(scene.cluster.list("Pod", BACKEND.namespace)) == 3
    for name, service in (("backend-api", demo.backend), ("frontend-web", demo.frontend)):
        scene.agreement(demo.zone, name, service).wait_for({})
    listed = scene.aws(f"list-services --filters Name=NAMESPACE_ID,Values={demo.namespace},Condition=EQ")["Services"]
    assert {service["Name"] for service in listed} == {"backend-api", "frontend-web"}
    scene.aws(f"delete-service --id {demo.backend}")
    scene.dig(f"backend-api.{demo.zone}").assert_nxdomain(f"{demo.zone}.")
    scene.dig(f"frontend-web.{demo.zone}").assert_nodata(f"{demo.zone}.")
    scene.aws(f"delete-service --id {demo.frontend}")
    scene.dig(f"frontend-web.{demo.zone}").assert_nxdomain(f"{demo.zone}.")
    deleted = scene.aws(f"delete-namespace --id {demo.namespace}")["OperationId"]
    assert scene.aws(f"get-operation --operation-id {deleted}")["Operation"]["Status"] == "SUCCESS"
    assert scene.aws("list-namespaces")["Namespaces"] == []
    scene.dig(f"backend-api.{demo.zone}").assert_refused()
    eventually(lambda: scene.cluster.list("Service", "demolocal") == [])


@pytest.fixture
def pod_network(coredns, tmp_path):
    network = PodNetwork(tmp_path / "pod", ("127.0.0.1", coredns.port))
    try:
        yield network.start()
    finally:
        network.stop()


ADDRESS = re.compile(r"\b10\.42\.\d+\.\d+\b")
GETADDRINFO = ("import socket, sys; "
               "print(*(found[4][0] for found in socket.getaddrinfo(sys.argv[1], 8080, type=socket.SOCK_STREAM)))")
# Programs that look up a name in a pod, and the number of the two addresses that they print. All but dig use the search list.
RESOLVERS = {
    "glibc getaddrinfo": ([sys.executable, "-c", GETADDRINFO], {}, 2),
    "glibc getaddrinfo with EDNS": ([sys.executable, "-c", GETADDRINFO], {"RES_OPTIONS": "edns0"}, 2),
    "glibc getaddrinfo over TCP": ([sys.executable, "-c", GETADDRINFO], {"RES_OPTIONS": "use-vc"}, 2),
    "glibc getaddrinfo, one query after the other": (
        [sys.executable, "-c", GETADDRINFO], {"RES_OPTIONS": "single-request"}, 2),
    "glibc gethostbyname": (["getent", "hosts"], {}, 2),
    "glibc getaddrinfo for IPv4": (["getent", "ahostsv4"], {}, 2),
    "nslookup": (["nslookup"], {}, 2),
    "dig": (["dig", "+noedns", "+short"], {}, 2),
    "dig with EDNS": (["dig", "+edns", "+cookie", "+bufsize=1232", "+short"], {}, 2),
    "dig over TCP": (["dig", "+tcp", "+short"], {}, 2),
}


def test_resolvers_of_programs_in_pods(cluster, coredns, pod_network, start, kubelet):
    cluster.apply(kecs.namespace())
    address = f"127.0.0.1:{free_port()}"
    server = start("--kubeconfig", cluster.kubeconfig, "--store", "memory", "--dns", address, "--coredns", "custom",
                   "--coredns-forward", address)
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("demo.local"), "backend-api", A=60)
    expected = addresses([kubelet.create(BACKEND.pod(BACKEND.registry(service))) for _ in range(2)])
    eventually(lambda: server.resolver.addresses("backend-api.demo.local") == expected)
    eventually(lambda: coredns.resolver.addresses("backend-api.demo.local") == expected)
    for resolver, (command, environment, count) in RESOLVERS.items():
        done = pod_network.run(*command, "backend-api.demo.local", environment=environment)
        found = set(ADDRESS.findall(done.stdout))
        assert len(found) == count and found <= expected, (resolver, done)
        if not command[0] == "dig":
            missing = pod_network.run(*command, "nobody.demo.local", environment=environment)
            assert missing.returncode != 0 and not ADDRESS.search(missing.stdout), (resolver, missing)

    # Go's own resolver, in a program without cgo. It resolves the name; the connection fails, because there is no network.
    def go(name):
        return pod_network.run(programs() / "kubectl", f"--server=http://{name}:8080", "get", "--raw", "/health",
                               environment={"GODEBUG": "netdns=go+1"}).stderr
    connected = re.search(r"dial tcp (\S+):8080: connect: network is unreachable", said := go("backend-api.demo.local"))
    assert connected and connected[1] in expected and "using the Go DNS resolver" in said, said
    assert "lookup nobody.demo.local on 127.0.0.1:53: no such host" in (said := go("nobody.demo.local")), said


def test_task_set_service_discovery_deploy_sh(scene):
    namespace = scene.cloudmap.private_namespace("demo.local")
    service = scene.cloudmap.service(namespace, "webapp-sd", A=60, SRV=60)
    made = scene.cluster.create(kecs.task_set_deployment(service, 2))
    assert made["metadata"]["name"] == "webapp-sd-service-ts-537efbba"
    pods = scene.run(f"kecs.io/taskset={TASK_SET}", "default-us-east-1", 2)
    named = [pod["metadata"]["annotations"]["kecs.io/sd-registry-0"] for pod in pods]
    assert named == 2 * [kecs.registry_arn(service)]
    seen = scene.agreement("demo.local", "webapp-sd", service)
    seen.wait_for(of_pods(*pods))
    attributes = scene.cloudmap.listed_instances(service)
    assert {found["ECS_SERVICE_NAME"] for found in attributes.values()} == {"webapp-sd-service"}
    assert {found["ECS_TASK_DEFINITION_FAMILY"] for found in attributes.values()} == {"webapp"}
    # The pods have no annotation with the port, which is that of their container.
    srv = scene.dig("webapp-sd.demo.local", "SRV")
    srv.assert_positive(*(f"1 1 80 {instance_id(pod)}.webapp-sd.demo.local." for pod in pods))
    scene.kubelet.set_ready(pods[0], False)
    seen.wait_for(of_pods(pods[0], status=UNHEALTHY) | of_pods(pods[1]))
    # The TaskSet is deleted with its tasks.
    scene.cluster.kubectl("-n", "default-us-east-1", "delete", "deployment", made["metadata"]["name"], "--wait=false")
    seen.wait_for({})


def test_microservices_app(scene, tmp_path):
    zone = "microservices"
    namespace = scene.cloudmap.private_namespace(zone)
    users, gateway = (scene.cloudmap.service(namespace, service.name, A=10, custom_health=True)
                      for service in (USERS, GATEWAY))
    seen = scene.agreement(zone, "user-service", users)
    pods = scene.deploy(USERS, users, 2)
    gateways = scene.deploy(GATEWAY, gateway, 1)
    seen.wait_for(of_pods(*pods))
    scene.agreement(zone, "api-gateway", gateway).wait_for(of_pods(*gateways))
    assert discovered_with_prefix(scene.server, tmp_path, zone, "user-service") == {instance_id(pod) for pod in pods}

    # Scale out in two steps.
    for replicas in (3, 5):
        scene.scale(USERS, replicas)
        pods = scene.run(f"app={USERS.name}", USERS.namespace, replicas)
        seen.wait_for(of_pods(*pods))
    # Stop two tasks. Their replacements are discovered as soon as they are ready.
    for pod in pods[:2]:
        scene.stop_task(pod)
    seen.wait_for(of_pods(*pods[2:]))
    eventually(lambda: len(scene.pods(f"app={USERS.name}", USERS.namespace)) == 5)
    after = scene.run(f"app={USERS.name}", USERS.namespace, 5)
    seen.wait_for(of_pods(*after))
    assert {instance_id(pod) for pod in pods[:2]}.isdisjoint(scene.cloudmap.listed_instances(users))
    # The gateway's service is unchanged.
    scene.agreement(zone, "api-gateway", gateway).wait_for(of_pods(*gateways))


def discovered_with_prefix(server, directory, namespace, service):
    """The ids that an SDK discovers which prepends `data-` to the host, with the line for /etc/hosts that `env` prints."""
    line = re.search(r"^# +(\S+ data-localhost)$", server.run("env").stdout, re.MULTILINE)
    files = {"hosts": f"{line[1]}\n", "nsswitch.conf": "hosts: files\n"}
    for name, text in files.items():
        (directory / name).write_text(text)
    environment = server.clients.environment()
    del environment["AWS_DISABLE_HOST_PREFIX_INJECTION"]
    command = [AWS, "servicediscovery", "discover-instances", "--namespace-name", namespace, "--service-name", service,
               "--endpoint-url", f"http://localhost:{server.api_address[1]}"]
    done = subprocess.run(inside({f"/etc/{name}": directory / name for name in files}, *command), env=environment,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return {instance["InstanceId"] for instance in json.loads(done.stdout)["Instances"]}


def test_status_order_of_a_task(scene):
    """The rolling update without an empty answer, and scaling 2 -> 5 -> 1, are steps of test_kubernetes_system.py."""
    service = scene.cloudmap.service(scene.cloudmap.private_namespace("demo.local"), "backend-api", A=60)
    seen = scene.agreement("demo.local", "backend-api", service)
    scene.cluster.create(BACKEND.deployment(BACKEND.registry(service)))
    # PROVISIONING, PENDING: no instance yet.
    [pod] = eventually(lambda: scene.pods(f"app={BACKEND.name}", BACKEND.namespace) or None)
    seen.wait_for({})
    # RUNNING with unknown health: served while no task is healthy.
    pod = scene.kubelet.run(pod, ready=False)
    seen.wait_for(of_pods(pod, status=UNKNOWN))
    # HEALTHY, and UNHEALTHY after three failed checks.
    scene.kubelet.set_ready(pod, True)
    seen.wait_for(of_pods(pod))
    # STOPPED.
    scene.kubelet.finish(pod)
    seen.wait_for({})


def test_a_failing_health_check_and_the_task_that_replaces_it(scene):
    service = scene.cloudmap.service(scene.cloudmap.private_namespace("demo.local"), "backend-api", A=60)
    seen = scene.agreement("demo.local", "backend-api", service)
    pods = scene.deploy(BACKEND, service, 2)
    seen.wait_for(of_pods(*pods))
    scene.kubelet.set_ready(pods[0], False)
    seen.wait_for(of_pods(pods[0], status=UNHEALTHY) | of_pods(pods[1]))
    scene.stop_task(pods[0])
    seen.wait_for(of_pods(pods[1]))
    # The new task is served after its first successful check.
    [new] = eventually(lambda: [pod for pod in scene.pods(f"app={BACKEND.name}", BACKEND.namespace)
                                if "podIP" not in pod["status"]] or None)
    new = scene.kubelet.run(new, ready=False)
    seen.wait_for(of_pods(new, status=UNKNOWN) | of_pods(pods[1]))
    scene.kubelet.set_ready(new, True)
    seen.wait_for(of_pods(new, pods[1]))
    # The end of the old task has no effect.
    scene.kubelet.end(pods[0])
    seen.wait_for(of_pods(new, pods[1]))


def test_a_crash_loop(scene):
    service = scene.cloudmap.service(scene.cloudmap.private_namespace("demo.local"), "backend-api", A=60)
    seen = scene.agreement("demo.local", "backend-api", service)
    crashing, steady = scene.deploy(BACKEND, service, 2)
    for _ in range(3):
        seen.wait_for(of_pods(crashing, steady))
        crashing = scene.kubelet.restart(crashing)
        seen.wait_for(of_pods(crashing, status=UNHEALTHY) | of_pods(steady))
        crashing = scene.kubelet.set_ready(crashing, True)
    assert crashing["status"]["containerStatuses"][0]["restartCount"] == 3
    seen.wait_for(of_pods(crashing, steady))


def running(pod, ready, restarts=0, state=None, **status):
    """The status of a pod whose containers have started. `state` replaces their state."""
    said = conditions(pod, ready)
    statuses = containers(pod, ready, restarts)
    if state:
        statuses = [found | {"state": state, "started": False} for found in statuses]
    return {"phase": "Running", "conditions": said, "containerStatuses": statuses} | status


WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
# Successive statuses of a pod, and the status of its instance then. None means that there is no instance.
STATES = {
    "pending": ([lambda pod: {"phase": "Pending"}], None),
    "creating, with an address": ([lambda pod: running(pod, False, state=CREATING, phase="Pending")], None),
    "running and ready": ([lambda pod: running(pod, True)], HEALTHY),
    "running and not ready": ([lambda pod: running(pod, False)], UNKNOWN),
    "not ready any more": ([lambda pod: running(pod, True), lambda pod: running(pod, False)], UNHEALTHY),
    "ready again": ([lambda pod: running(pod, True), lambda pod: running(pod, False), lambda pod: running(pod, True)],
                    HEALTHY),
    "restarted and not ready": ([lambda pod: running(pod, False, 1)], UNHEALTHY),
    "restarted and ready": ([lambda pod: running(pod, True, 4)], HEALTHY),
    "in a crash loop": ([lambda pod: running(pod, False, 7, WAITING)], UNHEALTHY),
    "succeeded": ([lambda pod: running(pod, True), lambda pod: running(pod, False, phase="Succeeded")], None),
    "failed": ([lambda pod: running(pod, True), lambda pod: running(pod, False, phase="Failed")], None),
    "evicted": ([lambda pod: running(pod, False, phase="Failed", reason="Evicted")], None),
}


def test_task_mapper_test_go(scene):
    namespace = scene.cloudmap.private_namespace("demo.local")
    address = {"hostIP": "10.0.0.7", "startTime": "2026-01-01T00:00:00Z"}
    seen = {}
    for number, (state, (reports, health)) in enumerate(STATES.items(), 1):
        service = scene.cloudmap.service(namespace, f"state-{number}", A=60)
        pod = scene.cluster.create(BACKEND.pod(BACKEND.registry(service), nodeName=scene.kubelet.node))
        ip = f"10.42.14.{number}"
        for report in reports:
            with_ip = {} if state == "pending" else {"podIP": ip, "podIPs": [{"ip": ip}]} | address
            pod = scene.cluster.patch("Pod", pod["metadata"]["name"], BACKEND.namespace,
                                      {"status": report(pod) | with_ip}, "status")
        seen[state] = (f"state-{number}", service, of_pods(pod, status=health) if health else {})
    for name, service, expected in seen.values():
        scene.agreement("demo.local", name, service).wait_for(expected)


def test_awsvpc_test_go_with_a_port_alone(scene):
    service = scene.cloudmap.service(scene.cloudmap.private_namespace("demo.local"), "web", A=60, SRV=60)
    pod = scene.kubelet.create(kecs.NGINX.pod(kecs.registry(service, port=80)))
    assert json.loads(pod["metadata"]["annotations"]["kecs.dev/service-registries"]) == [
        {"port": 80, "registryArn": kecs.registry_arn(service)}]
    scene.agreement("demo.local", "web", service).wait_for(of_pods(pod))
    scene.dig("web.demo.local", "SRV").assert_positive(f"1 1 80 {instance_id(pod)}.web.demo.local.")
    attributes = scene.cloudmap.listed_instances(service)[instance_id(pod)]
    assert (attributes["AWS_INSTANCE_PORT"], attributes["PORT"]) == ("80", "80")
