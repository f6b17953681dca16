"""A node whose kubelet runs the commands of containers, their readiness probes, `kubectl exec` and `kubectl port-forward`.

The commands are processes of this machine, and each pod has a folder /tmp of its own. There are no images and no networks: a
pod's address leads nowhere, and its ports lead to programs that a test names.
"""

import json
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
from http.client import HTTPException
from urllib.parse import parse_qs, urlsplit

from . import spdy
from .container import inside
from .deadline import PATIENCE_SECONDS
from .kubelet import Kubelet
from .kubernetes import ApiError
from .server import plain_environment

PROBE_SECONDS = 0.2
IDLE_SECONDS = 120.0
EXEC, PORT_FORWARD = "v4.channel.k8s.io", "portforward.k8s.io"


class Node(Kubelet):
    """A node that runs all pods of the cluster from `start` to `stop`.

    Without `reports_failures`, a probe that fails is not reported, as by a kubelet that hangs.
    """

    def __init__(self, cluster, directory):
        super().__init__(cluster)
        self.directory = directory
        self.reports_failures = True
        # The address of the program that a container port leads to.
        self.programs = {}
        self._containers = {}
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow_all, daemon=True)
        self._server = Endpoint(self, cluster.ca, cluster.ca.with_suffix(".key"))

    def start(self):
        self._server.start()
        self.cluster.patch("Node", self.node, None, {"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.port}}}}, "status")
        self._follower.start()
        return self

    def stop(self):
        self._ended.set()
        self._follower.join()
        self._server.stop()
        for container in list(self._containers.values()):
            container.kill()

    def container(self, namespace, pod):
        """The container of a pod by the pod's name, or None."""
        found = [container for container in list(self._containers.values()) if container.pod == (namespace, pod)]
        return found[0] if found else None

    def _follow_all(self):
        while not self._ended.wait(PROBE_SECONDS):
            try:
                for pod in self.cluster.list("Pod"):
                    self._sync(pod)
            except (ApiError, OSError, HTTPException):
                # The pod was deleted meanwhile, or the API server does not answer: try again in the next round.
                continue

    def _sync(self, pod):
        uid, [spec] = pod["metadata"]["uid"], pod["spec"]["containers"]
        if "deletionTimestamp" in pod["metadata"]:
            if uid in self._containers:
                self._containers.pop(uid).kill()
            self.end(pod)
            return
        if uid not in self._containers:
            self._containers[uid] = Container(self.directory / uid, pod)
        if "podIP" not in pod["status"]:
            self.run(pod, ready="readinessProbe" not in spec)
        elif "readinessProbe" in spec:
            is_ready = self._containers[uid].run(spec["readinessProbe"]["exec"]["command"]).returncode == 0
            was_ready = any(found["ready"] for found in pod["status"]["containerStatuses"])
            if is_ready != was_ready and (is_ready or self.reports_failures):
                self.set_ready(pod, is_ready)


class Container:
    """The only container of a pod: its command as a process, and its folder /tmp."""

    def __init__(self, directory, pod):
        self.pod = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._files = {"/tmp": directory}
        directory.mkdir(parents=True)
        [spec] = pod["spec"]["containers"]
        self._process = subprocess.Popen(
            inside(self._files, *spec["command"]), start_new_session=True, cwd="/", env=plain_environment("/"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if "command" in spec else None

    def run(self, command):
        """Runs another command in the container and returns the finished process."""
        return subprocess.run(inside(self._files, *command), capture_output=True, timeout=PATIENCE_SECONDS, cwd="/",
                              env=plain_environment("/"), stdin=subprocess.DEVNULL)

    def kill(self):
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Endpoint(socketserver.ThreadingTCPServer):
    """The HTTPS endpoint of the kubelet, to which the API server connects for `kubectl exec` and `kubectl port-forward`."""

    daemon_threads = True

    def __init__(self, node, certificate, key):
        super().__init__(("127.0.0.1", 0), Request)
        self.node, self.port = node, self.server_address[1]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()

    def finish_request(self, request, client_address):
        # The handshake takes place in the thread of the connection.
        with self._context.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request, client_address):
        pass


class Request(socketserver.StreamRequestHandler):
    """A request that is upgraded to streams."""

    # With a timeout, a thread that waits for data does not keep another one from sending through the same TLS connection.
    timeout = IDLE_SECONDS

    def handle(self):
        _, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        url = urlsplit(target)
        _, verb, namespace, pod, *_ = url.path.split("/")
        container = self.server.node.container(namespace, pod)
        verbs = {"exec": (EXEC, Exec), "portForward": (PORT_FORWARD, PortForward)}
        if container is None or verb not in verbs:
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        protocol, handler = verbs[verb]
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {spdy.PROTOCOL}\r\n"
                         f"X-Stream-Protocol-Version: {protocol}\r\n\r\n".encode())
        spdy.Connection(self.rfile, self.wfile).serve(handler(self.server.node, container, parse_qs(url.query)).opened)


class Exec:
    """Runs a command when the client has opened all streams: one for errors, and those that the query names."""

    def __init__(self, node, container, query):
        self._container, self._command = container, query["command"]
        self._wanted = {"error"} | {stream for stream, name in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"))
                                    if name in query}
        self._streams = {}

    def opened(self, stream):
        self._streams[stream.headers["streamtype"]] = stream
        if self._streams.keys() == self._wanted:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        done = self._container.run(self._command)
        for name, data in (("stdout", done.stdout), ("stderr", done.stderr)):
            if name in self._streams:
                self._streams[name].send(data)
                self._streams[name].finish()
        status = {"metadata": {}, "status": "Success"}
        if done.returncode:
            causes = [{"reason": "ExitCode", "message": str(done.returncode)}]
            status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        self._streams["error"].send(json.dumps(status).encode())
        self._streams["error"].finish()


class PortForward:
    """Connects each data stream to the program that the node has for the port."""

    def __init__(self, node, container, query):
        self._programs = node.programs

    def opened(self, stream):
        if stream.headers["streamtype"] == "error":
            stream.finish()
            return
        program = socket.create_connection(self._programs[int(stream.headers["port"])], PATIENCE_SECONDS)
        for work in (self._from_client, self._from_program):
            threading.Thread(target=work, args=(stream, program), daemon=True).start()

    def _from_client(self, stream, program):
        try:
            while (data := stream.received.get()) is not None:
                program.sendall(data)
            program.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _from_program(self, stream, program):
        with program:
            try:
                while data := program.recv(65_536):
                    stream.send(data)
                stream.finish()
            except OSError:
                return
