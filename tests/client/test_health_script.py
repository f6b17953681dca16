"""deploy/test-health-service-discovery.sh, run as a person runs it: with kubectl, aws and dig, on a cluster whose node runs the
replicas, their probes and `kubectl exec`."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from harness.deadline import PATIENCE_SECONDS, eventually
from harness.helm import ROOT, container, only, render
from harness.kecs_api import KecsApi
from harness.kubernetes import OWN_NAMESPACES, programs
from harness.node import Node
from harness.sdk import AWS
from harness.server import plain_environment

SCRIPT = ROOT / "deploy" / "test-health-service-discovery.sh"
RUN_SECONDS = 8 * PATIENCE_SECONDS
ADDRESS = r"10\.42\.\d+\.\d+"
SERVER_NAMESPACE = "cloudmap-dns"


@pytest.fixture
def node(cluster, tmp_path):
    node = Node(cluster, tmp_path / "pods")
    try:
        yield node.start()
    finally:
        node.stop()


# `node` is before `start`, so that servers stop before the cluster is emptied: they would write objects of the mirror again.
@pytest.fixture
def server(node, cluster, start):
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    eventually(lambda: server.metric("kubernetes_leader") == 1)
    return server


@pytest.fixture
def unmirrored(node, cluster, start):
    return start("--kubeconfig", cluster.kubeconfig, "--store", "memory")


@pytest.fixture
def tools(tmp_path):
    """A folder with kubectl and aws."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "kubectl").symlink_to(programs() / "kubectl")
    (folder / "aws").symlink_to(AWS)
    return folder


@pytest.fixture
def launch(cluster, tools, tmp_path):
    """Starts the script in a process group of its own, as a shell does."""
    launched = []

    def launch_one(*options, **environment):
        path = f"{tools}:{os.environ['PATH']}"
        environment = plain_environment(tmp_path) | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path} | environment
        launched.append(subprocess.Popen([SCRIPT, *map(str, options)], cwd=tmp_path, env=environment, text=True,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         start_new_session=True))
        return launched[-1]

    yield launch_one
    for process in launched:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def run(launch):
    """Runs the script. Returns its exit code and output."""
    def run_one(*options, **environment):
        process = launch(*options, **environment)
        output, _ = process.communicate(timeout=RUN_SECONDS)
        return process.returncode, output
    return run_one


def at(server):
    """The options that name a server's addresses."""
    return "--endpoint-url", server.endpoint, "--dns", "{}:{}".format(*server.dns_address)


def check_clean(output, cluster, server, *kept):
    """The clean-up had no failure, and left nothing but these Kubernetes namespaces."""
    assert not re.search(r"^clean.*FAILED", output, re.MULTILINE), output
    assert server.cloudmap().ListNamespaces()["Namespaces"] == [], output
    for kind in ("Pod", "apps/v1/Deployment"):
        assert [name for name in names(cluster, kind) if "health-test" in name] == [], output
    # The namespace of an ECS cluster is deleted after KECS has answered.
    eventually(lambda: set(names(cluster, "Namespace")) - OWN_NAMESPACES == set(kept))


def names(cluster, kind):
    return [found["metadata"]["name"] for found in cluster.list(kind)]


def expected(output, is_mirrored=True):
    """The lines that a run has to print from the first replica on, with the addresses that it names."""
    found = re.search(rf"^ok +two replicas are ready: (\S+) \(({ADDRESS})\), \S+ \(({ADDRESS})\)$", output, re.MULTILINE)
    assert found, output
    first, *addresses = found.groups()

    def views(what, serving):
        health = sorted(f"{address}={'' if address in serving else 'UN'}HEALTHY" for address in addresses)
        ready = sorted(f"{address}={'true' if address in serving else 'false'}" for address in addresses)
        return [f"ok      {what} in DNS: {' '.join(sorted(serving))}",
                f"ok      {what} in GetInstancesHealthStatus: {' '.join(health)}",
                f"ok      {what} in the EndpointSlices: {' '.join(ready)}" if is_mirrored else
                f"skip    {what} in the EndpointSlices: the server has no mirror"]

    return [*views("two addresses", addresses), f"ok      {first} ({addresses[0]}) fails: rm -f /tmp/healthy",
            *views("one address", addresses[1:]), f"ok      {first} ({addresses[0]}) recovers: touch /tmp/healthy",
            *views("two addresses again", addresses)]


def check_steps(output, is_mirrored=True):
    lines = [line for line in output.splitlines() if not line.startswith("clean")]
    assert lines[-1].startswith("passed"), output
    assert lines[-12:-1] == expected(output, is_mirrored), output


def test_every_step_holds_and_prints_what_it_saw(run, server, cluster):
    code, output = run(*at(server), "--require-mirror")
    assert code == 0, output
    check_steps(output)
    check_clean(output, cluster, server)


def test_replicas_can_be_made_through_ecs(run, server, cluster):
    api = KecsApi(cluster).start()
    try:
        code, output = run(*at(server), "--ecs", "--cluster", "shop", "--require-mirror", AWS_ENDPOINT_URL=api.url)
    finally:
        api.stop()
    assert code == 0, output
    check_steps(output)
    assert api.called == ["DescribeClusters", "CreateCluster", "RegisterTaskDefinition", "CreateService", "DeleteService",
                          "DeregisterTaskDefinition", "DeleteCluster"]
    check_clean(output, cluster, server)


def test_without_addresses_it_forwards_ports_of_the_service(run, unmirrored, cluster, node, tmp_path):
    cluster.namespace(SERVER_NAMESPACE)
    rendered = render(tmp_path)
    cluster.apply(only(rendered, "Service", "cloudmap"))
    labels = only(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    server_container = {"name": "server", "image": "cloudmap-dns", "ports": container(rendered)["ports"]}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [server_container]},
                    "metadata": {"name": "server", "namespace": SERVER_NAMESPACE, "labels": labels}})
    node.programs = {5301: unmirrored.api_address, 53: unmirrored.dns_address}
    eventually(lambda: node.container(SERVER_NAMESPACE, "server") is not None)
    cluster.namespace("shop")
    code, output = run("--namespace", "shop", "--timeout", 10)
    assert code == 0, output
    assert "Kubernetes namespace shop: exists" in output
    check_steps(output, is_mirrored=False)
    check_clean(output, cluster, unmirrored, "shop", SERVER_NAMESPACE)


def test_it_ends_at_the_first_step_that_does_not_hold_and_cleans_up(run, server, cluster, node):
    node.reports_failures = False
    code, output = run(*at(server), "--timeout", 10)
    assert code == 1, output
    [failed] = re.findall(r"^FAILED .*", output, re.MULTILINE)
    assert re.fullmatch(rf"FAILED +one address in DNS: after 10 s there is {ADDRESS} {ADDRESS}, and not {ADDRESS}", failed), output
    assert "recovers" not in output and "passed" not in output
    check_clean(output, cluster, server)


def test_a_mirror_that_is_required_and_off_is_a_failure(run, unmirrored, cluster):
    code, output = run(*at(unmirrored), "--require-mirror", "--timeout", 5)
    assert code == 1, output
    assert re.search(r"^FAILED +mirror: the server shows no Service for replicas\.health-test-\w+\.local ", output, re.MULTILINE)
    check_clean(output, cluster, unmirrored)


def test_an_interrupt_cleans_up_too(launch, server, cluster):
    process = launch(*at(server))
    seen = ""
    while "two addresses in DNS" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 130 and "interrupted" in output, seen + output
    check_clean(output, cluster, server)


def without_cluster(*options, **environment):
    return subprocess.run([shutil.which("bash"), SCRIPT, *options], env=environment, capture_output=True, text=True,
                          timeout=PATIENCE_SECONDS)


def test_help_names_every_option():
    done = without_cluster("--help", PATH=os.environ["PATH"])
    assert done.returncode == 0 and done.stderr == ""
    options = re.findall(r"^ +(--[a-z-]+)\) ", SCRIPT.read_text(), re.MULTILINE)
    assert len(options) == 10 and all(f"\n  {option} " in done.stdout for option in options), options


@pytest.mark.parametrize("options, words", [
    (["--timeout"], "--timeout needs a value"),
    (["--timeout", "soon"], "--timeout soon is not a number of seconds"),
    (["--dns", "127.0.0.1:dns"], "--dns 127.0.0.1:dns is not of the form"),
    (["--server", "cloudmap"], "--server cloudmap is not of the form"),
    (["--fast"], "there is no option --fast"),
    (["--ecs"], "--ecs needs the endpoint of KECS in AWS_ENDPOINT_URL"),
])
def test_wrong_options_are_refused_by_name(options, words):
    done = without_cluster(*options, PATH=os.environ["PATH"])
    assert done.returncode == 2 and words in done.stderr, done


@pytest.mark.parametrize("missing", ["kubectl", "aws", "dig"])
def test_a_missing_tool_is_named(tools, missing):
    (tools / "dig").symlink_to(shutil.which("dig"))
    (tools / missing).unlink()
    done = without_cluster(PATH=str(tools))
    assert done.returncode == 2 and f"missing: {missing};" in done.stderr, done
