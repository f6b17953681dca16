"""Revisions and serials: on all servers, equal numbers mean equal contents, and later contents have larger numbers."""

import functools
import itertools
import random
import threading
import time

import pytest

from harness import kecs
from harness.background import Background
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.kubernetes import defined_cluster
from test_dns_transfer import transferred

NAME = "backend"
# Limit of the time for which a number may be shown with a content that is then replaced: a second, and more on a
# machine under load.
SETTLE_SECONDS = 5.0
# Limit of the time until all servers show equal numbers and contents.
AGREE_SECONDS = 20.0

_places = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Numbers:
    """The contents that servers showed under each number, with times."""

    def __init__(self, what):
        self.what, self.problems = what, []
        # number -> content -> the last time at which it was shown.
        self._shown, self._last, self._lock = {}, {}, threading.Lock()

    def show(self, server, number, content):
        with self._lock:
            last = self._last.get(server, 0)
            if number < last:
                self.problems.append(f"{self.what}: {server} went back from {last} to {number}")
            self._last[server] = number
            self._shown.setdefault(number, {})[content] = time.monotonic()

    def check(self):
        """Asserts that no number has two contents."""
        assert not self.problems, self.problems[:5]
        for number, contents in self._shown.items():
            times = contents.values()
            if max(times) - min(times) > SETTLE_SECONDS:
                first, *_, last = sorted(contents, key=contents.get)
                raise AssertionError(f"{self.what} {number}: {sorted(first ^ last)[:6]}")
        assert len(self._shown) > 1

    def count(self):
        return len(self._shown)


class Scene:
    """Servers on one store, a service in it, and an ECS cluster with the tasks of the service."""

    def __init__(self, cluster, kubelet, start):
        self.cluster, self.kubelet, self._start = cluster, kubelet, start
        self.zone = f"{unique('numbers')}.local"
        self.tasks = BACKEND.at(unique("numbers"))
        cluster.apply(kecs.namespace(self.tasks.cluster))
        self.place = cluster.namespace(f"store-{next(_places)}")
        self.servers, self.service, self._numbers = [], None, itertools.count(1)
        self.revisions, self.serials = Numbers("revision"), Numbers("serial")

    def server(self):
        server = self._start("--store", "kubernetes", "--kubeconfig", self.cluster.kubeconfig, "--store-namespace",
                             self.place, "--transfer-allow", "127.0.0.0/8")
        self.wait_until_it_follows(server)
        if self.service is None:
            cloudmap = server.cloudmap()
            namespace = cloudmap.private_namespace(self.zone)
            self.service = cloudmap.service(namespace, NAME, A=60, custom_health=True)
        self.servers.append(server)
        return server

    def wait_until_it_follows(self, server):
        server.until_metric("kubernetes_watch_stale", 0)

    def task(self, ready=True):
        number = next(self._numbers)
        manifest = self.tasks.pod(self.tasks.registry(self.service), name=f"task-{number}", task_id=f"{number:032x}")
        return self.kubelet.create(manifest, ready=ready)

    # -- views --------------------------------------------------------------------------------------------------------

    def discovered(self, server):
        """The revision, and the instances without their health."""
        found = server.cloudmap().DiscoverInstances(NamespaceName=self.zone, ServiceName=NAME, MaxResults=1000,
                                                    HealthStatus="ALL")
        instances = {(one["InstanceId"], *sorted(one["Attributes"].items())) for one in found["Instances"]}
        return found["InstancesRevision"], frozenset(instances)

    def zone_of(self, server):
        """The serial, and the records of a transfer without the SOA."""
        records = transferred(server, f"{self.zone}.")
        soa = next(data for _, _, rrtype, data in records if rrtype == "SOA")
        return int(soa.split()[2]), frozenset(row for row in records if row[2] != "SOA")

    def look(self, server):
        self.revisions.show(self.servers.index(server), *self.discovered(server))
        self.serials.show(self.servers.index(server), *self.zone_of(server))

    def agree(self):
        """Waits until all servers show equal numbers and contents."""
        def check():
            seen = [(self.discovered(server), self.zone_of(server)) for server in self.servers]
            assert all(one == seen[0] for one in seen), [(one[0][0], one[1][0]) for one in seen]
            return seen[0]
        found = eventually(check, AGREE_SECONDS)
        for server in self.servers:
            self.look(server)
        return found

    def watching(self):
        """A context that reads all servers repeatedly, and checks the numbers at its end."""
        return Watching(self)


class Watching(Background):
    def __init__(self, scene):
        super().__init__([functools.partial(self._look, server) for server in scene.servers])
        self.scene, self._failure = scene, None

    def _look(self, server):
        try:
            while not self._ended.is_set():
                self.scene.look(server)
        except Exception as error:
            self._failure = error

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        if kind is None:
            if self._failure:
                raise self._failure
            self.scene.revisions.check()
            self.scene.serials.check()


@pytest.fixture
def scene(cluster, kubelet, start):
    return Scene(cluster, kubelet, start)


def test_servers_agree_on_pods_that_only_one_of_them_observed(scene):
    scene.server()
    pods = [scene.task() for _ in range(5)]
    scene.kubelet.set_ready(pods[0], False)
    scene.kubelet.end(pods.pop())
    scene.server()
    last_revision = last_serial = 0
    for step in range(25):
        (revision, before), _ = scene.agree()
        kubelet, choice = scene.kubelet, step % 3
        if choice == 0 or len(pods) < 2:
            pods.append(scene.task())
        elif choice == 1:
            kubelet.end(pods.pop(0))
        else:
            kubelet.end(pods.pop())
            pods.append(scene.task(ready=False))
        eventually(lambda: scene.discovered(scene.servers[step % 2])[1] != before)
        (revision, instances), (serial, _) = scene.agree()
        assert len(instances) == len(pods)
        assert revision > last_revision and serial > last_serial
        last_revision, last_serial = revision, serial


def test_health_alone_changes_the_serial_and_not_the_revision(scene):
    servers = [scene.server(), scene.server()]
    pods = [scene.task(), scene.task()]
    eventually(lambda: len(servers[0].resolver.addresses(f"{NAME}.{scene.zone}")) == 2)
    changes = [
        lambda: scene.kubelet.set_ready(pods[0], False),
        lambda: scene.kubelet.set_ready(pods[0], True),
        lambda: servers[1].cloudmap().set_health(scene.service, kecs.task_id(pods[1]), "UNHEALTHY"),
        lambda: servers[0].cloudmap().set_health(scene.service, kecs.task_id(pods[1]), "HEALTHY"),
    ]
    for change in changes:
        (revision, _), (serial, before) = scene.agree()
        change()
        eventually(lambda: scene.zone_of(servers[0])[1] != before)
        (now, _), (serial_now, _) = scene.agree()
        assert (now, serial_now > serial) == (revision, True)


def test_numbers_never_go_back_over_restarts(scene):
    scene.server()
    scene.server()
    pods = [scene.task() for _ in range(4)]
    for victim in (0, 1, 0, 1):
        (_, before), _ = scene.agree()
        # A list that is read later does not show a deletion.
        scene.kubelet.end(pods.pop())
        eventually(lambda: scene.discovered(scene.servers[victim])[1] != before)
        scene.agree()
        server = scene.servers[victim]
        server.kill9()
        pods.append(scene.task())
        server.restart()
        scene.wait_until_it_follows(server)
        scene.agree()
    for server in scene.servers:
        server.kill9()
    scene.kubelet.end(pods.pop())
    for server in scene.servers:
        server.restart()
        scene.wait_until_it_follows(server)
    scene.agree()
    scene.revisions.check()
    scene.serials.check()


def test_a_number_has_one_content_while_several_servers_change_everything(scene):
    """All servers change one service by the API, while pods, their readiness and reports change too."""
    for _ in range(3):
        scene.server()
    pods = [scene.task() for _ in range(3)]
    scene.agree()
    with scene.watching():
        def write(server, seed):
            dice, cloudmap = random.Random(seed), server.cloudmap()
            for step in range(25):
                instance = f"i-{seed}-{dice.randrange(4)}"
                if dice.random() < 0.6:
                    cloudmap.RegisterInstance(ServiceId=scene.service, InstanceId=instance,
                                              Attributes={"AWS_INSTANCE_IPV4": f"10.9.{seed}.{step + 1}"})
                elif instance in cloudmap.listed_instances(scene.service):
                    cloudmap.DeregisterInstance(ServiceId=scene.service, InstanceId=instance)
        writers = [threading.Thread(target=write, args=(server, seed)) for seed, server in enumerate(scene.servers)]
        for writer in writers:
            writer.start()
        dice = random.Random(7)
        while any(writer.is_alive() for writer in writers):
            pod = dice.choice(pods)
            match dice.randrange(3):
                case 0:
                    scene.kubelet.set_ready(pod, dice.random() < 0.5)
                case 1:
                    pods.remove(pod)
                    scene.kubelet.end(pod)
                    pods.append(scene.task())
                case 2:
                    status = dice.choice(["HEALTHY", "UNHEALTHY"])
                    scene.servers[0].cloudmap().set_health(scene.service, kecs.task_id(pod), status)
        for writer in writers:
            writer.join()
        scene.agree()
        # Keep reading for longer than a number may change its content.
        time.sleep(SETTLE_SECONDS * 1.5)
    assert scene.revisions.count() > 20 and scene.serials.count() > 20


def test_pods_that_exist_before_their_service_have_equal_numbers_on_all_servers(scene):
    servers = [scene.server(), scene.server()]
    cloudmap = servers[0].cloudmap()
    namespace = cloudmap.private_namespace(f"{unique('later')}.local")
    identity = cloudmap.service(namespace, "later", A=60)
    cloudmap.DeleteService(Id=identity)
    scene.service = identity
    kept, gone = scene.task(), scene.task()
    scene.kubelet.end(gone)
    assert cloudmap.service(namespace, "later", A=60) == identity
    zone = cloudmap.GetNamespace(Id=namespace)["Namespace"]["Name"]

    def seen():
        found = [server.cloudmap().DiscoverInstances(NamespaceName=zone, ServiceName="later") for server in servers]
        return [({one["InstanceId"] for one in output["Instances"]}, output["InstancesRevision"]) for output in found]
    eventually(lambda: seen()[0] == seen()[1] and seen()[0][0] == {kecs.task_id(kept)}, AGREE_SECONDS)


def test_edits_of_zone_files_have_equal_serials_on_all_servers(scene):
    """Edits an overlay of the namespace's zone, and a static zone whose file keeps its serial."""
    static = "static.test."

    def write(text, *which):
        for server in which or scene.servers:
            (server.zones / f"{scene.zone}.zone").write_text(f"extra 60 IN TXT {text}\n")
            (server.zones / "static.test.zone").write_text(
                f"@ 300 IN SOA ns hostmaster 7 7200 900 1209600 60\n@ 300 IN NS ns\nns 300 IN TXT {text}\n")

    def seen(server):
        texts = server.resolver.dig(f"extra.{scene.zone}", "TXT").data(), server.resolver.dig(f"ns.{static}", "TXT").data()
        return *texts, server.resolver.serial(f"{scene.zone}."), server.resolver.serial(static)

    def all_have(text):
        def check():
            found = [seen(server) for server in scene.servers]
            assert all(one == found[0] for one in found) and text in str(found[0][0]), found
            assert text in str(found[0][1])
            return found[0][2:]
        return eventually(check)
    first = scene.server()
    for text in "abcd":
        write(text)
        all_have(text)
    second = scene.server()
    write("d", second)
    last = all_have("d")
    assert last[1] == 10
    # One server gets a file before the others.
    for text, server in [("e", first), ("f", second)]:
        write(text, server)
        eventually(lambda: any(text in str(seen(server)[0]) for server in scene.servers))
        write(text)
        now = all_have(text)
        assert now[0] > last[0] and now[1] > last[1]
        last = now
    for server in scene.servers:
        server.kill9()
    for server in scene.servers:
        server.restart()
        scene.wait_until_it_follows(server)
    now = all_have("f")
    assert now[0] > last[0] and now[1] == last[1]


def test_a_server_starts_while_the_cluster_refuses_writes(scene):
    """As with a full etcd: the server answers from what it can read, and the numbers agree after writes succeed again."""
    first = scene.server()
    scene.task()
    (_, instances), _ = scene.agree()
    eventually(lambda: len(scene.discovered(first)[1]) == 1)
    hook = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "no-writes"},
            "webhooks": [{"name": "no-writes.cloudmap-dns.io", "failurePolicy": "Fail", "sideEffects": "None",
                          "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"},
                          "rules": [{"apiGroups": ["cloudmap-dns.io"], "apiVersions": ["*"], "operations": ["*"],
                                     "resources": ["cloudmapstores"]}]}]}
    scene.cluster.apply(hook)
    try:
        eventually(lambda: "failed calling webhook" in scene.cluster.kubectl(
            "-n", scene.place, "annotate", "--overwrite", "cloudmapstores", "cloudmap-dns", "x=y", check=False).stderr)
        first.kill9()
        first.restart()
        scene.wait_until_it_follows(first)
        scene.look(first)
        assert len(scene.discovered(first)[1]) == 1
    finally:
        scene.cluster.kubectl("delete", "validatingwebhookconfigurations", "no-writes")
    scene.server()
    scene.agree()
    assert not scene.revisions.problems and not scene.serials.problems
