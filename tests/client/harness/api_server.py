"""etcd and kube-apiserver on loopback, without containers, and kubectl for them."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

DEFINITIONS = Path(__file__).parents[3] / "deploy/helm/cloudmap-dns/crds"
TOKEN = "test-admin-token"
START_SECONDS = 60.0


def programs():
    """The folder with etcd, kube-apiserver and kubectl."""
    folder = os.environ.get("CLOUDMAP_DNS_TEST_KUBERNETES")
    if not folder:
        raise RuntimeError("CLOUDMAP_DNS_TEST_KUBERNETES is not set: it names the folder of etcd, kube-apiserver and kubectl")
    folder = Path(folder) / "bin"
    missing = [name for name in ("etcd", "kube-apiserver", "kubectl") if not (folder / name).exists()]
    if missing:
        raise RuntimeError(f"{folder} lacks {missing}")
    return folder


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class ApiServer:
    """One etcd and one API server; `stop_api` and `start_api` take the second away and bring it back on its port."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.kubeconfig = self.directory / "kubeconfig"
        self.etcd_port, self.peer_port, self.port = free_ports(3)
        self.etcd = self.api = None

    def start(self):
        key = self.directory / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.directory / "tokens.csv").write_text(f'{TOKEN},admin,admin-uid,"system:masters"\n')
        peer = f"http://127.0.0.1:{self.peer_port}"
        self.etcd = self._launch(
            "etcd", "--name=test", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={self.etcd_url}", f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=test={peer}")
        self.start_api()
        return self

    @property
    def etcd_url(self):
        return f"http://127.0.0.1:{self.etcd_port}"

    def start_api(self):
        certificates = self.directory / "certs"
        key = self.directory / "sa.key"
        self.api = self._launch(
            "kube-apiserver", f"--etcd-servers={self.etcd_url}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={certificates}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--authorization-mode=RBAC", f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none", "--profiling=false")
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert self.api.poll() is None, self._tail("kube-apiserver")
            assert time.monotonic() < end, self._tail("kube-apiserver")
            time.sleep(0.1)
        authority = self.directory / "ca.crt"
        shutil.copy(certificates / "apiserver.crt", authority)
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{self.port}",
                                                      "certificate-authority": str(authority)}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}]}))

    def stop_api(self):
        # With an open watch, SIGTERM takes a minute.
        self.api.kill()
        self.api.wait()

    def stop(self):
        for process in (self.api, self.etcd):
            if process and process.poll() is None:
                process.kill()
                process.wait()

    def is_ready(self):
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/readyz",
                                         headers={"Authorization": f"Bearer {TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=2, context=ssl._create_unverified_context()) as reply:
                return reply.read() == b"ok"
        except (urllib.error.URLError, OSError):
            return False

    def define(self):
        """Applies the custom resource definitions, and waits until they are served."""
        self.kubectl("apply", "-f", DEFINITIONS)
        self.kubectl("wait", "--for=condition=established", "--timeout=30s", "-f", DEFINITIONS)

    def kubectl(self, *arguments, manifest=None, check=True):
        given = json.dumps(manifest) if manifest is not None else None
        done = subprocess.run(
            [programs() / "kubectl", f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.directory / 'cache'}",
             *map(str, arguments)], input=given, capture_output=True, text=True, timeout=60)
        if check:
            assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done

    def apply(self, namespace, kind, name, spec, check=True):
        manifest = {"apiVersion": "cloudmap-dns.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return self.kubectl("-n", namespace, "apply", "-f", "-", manifest=manifest, check=check)

    def get(self, namespace, kind, name):
        return json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json").stdout)

    def names(self, namespace, kind):
        return self.kubectl("-n", namespace, "get", kind, "-o", "name").stdout.split()

    def _launch(self, program, *options):
        with open(self.directory / f"{program}.log", "a") as log:
            return subprocess.Popen([programs() / program, *options], stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, cwd=self.directory)

    def _tail(self, program):
        return (self.directory / f"{program}.log").read_text()[-3000:]
