"""HAProxy, which finds its servers by SRV records, and the servers that it uses."""

import os
import shutil
import socket
from pathlib import Path

from .deadline import eventually
from .program import Program, free_port

SERVERS_MAX = 8
# `srv_op_state` of a server to which HAProxy sends requests.
RUNNING = "2"
# All hold times of failed answers are 0, so that HAProxy drops a server with the first answer that lacks it.
CONFIGURATION = """
global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 1s
    timeout server 1s
resolvers cloudmap
    nameserver cloudmap {host}:{port}
    timeout resolve 100ms
    timeout retry 1s
    hold other 0s
    hold nx 0s
    hold refused 0s
    hold timeout 0s
    hold valid 0s
    {options}
listen web
    bind 127.0.0.1:{listen}
    server-template web {servers} {name} resolvers cloudmap init-addr none
"""


class HaProxy(Program):
    """HAProxy with up to eight servers from the SRV records of `name`, resolved by `dns` (host, port)."""

    def __init__(self, directory, dns, name, options=""):
        directory.mkdir()
        self._socket = directory / "socket"
        configuration = directory / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(
            socket=self._socket, host=dns[0], port=dns[1], options=options, listen=free_port(), servers=SERVERS_MAX,
            name=name))
        folder = os.environ.get("CLOUDMAP_DNS_TEST_HAPROXY")
        program = f"{folder}/usr/sbin/haproxy" if folder else shutil.which("haproxy")
        assert program, "no haproxy: run the tests through tests/run, which gets it"
        libraries = [str(path) for path in Path(folder, "usr/lib").glob("*-linux-gnu*")] if folder else []
        super().__init__("haproxy", [program, "-db", "-f", configuration], directory,
                         {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": ":".join(libraries)})

    def start(self):
        super().start(self._socket.exists)
        return self

    def addresses(self):
        """The addresses of the servers to which HAProxy sends requests."""
        lines = self._said("show servers state web").splitlines()
        fields = next(line for line in lines if line.startswith("#")).lstrip("# ").split()
        servers = [dict(zip(fields, line.split(), strict=True)) for line in lines if line.startswith(tuple("0123456789"))
                   and len(line.split()) == len(fields)]
        assert len(servers) == SERVERS_MAX, lines
        return {server["srv_addr"] for server in servers if server["srv_op_state"] == RUNNING}

    def during_answers(self, count):
        """The addresses over time, read repeatedly until HAProxy has got so many more DNS answers."""
        wanted, seen = self._answers() + count, []

        def enough():
            seen.append(self.addresses())
            return self._answers() >= wanted
        eventually(enough)
        return seen

    def _answers(self):
        """Number of replies with records."""
        said = self._said("show resolvers cloudmap")
        return int(next(line for line in said.splitlines() if line.strip().startswith("valid:")).split()[-1])

    def _said(self, command):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self._socket))
            stream.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode()
