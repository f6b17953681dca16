"""A real Kubernetes on loopback: etcd, kube-apiserver and kube-controller-manager, without nodes or containers.

`kubelet` is a fake kubelet for it, `kecs` creates the objects of KECS, and `coredns` is the cluster's DNS.
"""

import base64
import http.client
import json
import os
import secrets
import shutil
import ssl
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from .deadline import PATIENCE_SECONDS, eventually
from .program import Program, free_port

TOKEN = "test-admin-token"
REQUEST_SECONDS = 30.0
# Objects of a new cluster, which tests do not delete.
OWN_NAMESPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}
OWN_OBJECTS = {"kube-root-ca.crt", "extension-apiserver-authentication",
               "kube-apiserver-legacy-service-account-token-tracking"}
DEFINITION = "apiextensions.k8s.io/v1/CustomResourceDefinition"
# The custom resources of the store.
DEFINITIONS = Path(__file__).parents[3] / "deploy" / "helm" / "cloudmap-dns" / "crds"
CLUSTER_KINDS = ("Node", "rbac.authorization.k8s.io/v1/ClusterRole", "rbac.authorization.k8s.io/v1/ClusterRoleBinding")
NAMESPACED_KINDS = ("apps/v1/Deployment", "apps/v1/ReplicaSet", "Pod", "Service", "discovery.k8s.io/v1/EndpointSlice",
                    "Endpoints",                    "ConfigMap", "Secret", "ServiceAccount", "coordination.k8s.io/v1/Lease", "policy/v1/PodDisruptionBudget",
                    "networking.k8s.io/v1/NetworkPolicy", "rbac.authorization.k8s.io/v1/Role",
                    "rbac.authorization.k8s.io/v1/RoleBinding", "PersistentVolumeClaim", "Event")
CONTROLLERS = ("deployment-controller", "replicaset-controller", "endpoints-controller", "endpointslice-controller",
               "endpointslice-mirroring-controller", "namespace-controller", "garbage-collector-controller")
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"


def programs():
    """The folder of the programs, which `tests/run` has built."""
    folder = os.environ.get("CLOUDMAP_DNS_TEST_KUBERNETES")
    if not folder:
        raise RuntimeError("CLOUDMAP_DNS_TEST_KUBERNETES is not set: run the tests through tests/run, which builds a "
                           "Kubernetes, or set it to a folder that tests/kubernetes/build has built into")
    return Path(folder) / "bin"


class ApiError(Exception):
    """An error response of the API server, with `status` and `reason` (such as NotFound, Conflict, Forbidden)."""

    def __init__(self, status, body):
        self.status, self.reason, self.message = status, body.get("reason", ""), body.get("message", "")
        super().__init__(f"{status} {self.reason}: {self.message}")


@contextmanager
def defined_cluster(directory):
    """A running cluster with the definitions of the custom resources."""
    cluster = Cluster(directory)
    try:
        cluster.start()
        cluster.define()
        yield cluster
    finally:
        cluster.stop()


class Cluster:
    """One cluster and its directory. The API server keeps its port when it is killed and started again."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self._etcd_port, peer_port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = self.directory / "kubeconfig"
        self.ca = self.directory / "certs" / "apiserver.crt"
        self._etcd_url = f"http://127.0.0.1:{self._etcd_port}"
        peer_url = f"http://127.0.0.1:{peer_port}"
        self.etcd = Program("etcd", [
            programs() / "etcd", "--name=test", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
            "--log-level=warn", f"--listen-client-urls={self._etcd_url}", f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=test={peer_url}"], self.directory)
        account_key = self.directory / "service-accounts.key"
        tokens = self.directory / "tokens.csv"
        self.api_server = Program("kube-apiserver", [
            programs() / "kube-apiserver", f"--etcd-servers={self._etcd_url}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={self.ca.parent}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={account_key}", f"--service-account-signing-key-file={account_key}",
            "--authorization-mode=RBAC", f"--token-auth-file={tokens}", "--service-cluster-ip-range=10.43.0.0/16,fd00:43::/112",
            # No controller creates the service accounts of new namespaces, so the admission plugin that needs them is off.
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none", "--profiling=false",
        ], self.directory)
        self.controllers = Program("kube-controller-manager", [
            programs() / "kube-controller-manager", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            "--secure-port=0", "--use-service-account-credentials=false", "--profiling=false",
            f"--controllers={','.join(CONTROLLERS)}"], self.directory)
        account_key.write_text(signing_key())
        tokens.write_text(f'{TOKEN},admin,admin-uid,"system:masters"\n')
        self.write_kubeconfig(self.kubeconfig, TOKEN)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self):
        self.etcd.start(lambda: answers(f"{self._etcd_url}/health"))
        self.start_api_server()
        self.controllers.start(lambda: True)
        return self

    def stop(self):
        """Kills all programs with SIGKILL: an API server with open watches takes a minute to shut down."""
        for program in (self.controllers, self.api_server, self.etcd):
            program.kill()

    def start_api_server(self):
        """Starts or restarts the API server, and returns when it is ready."""
        self.api_server.start(self.is_ready)
        if not self.controllers.has_ended():
            # The controllers are restarted too: they might wait for half a minute before they connect again.
            self.controllers.kill()
            self.controllers.start(lambda: True)

    def kill_api_server(self):
        self.api_server.kill()

    def is_ready(self):
        try:
            return self.text("GET", "/readyz") == "ok"
        except (OSError, http.client.HTTPException, ApiError):
            return False

    def compact(self):
        """Compacts etcd's history. After a restart of the API server, older watches cannot be resumed and get 410 Gone."""
        self._etcd("compaction", {"revision": self.revision(), "physical": True})

    def revision(self):
        """etcd's revision, which counts all writes."""
        return int(self._etcd("range", {"key": base64.b64encode(b"/").decode()})["header"]["revision"])

    def _etcd(self, call, body):
        request = urllib.request.Request(f"{self._etcd_url}/v3/kv/{call}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as reply:
            return json.load(reply)

    # -- clients ------------------------------------------------------------------------------------------------------

    def write_kubeconfig(self, path, token, namespace="default"):
        """Writes a kubeconfig for the owner of the token. `service_account_token` makes tokens."""
        user = {"cluster": "test", "user": "user", "namespace": namespace}
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}], "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": user}]}))
        return path

    def kubectl(self, *arguments, stdin=None, check=True):
        """Runs kubectl with these arguments. Returns its output, or without `check` the finished process."""
        done = subprocess.run([programs() / "kubectl", f"--kubeconfig={self.kubeconfig}", *map(str, arguments)],
                              input=stdin, capture_output=True, text=True, timeout=120,
                              env={"PATH": os.environ["PATH"], "HOME": str(self.directory)})
        if not check:
            return done
        assert done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}"
        return done.stdout

    def text(self, method, path, body=None, content_type=JSON):
        """Sends a request to the API server and returns the body. Raises ApiError unless the status is 2xx."""
        context = ssl.create_default_context(cafile=str(self.ca))
        # The API server's self-signed certificate has no key identifiers, which a strict verification requires.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type})
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        if reply.status // 100 != 2:
            raise ApiError(reply.status, json.loads(text) if text.startswith("{") else {"message": text})
        return text

    def request(self, method, path, body=None, content_type=JSON):
        return json.loads(self.text(method, path, body, content_type))

    # -- objects ------------------------------------------------------------------------------------------------------
    # Kinds are given as in manifests: "Pod" for the API v1, and otherwise with the API version: "apps/v1/Deployment".

    def create(self, manifest):
        path = path_of(kind_of(manifest), manifest["metadata"].get("namespace"))
        return self.request("POST", path, manifest)

    def apply(self, manifest, manager="test"):
        """Creates or changes the object by server-side apply."""
        metadata = manifest["metadata"]
        path = path_of(kind_of(manifest), metadata.get("namespace"), metadata["name"])
        return self.request("PATCH", f"{path}?{urlencode({'fieldManager': manager, 'force': 'true'})}", manifest, APPLY)

    def get(self, kind, name, namespace=None):
        """The object, or None if it does not exist."""
        try:
            return self.request("GET", path_of(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind, namespace=None, selector=None):
        """The objects of one Kubernetes namespace, or of all."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        return self.request("GET", path_of(kind, namespace) + query)["items"]

    def patch(self, kind, name, namespace, patch, subresource=None):
        """Applies a merge patch to the object, or to a subresource such as `status`."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, patch, MERGE)

    def delete(self, kind, name, namespace=None, grace_seconds=None):
        """Deletes the object. It is not an error if it does not exist."""
        body = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        try:
            self.text("DELETE", path_of(kind, namespace, name), body)
        except ApiError as error:
            if error.status != 404:
                raise

    def define(self):
        """Applies the definitions of the store's custom resources."""
        self.kubectl("apply", "-f", DEFINITIONS)
        self.wait_for_definitions()

    def wait_for_definitions(self):
        """Waits until all custom resources are served, which takes some seconds after their definition."""
        for definition in self.list(DEFINITION):
            spec = definition["spec"]
            kind = f"{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['kind']}"
            eventually(lambda: self.serves(kind), 2 * PATIENCE_SECONDS)

    def serves(self, kind):
        try:
            return self.list(kind) is not None
        except ApiError as error:
            # 404 means that the resource is not served yet, and 429 that its storage is being initialized.
            if error.status in (404, 429):
                return False
            raise

    def namespace(self, name, **labels):
        """Creates a Kubernetes namespace and returns its name."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return name

    def node(self, name="node-1", zone=None):
        """Creates a ready node and returns its name. Pods need one: those of missing nodes are in no EndpointSlice."""
        labels = {"kubernetes.io/hostname": name} | ({"topology.kubernetes.io/zone": zone} if zone else {})
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self.patch("Node", name, None, {"status": {"conditions": [ready]}}, "status")
        return name

    def service_account_token(self, namespace, name, secret=None):
        """A token of a service account, as its pods get it. With a Secret, the token is valid until the Secret is deleted."""
        path = f"{path_of('ServiceAccount', namespace, name)}/token"
        bound = {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": secret}} if secret else {}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": bound}
        return self.request("POST", path, request)["status"]["token"]

    def wipe(self):
        """Deletes the objects that tests have created, so that the next test finds a new cluster.

        Namespaces are emptied here, because the namespace controller would take five seconds for each test. Definitions of
        resources are not deleted: an API server that has just got them may need a minute to delete them.
        """
        if self.list(DEFINITION):
            self.stop()
            shutil.rmtree(self.directory / "etcd")
            self.start()
            return
        for kind in CLUSTER_KINDS:
            for found in self.list(kind, selector="!kubernetes.io/bootstrapping"):
                if not is_own(found["metadata"]):
                    self.delete(kind, found["metadata"]["name"])
        eventually(self.empty, 2 * PATIENCE_SECONDS)
        for namespace in self.list("Namespace"):
            name = namespace["metadata"]["name"]
            if name not in OWN_NAMESPACES:
                self.delete("Namespace", name)
                self.finalize(name)

    def finalize(self, namespace):
        """Finalizes a deleted and empty Kubernetes namespace, as the namespace controller does."""
        nothing = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}, "spec": {"finalizers": []}}
        try:
            self.request("PUT", f"{path_of('Namespace', name=namespace)}/finalize", nothing)
        except ApiError as error:
            if error.status != 404:
                raise

    def empty(self):
        """Deletes all objects. Returns True if there were none, so that no controller can be about to create more."""
        found = [(kind, item["metadata"]) for kind in NAMESPACED_KINDS for item in self.list(kind)]
        found = [(kind, metadata) for kind, metadata in found if not is_own(metadata)]
        for kind, metadata in found:
            self.delete(kind, metadata["name"], metadata["namespace"], grace_seconds=0)
        left = ", ".join(f"{kind} {metadata['namespace']}/{metadata['name']}" for kind, metadata in found)
        assert not left, f"still there: {left}"
        return True


def is_own(metadata):
    """True if the cluster creates this object itself."""
    return metadata["name"] in OWN_OBJECTS or metadata["name"].startswith(("apiserver-", "system:", "kubernetes"))


def kind_of(manifest):
    version = manifest["apiVersion"]
    return manifest["kind"] if version == "v1" else f"{version}/{manifest['kind']}"


def path_of(kind, namespace=None, name=None):
    """The path of an object in the API server, or of all objects of a kind."""
    version, _, kind = kind.rpartition("/")
    root = f"/apis/{version}" if version else "/api/v1"
    plural = kind.lower()
    if plural.endswith("y"):
        plural = f"{plural[:-1]}ies"
    elif not plural.endswith("s"):
        plural += "s"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{plural}" + (f"/{name}" if name else "")


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1.0) as reply:
            return reply.status == 200
    except OSError:
        return False


def signing_key():
    """A new private key (P-256, RFC 5915) for the tokens of service accounts."""
    # The top bit is cleared, so that the number is less than the order of the curve.
    number = secrets.randbits(255).to_bytes(32, "big")
    key = bytes.fromhex("303102010104 20") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(key).decode()}-----END EC PRIVATE KEY-----\n"
