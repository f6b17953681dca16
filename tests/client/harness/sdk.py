"""boto3 and the aws CLI, configured for the server under test as users do it."""

import copy
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

AWS = str(Path(sys.executable).parent / "aws")


class OneProtocol(Loader):
    """Loads the published model with only one of its protocols, to test SDKs that prefer another protocol than botocore."""

    protocol = None

    def load_service_model(self, service_name, type_name, api_version=None):
        published = super().load_service_model(service_name, type_name, api_version)
        if self.protocol is None or service_name != "servicediscovery" or type_name != "service-2":
            return published
        changed = copy.deepcopy(published)
        changed["metadata"]["protocols"] = [self.protocol]
        return changed


def boto_client(endpoint, protocol=None):
    """A boto3 client for a protocol, by default the one that botocore chooses."""
    session = botocore.session.get_session()
    loader = OneProtocol()
    loader.search_paths.extend(path for path in session.get_component("data_loader").search_paths
                               if path not in loader.search_paths)
    loader.protocol = protocol
    session.register_component("data_loader", loader)
    return boto3.Session(botocore_session=session, region_name="us-east-1", aws_access_key_id="test",
                         aws_secret_access_key="test").client(
        "servicediscovery", endpoint_url=endpoint,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))


class Clients:
    """The clients of one server."""

    def __init__(self, server):
        self._server = server

    def boto(self, protocol="json"):
        """A boto3 client in JSON, which is boto3's own choice, or in CBOR."""
        return boto_client(self._server.endpoint, {"json": None, "cbor": "smithy-rpc-v2-cbor"}[protocol])

    def environment(self):
        """The environment of a shell without AWS settings after `eval "$(cloudmap-dns env)"`."""
        script = self._server.run("env").stdout
        done = subprocess.run(["bash", "-c", f"set -eu; {script}\nenv -0"], capture_output=True, text=True, check=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(self._server.directory)})
        return dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)

    def aws(self, command, check=True):
        """Runs `aws servicediscovery COMMAND`. Returns its JSON output, or without `check` the finished process."""
        if not hasattr(self, "_environment"):
            self._environment = self.environment()
        done = subprocess.run([AWS, "servicediscovery", *shlex.split(command)], env=self._environment,
                              capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        if not check:
            return done
        assert done.returncode == 0, f"aws servicediscovery {command}: exit {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else {}
