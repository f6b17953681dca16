"""The account in the cluster: found by itself inside of one, and tokens that are replaced while the server runs."""

import json

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.container import PodServer, rotate
from harness.deadline import eventually
from harness.kecs import BACKEND
from harness.mirror import Mirror
from harness.server import Server

# The file of a token is read again every 50 seconds; an old token counts much longer than that, in a cluster.
ROTATION_SECONDS = 75.0
STORE_NAMESPACE = "dns-of-ours"
ACCOUNT = "cloudmap"


@pytest.fixture
def account(cluster):
    """A cluster with a service account that has the rights for everything here."""
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
    """A token that counts as long as a Secret is there; returns it and the Secret's name."""
    secret = unique("token")
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": STORE_NAMESPACE}})
    return cluster.service_account_token(STORE_NAMESPACE, ACCOUNT, secret), secret


def serves_a_pod(cluster, kubelet, server, namespace):
    """Makes a service and a pod that is an instance of it, and waits until it is answered; returns the pod."""
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace(namespace), "backend", A=60)
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)))
    eventually(lambda: server.resolver.addresses(f"backend.{namespace}") == {pod["status"]["podIP"]})
    return pod


def test_inside_a_cluster_nothing_has_to_be_set(account, kubelet, tmp_path):
    account.define()
    server = PodServer(tmp_path / "pod", account, STORE_NAMESPACE, token(account)[0], "--store", "kubernetes")
    try:
        server.start()
        pod = serves_a_pod(account, kubelet, server, "inside.local")
        # There it is part of the cluster, so that the cluster sees what it knows.
        Mirror(account, "inside.local").shows("sd-backend", {pod["status"]["podIP"]})
        # Its own objects are in the pod's own Kubernetes namespace.
        assert account.get("coordination.k8s.io/v1/Lease", "cloudmap-dns", STORE_NAMESPACE)
        found = account.list("cloudmap-dns.io/v1alpha1/CloudMapService")
        assert [(one["metadata"]["namespace"], one["spec"]["name"]) for one in found] == [(STORE_NAMESPACE, "backend")]
    finally:
        server.end()


def test_tokens_are_replaced_while_it_runs(account, kubelet, tmp_path):
    tokens = [token(account) for _ in range(2)]
    # In a pod, and with a kubeconfig that names the token's file.
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
        # Their watches are cut, so that they have to show a token again, and the old one is refused.
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
