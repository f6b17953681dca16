"""The shadow of KECS's Cloud Map registry, with a real API server: names come from alias Services, ids from pods."""

import re
import subprocess

import pytest

from harness import documents, kecs
from harness.cloudmap import Refused, unique
from harness.deadline import eventually
from harness.helm import ROOT
from harness.kecs import BACKEND
from harness.kubernetes import programs
from harness.program import free_port


class Shadow:
    """A server that shadows KECS's objects in the cluster, and one namespace of KECS."""

    def __init__(self, server, cluster, kubelet):
        self.server, self.cluster, self.kubelet = server, cluster, kubelet
        self.zone = f"{unique('shadow')}.local"
        self.namespace = f"ns-{unique('kecs')}"

    @property
    def cloudmap(self):
        return self.server.cloudmap()

    def block(self, zone=None, namespace=None):
        """Creates a DNS namespace as KECS does, by a server block for CoreDNS."""
        key, text = kecs.coredns_block(namespace or self.namespace, zone or self.zone)
        data = {"data": {key: text}}
        if self.cluster.get("ConfigMap", "coredns-custom", "kube-system"):
            self.cluster.patch("ConfigMap", "coredns-custom", "kube-system", data)
        else:
            metadata = {"name": "coredns-custom", "namespace": "kube-system", "labels": {"kecs.io/managed": "true"}}
            self.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | data)

    def alias(self, name="backend-api", service=None, at="default", block=True):
        """Creates a Cloud Map service as KECS does and returns its id. Without a block for CoreDNS, the namespace is HTTP."""
        if block:
            self.block()
        service = service or f"srv-{unique('kecs')}"
        made = self.alias_service(name, service)
        made["metadata"]["namespace"] = at
        self.cluster.apply(made)
        return service

    def alias_service(self, name, service):
        target = f"{BACKEND.name}.{BACKEND.namespace}.svc.cluster.local"
        return kecs.alias_service(name, self.zone, service, self.namespace, target)

    def types(self, beginning, values):
        """Runs the command of the documents that begins with this text, with these values in place of its examples."""
        command = re.search(f"^{re.escape(beginning)} .*$", documents.everything(), re.MULTILINE)[0]
        for example, value in values.items():
            assert example in command
            command = command.replace(example, value)
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env={
            "PATH": f"{programs()}:/usr/bin:/bin", "HOME": str(self.server.directory),
            "KUBECONFIG": str(self.cluster.kubeconfig)})
        assert done.returncode == 0, done.stderr

    def task(self, service, address):
        return self.kubelet.create(BACKEND.pod(BACKEND.registry(service)), address)

    def serves(self, *addresses, name="backend-api", server=None, zone=None):
        """Waits until DNS answers exactly these addresses."""
        resolver = (server or self.server).resolver

        def check():
            assert set(resolver.addresses(f"{name}.{zone or self.zone}")) == set(addresses)
            return True
        eventually(check)

    def until_status(self, status, name="backend-api"):
        eventually(lambda: self.server.dig(f"{name}.{self.zone}").status == status)


@pytest.fixture
def shadow(start, cluster, kubelet):
    """A server that shadows an empty cluster."""
    cluster.apply(kecs.namespace())
    shadow = Shadow(start("--kubeconfig", cluster.kubeconfig, "--shadow", "on"), cluster, kubelet)
    shadow.server.until_metric("kubernetes_shadow_stale", 0)
    return shadow


def forwarded(coredns):
    """The zones that CoreDNS is configured to forward to this server."""
    text = coredns.blocks().get("cloudmap-dns.server", "")
    return set(re.findall(r"^(\S+):53 \{$", text, re.MULTILINE))


def refused(call, *words):
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.code == "InvalidInput", caught.value
    assert all(word in str(caught.value) for word in ("KECS", "--shadow", *words)), caught.value


def test_services_of_kecs_are_answered_with_their_tasks(shadow):
    service = shadow.alias()
    pods = [shadow.task(service, f"10.42.8.{number}") for number in (1, 2)]
    shadow.serves("10.42.8.1", "10.42.8.2")
    assert set(shadow.server.dig(f"backend-api.{shadow.zone}").ttls()) == {60}
    cloudmap = shadow.cloudmap
    assert cloudmap.discovered(shadow.zone, "backend-api") == {kecs.task_id(pod): "HEALTHY" for pod in pods}
    found = cloudmap.GetNamespace(Id=shadow.namespace)["Namespace"]
    assert (found["Name"], found["Type"], found["ServiceCount"]) == (shadow.zone, "DNS_PRIVATE", 1)
    found = cloudmap.GetService(Id=kecs.registry_arn(service))["Service"]
    assert found["DnsConfig"]["DnsRecords"] == [{"Type": "A", "TTL": 60}]
    assert [one["Id"] for one in cloudmap.ListServices()["Services"]] == [service]
    explained = shadow.server.page(f"/explain?name=backend-api.{shadow.zone}")
    assert f"backend-api ({service}), shadowed: KECS's own, read-only here" in explained
    shadow.server.until_readiness("shadow: 1 services of KECS's own registry are shadowed\n")
    shadow.server.until_metric("kubernetes_shadowed_services", 1)

    shadow.kubelet.set_ready(pods[0], False)
    shadow.serves("10.42.8.2")
    shadow.kubelet.set_ready(pods[0], True)
    shadow.serves("10.42.8.1", "10.42.8.2")

    shadow.cluster.delete("Service", "backend-api", "default")
    eventually(lambda: shadow.server.dig(f"backend-api.{shadow.zone}").status == "REFUSED")
    assert cloudmap.ListNamespaces()["Namespaces"] == []
    shadow.server.until_metric("kubernetes_pending_instances", 2)
    # Create the service again under its id, with the running tasks.
    shadow.alias(service=service)
    shadow.serves("10.42.8.1", "10.42.8.2")


def test_a_name_does_not_exist_after_its_alias_is_deleted(shadow):
    shadow.alias()
    shadow.alias("frontend-web", at="kube-system")
    shadow.until_status("NOERROR")
    shadow.until_status("NOERROR", name="frontend-web")
    shadow.cluster.delete("Service", "backend-api", "default")
    shadow.until_status("NXDOMAIN")
    assert shadow.server.dig(f"frontend-web.{shadow.zone}").status == "NOERROR"


def test_the_api_refuses_to_change_shadowed_objects(shadow):
    service = shadow.alias()
    pod = shadow.task(service, "10.42.8.3")
    shadow.serves("10.42.8.3")
    cloudmap, task = shadow.cloudmap, kecs.task_id(pod)
    named = f"backend-api ({service})"
    for call in (lambda: cloudmap.RegisterInstance(ServiceId=service, InstanceId="external",
                                                   Attributes={"AWS_INSTANCE_IPV4": "192.0.2.1"}),
                 lambda: cloudmap.DeregisterInstance(ServiceId=service, InstanceId=task),
                 lambda: cloudmap.UpdateInstanceCustomHealthStatus(ServiceId=service, InstanceId=task,
                                                                   Status="UNHEALTHY"),
                 lambda: cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={"fail-open": "true"}),
                 lambda: cloudmap.UpdateService(Id=service, Service={"Description": "mine"}),
                 lambda: cloudmap.DeleteService(Id=service),
                 lambda: cloudmap.TagResource(ResourceARN=kecs.registry_arn(service),
                                              Tags=[{"Key": "team", "Value": "mine"}])):
        refused(call, named)
    refused(lambda: cloudmap.DeleteNamespace(Id=shadow.namespace), shadow.zone)
    refused(lambda: cloudmap.service(shadow.namespace, "mine", A=60), shadow.zone)
    # The name of a shadowed namespace is taken, like that of any other.
    taken = cloudmap.CreatePrivateDnsNamespace(Name=shadow.zone, Vpc="vpc-1")["OperationId"]
    assert cloudmap.GetOperation(OperationId=taken)["Operation"]["ErrorCode"] == "CANNOT_CREATE_HOSTED_ZONE"
    shadow.serves("10.42.8.3")
    # Objects of this server can be created and served as usual.
    own = cloudmap.service(cloudmap.private_namespace(f"own.{shadow.zone}"), "web", A=60)
    cloudmap.instance(own, "one", ipv4="192.0.2.1")
    shadow.serves("192.0.2.1", name="web", zone=f"own.{shadow.zone}")


def test_explain_names_the_pods_that_wait_for_a_refused_service_of_kecs(shadow):
    shadow.cloudmap.private_namespace(shadow.zone)
    service = shadow.alias()
    pod = shadow.task(service, "10.42.8.13")["metadata"]
    shadow.server.until_metric("kubernetes_shadow_refused_services", 1)
    shadow.server.until_metric("kubernetes_pending_instances", 1)
    explained = shadow.server.page(f"/explain?name=backend-api.{shadow.zone}")
    assert f"KECS's service backend-api.{shadow.zone} ({service}) is not here: There is a namespace" in explained
    assert f"; 1 pod waits for it: {pod['namespace']}/{pod['name']}" in explained


def test_an_invalid_alias_affects_no_other(shadow):
    own = shadow.cloudmap.service(shadow.cloudmap.private_namespace(f"taken-{shadow.zone}"), "web", A=60)
    shadow.block(f"taken-{shadow.zone}", "ns-other")
    shadow.cloudmap.instance(own, "one", ipv4="192.0.2.1")
    service = shadow.alias()
    shadow.task(service, "10.42.8.4")
    shadow.serves("10.42.8.4")
    wrong = {
        "empty-label": {"labels": {"kecs.io/service": "a..b"}},
        "name-server": {"labels": {"kecs.io/service": "ns.dns"}},
        "taken": {"labels": {"kecs.io/namespace": f"taken-{shadow.zone}"},
                  "annotations": {"kecs.io/namespace-id": "ns-other"}},
        "id-taken": {"annotations": {"kecs.io/service-id": service}},
        "id-with-spaces": {"annotations": {"kecs.io/service-id": "srv 1\n2"}},
        "own-id": {"annotations": {"kecs.io/service-id": own}},
    }
    for name, metadata in wrong.items():
        alias = shadow.alias_service(name, f"srv-{name}")
        for part, values in metadata.items():
            alias["metadata"][part] |= values
        shadow.cluster.apply(alias)
    for name, part, key in (("no-label", "labels", "kecs.io/namespace"), ("no-id", "annotations", "kecs.io/service-id"),
                            ("no-namespace-id", "annotations", "kecs.io/namespace-id")):
        alias = shadow.alias_service(name, f"srv-{name}")
        del alias["metadata"][part][key]
        shadow.cluster.apply(alias)
    shadow.server.until_metric("kubernetes_shadow_refused_services", len(wrong))
    shadow.server.until_metric("kubernetes_shadow_malformed_aliases", 3)
    shadow.server.until_metric("kubernetes_shadowed_services", 1)
    line = next(line for line in shadow.server.readiness().splitlines() if line.startswith("shadow: "))
    assert "6 can't be; 3 alias Services lack a name or an id" in line and "There is a namespace taken-" in line
    shadow.serves("10.42.8.4")
    shadow.serves("192.0.2.1", name="web", zone=f"taken-{shadow.zone}")
    later = shadow.alias("later")
    shadow.task(later, "10.42.8.5")
    shadow.serves("10.42.8.5", name="later")
    # A refused service is served as soon as the conflict is removed.
    cloudmap = shadow.cloudmap
    cloudmap.deregister(own, "one")
    cloudmap.DeleteService(Id=own)
    namespace, = (one["Id"] for one in cloudmap.ListNamespaces()["Namespaces"] if one["Name"].startswith("taken-"))
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    shadow.server.until_metric("kubernetes_shadow_refused_services", len(wrong) - 2)
    eventually(lambda: shadow.server.dig(f"taken.taken-{shadow.zone}").status == "NOERROR")


def test_an_http_namespace_of_kecs_takes_no_domain_from_the_cluster(start, cluster, kubelet, coredns):
    cluster.apply(kecs.namespace())
    server = start("--kubeconfig", cluster.kubeconfig, "--shadow", "on", "--store", "memory", "--coredns", "custom",
                   "--coredns-forward", f"127.0.0.1:{free_port()}")
    shadow = Shadow(server, cluster, kubelet)
    service = shadow.alias(block=False)
    shadow.task(service, "10.42.8.11")
    # The server has an own zone, so that the test sees when it has configured CoreDNS.
    server.cloudmap().private_namespace(f"own-{shadow.zone}")
    eventually(lambda: forwarded(coredns) == {f"own-{shadow.zone}"})
    eventually(lambda: server.cloudmap().discovered(shadow.zone, "backend-api"))
    found = server.cloudmap().GetNamespace(Id=shadow.namespace)["Namespace"]
    assert found["Type"] == "HTTP"
    assert forwarded(coredns) == {f"own-{shadow.zone}"}
    assert server.dig(f"backend-api.{shadow.zone}").status == "REFUSED"
    assert "is of kind HTTP" in server.page(f"/explain?name=backend-api.{shadow.zone}")
    server.until_readiness(f"{shadow.zone} ({shadow.namespace}) is an HTTP namespace: CoreDNS has no block of KECS's for it")

    # With a block of KECS it is a DNS namespace.
    shadow.block()
    shadow.serves("10.42.8.11")
    assert server.cloudmap().GetNamespace(Id=shadow.namespace)["Namespace"]["Type"] == "DNS_PRIVATE"
    # It remains one after KECS's block is deleted and until the server's own block is written.
    key, _ = kecs.coredns_block(shadow.namespace, shadow.zone)
    cluster.patch("ConfigMap", "coredns-custom", "kube-system", {"data": {key: None}})
    eventually(lambda: shadow.zone in forwarded(coredns))
    shadow.serves("10.42.8.11")
    # It remains one after a restart, because of the server's block.
    server.kill9()
    server.start()
    shadow.serves("10.42.8.11")


def test_the_annotation_of_an_alias_makes_a_namespace_public(shadow):
    shadow.alias()
    shadow.until_status("NOERROR")
    shadow.cluster.kubectl("annotate", "service", "backend-api", "kecs.io/namespace-type=DNS_PUBLIC")
    eventually(lambda: shadow.cloudmap.GetNamespace(Id=shadow.namespace)["Namespace"]["Type"] == "DNS_PUBLIC")
    shadow.until_status("NOERROR")


def test_objects_of_kecs_that_are_not_served_are_listed(shadow):
    service = shadow.alias()
    # KECS's RegisterInstance creates a headless Service. A service of this name in a second namespace has no alias of its own.
    for zone, one in ((shadow.zone, service), (f"second-{shadow.zone}", "srv-second")):
        headless = shadow.alias_service("backend-api", one)
        headless["metadata"]["namespace"] = shadow.cluster.namespace(zone.replace(".", ""))
        headless["metadata"]["labels"]["kecs.io/namespace"] = zone
        del headless["metadata"]["labels"]["kecs.io/type"]
        headless["spec"] = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}
        shadow.cluster.apply(headless)
    shadow.block(f"second-{shadow.zone}", "ns-second")
    shadow.task("srv-second", "10.42.8.12")
    for words in (f"instances that KECS's API registered in backend-api.{shadow.zone} ({service}) are not here",
                  f"backend-api.second-{shadow.zone} (srv-second) is not here: its alias belongs to another service",
                  f"second-{shadow.zone} (ns-second) is not here: KECS has a block for it",
                  "1 pod waits for srv-second, which no alias names"):
        shadow.server.until_readiness(words)
    shadow.server.until_metric("kubernetes_shadow_missing", 3)
    shadow.server.until_metric("kubernetes_shadowed_services", 1)


def test_shadowed_services_are_served_while_the_api_server_is_stopped(shadow):
    service = shadow.alias()
    shadow.task(service, "10.42.8.6")
    shadow.serves("10.42.8.6")
    shadow.cluster.kill_api_server()
    shadow.server.until_metric("kubernetes_shadow_stale", 1)
    shadow.server.until_readiness("; this may be old: ")
    shadow.serves("10.42.8.6")
    assert shadow.server.dig(f"backend-api.{shadow.zone}").status == "NOERROR"
    shadow.cluster.start_api_server()
    # The server observes a second service and the deletion of the first.
    other = shadow.alias("frontend-web")
    shadow.task(other, "10.42.8.7")
    shadow.serves("10.42.8.7", name="frontend-web")
    shadow.server.until_metric("kubernetes_shadow_stale", 0)
    shadow.serves("10.42.8.6")
    shadow.cluster.delete("Service", "backend-api", "default")
    shadow.until_status("NXDOMAIN")


def test_shadowed_objects_are_neither_stored_nor_exported(start, shadow, tmp_path):
    directory = tmp_path / "restarted"
    first = start("--kubeconfig", shadow.cluster.kubeconfig, "--shadow", "on", directory=directory)
    service = shadow.alias()
    shadow.task(service, "10.42.8.8")
    shadow.serves("10.42.8.8", server=first)
    first.stop()
    exported = first.run("export", "--data-dir", first.data)
    assert shadow.zone not in exported.stdout and service not in exported.stdout
    # Without the setting, the server has no shadowed object.
    plain = start("--kubeconfig", shadow.cluster.kubeconfig, directory=directory)
    plain.until_metric("kubernetes_pending_instances", 1)
    assert plain.dig(f"backend-api.{shadow.zone}").status == "REFUSED"
    assert plain.cloudmap().ListNamespaces()["Namespaces"] == []


def test_servers_on_custom_resources_each_have_the_shadow_and_write_none_of_it(start, cluster, kubelet):
    cluster.kubectl("apply", "-f", ROOT / "deploy" / "helm" / "cloudmap-dns" / "crds")
    cluster.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=30s")
    cluster.namespace("cloudmap-dns")
    cluster.apply(kecs.namespace())
    servers = [start("--kubeconfig", cluster.kubeconfig, "--shadow", "on", "--store", "kubernetes") for _ in range(2)]
    shadow = Shadow(servers[0], cluster, kubelet)
    service = shadow.alias()
    shadow.task(service, "10.42.8.9")
    for server in servers:
        shadow.serves("10.42.8.9", server=server)
    # All servers give equal answers, including the order of lists.
    one, two = (server.cloudmap().GetService(Id=service)["Service"] for server in servers)
    assert one == two
    for kind in ("cloudmapnamespaces", "cloudmapservices", "cloudmapinstances", "cloudmapoperations"):
        assert cluster.kubectl("get", kind, "--all-namespaces", "-o", "name") == ""

    # A custom resource for a namespace of the same name takes precedence on both servers.
    cluster.apply({"apiVersion": "cloudmap-dns.io/v1alpha1", "kind": "CloudMapNamespace",
                   "metadata": {"name": "mine", "namespace": "cloudmap-dns"},
                   "spec": {"name": shadow.zone, "type": "DNS_PRIVATE", "vpc": "vpc-1"}})
    for server in servers:
        eventually(lambda: server.dig(f"backend-api.{shadow.zone}").status == "NXDOMAIN")
        server.until_metric("kubernetes_shadow_refused_services", 1)
    cluster.kubectl("-n", "cloudmap-dns", "delete", "cloudmapnamespace", "mine")
    for server in servers:
        shadow.serves("10.42.8.9", server=server)


def test_kecs_s_block_for_coredns_is_deleted_with_the_command_of_the_readme(start, cluster, kubelet, coredns):
    cluster.apply(kecs.namespace())
    port = free_port()
    server = start("--kubeconfig", cluster.kubeconfig, "--shadow", "on", "--store", "memory", "--coredns", "custom",
                   "--dns", f"127.0.0.1:{port}", "--coredns-forward", f"127.0.0.1:{port}")
    shadow = Shadow(server, cluster, kubelet)
    key, text = kecs.coredns_block(shadow.namespace, shadow.zone)
    coredns.set_block(key, text)
    service = shadow.alias()
    shadow.task(service, "10.42.8.10")
    shadow.serves("10.42.8.10")
    # The server writes no block while KECS's block exists.
    shadow.server.until_metric("kubernetes_coredns_clashes", 1)
    assert list(coredns.blocks()) == [key]
    why = f"{key} of ConfigMap coredns-custom has a block for this zone"
    assert why in shadow.server.page(f"/explain?name=backend-api.{shadow.zone}")

    take_out = ("kubectl -n kube-system patch configmap", {"kecs-ns-0123456789abcdef.server": key})
    shadow.types(*take_out)
    eventually(lambda: list(coredns.blocks()) == ["cloudmap-dns.server"], 5.0)

    def is_forwarded():
        found = coredns.dig(f"backend-api.{shadow.zone}")
        assert found.data() == ["10.42.8.10"], found.text
    eventually(lambda: is_forwarded() or True)

    # KECS creates the namespace again: it deletes every key that contains the zone, and writes its own.
    other = f"own-{shadow.zone}"
    server.cloudmap().private_namespace(other)
    eventually(lambda: forwarded(coredns) == {other, shadow.zone})
    cluster.patch("ConfigMap", "coredns-custom", "kube-system", {"data": {"cloudmap-dns.server": None, key: text}})
    eventually(lambda: forwarded(coredns) == {other}, 5.0)
    assert coredns.blocks()[key] == text
    shadow.types(*take_out)
    eventually(lambda: forwarded(coredns) == {other, shadow.zone}, 5.0)


def test_an_alias_with_old_ids_gets_the_new_ones_with_the_command_of_the_readme(shadow):
    shadow.alias()
    service = f"srv-{unique('new')}"
    shadow.task(service, "10.42.8.14")
    shadow.server.until_readiness(f"1 pod waits for {service}, which no alias names")
    shadow.types("kubectl -n default annotate service backend-api --overwrite", {
        "ns-0123456789abcdef": f"ns-{unique('new')}", "srv-0123456789abcdef": service})
    shadow.serves("10.42.8.14")


def test_without_a_cluster_the_setting_is_reported_to_have_no_effect(start):
    server = start("--shadow", "on", "--store", "memory")
    server.wait_for_log(lambda line, fields: "a setting has no effect" in line and "shadow" in line)
