"""DiscoverInstances from SDKs, which prepend `data-` to the endpoint's host name, on machines with different name resolution.

A shell that has evaluated `cloudmap-dns env` starts each program, as a user's shell does.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import musl
from harness.container import PodNetwork, inside
from harness.deadline import PATIENCE_SECONDS, eventually
from harness.sdk import AWS
from harness.server import binary, plain_environment

LOCALHOST = "127.0.0.1 localhost\n"
WITHOUT = {"hosts": LOCALHOST, "nsswitch.conf": "hosts: files\n"}
WITH_NSS_MYHOSTNAME = {"hosts": LOCALHOST, "nsswitch.conf": "hosts: files myhostname\n"}
# Commands of the shell before it starts a program. The environment variable that turns the prefix off has tests of its own.
PREPARED = 'set -eu; script=$("$0" env); eval "$script"; exec "$@"'
PREPARED_WITH_PREFIX = PREPARED.replace("exec", "unset AWS_DISABLE_HOST_PREFIX_INJECTION; exec")

BOTO3 = """
import sys, boto3
from botocore.config import Config
config = Config(inject_host_prefix=False) if sys.argv[1] == "switch" else None
found = boto3.client("servicediscovery", config=config).discover_instances(
    NamespaceName="production.local", ServiceName="backend")
for instance in found["Instances"]:
    print(instance["InstanceId"])
"""
CLI = [AWS, "servicediscovery", "discover-instances", "--namespace-name", "production.local", "--service-name", "backend",
       "--query", "Instances[].InstanceId", "--output", "text"]


def long(name):
    return pytest.param(name, marks=pytest.mark.long)


SDKS_OF_THE_C_LIBRARY = ["aws", "boto3", long("go-cgo1"), long("js"), long("java"), long("rust")]
SDKS = [*SDKS_OF_THE_C_LIBRARY, long("go-cgo0")]
SDKS_WITH_A_SWITCH = ["boto3", long("go-cgo0"), long("js"), long("java"), long("rust")]


def program(sdk, mode="plain"):
    """A program that prints the ids of the discovered instances, with the SDK's defaults or without the prefix."""
    folder = Path(os.environ.get("CLOUDMAP_DNS_TEST_SDKS", "/nonexistent"))
    return {
        "aws": lambda: CLI,
        "boto3": lambda: [sys.executable, "-c", BOTO3, mode],
        "js": lambda: ["node", folder / "js/discover.mjs", mode],
        "java": lambda: ["java", "-cp", f"{folder}/java/classes:{folder}/java/dependency/*", "Discover", mode],
    }.get(sdk, lambda: [folder / sdk, mode])()


@pytest.fixture
def run(server, tmp_path):
    """Runs a program with replaced files in /etc and returns the finished process."""
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "backend", A=60)
    cloudmap.instance(service, "web-1", ipv4="10.0.0.11")

    def run_one(files, *command, shell=PREPARED_WITH_PREFIX):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        places = {f"/etc/{name}": tmp_path / name for name in files}
        environment = plain_environment(server.directory) | server.settings_environment()
        if folder := os.environ.get("CLOUDMAP_DNS_TEST_MYHOSTNAME"):
            libraries = [*Path(folder, "lib").glob("*-linux-gnu*"), *Path(folder, "usr/lib").glob("*-linux-gnu*")]
            environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        return subprocess.run(inside(places, "bash", "-c", shell, binary(), *command), env=environment,
                              capture_output=True, text=True, timeout=4 * PATIENCE_SECONDS, stdin=subprocess.DEVNULL)
    return run_one


@pytest.fixture
def with_the_line(run):
    """The files of a machine after its user has added the line that `env` prints to /etc/hosts."""
    [line] = re.findall(r"^# +(\S+ data-\S+)$", run(WITHOUT, shell='"$0" env').stdout, re.MULTILINE)
    return WITHOUT | {"hosts": f"{LOCALHOST}{line}\n"}


def endpoint(run, files):
    return run(files, "printenv", "AWS_ENDPOINT_URL_SERVICEDISCOVERY").stdout.strip()


def assert_discovers(done):
    assert (done.returncode, done.stdout.split()) == (0, ["web-1"]), done


def assert_finds_no_host(done):
    assert done.returncode != 0 and not done.stdout, done


def test_env_names_an_endpoint_that_resolves_with_the_prefix(server, run, with_the_line):
    port = server.api_address[1]
    assert endpoint(run, WITHOUT) == f"http://127.0.0.1:{port}"
    assert endpoint(run, with_the_line) == f"http://localhost:{port}"
    assert endpoint(run, WITH_NSS_MYHOSTNAME) == f"http://cloudmap.localhost:{port}"
    both = WITH_NSS_MYHOSTNAME | {"hosts": with_the_line["hosts"]}
    assert endpoint(run, both) == f"http://localhost:{port}"


@pytest.mark.parametrize("sdk", SDKS)
def test_every_sdk_discovers_after_the_line_in_etc_hosts(run, with_the_line, sdk):
    assert_discovers(run(with_the_line, *program(sdk)))


@pytest.mark.parametrize("sdk", SDKS_OF_THE_C_LIBRARY)
def test_sdks_discover_where_names_below_localhost_resolve(run, sdk):
    assert_discovers(run(WITH_NSS_MYHOSTNAME, *program(sdk)))


@pytest.mark.parametrize("sdk", SDKS)
def test_no_sdk_discovers_with_an_ip_address_as_the_endpoint(run, sdk):
    assert_finds_no_host(run(WITHOUT, *program(sdk)))


@pytest.mark.parametrize("sdk", ["aws", "boto3"])
def test_the_aws_cli_and_boto3_leave_the_prefix_out_by_the_environment(run, sdk):
    assert_discovers(run(WITHOUT, *program(sdk), shell=PREPARED))


@pytest.mark.parametrize("sdk", ["aws", "boto3"])
def test_the_aws_cli_and_boto3_leave_the_prefix_out_by_the_profile(run, sdk, server):
    (server.directory / ".aws").mkdir()
    (server.directory / ".aws/config").write_text("[default]\ndisable_host_prefix_injection = true\n")
    assert_discovers(run(WITHOUT, *program(sdk)))


@pytest.mark.parametrize("sdk", SDKS_WITH_A_SWITCH)
def test_sdks_leave_the_prefix_out_by_an_option_in_code(run, sdk):
    assert_discovers(run(WITHOUT, *program(sdk, "switch")))


@pytest.mark.long
def test_the_option_of_the_go_sdk_has_no_effect_in_the_context_of_a_call(run):
    assert_finds_no_host(run(WITHOUT, *program("go-cgo0", "context")))


# -- programs that do not use glibc -----------------------------------------------------------------------------------------


@pytest.fixture
def network(server, tmp_path):
    """A network whose DNS answers names below localhost, as systemd-resolved does. Nothing listens at the API's port."""
    (server.zones / "localhost.zone").write_text("$TTL 60\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\n* A 127.0.0.1\n")
    server.reload()
    eventually(lambda: server.resolver.addresses("data-cloudmap.localhost") == {"127.0.0.1"})
    network = PodNetwork(tmp_path / "pod", server.dns_address)
    try:
        yield network.start()
    finally:
        network.stop()


def test_musl_asks_dns_for_names_below_localhost(run, network, tmp_path):
    getaddrinfo = musl.getaddrinfo(tmp_path)
    assert_finds_no_host(run(WITH_NSS_MYHOSTNAME, getaddrinfo, "data-cloudmap.localhost"))
    assert network.run(getaddrinfo, "data-cloudmap.localhost.").stdout == "127.0.0.1\n"


@pytest.mark.long
def test_go_without_the_c_library_asks_dns_for_names_below_localhost(server, run, network):
    assert_finds_no_host(run(WITH_NSS_MYHOSTNAME, *program("go-cgo0")))
    environment = server.clients.environment() | {"AWS_ENDPOINT_URL_SERVICEDISCOVERY": "http://cloudmap.localhost:5301"}
    done = network.run(*program("go-cgo0"), environment=environment)
    assert "dial tcp 127.0.0.1:5301: connect: connection refused" in done.stderr, done
