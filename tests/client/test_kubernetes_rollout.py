"""Deployments of a new task definition whose tasks become ready late or never: answers have only healthy tasks."""

import pytest

from harness import kecs
from harness.agreement import UNHEALTHY, UNKNOWN, instance_id
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.mirror import Mirror
from harness.witness import Witness, by_discovery, by_dns

ZONE, NAME = "demo.local", "backend-api"
PODS = f"app={BACKEND.name}"
TASKS = 4
NEW_IMAGE = "registry.kecs.local:5000/backend:2"
# Seconds between a task's start and the first success of its readiness probe.
PROBE_SECONDS = 0.3
# Number of answers of DNS, and of DiscoverInstances, that are checked after the end of a deployment.
ANSWERS = 300
EXTERNAL = "192.0.2.1"


class Scene:
    """A server beside KECS that mirrors services, and the Cloud Map service of the tasks."""

    def __init__(self, server, cluster, kubelet):
        self.server, self.cluster, self.kubelet = server, cluster, kubelet
        self.cloudmap, self.mirror = server.cloudmap(), Mirror(cluster, ZONE)
        self.service = None

    def create_service(self, custom_health):
        namespace = self.cloudmap.private_namespace(ZONE)
        self.service = self.cloudmap.service(namespace, NAME, A=60, custom_health=custom_health)

    # -- the cluster --------------------------------------------------------------------------------------------------

    def task(self, ready):
        """A standalone task, without a Deployment."""
        return self.kubelet.create(BACKEND.pod(BACKEND.registry(self.service)), ready=ready)

    def deploy(self):
        """Creates the ECS service with its first definition, and returns the pods when all are ready."""
        self.cluster.create(BACKEND.deployment(BACKEND.registry(self.service), replicas=TASKS))
        with self.kubelet.follow(BACKEND.namespace):
            self.wait_for_rollout()
            pods = self.pods()
        self.answers(*pods)
        return pods

    def update(self):
        """Changes the definition of the ECS service. Kubernetes' default limits apply: 25 % surge and 25 % unavailable."""
        self.kubectl("set", "image", f"deployment/{BACKEND.name}", f"{BACKEND.container}={NEW_IMAGE}")

    def wait_for_rollout(self):
        self.kubectl("rollout", "status", f"deployment/{BACKEND.name}", "--timeout=60s")

    def kubectl(self, *arguments):
        return self.cluster.kubectl("-n", BACKEND.namespace, *arguments)

    def pods(self, image=None):
        """The pods with an address that are not being deleted, optionally only those of one image."""
        return [pod for pod in self.cluster.list("Pod", BACKEND.namespace, PODS)
                if "deletionTimestamp" not in pod["metadata"] and "podIP" in pod["status"]
                and image in (None, pod["spec"]["containers"][0]["image"])]

    # -- views --------------------------------------------------------------------------------------------------------

    def witness(self):
        """Queries DNS and DiscoverInstances continuously."""
        sources = {"DNS": by_dns(self.server.resolver, f"{NAME}.{ZONE}"),
                   "DiscoverInstances": by_discovery(self.server.cloudmap(), ZONE, NAME)}
        return Witness(sources, lambda: self.cluster.list("Pod", BACKEND.namespace, PODS))

    def answers_now(self, *pods, also=()):
        """Asserts that DNS and DiscoverInstances answer exactly these pods and addresses."""
        expected = {pod["status"]["podIP"] for pod in pods} | set(also)
        assert self.server.resolver.addresses(f"{NAME}.{ZONE}") == expected
        assert self.cloudmap.discovered_addresses(ZONE, NAME) == expected
        return True

    def answers(self, *pods, also=()):
        """Waits for these answers, and until the ready endpoints of the cluster's mirror are equal to them."""
        eventually(lambda: self.answers_now(*pods, also=also))
        expected = {pod["status"]["podIP"] for pod in pods} | set(also)

        def mirrored():
            ready, _ = self.mirror.endpoints(f"sd-{NAME}")
            assert ready == expected
            return True
        eventually(mirrored, poll_seconds=0.1)

    def explains(self, *pods, words):
        """Asserts that `cloudmap-dns explain` has these words in the line of each pod's instance."""
        lines = self.server.run("explain", f"{NAME}.{ZONE}").stdout.splitlines()
        for pod in pods:
            [verdict] = [line for line in lines if pod["metadata"]["name"] in line and " -> " not in line]
            assert all(word in verdict for word in words), verdict

    def explains_that_they_wait(self, *pods):
        self.explains(*pods, words=("UNKNOWN", "not served", "another instance is healthy"))

    def health(self, pod):
        return self.cloudmap.health(self.service)[instance_id(pod)]


# `cluster` is before `start`, so that servers stop before the cluster is emptied: they would write deleted objects again.
@pytest.fixture
def scene(cluster, start, kubelet):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    server.until_metric("kubernetes_watch_stale", 0)
    return Scene(server, cluster, kubelet)


@pytest.fixture(params=[False, True], ids=["no_health_check", "custom_health_check"])
def custom_health(request):
    return request.param


def test_tasks_whose_check_never_succeeds_are_not_answered_beside_healthy_ones(scene, custom_health):
    scene.create_service(custom_health)
    scene.deploy()
    with scene.witness() as witness, scene.kubelet.follow(BACKEND.namespace, ready_after_seconds=None):
        scene.update()

        def is_stuck():
            new = scene.pods(NEW_IMAGE)
            assert (len(new), len(scene.pods())) == (2, 5)
            assert set(scene.cloudmap.health(scene.service)) == {instance_id(pod) for pod in scene.pods()}
            return new
        waiting = eventually(is_stuck)
        witness.wait_for_answers(2 * ANSWERS)
    witness.judge()
    kept = [pod for pod in scene.pods() if pod not in waiting]
    assert len(kept) == 3
    scene.answers(*kept)
    assert {scene.health(pod) for pod in waiting} == {UNKNOWN}
    scene.explains_that_they_wait(*waiting)


def test_a_rolling_update_answers_no_task_before_it_is_ready(scene, custom_health):
    scene.create_service(custom_health)
    old = scene.deploy()
    with scene.witness() as witness, scene.kubelet.follow(BACKEND.namespace, ready_after_seconds=PROBE_SECONDS):
        scene.update()
        scene.wait_for_rollout()
        eventually(lambda: len(scene.pods()) == TASKS)
        new = scene.pods(NEW_IMAGE)
        scene.answers(*new)
        witness.wait_for_answers(2 * ANSWERS)
    witness.judge()
    assert len(new) == TASKS
    assert not {pod["metadata"]["uid"] for pod in old} & {pod["metadata"]["uid"] for pod in new}


def test_tasks_that_were_never_ready_are_answered_while_none_is_healthy(scene, custom_health):
    """The name of a service must not be empty during its first deployment or after the loss of its last healthy task."""
    scene.create_service(custom_health)
    first, second, third = (scene.task(ready=False) for _ in range(3))
    scene.answers(first, second, third)
    scene.explains(first, second, third, words=("UNKNOWN", "served", "no instance is healthy"))
    scene.kubelet.set_ready(first, True)
    scene.answers(first)
    scene.explains_that_they_wait(second, third)
    scene.kubelet.set_ready(first, False)
    scene.answers(second, third)
    assert scene.health(first) == UNHEALTHY
    scene.kubelet.set_ready(first, True)
    scene.answers(first)


def test_the_service_attribute_unknown_applies_at_once(scene, custom_health):
    scene.create_service(custom_health)
    ready, waiting = scene.task(ready=True), scene.task(ready=False)
    scene.answers(ready)
    eventually(lambda: len(scene.cloudmap.health(scene.service)) == 2)
    for word, expected in (("serve", (ready, waiting)), ("withhold", (ready,)), ("fallback", (ready,))):
        scene.cloudmap.set_attribute(scene.service, "unknown", word)
        scene.answers_now(*expected)
    scene.kubelet.set_ready(ready, False)
    scene.answers(waiting)
    for word, expected in (("withhold", ()), ("serve", (waiting,)), ("fallback", (waiting,)), ("withhold", ())):
        scene.cloudmap.set_attribute(scene.service, "unknown", word)
        scene.answers_now(*expected)
    # Without the attribute the server's setting applies, which is `fallback` by default.
    scene.cloudmap.DeleteServiceAttributes(ServiceId=scene.service, Attributes=["unknown"])
    scene.answers(waiting)


def test_an_instance_that_nothing_checks_is_answered_beside_tasks(scene):
    scene.create_service(custom_health=False)
    scene.cloudmap.instance(scene.service, "external", ipv4=EXTERNAL)
    first, second = (scene.task(ready=False) for _ in range(2))
    scene.answers(first, second, also=[EXTERNAL])
    scene.kubelet.set_ready(first, True)
    scene.answers(first, also=[EXTERNAL])
    scene.explains_that_they_wait(second)
    scene.kubelet.set_ready(first, False)
    scene.answers(second, also=[EXTERNAL])


def test_a_reported_status_does_not_make_a_task_healthy_that_was_never_ready(scene):
    scene.create_service(custom_health=True)
    ready, waiting = scene.task(ready=True), scene.task(ready=False)
    eventually(lambda: len(scene.cloudmap.health(scene.service)) == 2)
    scene.cloudmap.set_health(scene.service, instance_id(waiting), "HEALTHY")
    assert scene.health(waiting) == UNKNOWN
    scene.answers_now(ready)
    scene.answers(ready)
    scene.explains_that_they_wait(waiting)
    # A task that was never ready remains a fallback, and becomes healthy with its first successful check.
    scene.kubelet.set_ready(ready, False)
    scene.answers(waiting)
    scene.kubelet.set_ready(waiting, True)
    scene.answers(waiting)
    assert scene.health(waiting) == "HEALTHY"
