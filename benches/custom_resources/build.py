"""Builds the server under test with the release profile, and describes the machine."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def release_build(bench):
    """Builds the server and returns its path. `bench` is the name for the progress message."""
    print(f"{bench}: building the server", file=sys.stderr)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked"], cwd=PROJECT, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=PROJECT,
                              check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(metadata)["target_directory"]) / "release" / "cloudmap-dns"


def first_line(*command):
    """The first line that a program prints, such as its version."""
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.partition("\n")[0]


def machine(more=""):
    """Kernel, CPUs and Python in one line. `more` is appended to the number of CPUs."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return (f"{platform.system()} {platform.release()}; {os.cpu_count()} CPUs{more}, "
            f"{models[0] if models else platform.machine()}; Python {platform.python_version()}")
