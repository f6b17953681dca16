"""The server as it is measured: built with the profile of a release."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def release_build(bench):
    """Builds the server and returns its path; `bench` is named in the message that says so."""
    print(f"{bench}: building the server", file=sys.stderr)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked"], cwd=PROJECT, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=PROJECT,
                              check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(metadata)["target_directory"]) / "release" / "cloudmap-dns"
