"""The documents' settings for Terraform, tested with the library that configures its AWS provider."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness import documents
from harness.container import inside
from harness.deadline import PATIENCE_SECONDS
from harness.server import plain_environment

pytestmark = pytest.mark.long


@pytest.fixture
def settings(server):
    """The block `provider "aws"` of the documents, with this server's endpoint."""
    [block] = re.findall(r'^provider "aws" \{\n(.*?)^\}$', documents.everything(), re.MULTILINE | re.DOTALL)
    found = {name: json.loads(value) for name, value in re.findall(r'(\w+) += ("[^"]*"|true|false)', block)}
    return found | {"servicediscovery": server.endpoint}


@pytest.fixture
def configure(tmp_path):
    """Configures the provider on a machine that resolves only localhost, and lists the namespaces."""
    (tmp_path / "nsswitch.conf").write_text("hosts: files\n")

    def run(settings):
        program = Path(os.environ["CLOUDMAP_DNS_TEST_SDKS"], "terraform")
        command = inside({"/etc/nsswitch.conf": tmp_path / "nsswitch.conf"}, program, json.dumps(settings))
        return subprocess.run(command, env=plain_environment(tmp_path), capture_output=True, text=True,
                              timeout=4 * PATIENCE_SECONDS, stdin=subprocess.DEVNULL)
    return run


def test_the_provider_sends_requests_only_to_the_server(settings, configure, cloudmap):
    cloudmap.private_namespace("production.local")
    done = configure(settings)
    assert (done.returncode, done.stdout) == (0, "production.local\n"), done


@pytest.mark.parametrize("left_out, service", [("skip_credentials_validation", "STS"), ("skip_requesting_account_id", "IAM")])
def test_without_one_of_the_settings_the_provider_sends_requests_to_aws(settings, configure, left_out, service):
    del settings[left_out]
    done = configure(settings)
    assert done.returncode != 0 and f"operation error {service}" in done.stderr, done


def test_the_provider_refuses_a_region_of_none_of_its_partitions(settings, configure):
    settings["region"] = "local-1"
    assert "invalid AWS Region: local-1" in configure(settings).stderr
    settings["skip_region_validation"] = True
    assert configure(settings).returncode == 0
