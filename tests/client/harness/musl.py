"""getaddrinfo of musl, the C library of Alpine's images."""

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("getaddrinfo.c")


def getaddrinfo(folder):
    """Builds a static program in the folder and returns its path. It prints the addresses of a name, one in a line."""
    package = os.environ.get("CLOUDMAP_DNS_TEST_MUSL")
    assert package, "no musl: run the tests through tests/run, which gets it"
    [headers] = Path(package, "usr/include").glob("*-linux-musl*")
    [library] = Path(package, "usr/lib").glob("*-linux-musl*")
    program = folder / "getaddrinfo"
    done = subprocess.run(["cc", "-static", "-nostdlib", "-nostdinc", "-isystem", headers, "-o", program,
                           library / "crt1.o", library / "crti.o", SOURCE, library / "libc.a", "-lgcc", library / "crtn.o"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program
