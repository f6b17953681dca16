"""The network of a node: a real kube-proxy in nftables mode, clients beside it, and the programs of tasks behind it.

The node and the tasks have network namespaces of their own, so that rules, addresses and settings of the machine remain
unchanged. The namespaces have no names: the kernel removes one after the last thread, process and socket in it has ended.
"""

import ctypes
import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from .deadline import eventually
from .kubernetes import answers, programs
from .program import Program

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NODE = "node-of-kube-proxy"
# The two ends of the cable between the node and the tasks, and the addresses that the tasks share.
NODE_IPV4, NODE_IPV6 = "10.0.255.1", "fd00:255::1"
GATEWAY_IPV4, GATEWAY_IPV6 = "10.0.255.2", "fd00:255::2"
TASKS_IPV4, TASKS_IPV6 = "10.42.0.0/16", "fd00:42::/64"
# The default, which is free in a new network.
HEALTH_PORT = 10256
# kube-proxy waits for this time for more changes after each one; its default is a second.
SYNC_PERIOD = "10ms"
BYTES_MAX = 65_536
# kube-proxy drops packets to a cluster IP that it does not know yet. Clients send the next one after a second.
CONNECT_SECONDS = 0.5
# With so many connections for each task, one of several is missed by chance at most once in a million times.
CONNECTIONS_PER_TASK = 16
# Result of a connection to a port that nobody serves.
REFUSED = "refused"


class KubeProxy:
    """kube-proxy of a node, which it creates."""

    def __init__(self, cluster, directory):
        self.cluster = cluster
        self.tasks = []
        self._hosts = itertools.count(1)
        self._networks = []
        self._api_server = None
        self._configuration = directory / "kube-proxy.json"
        self.program = Program("kube-proxy", [programs() / "kube-proxy", f"--config={self._configuration}"], directory,
                               {"PATH": PATH, "HOME": str(directory)})

    def start(self):
        for name, package in (("nft", "nftables"), ("ip", "iproute2")):
            assert shutil.which(name, path=PATH), f"no {name}, which is in Debian's package {package}; tests/run installs it"
        self.node, self.tasks_network = self._network(), self._network()
        self._connect_networks()
        # kube-proxy reaches the API server at the address in the kubeconfig, which is the node's own loopback address there.
        self._api_server = self.node.listen("127.0.0.1", self.cluster.port)
        threading.Thread(target=accept, args=(self._api_server, self._pass_to_api_server), daemon=True).start()
        self.cluster.node(NODE)
        addresses = [{"type": "InternalIP", "address": address} for address in (NODE_IPV4, NODE_IPV6)]
        self.cluster.patch("Node", NODE, None, {"status": {"addresses": addresses}}, "status")
        self._configuration.write_text(json.dumps(configuration(self.cluster.kubeconfig)))
        self.node.run(self.program.start, lambda: answers(f"http://127.0.0.1:{HEALTH_PORT}/healthz"))
        return self

    def stop(self):
        self.program.kill()
        for task in self.tasks:
            task.close()
        if self._api_server:
            close(self._api_server)
        for network in self._networks:
            network.close()

    def task(self, name, *ports):
        """Runs the program of a task, at new addresses."""
        host = next(self._hosts)
        # Other addresses than those that the fake kubelet assigns.
        ipv4, ipv6 = f"10.42.{255 - host // 250}.{host % 250 + 1}", f"fd00:42::{host:x}"
        self.tasks_network.ip(f"address add {ipv4}/32 dev node")
        self.tasks_network.ip(f"address add {ipv6}/128 dev node nodad")
        self.tasks.append(Task(self.tasks_network, name, ipv4, ipv6, ports))
        return self.tasks[-1]

    def serves(self, address, port, *expected):
        """Waits until connections from the node to this address and port reach all of these (`NAME:PORT`) and no others.

        REFUSED stands for a refused connection. By IPv6 it is not seen: Linux reports it after the client's second packet.
        """
        def check():
            found = self.node.run(results, address, port, set(expected))
            assert found == set(expected), f"{address}:{port} gives {found}, expected {set(expected)}"
            return True
        eventually(check)

    def _network(self):
        self._networks.append(Network())
        return self._networks[-1]

    def _connect_networks(self):
        self.node.ip("link set lo up")
        self.tasks_network.ip("link set lo up")
        self.node.ip(f"link add tasks type veth peer name node netns {self.tasks_network.path}")
        for network, device, addresses in ((self.node, "tasks", (NODE_IPV4, NODE_IPV6)),
                                           (self.tasks_network, "node", (GATEWAY_IPV4, GATEWAY_IPV6))):
            network.ip(f"address add {addresses[0]}/24 dev {device}")
            network.ip(f"address add {addresses[1]}/64 dev {device} nodad")
            network.ip(f"link set {device} up")
        # A cluster IP needs a route, too, because kube-proxy's rules replace it after the choice of the client's address.
        self.node.ip(f"route add default via {GATEWAY_IPV4}")
        self.node.ip(f"-6 route add default via {GATEWAY_IPV6}")

    def _pass_to_api_server(self, stream):
        try:
            behind = socket.create_connection(("127.0.0.1", self.cluster.port))
        except OSError:
            # kube-proxy tries again.
            stream.close()
            return
        for source, sink in ((stream, behind), (behind, stream)):
            threading.Thread(target=copy, args=(source, sink), daemon=True).start()


class Task:
    """The program of a task with an address of each family. On all its ports it sends `NAME:PORT` to everybody who connects."""

    def __init__(self, network, name, ipv4, ipv6, ports):
        self.name, self.ipv4, self.ipv6 = name, ipv4, ipv6
        self._listeners = [network.listen(address, port) for address in (ipv4, ipv6) for port in ports]
        for listener in self._listeners:
            threading.Thread(target=accept, args=(listener, self._greet), daemon=True).start()

    def close(self):
        for listener in self._listeners:
            close(listener)

    def _greet(self, connection):
        with connection, suppress(OSError):
            connection.sendall(f"{self.name}:{connection.getsockname()[1]}".encode())


class Network:
    """A network namespace and the thread in it. Sockets and programs that the thread creates are in the namespace too."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)
        self.path = self.run(unshare)

    def run(self, work, *arguments):
        """Calls a function in the namespace, and returns its result."""
        return self._thread.submit(work, *arguments).result()

    def ip(self, arguments):
        """Runs `ip` of iproute2."""
        done = self.run(lambda: subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, env={"PATH": PATH}))
        assert done.returncode == 0, f"ip {arguments}: exit {done.returncode}\n{done.stderr}"

    def listen(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self.run(lambda: socket.create_server((address, port), family=family, backlog=128))

    def close(self):
        self._thread.shutdown()


def configuration(kubeconfig):
    """kube-proxy's configuration, which leaves all settings of the kernel's connection tracking as they are."""
    return {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "clientConnection": {"kubeconfig": str(kubeconfig)}, "hostnameOverride": NODE, "oomScoreAdj": 0,
            "detectLocalMode": "ClusterCIDR", "clusterCIDR": f"{TASKS_IPV4},{TASKS_IPV6}",
            "nftables": {"minSyncPeriod": SYNC_PERIOD},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}


def unshare():
    """Moves the calling thread into a new network namespace, and returns the namespace's path."""
    if LIBC.unshare(CLONE_NEWNET):
        raise RuntimeError(f"no new network namespace: {os.strerror(ctypes.get_errno())}; the tests of kube-proxy need root")
    return f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"


def results(address, port, expected):
    """What connections have received: each result once. Ends early with an unexpected one."""
    found = set()
    for _ in range(CONNECTIONS_PER_TASK * len(expected)):
        found.add(received(address, port))
        if not found <= expected:
            break
    return found


def received(address, port):
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS) as connection:
            return connection.makefile().read()
    except ConnectionRefusedError:
        return REFUSED
    except OSError as error:
        return repr(error)


def accept(listener, serve):
    """Serves connections until the socket is closed."""
    with suppress(OSError):
        while True:
            serve(listener.accept()[0])


def close(listener):
    # A close alone leaves the port open while a thread accepts.
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def copy(source, sink):
    """Copies bytes from one stream to another, and closes both directions at the end of either."""
    with suppress(OSError):
        while data := source.recv(BYTES_MAX):
            sink.sendall(data)
    for stream in (source, sink):
        with suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
