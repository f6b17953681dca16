"""The cluster's DNS: CoreDNS on loopback, which reads its ConfigMaps as it would when a kubelet mounts them.

A kubelet writes a ConfigMap's keys as files of a volume and refreshes them when the ConfigMap changes, within about a
minute; here within a fraction of a second. What differs is what belongs to the machine, or to a pod: `:53` of a server block
becomes the test's port, every block and probe binds the loopback address, and the API server is found by a kubeconfig.
"""

import re
import signal
import threading
import time
from http.client import HTTPException

from dns.exception import DNSException

from .deadline import eventually
from .dns import Resolver
from .kubernetes import ApiError, programs
from .program import Program, free_port

PROJECT_SECONDS = 0.05
# `reload` looks after two to three seconds, and then loads what has changed.
RELOAD_SECONDS_MAX = 4.0
RELOADED = re.compile(r"Reloading complete|reload failed|Corefile parse failed")
PORT_53 = re.compile(r":53$")
# As k3s has it, without the forwarder to other name servers. `reload` looks as often as it may.
COREFILE = """.:53 {{
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    cache 30
    reload 2s 1s
    loadbalance
    import {custom}/*.override
}}
import {custom}/*.server
"""


class CoreDns:
    """CoreDNS with the ConfigMaps `coredns` and `coredns-custom` of kube-system; the first is made if it is missing."""

    def __init__(self, cluster, directory, routes=None):
        """`routes` says what is behind the addresses of Services, which nobody here passes on: `10.43.0.5:53` -> other."""
        self.cluster = cluster
        self.routes = routes or {}
        self.directory = directory
        self.custom = directory / "custom"
        self.custom.mkdir(parents=True)
        self.corefile = directory / "Corefile"
        self.port = free_port()
        self._probes = {"health": free_port(), "ready": free_port(), "prometheus": free_port()}
        self.resolver = Resolver("127.0.0.1", self.port)
        self.program = Program("coredns", [programs() / "coredns", "-conf", self.corefile], directory)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_projecting, daemon=True)

    def start(self):
        if self.cluster.get("ConfigMap", "coredns", "kube-system") is None:
            text = COREFILE.format(custom=self.custom)
            self.cluster.apply(config_map("coredns", {"Corefile": text}))
        self.project()
        self.program.start(self.is_answering)
        self._thread.start()
        return self

    def stop(self):
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.program.kill()

    def dig(self, name, rrtype="A", *options):
        """dig through CoreDNS as a pod's resolver would ask: with recursion desired."""
        return self.resolver.dig(name, rrtype, "+rec", *options)

    def wait_for(self, zone):
        """Waits until the zone is forwarded; CoreDNS looks for changed blocks every two to three seconds."""
        eventually(lambda: self.dig(zone, "SOA").status == "NOERROR")

    def set_block(self, key, text):
        """Writes a key of coredns-custom, as somebody with kubectl would."""
        self.cluster.apply(config_map("coredns-custom", {key: text}), manager=f"test-{key}")

    def blocks(self):
        """The keys of coredns-custom and their texts."""
        found = self.cluster.get("ConfigMap", "coredns-custom", "kube-system")
        return (found or {}).get("data", {})

    def is_answering(self):
        try:
            # Over TCP, where a port that is not bound yet says so at once.
            return self.resolver.ask("kubernetes.default.svc.cluster.local", tcp=True).rcode() == 0
        except (OSError, EOFError, DNSException):
            return False

    # -- as a kubelet mounts ConfigMaps ---------------------------------------------------------------------------------

    def project(self):
        """Writes what has changed, and says whether something has."""
        corefile = self.cluster.get("ConfigMap", "coredns", "kube-system")
        blocks = self.blocks()
        gone = [file for file in self.custom.iterdir() if file.name not in blocks]
        for file in gone:
            file.unlink()
        written = [self._write(self.custom / key, text) for key, text in blocks.items()]
        if corefile is not None:
            written.append(self._write(self.corefile, corefile["data"]["Corefile"]))
        return bool(gone) or any(written)

    def _keep_projecting(self):
        while not self._ended.wait(PROJECT_SECONDS):
            reloads = self._reloads()
            try:
                is_changed = self.project()
            except (ApiError, OSError, HTTPException):
                # A kubelet leaves the files as they are while the API server is away.
                continue
            # CoreDNS reads its files twice when it reloads, first to serve them and then for the checksum that tells it of
            # the next change. A change between the two is never served; a kubelet's changes are a minute apart.
            if is_changed and not self._has_reloaded_since(reloads) and not self.program.has_ended():
                # Now and then `reload` looks no more after one reload.
                self.program.process.send_signal(signal.SIGUSR1)
                self._has_reloaded_since(reloads)

    def _has_reloaded_since(self, reloads):
        end = time.monotonic() + RELOAD_SECONDS_MAX
        while self._reloads() == reloads:
            if self._ended.wait(PROJECT_SECONDS) or time.monotonic() > end:
                return False
        return True

    def _reloads(self):
        return len(RELOADED.findall(self.program.log.read_text(errors="replace")))

    def _write(self, path, text):
        text = self._on_loopback(text)
        if path.exists() and path.read_text() == text:
            return False
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.replace(path)
        return True

    def _on_loopback(self, text):
        depth, lines = 0, []
        for line in text.splitlines():
            words = line.split("#")[0].split()
            plugin = words[0] if depth and words else ""
            if words[-1:] == ["{"] and depth == 0 and not words[0].startswith("("):
                zones = [PORT_53.sub("", zone) for zone in " ".join(words[:-1]).replace(",", " ").split()]
                lines += [" ".join(f"{zone}:{self.port}" for zone in zones) + " {", "    bind 127.0.0.1"]
            elif plugin in self._probes:
                lines.append(line.replace(plugin, f"{plugin} 127.0.0.1:{self._probes[plugin]}"))
            elif plugin == "forward":
                lines.append(" ".join(self.routes.get(word, word) for word in words))
            elif plugin == "kubernetes" and words[-1] == "{":
                lines += [line, f"kubeconfig {self.cluster.kubeconfig}"]
            else:
                lines.append(line)
            depth += words[-1:].count("{") - words[:1].count("}")
        return "\n".join(lines) + "\n"


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": "kube-system"}}
