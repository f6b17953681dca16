"""The service account: it is found in a pod without settings, and its token may be replaced while the server runs."""

import json

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.container import PodServer, rotate
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.mirror import Mirror
from harness.server import Server

# The server reads the file of a token again every 50 seconds. In a real cluster, an old token is valid for much longer.
ROTATION_SECONDS = 75.0
STORE_NAMESPACE = "dns-of-ours"
ACCOUNT = "cloudmap"


@pytest.fixture
def account(cluster):
    """A cluster with a service account that has all rights which these tests need."""
    cluster.apply(kecs.namespace())
    cluster.namespace(STORE_NAMESPACE)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": STORE_NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": STORE_NAMESPACE}})
    cluster.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ACCOUNT},
                   "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
                             {"apiGroups": [""], "resources": ["namespaces", "services"], "verbs": ["*"]},
                             {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["*"]},
                             {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
                             {"apiGroups": ["cloudmap-dns.io"], "resources": ["*"], "verbs": ["*"]}]})
    cluster.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
                   "subjects": [subject]})
    return cluster


def token(cluster):
    """Creates a token that is valid until a Secret is deleted. Returns the token and the Secret's name."""
    secret = unique("token")
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": STORE_NAMESPACE}})
    return cluster.service_account_token(STORE_NAMESPACE, ACCOUNT, secret), secret


def serves_a_pod(cluster, kubelet, server, namespace):
    """Creates a service and a pod that is its instance, waits until DNS answers the pod's address, and returns the pod."""
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace(namespace), "backend", A=60)
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)))
    eventually(lambda: server.resolver.addresses(f"backend.{namespace}") == {pod["status"]["podIP"]})
    return pod


def test_a_server_in_a_pod_needs_no_settings(account, kubelet, tmp_path):
    account.define()
    server = PodServer(tmp_path / "pod", account, STORE_NAMESPACE, token(account)[0], "--store", "kubernetes")
    try:
        server.start()
        pod = serves_a_pod(account, kubelet, server, "inside.local")
        # In a pod the mirror is on by default.
        Mirror(account, "inside.local").shows("sd-backend", {pod["status"]["podIP"]})
        # The server's own objects are in the pod's Kubernetes namespace.
        assert account.get("coordination.k8s.io/v1/Lease", "cloudmap-dns", STORE_NAMESPACE)
        found = account.list("cloudmap-dns.io/v1alpha1/CloudMapService")
        assert [(one["metadata"]["namespace"], one["spec"]["name"]) for one in found] == [(STORE_NAMESPACE, "backend")]
    finally:
        server.end()


def test_tokens_are_replaced_while_it_runs(account, kubelet, tmp_path):
    tokens = [token(account) for _ in range(2)]
    # One server is in a pod, the other one has a kubeconfig with the path of the token's file.
    inside = PodServer(tmp_path / "pod", account, STORE_NAMESPACE, tokens[0][0], "--store", "memory", "--mirror", "off")
    file = tmp_path / "token"
    rotate(file, tokens[0][0])
    kubeconfig = json.loads(account.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"tokenFile": str(file)}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    outside = Server(tmp_path / "desk", "--store", "memory", "--kubeconfig", tmp_path / "kubeconfig")
    try:
        pods = {}
        for server, namespace in ((inside, "inside.local"), (outside, "outside.local")):
            server.start()
            pods[namespace] = (server, serves_a_pod(account, kubelet, server, namespace))
        inside.rotate(tokens[1][0])
        rotate(file, tokens[1][0])
        account.delete("Secret", tokens[0][1], STORE_NAMESPACE)
        old = ("get", "pods", f"--token={tokens[0][0]}")
        eventually(lambda: "Unauthorized" in account.kubectl(*old, check=False).stderr, poll_seconds=0.5)
        # Restart the API server, so that the servers have to connect again with a token; the old one is refused.
        account.kill_api_server()
        account.start_api_server()
        for namespace, (server, pod) in pods.items():
            kubelet.set_ready(pod, False)
        for namespace, (server, _) in pods.items():
            eventually(lambda: server.resolver.addresses(f"backend.{namespace}") == set(), ROTATION_SECONDS)
            server.until_metric("kubernetes_watch_stale", 0)
        for namespace, (server, pod) in pods.items():
            kubelet.set_ready(pod, True)
            eventually(lambda: server.resolver.addresses(f"backend.{namespace}") == {pod["status"]["podIP"]})
    finally:
        for server in (inside, outside):
            server.end()
