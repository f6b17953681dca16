"""The image of the Dockerfile: one static program, which runs without privileges.

It is built with buildah, without a container engine and without a base image. The program is compiled on this
machine and statically linked with its C library, whereas the Dockerfile compiles it in an image from a registry.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness.server import Server

ROOT = Path(__file__).parents[2]
NOBODY = 65532


@pytest.fixture(scope="module")
def program():
    """A program without shared libraries, stripped as in the Dockerfile."""
    said = run("rustc", "--version", "--verbose").splitlines()
    [target] = [line.removeprefix("host: ") for line in said if line.startswith("host: ")]
    [strip] = re.findall(r"^ENV CARGO_PROFILE_RELEASE_STRIP=(\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    static = os.environ | {"RUSTFLAGS": "-C target-feature=+crt-static", "CARGO_PROFILE_DEV_STRIP": strip}
    run("cargo", "build", "--locked", "--bin", "cloudmap-dns", "--target", target, environment=static)
    metadata = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))
    return Path(metadata["target_directory"]) / target / "debug" / "cloudmap-dns"


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    """buildah with its own storage, so that nothing else on the machine changes."""
    storage = tmp_path_factory.mktemp("images")
    command = ("buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run"), "--storage-driver", "vfs")
    yield command
    subprocess.run([*command, "rm", "--all"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def image(buildah, program, tmp_path_factory):
    """The name of the image."""
    context = tmp_path_factory.mktemp("context")
    shutil.copy(program, context)
    run(*buildah, "build", "--isolation", "chroot", "--build-arg", "PROGRAM=prebuilt", "--tag", "localhost/cloudmap-dns:test",
        "--file", ROOT / "Dockerfile", context)
    return "localhost/cloudmap-dns:test"


@pytest.fixture
def container(buildah, image):
    """The name of a container with the image's files, and their path."""
    name = run(*buildah, "from", "--pull-never", image).strip()
    yield name, Path(run(*buildah, "mount", name).strip())
    run(*buildah, "rm", name)


def run(*command, environment=None):
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=1_800)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Contained(Server):
    """The server in a container, with the image's files, no privileges, and this machine's network."""

    def __init__(self, directory, buildah, container):
        super().__init__(directory)
        self._run = [*buildah, "run", "--isolation", "chroot", container, "--", "/cloudmap-dns", "serve"]

    def command(self):
        return [*self._run, "--dns", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                "--log-format", "json"]


def test_the_image_has_entrypoint_user_ports_and_settings(buildah, image):
    config = json.loads(run(*buildah, "inspect", "--type", "image", image))["OCIv1"]["config"]
    assert (config["Entrypoint"], config["User"]) == (["/cloudmap-dns"], f"{NOBODY}:{NOBODY}")
    assert "Cmd" not in config
    assert set(config["ExposedPorts"]) == {"5300/udp", "5300/tcp", "5301/tcp", "5302/tcp"}
    assert {variable.partition("=")[0] for variable in config["Env"]} >= {
        "CLOUDMAP_DNS_DNS", "CLOUDMAP_DNS_API", "CLOUDMAP_DNS_ADMIN", "CLOUDMAP_DNS_DATA_DIR"}


def test_the_image_has_the_program_and_nothing_else(container):
    _, files = container
    found = {path.relative_to(files).as_posix(): path.lstat() for path in files.rglob("*") if not path.is_dir()}
    assert set(found) == {"cloudmap-dns"}
    assert (found["cloudmap-dns"].st_uid, found["cloudmap-dns"].st_mode & 0o777) == (0, 0o755)


def test_the_program_in_the_image_has_no_symbols(container):
    _, files = container
    sections = re.findall(r"\] (\.\S+)", run("readelf", "--section-headers", "--wide", files / "cloudmap-dns"))
    assert ".text" in sections
    assert not {".symtab", ".strtab", ".debug_info", ".debug_line", ".debug_str"} & set(sections)


def test_the_server_runs_in_it_without_rights(buildah, container, tmp_path):
    name, files = container
    server = Contained(tmp_path, buildah, name).start()
    try:
        cloudmap = server.cloudmap()
        service = cloudmap.service(cloudmap.private_namespace("production.local"), "backend", A=60)
        cloudmap.instance(service, "web-1", ipv4="10.0.0.11")
        server.dig("backend.production.local").assert_positive("10.0.0.11")
        assert (files / "data" / "cloudmap.redb").stat().st_uid == NOBODY
        status = dict(line.split(":\t", 1) for line in (process_in(files) / "status").read_text().splitlines())
        assert set(status["Uid"].split()) == {str(NOBODY)}
        assert int(status["CapEff"], 16) == 0
        os.kill(int(status["Pid"]), signal.SIGTERM)
        server.wait_for_message("stopped")
    finally:
        server.stop()


def process_in(files):
    """The directory in /proc of the process whose program is in this file system."""
    program = files / "cloudmap-dns"
    found = [process for process in Path("/proc").glob("[0-9]*") if runs(process, program)]
    assert len(found) == 1, found
    return found[0]


def runs(process, program):
    try:
        return (process / "exe").samefile(program)
    except OSError:
        # The process has ended, or it is a kernel thread.
        return False
