"""deploy/: the chart, its manifests, and their acceptance by a real API server."""

import json
import os
import re
import subprocess

import pytest

from harness import kecs
from harness.coredns import CoreDns
from harness.deadline import eventually
from harness.documents import section, typed
from harness.helm import (CHART, MANIFEST, NAMESPACE, RENDERING, ROOT, account, container, environment, helm, manifests,
                          only, render)
from harness.kecs import BACKEND
from harness.kubernetes import Cluster, kind_of, programs
from harness.sdk import AWS
from harness.server import binary, plain_environment

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# Kinds of the Prometheus operator, defined by the parts that the API server needs to accept their objects.
PROMETHEUS_KINDS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
PROMETHEUS_DEFINITIONS = [{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{plural}.monitoring.coreos.com"},
    "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {
                 "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
    for kind, plural in PROMETHEUS_KINDS.items()]
EVERYTHING = {
    "image": {"repository": "registry.kecs.local:5000/cloudmap-dns", "digest": f"sha256:{'0' * 64}",
              "pullSecrets": [{"name": "registry"}]},
    "replicas": 3, "mirror": False, "shadow": True, "coredns": {"mode": "corefile", "forward": "10.43.0.53:53"},
    "instanceId": "pod",
    "service": {"clusterIP": "10.43.0.53", "apiPort": 8080, "annotations": {"team": "network"}},
    "settings": {"fail-open": True, "max-instances": 4000000, "notify": ["10.0.0.9:53", "10.0.0.10:53"]},
    "zones": {"example.internal": "@ 300 IN SOA ns hostmaster 1 2 3 4 5\n@ 300 IN NS ns\nns 300 IN A 192.0.2.1\n"},
    "cookieSecretName": "cookies", "encryptedDns": {"secretName": "dns-certificate", "quic": True}, "serviceAccount": {"name": "dns", "annotations": {"team": "network"}},
    "networkPolicy": {"apiFrom": [{"podSelector": {}}], "adminFrom": [{"namespaceSelector": {}}],
                      "egress": [{"ports": [{"port": 6443, "protocol": "TCP"}]}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "priorityClassName": "system-cluster-critical", "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dns", "operator": "Exists"}], "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
    "affinity": {"podAntiAffinity": {}}, "topologySpreadConstraints": [
        {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]}
# Modes of the chart, which need different rights and objects.
MODES = {
    "defaults": {},
    "everything": EVERYTHING,
    "embedded": {"store": "embedded", "replicas": 1, "mirrorEndpoints": False, "persistence": {"size": "2Gi", "storageClassName": "fast"}},
    "memory": {"store": "memory", "replicas": 1, "mirror": False, "coredns": {"mode": "off"}},
    "shadow": {"store": "memory", "replicas": 1, "mirror": False, "coredns": {"mode": "off"}, "shadow": True},
    "cluster-ips": {"mirror": "clusterip", "drainAnnotation": True},
    "dual-stack": {"ipFamilies": ["IPv4", "IPv6"], "service": {"type": "LoadBalancer"}},
}


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


def test_the_chart_is_lint_free(tmp_path, mode):
    values = tmp_path / "mode.json"
    values.write_text(json.dumps(mode))
    helm("lint", "--strict", CHART, "--values", values, home=tmp_path)


def test_the_manifest_is_what_the_chart_renders(tmp_path):
    rendered = helm(*RENDERING, home=tmp_path).stdout
    if MANIFEST.read_text() != rendered:
        file = ROOT / "target" / "tmp" / MANIFEST.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered)
        pytest.fail(f"{MANIFEST.relative_to(ROOT)} is not what the chart renders; to update, copy {file} over it, or run "
                    f"helm {' '.join(RENDERING)} > {MANIFEST.relative_to(ROOT)}")


@pytest.mark.parametrize("values, words", [
    ({"replica": 2}, ["replica"]),
    ({"replicas": 0}, ["replicas"]),
    ({"store": "redis"}, ["store"]),
    ({"store": "embedded"}, ["embedded", "replicas"]),
    ({"store": "memory", "replicas": 3}, ["memory", "replicas"]),
    ({"coredns": {"mode": "on"}}, ["coredns"]),
    ({"coredns": {"forward": "cloudmap:53"}}, ["forward"]),
    ({"settings": {"store": "memory"}}, ["settings"]),
    ({"settings": {"fail_open": True}}, ["settings"]),
    ({"settings": {"shadow": "on"}}, ["settings"]),
    ({"shadow": "on"}, ["shadow"]),
    ({"accountId": "12"}, ["accountId"]),
    ({"service": {"name": "Cloud_Map"}}, ["service"]),
    ({"ipFamilies": []}, ["ipFamilies"]),
    ({"image": {"digest": "latest"}}, ["digest"]),
])
def test_wrong_values_are_refused_by_name(tmp_path, values, words):
    done = render(tmp_path, values, check=False)
    assert done.returncode != 0 and all(word in done.stderr for word in words), done.stderr


def test_settings_reach_the_server_as_it_reads_them(tmp_path):
    found = environment(render(tmp_path, EVERYTHING))
    assert found["CLOUDMAP_DNS_FAIL_OPEN"] == "true"
    assert found["CLOUDMAP_DNS_MAX_INSTANCES"] == "4000000"
    assert found["CLOUDMAP_DNS_NOTIFY"] == "10.0.0.9:53,10.0.0.10:53"
    assert found["CLOUDMAP_DNS_COREDNS_FORWARD"] == "10.43.0.53:53"
    assert found["CLOUDMAP_DNS_NS_ADDRESS"] == "10.43.0.53"
    assert found["CLOUDMAP_DNS_MIRROR"] == "off"
    assert found["CLOUDMAP_DNS_MIRROR_ENDPOINTS"] == "on"
    assert found["CLOUDMAP_DNS_SHADOW"] == "on"
    assert environment(render(tmp_path))["CLOUDMAP_DNS_SHADOW"] == "off"
    both = environment(render(tmp_path, {"ipFamilies": ["IPv4", "IPv6"]}))
    assert (both["CLOUDMAP_DNS_DNS"], both["CLOUDMAP_DNS_API"]) == ("0.0.0.0:53,[::]:53", "[::]:5301")


def test_encrypted_dns_has_addresses_ports_and_the_secret(tmp_path):
    rendered = render(tmp_path, {"encryptedDns": {"secretName": "dns-certificate", "quic": True}})
    found = environment(rendered)
    assert (found["CLOUDMAP_DNS_DOT"], found["CLOUDMAP_DNS_DOH"], found["CLOUDMAP_DNS_DOQ"]) == (
        "0.0.0.0:853", "0.0.0.0:443", "0.0.0.0:853")
    mounts = {mount["name"]: mount["mountPath"] for mount in container(rendered)["volumeMounts"]}
    assert found["CLOUDMAP_DNS_TLS_CERTIFICATE"].startswith(mounts["tls"] + "/")
    ports = {port["name"]: (port["port"], port["protocol"]) for port in only(rendered, "Service", "cloudmap")["spec"]["ports"]}
    assert (ports["dns-tls"], ports["dns-https"], ports["dns-quic"]) == ((853, "TCP"), (443, "TCP"), (853, "UDP"))
    assert "CLOUDMAP_DNS_DOT" not in environment(render(tmp_path))
    assert "CLOUDMAP_DNS_DOQ" not in environment(render(tmp_path, {"encryptedDns": {"secretName": "x"}}))


def test_the_server_accepts_the_settings_of_the_chart(tmp_path, mode):
    given = environment(render(tmp_path, mode)) | {"CLOUDMAP_DNS_ZONES": str(tmp_path)}
    done = subprocess.run([binary(), "check"], cwd=tmp_path, env=plain_environment(tmp_path) | given, timeout=60,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def test_the_api_server_accepts_every_object(cluster, tmp_path, mode):
    cluster.namespace(NAMESPACE, **RESTRICTED)
    rendered = render(tmp_path, mode)
    if any(manifest["kind"] in PROMETHEUS_KINDS for manifest in rendered):
        for definition in PROMETHEUS_DEFINITIONS:
            cluster.apply(definition)
        for plural in PROMETHEUS_KINDS.values():
            eventually(lambda: cluster.kubectl("get", plural, check=False).returncode == 0)
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-",
                           stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered}))
    assert len(said.splitlines()) == len(rendered), said
    assert "Warning" not in said


def test_pods_are_admitted_under_the_restricted_pod_security_standard(cluster, tmp_path, mode):
    cluster.namespace(NAMESPACE, **RESTRICTED)
    template = only(render(tmp_path, mode), "Deployment")["spec"]["template"]
    template["spec"].pop("priorityClassName", None)
    metadata = template["metadata"] | {"name": "trial", "namespace": NAMESPACE}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    # Check the test itself: this namespace refuses a pod that is not restricted.
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"name": "refused"}, "spec": template["spec"]}
    said = cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod), check=False).stderr
    assert 'violates PodSecurity "restricted' in said


def test_the_manifest_runs_two_replicas_behind_its_services(cluster, kubelet):
    cluster.kubectl("apply", "-f", MANIFEST)
    with kubelet.follow(NAMESPACE):
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/cloudmap-dns", "--timeout=30s")
    assert cluster.get("Namespace", NAMESPACE)["metadata"]["labels"].items() >= RESTRICTED.items()
    addresses = {pod["status"]["podIP"] for pod in cluster.list("Pod", NAMESPACE)}
    assert len(addresses) == 2
    for service, ports in {"cloudmap": {("dns", 53), ("dns-tcp", 53), ("api", 5301)},
                           "data-cloudmap": {("api", 5301)}}.items():
        eventually(lambda: endpoints(cluster, service) == (addresses, ports))


def endpoints(cluster, service):
    """Addresses and ports of a Service's endpoints."""
    slices = cluster.list("discovery.k8s.io/v1/EndpointSlice", NAMESPACE, f"kubernetes.io/service-name={service}")
    return ({address for piece in slices for endpoint in piece["endpoints"] or () for address in endpoint["addresses"]},
            {(port["name"], port["port"]) for piece in slices for port in piece["ports"] or ()})


def test_helm_installs_upgrades_and_uninstalls(cluster, tmp_path):
    cluster.namespace(NAMESPACE, **RESTRICTED)

    def run(*arguments):
        return helm(*arguments, "--namespace", NAMESPACE, home=tmp_path, environment={"KUBECONFIG": str(cluster.kubeconfig)})

    said = run("install", "cloudmap-dns", CHART).stdout
    assert "AWS_ENDPOINT_URL_SERVICEDISCOVERY=http://cloudmap.cloudmap-dns.svc.cluster.local\n" in said
    assert cluster.get("policy/v1/PodDisruptionBudget", "cloudmap-dns", NAMESPACE)["spec"]["maxUnavailable"] == 1
    run("upgrade", "cloudmap-dns", CHART, "--set", "replicas=1", "--set", "service.apiPort=8080")
    assert cluster.get("policy/v1/PodDisruptionBudget", "cloudmap-dns", NAMESPACE) is None
    assert {port["port"] for port in cluster.get("Service", "data-cloudmap", NAMESPACE)["spec"]["ports"]} == {8080}
    run("uninstall", "cloudmap-dns")
    for manifest in render(tmp_path):
        if manifest["kind"] != "CustomResourceDefinition":
            metadata = manifest["metadata"]
            assert cluster.get(kind_of(manifest), metadata["name"], metadata.get("namespace")) is None, manifest


def test_the_service_account_of_the_chart_is_sufficient(start, cluster, kubelet, tmp_path):
    server = start(*account(cluster, tmp_path, {"replicas": 1, "store": "memory"}))
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("demo.local"), "backend-api", A=60)
    cluster.apply(kecs.namespace())
    kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.0.24")
    eventually(lambda: server.dig("backend-api.demo.local").data() == ["10.42.0.24"])


def run(command, cluster, home):
    """Runs a command as an administrator of the cluster does, in the repository. Returns its output."""
    environment = {"PATH": f"{programs()}:{os.environ['PATH']}", "HOME": str(home), "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("way", ["kubectl apply", "helm install"])
def test_the_documents_commands_install_it(cluster, kubelet, tmp_path, way):
    text = section("kubernetes.md", "Install") + section("kubernetes.md", "The chart")
    commands = [line for line in typed(text)
                if line.startswith((way, "kubectl -n cloudmap-dns rollout"))]
    assert len(commands) == 2, commands
    with kubelet.follow(NAMESPACE):
        # The README installs with kubectl and waits, and then shows Helm as an alternative.
        for command in sorted(commands, key=lambda command: not command.startswith(way)):
            run(command, cluster, tmp_path)
    assert ready_replicas(cluster) >= 2


def test_the_commands_of_the_documents_cluster_sections(cluster, kubelet, start, tmp_path):
    """Runs all commands except those that need a node with containers (docker, k3d, port-forward, exec), and KECS's command."""
    text = section("kubernetes.md", "Install") + section("kubernetes.md", "A first service")
    commands = typed(text)
    with kubelet.follow(NAMESPACE):
        for command in commands:
            if command.startswith(("kubectl apply ", "kubectl -n cloudmap-dns rollout ")):
                run(command, cluster, tmp_path)
    # A server that is equivalent to one of the chart's pods, with its settings and the rights of its service account.
    server = start(*account(cluster, tmp_path))
    address = cluster.get("Service", "cloudmap", NAMESPACE)["spec"]["clusterIP"]
    coredns = CoreDns(cluster, tmp_path / "coredns", {f"{address}:53": "{}:{}".format(*server.dns_address)})
    try:
        coredns.start()
        for command in commands:
            if command.startswith("aws servicediscovery "):
                server.clients.aws(command.removeprefix("aws servicediscovery "))
            elif command.startswith(("aws ecs create-cluster ", "aws ecs register-task-definition ")):
                # These commands are for KECS. Here the AWS CLI only checks that their syntax is complete.
                run(f"{AWS}{command.removeprefix('aws')} --generate-cli-skeleton output --region us-east-1", cluster, tmp_path)
        ecs = r"^aws ecs create-service .* registryArn=(\S+),containerName=(\w+),containerPort=(\d+)$"
        [(arn, container, port)] = re.findall(ecs, "\n".join(commands), re.MULTILINE)
        backend = kecs.EcsService("backend", container, int(port), "backend")
        cluster.apply(kecs.namespace())
        shown = re.findall(r"^Address: (\S+)$", text, re.MULTILINE)
        for pod_address in shown:
            pod = backend.pod(backend.registry(arn.rpartition("/")[2]))
            assert arn in pod["metadata"]["annotations"]["kecs.dev/service-registries"]
            kubelet.create(pod, pod_address)
        coredns.wait_for("production.local")
        eventually(lambda: sorted(coredns.dig("backend.production.local").data()) == shown)
    finally:
        coredns.stop()
    [get] = re.findall(r"^\$ (kubectl -n cloudmap-dns get .*)$", text, re.MULTILINE)
    listed = run(get, cluster, tmp_path)
    assert "production.local" in listed and arn.rpartition("/")[2] in listed
    [discover] = re.findall(r"^\$ aws servicediscovery (discover-instances .*)$", text, re.MULTILINE)
    found = server.clients.aws(discover)["Instances"]
    assert sorted(instance["Attributes"]["AWS_INSTANCE_IPV4"] for instance in found) == shown


def ready_replicas(cluster):
    return cluster.get("apps/v1/Deployment", "cloudmap-dns", NAMESPACE)["status"].get("readyReplicas", 0)


# Rights of the server's account: (verb, group/resource, Kubernetes namespace), and the modes that have them.
ANYWHERE = "shop"
RIGHTS = [
    # All modes that watch pods.
    ("watch", "/pods", ANYWHERE, {"defaults", "everything", "memory", "embedded", "shadow"}),
    ("get", "/pods", ANYWHERE, {"defaults", "everything", "memory", "embedded", "shadow"}),
    ("list", "/namespaces", None, set()),
    ("create", "events.k8s.io/events", ANYWHERE, {"defaults", "everything", "memory", "embedded", "shadow"}),
    ("create", "/events", ANYWHERE, set()),
    # The store.
    ("create", "cloudmap-dns.io/cloudmapservices", NAMESPACE, {"defaults", "everything"}),
    ("patch", "cloudmap-dns.io/cloudmapservices/status", NAMESPACE, {"defaults", "everything"}),
    ("create", "cloudmap-dns.io/cloudmapservices", ANYWHERE, set()),
    # The mirror.
    ("patch", "discovery.k8s.io/endpointslices", ANYWHERE, {"defaults", "embedded"}),
    ("patch", "/endpoints", ANYWHERE, {"defaults"}),
    ("create", "/services", ANYWHERE, {"defaults", "embedded"}),
    ("create", "/namespaces", None, {"defaults", "embedded"}),
    ("delete", "/namespaces", None, set()),
    ("patch", "/namespaces", None, set()),
    ("update", "/services", ANYWHERE, set()),
    ("update", "discovery.k8s.io/endpointslices", ANYWHERE, set()),
    # The shadow of KECS's registry reads what the mirror may write.
    ("watch", "/services", ANYWHERE, {"defaults", "everything", "embedded", "shadow"}),
    ("list", "/services", ANYWHERE, {"defaults", "everything", "embedded", "shadow"}),
    ("watch", "/configmaps/coredns-custom", "kube-system", {"defaults", "everything", "embedded", "shadow"}),
    ("update", "coordination.k8s.io/leases", NAMESPACE, {"defaults", "everything", "embedded"}),
    ("update", "coordination.k8s.io/leases", "kube-system", set()),
    # Servers of one store find each other.
    ("list", "coordination.k8s.io/leases", NAMESPACE, {"defaults", "everything"}),
    ("patch", "coordination.k8s.io/leases", NAMESPACE, {"defaults", "everything"}),
    ("delete", "coordination.k8s.io/leases", NAMESPACE, {"defaults", "everything"}),
    # CoreDNS.
    ("patch", "/configmaps/coredns-custom", "kube-system", {"defaults", "embedded"}),
    ("create", "/configmaps", "kube-system", {"defaults", "embedded"}),
    ("patch", "/configmaps/coredns", "kube-system", {"everything"}),
    ("get", "/services/cloudmap", NAMESPACE, {"defaults", "everything", "embedded"}),
    ("update", "/configmaps/coredns-custom", "kube-system", set()),
    ("delete", "/configmaps/coredns-custom", "kube-system", set()),
    # No mode has these.
    ("get", "/secrets", NAMESPACE, set()),
    ("get", "/configmaps", ANYWHERE, set()),
    ("delete", "/pods", ANYWHERE, set()),
    ("patch", "/pods", ANYWHERE, set()),
    ("create", "/pods", NAMESPACE, set()),
    ("patch", "apps/deployments", "kube-system", set()),
]


@pytest.mark.parametrize("name", ["defaults", "everything", "memory", "embedded", "shadow"])
def test_each_mode_has_the_rights_it_needs_and_no_others(cluster, tmp_path, name):
    cluster.namespace(NAMESPACE)
    rendered = render(tmp_path, MODES[name])
    for manifest in rendered:
        if manifest["kind"].startswith(("ServiceAccount", "Role", "ClusterRole")):
            cluster.apply(manifest)
    name_of_account = only(rendered, "ServiceAccount")["metadata"]["name"]
    expected = {right[:3]: name in right[3] for right in RIGHTS}
    eventually(lambda: {right: may(cluster, name_of_account, *right) for right in expected} == expected, seconds=5.0)


def may(cluster: Cluster, account, verb, resource, namespace):
    """True if the API server allows this to the account."""
    group, resource, *more = resource.split("/")
    attributes = {"verb": verb, "group": group, "resource": resource} | ({"namespace": namespace} if namespace else {})
    if more:
        attributes["subresource" if more[0] == "status" else "name"] = more[0]
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": f"system:serviceaccount:{NAMESPACE}:{account}",
        "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": attributes}}
    return cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]


def test_probes_and_ports_are_those_of_the_server(tmp_path):
    found = container(manifests(MANIFEST.read_text()))
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    variables = environment(manifests(MANIFEST.read_text()))
    for name, variable in {"dns": "DNS", "api": "API", "admin": "ADMIN"}.items():
        assert variables[f"CLOUDMAP_DNS_{variable}"] == f"0.0.0.0:{ports[name]}"
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert found["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
