"""The mirror of Cloud Map in the cluster: headless Services, EndpointSlices and Endpoints, written by one of several servers."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from harness import kecs
from harness.cloudmap import unique
from harness.deadline import eventually
from harness.helm import account
from harness.kecs import BACKEND, HEALTH_TEST
from harness.mirror import DRAINING, ENDING, NOT_READY, READY, Mirror

SLICE = "discovery.k8s.io/v1/EndpointSlice"
OURS = "app.kubernetes.io/managed-by=cloudmap-dns"
LEASE = "coordination.k8s.io/v1/Lease"
# A killed leader holds its Lease for 15 seconds, and the other servers check it every 2 seconds.
TAKEOVER_SECONDS = 20.0


@pytest.fixture
def zone():
    return f"{unique('mirror')}.local"


# `cluster` is before `start`, so that servers stop before the cluster is emptied: they would write deleted objects again.
@pytest.fixture
def server(cluster, start):
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    eventually(lambda: server.metric("kubernetes_leader") == 1)
    return server


def test_objects_of_tasks_have_the_names_and_labels_of_kecs(server, cluster, kubelet, zone):
    """test_kecs_scenarios.py tests that they follow health."""
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    cluster.apply(kecs.namespace())
    service = cloudmap.service(cloudmap.private_namespace(zone), "health-test-service", A=30)
    pod = kubelet.create(HEALTH_TEST.pod(HEALTH_TEST.registry(service)), "10.42.7.1")
    mirror.shows("sd-health-test-service", {"10.42.7.1"})
    found = cluster.get("Service", "sd-health-test-service", mirror.namespace)
    assert found["spec"]["clusterIP"] == "None" and "selector" not in found["spec"]
    assert [(port["name"], port["port"], port["protocol"]) for port in found["spec"]["ports"]] == [("http", 80, "TCP")]
    assert found["metadata"]["labels"] == {
        "kecs.io/service-discovery": "true", "kecs.io/namespace": zone, "kecs.io/service": "health-test-service",
        "app.kubernetes.io/managed-by": "cloudmap-dns", "cloudmap-dns.io/installation": "default"}
    assert found["metadata"]["annotations"]["kecs.io/service-id"] == service
    assert found["metadata"]["annotations"]["kecs.io/service-arn"].endswith(f":service/{service}")
    labels = cluster.get("Namespace", mirror.namespace)["metadata"]["labels"]
    assert labels.items() >= {"kecs.io/managed": "true", "kecs.io/service-discovery": "true"}.items()
    piece, = cluster.list(SLICE, mirror.namespace)
    assert [(port["name"], port["port"]) for port in piece["ports"]] == [("http", 80)]
    target = piece["endpoints"][0]["targetRef"]
    assert target == {"kind": "Pod", "namespace": HEALTH_TEST.namespace, "name": pod["metadata"]["name"]}
    assert piece["metadata"]["managedFields"][0]["manager"] == "cloudmap-dns"


def test_objects_follow_services_and_addresses_and_are_deleted_with_them(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    namespace = cloudmap.private_namespace(zone)
    web, odd = cloudmap.service(namespace, "web", SRV=60), cloudmap.service(namespace, "_http._tcp", SRV=60)
    cloudmap.instance(web, "one", ipv4="192.0.2.1", port=8080)
    cloudmap.instance(web, "two", ipv4="192.0.2.2", port=9090)
    cloudmap.instance(odd, "one", ipv4="192.0.2.3", port=80)
    odd_name = f"sd-http-tcp-{odd.removeprefix('srv-')}"
    eventually(lambda: mirror.services() == {"sd-web", odd_name})
    mirror.shows("sd-web", {"192.0.2.1", "192.0.2.2"})
    mirror.shows(odd_name, {"192.0.2.3"})

    # A manual change of the server's objects is reverted.
    cluster.kubectl("-n", mirror.namespace, "delete", "endpointslices", "-l", "kubernetes.io/service-name=sd-web")
    mirror.shows("sd-web", {"192.0.2.1", "192.0.2.2"})
    cluster.patch("Service", "sd-web", mirror.namespace, {"metadata": {"annotations": {"kecs.io/service-id": "x"}}})
    eventually(lambda: cluster.get("Service", "sd-web", mirror.namespace)["metadata"]["annotations"][
        "kecs.io/service-id"] == web)
    writes = server.metric("kubernetes_mirror_writes_total")

    cloudmap.deregister(web, "two")
    mirror.shows("sd-web", {"192.0.2.1"})
    eventually(lambda: mirror.addresses("sd-web") == ({"192.0.2.1"}, set()))
    # Only a slice was deleted and the Endpoints object replaced.
    assert server.metric("kubernetes_mirror_writes_total") - writes <= 2
    for service in (web, odd):
        cloudmap.deregister(service, "one")
        cloudmap.DeleteService(Id=service)
    eventually(lambda: mirror.services() == set() and cluster.list(SLICE, mirror.namespace) == [])
    assert cluster.list("Endpoints", mirror.namespace, OURS) == []


def test_endpoints_have_the_addresses_that_are_ready_and_those_that_are_not(server, cluster, kubelet, zone):
    """KECS's tools read them. Kubernetes must not make slices from them."""
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    cluster.apply(kecs.namespace())
    service = cloudmap.service(cloudmap.private_namespace(zone), "backend-api", A=30)
    eventually(lambda: mirror.addresses("sd-backend-api") == (set(), set()))
    pods = [kubelet.create(BACKEND.pod(BACKEND.registry(service)), f"10.42.7.{number}") for number in (1, 2)]
    eventually(lambda: mirror.addresses("sd-backend-api") == ({"10.42.7.1", "10.42.7.2"}, set()))
    kubelet.set_ready(pods[0], False)
    eventually(lambda: mirror.addresses("sd-backend-api") == ({"10.42.7.2"}, {"10.42.7.1"}))
    assert "10.42.7.2:8080" in cluster.kubectl("-n", mirror.namespace, "get", "endpoints", "sd-backend-api")
    found = cluster.get("Endpoints", "sd-backend-api", mirror.namespace)
    assert found["metadata"]["labels"].items() >= {
        "kecs.io/service-discovery": "true", "kecs.io/namespace": zone, "kecs.io/service": "backend-api",
        "endpointslice.kubernetes.io/skip-mirror": "true"}.items()
    assert found["metadata"]["annotations"]["kecs.io/service-id"] == service
    assert "endpoints.kubernetes.io/over-capacity" not in found["metadata"]["annotations"]
    [subset] = found["subsets"]
    assert subset["addresses"][0]["targetRef"] == {
        "kind": "Pod", "namespace": BACKEND.namespace, "name": pods[1]["metadata"]["name"]}

    # Kubernetes makes slices from Endpoints without the label.
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": mirror.namespace},
                    "spec": {"clusterIP": "None", "ports": [{"port": 80}]}})
    cluster.create({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "theirs", "namespace": mirror.namespace},
                    "subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 80}]}]})
    eventually(lambda: mirror.conditions("theirs").keys() == {"192.0.2.9"})
    slices = cluster.list(SLICE, mirror.namespace, "kubernetes.io/service-name=sd-backend-api")
    assert {piece["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for piece in slices} == {"cloudmap-dns"}

    # A manual change is reverted.
    cluster.patch("Endpoints", "sd-backend-api", mirror.namespace, {"subsets": None})
    eventually(lambda: mirror.addresses("sd-backend-api") == ({"10.42.7.2"}, {"10.42.7.1"}))


def test_pods_terminate_as_in_the_slices_of_kubernetes(server, cluster, kubelet, zone):
    """The slices that Kubernetes' own controller writes for a Service with the same pods are the oracle."""
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    cluster.apply(kecs.namespace())
    cluster.node(kubelet.node, zone="rack-1")
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": BACKEND.namespace},
                    "spec": {"clusterIP": "None", "selector": {"app": BACKEND.name}, "ports": [{"port": BACKEND.port}]}})
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    addresses = [f"10.42.7.{number}" for number in (1, 2, 3)]

    def manifest(name=None):
        return BACKEND.pod(BACKEND.registry(service), name=name, labels={"topology.kubernetes.io/zone": "rack-1"})
    pods = [kubelet.create(manifest(), address) for address in addresses]
    names = dict(zip(addresses, (pod["metadata"]["name"] for pod in pods)))
    # A pod without an address is no endpoint, terminating or not.
    unstarted = cluster.create(manifest())
    kubelet.bind(unstarted)

    def both_show(*conditions):
        expected = {address: (state, kubelet.node, "rack-1", names[address])
                    for address, state in zip(addresses, conditions) if state}
        eventually(lambda: mirror.details("theirs", BACKEND.namespace) == expected, poll_seconds=0.1)
        eventually(lambda: mirror.details("sd-web") == expected, poll_seconds=0.1)

    both_show(READY, READY, READY)
    kubelet.set_ready(pods[0], False)
    both_show(NOT_READY, READY, READY)
    for pod in (*pods[:2], unstarted):
        cluster.delete("Pod", pod["metadata"]["name"], BACKEND.namespace, grace_seconds=kecs.GRACE_SECONDS)
    both_show(ENDING, DRAINING, READY)
    # A deleted pod is in neither DNS nor the Endpoints object, as before.
    assert server.dig(f"web.{zone}").data() == [addresses[2]]
    eventually(lambda: mirror.addresses("sd-web") == ({addresses[2]}, set()))
    kubelet.set_ready(pods[1], False)
    both_show(ENDING, ENDING, READY)
    kubelet.set_ready(pods[1], True)
    both_show(ENDING, DRAINING, READY)
    # The object of a pod that has ended remains for a while.
    kubelet.finish(pods[0])
    both_show(None, DRAINING, READY)
    assert "deletionTimestamp" in cluster.get("Pod", pods[0]["metadata"]["name"], BACKEND.namespace)["metadata"]
    kubelet.end(pods[1])
    both_show(None, None, READY)

    # A pod with the name of an ended one is another pod.
    kubelet.create(manifest(pods[1]["metadata"]["name"]), addresses[1])
    both_show(None, READY, READY)
    kubelet.set_ready(pods[2], False)
    both_show(None, READY, NOT_READY)


def test_a_server_that_takes_over_knows_the_pods_that_terminated_before_its_start(cluster, start, kubelet, zone):
    options = ("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    mirror = Mirror(cluster, zone)
    cluster.apply(kecs.namespace())

    def started():
        server = start(*options)
        return server, server.cloudmap().service(server.cloudmap().private_namespace(zone), "web", A=60)
    first, service = started()
    pod = kubelet.create(BACKEND.pod(BACKEND.registry(service)), "10.42.7.1")
    mirror.shows("sd-web", {"10.42.7.1"})
    cluster.delete("Pod", pod["metadata"]["name"], BACKEND.namespace, grace_seconds=kecs.GRACE_SECONDS)
    eventually(lambda: mirror.conditions("sd-web") == {"10.42.7.1": DRAINING})

    second, service = started()
    second.until_metric("kubernetes_watch_stale", 0)
    assert first.stop() == 0
    eventually(lambda: leaders([second]) or None, TAKEOVER_SECONDS)
    # The objects are what the second server would write.
    eventually(lambda: second.metric("kubernetes_mirror_objects") == 3 and second.metric("kubernetes_mirror_waiting_services") == 0)
    assert mirror.conditions("sd-web") == {"10.42.7.1": DRAINING}
    assert second.metric("kubernetes_mirror_writes_total") == 0
    assert second.dig(f"web.{zone}").data() == []
    kubelet.set_ready(pod, False)
    eventually(lambda: mirror.conditions("sd-web") == {"10.42.7.1": ENDING})
    kubelet.end(pod)
    eventually(lambda: mirror.conditions("sd-web") == {})


def test_an_instance_of_the_api_has_the_zone_in_its_attributes_if_it_is_valid(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    zones = {"192.0.2.1": "us-east-1b", "192.0.2.2": None, "192.0.2.3": "no zone", "192.0.2.4": "x" * 64, "192.0.2.5": "-"}
    for address, name in zones.items():
        attributes = {"AVAILABILITY_ZONE": name} if name else {}
        cloudmap.instance(service, address.replace(".", "-"), ipv4=address, **attributes)
    expected = {address: (READY, None, name if name == "us-east-1b" else None, None) for address, name in zones.items()}
    eventually(lambda: mirror.details("sd-web") == expected, poll_seconds=0.1)
    assert server.metric("kubernetes_mirror_refused_objects") == 0


def test_foreign_endpoints_are_not_changed_and_the_slices_exist(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    cluster.namespace(mirror.namespace)
    theirs = cluster.create({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {
            "name": "sd-web", "namespace": mirror.namespace, "labels": {"app.kubernetes.io/managed-by": "theirs"}},
        "subsets": [{"addresses": [{"ip": "192.0.2.9"}]}]})
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    eventually(lambda: server.metric("kubernetes_mirror_clashes") == 1)
    ours = eventually(lambda: cluster.list(SLICE, mirror.namespace, OURS) or None)
    assert [endpoint["addresses"] for piece in ours for endpoint in piece["endpoints"]] == [["192.0.2.1"]]
    found = cluster.get("Endpoints", "sd-web", mirror.namespace)
    assert (found["metadata"]["uid"], found["subsets"]) == (theirs["metadata"]["uid"], theirs["subsets"])
    cluster.delete("Endpoints", "sd-web", mirror.namespace)
    eventually(lambda: mirror.addresses("sd-web") == ({"192.0.2.1"}, set()), TAKEOVER_SECONDS)
    eventually(lambda: server.metric("kubernetes_mirror_clashes") == 0)


def test_endpoints_with_more_than_a_thousand_addresses_are_marked_as_truncated(cluster, start, zone):
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory",
                   "--max-instances-per-service", "2000")
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    for number in range(1_001):
        cloudmap.instance(service, f"i-{number}", ipv4=f"10.7.{number // 250}.{number % 250 + 1}")

    def is_over_capacity():
        found = cluster.get("Endpoints", "sd-web", mirror.namespace)
        return found and found["metadata"]["annotations"].get("endpoints.kubernetes.io/over-capacity") == "truncated"
    eventually(is_over_capacity)
    ready, not_ready = mirror.addresses("sd-web")
    assert (len(ready), not_ready) == (1_000, set())
    cloudmap.deregister(service, "i-0")
    eventually(lambda: not is_over_capacity())
    assert len(mirror.addresses("sd-web")[0]) == 1_000


def test_a_setting_turns_endpoints_off(cluster, start, zone):
    server = start("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--mirror-endpoints", "off", "--store", "memory")
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    mirror.shows("sd-web", {"192.0.2.1"})
    assert mirror.addresses("sd-web") is None


def test_without_rights_to_endpoints_the_rest_of_the_mirror_is_written(cluster, start, tmp_path, zone):
    options = account(cluster, tmp_path, {"replicas": 1, "store": "memory", "mirrorEndpoints": False})
    options[options.index("--mirror-endpoints") + 1] = "on"
    server = start(*options)
    server.wait_for_log(lambda line, fields: "Endpoints can't be listed" in line)
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    mirror.shows("sd-web", {"192.0.2.1"})
    assert mirror.addresses("sd-web") is None
    assert server.metric("kubernetes_mirror_refused_objects") == 0


def test_a_foreign_object_is_not_changed_and_is_reported(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    cluster.namespace(mirror.namespace)
    theirs = cluster.apply({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "sd-web", "namespace": mirror.namespace},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}], "selector": {"app": "theirs"}}})
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    eventually(lambda: server.metric("kubernetes_mirror_clashes") == 1)
    server.until_readiness("names are taken by objects of others")
    warning, = eventually(lambda: [event for event in cluster.list("Event", mirror.namespace)
                                   if event["reason"] == "CloudMapMirrorClash"] or None)
    assert (warning["type"], warning["involvedObject"]["name"]) == ("Warning", "sd-web")
    # A slice of the server would add addresses to the foreign Service.
    found = cluster.get("Service", "sd-web", mirror.namespace)
    assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    assert cluster.list(SLICE, mirror.namespace, OURS) == []
    assert cluster.list("Endpoints", mirror.namespace, OURS) == []
    assert server.dig(f"web.{zone}").data() == ["192.0.2.1"]

    cluster.delete("Service", "sd-web", mirror.namespace)
    eventually(lambda: mirror.endpoints("sd-web")[0] == {"192.0.2.1"}, TAKEOVER_SECONDS)
    eventually(lambda: server.metric("kubernetes_mirror_clashes") == 0)


def test_many_addresses_are_split_into_slices(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    addresses = {f"192.0.2.{number}" for number in range(1, 251)}
    for address in addresses:
        cloudmap.instance(service, address.replace(".", "-"), ipv4=address)
    mirror.shows("sd-web", addresses)
    sizes = [len(piece["endpoints"]) for piece in cluster.list(SLICE, mirror.namespace)]
    assert len(sizes) > 2 and max(sizes) <= 100, sizes


def leaders(servers):
    return [server for server in servers if server.metric("kubernetes_leader") == 1]


def test_one_of_two_servers_writes_and_the_other_takes_over(cluster, start, zone):
    options = ("--kubeconfig", cluster.kubeconfig, "--mirror", "on", "--store", "memory")
    servers = [start(*options), start(*options)]
    mirror = Mirror(cluster, zone)
    for server in servers:
        service = server.cloudmap().service(server.cloudmap().private_namespace(zone), "web", A=60)
        server.cloudmap().instance(service, "one", ipv4="192.0.2.1")
    first, = eventually(lambda: leaders(servers) or None)
    mirror.shows("sd-web", {"192.0.2.1"})
    second, = (server for server in servers if server is not first)
    holder = cluster.get(LEASE, "cloudmap-dns", "default")["spec"]["holderIdentity"]
    assert second.metric("kubernetes_mirror_writes_total") == 0
    second.until_readiness(f"leader: {holder} writes to the cluster")

    first.kill9()
    second.cloudmap().instance(service, "two", ipv4="192.0.2.2")
    died = time.monotonic()
    eventually(lambda: leaders([second]) or None, TAKEOVER_SECONDS)
    mirror.shows("sd-web", {"192.0.2.1", "192.0.2.2"})
    assert time.monotonic() - died <= TAKEOVER_SECONDS
    # A server that shuts down releases the Lease.
    assert second.stop() == 0
    assert not cluster.get(LEASE, "cloudmap-dns", "default")["spec"].get("holderIdentity")


def test_an_expired_lease_is_renewed_before_a_change_is_written(server, cluster, zone):
    """A server that was paused for longer than its Lease may not write until it has the Lease again, and loses no change."""
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    mirror.shows("sd-web", {"192.0.2.1"})

    def has_run_out():
        lease = cluster.get(LEASE, "cloudmap-dns", "default")["spec"]
        renewed = datetime.fromisoformat(lease["renewTime"])
        return datetime.now(UTC) - renewed > timedelta(seconds=lease["leaseDurationSeconds"])

    with ThreadPoolExecutor() as pool:
        server.process.send_signal(signal.SIGSTOP)
        try:
            # The server handles this request first when it continues.
            change = pool.submit(cloudmap.instance, service, "two", ipv4="192.0.2.2")
            eventually(has_run_out, 2 * TAKEOVER_SECONDS)
        finally:
            server.process.send_signal(signal.SIGCONT)
        change.result()
    mirror.shows("sd-web", {"192.0.2.1", "192.0.2.2"})


def test_changes_are_written_after_the_api_server_is_back(server, cluster, zone):
    cloudmap, mirror = server.cloudmap(), Mirror(cluster, zone)
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60)
    cloudmap.instance(service, "one", ipv4="192.0.2.1")
    mirror.shows("sd-web", {"192.0.2.1"})
    cluster.kill_api_server()
    cloudmap.instance(service, "two", ipv4="192.0.2.2")
    assert set(server.dig(f"web.{zone}").data()) == {"192.0.2.1", "192.0.2.2"}
    cluster.start_api_server()
    eventually(lambda: mirror.endpoints("sd-web")[0] == {"192.0.2.1", "192.0.2.2"}, TAKEOVER_SECONDS)


def test_outside_of_a_cluster_nothing_is_written_by_default(cluster, start, zone):
    server = start("--kubeconfig", cluster.kubeconfig, "--store", "memory")
    server.cloudmap().private_namespace(zone)
    assert server.metric("kubernetes_leader") is None
    # Settings that have no effect are accepted.
    start("--mirror", "on", "--coredns", "corefile", "--store", "memory").cloudmap().private_namespace(zone)
    assert cluster.get(LEASE, "cloudmap-dns", "default") is None
