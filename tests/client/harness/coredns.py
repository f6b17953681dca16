"""The cluster's DNS: CoreDNS on loopback, which reads its ConfigMaps as if a kubelet mounted them.

A kubelet writes a ConfigMap's keys as files of a volume, and updates the files about a minute after the ConfigMap has
changed; here it takes a fraction of a second. Three things of a Corefile are replaced: `:53` of a server block becomes the
test's port, every block and probe binds the loopback address, and the API server is found by a kubeconfig.
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
# `reload` checks the files every two to three seconds, and then loads them if they have changed.
RELOAD_SECONDS_MAX = 4.0
RELOADED = re.compile(r"Reloading complete|reload failed|Corefile parse failed")
PORT_53 = re.compile(r":53$")
# The Corefile of k3s without the forwarder to other name servers. `reload` has the shortest possible interval.
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
    """CoreDNS with the ConfigMaps `coredns` and `coredns-custom` of kube-system. The first is created if it is missing."""

    def __init__(self, cluster, directory, routes=None):
        """`routes` maps addresses of Services, such as `10.43.0.5:53`, to real ones: the test has no kube-proxy."""
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
        """Queries CoreDNS with dig as a pod's resolver does, with recursion desired."""
        return self.resolver.dig(name, rrtype, "+rec", *options)

    def wait_for(self, zone):
        """Waits until the zone is forwarded. CoreDNS checks for changed blocks every two to three seconds."""
        eventually(lambda: self.dig(zone, "SOA").status == "NOERROR")

    def set_block(self, key, text):
        """Writes a key of coredns-custom, as a user does with kubectl."""
        self.cluster.apply(config_map("coredns-custom", {key: text}), manager=f"test-{key}")

    def blocks(self):
        """The keys of coredns-custom and their texts."""
        found = self.cluster.get("ConfigMap", "coredns-custom", "kube-system")
        return (found or {}).get("data", {})

    def is_answering(self):
        try:
            # Query over TCP: a connection to a port that is not bound yet fails at once.
            return self.resolver.ask("kubernetes.default.svc.cluster.local", tcp=True).rcode() == 0
        except (OSError, EOFError, DNSException):
            return False

    # -- mounted ConfigMaps ---------------------------------------------------------------------------------------------

    def project(self):
        """Updates the files of changed keys. Returns true if there were any."""
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
                # A kubelet keeps the files while the API server does not answer.
                continue
            # CoreDNS reads its files twice when it reloads: first to load them, and then for the checksum by which it detects
            # the next change. It misses a change between the two. A kubelet never causes that: its updates are a minute apart.
            if is_changed and not self._has_reloaded_since(reloads) and not self.program.has_ended():
                # Sometimes the plugin `reload` stops checking after a reload; the signal makes CoreDNS reload.
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
