"""Compares one Cloud Map service in all its views: the API and DNS of each server, CoreDNS, and the cluster's objects."""

from .deadline import PATIENCE_SECONDS, eventually
from .mirror import Mirror

HEALTHY, UNHEALTHY, UNKNOWN = "HEALTHY", "UNHEALTHY", "UNKNOWN"


class Agreement:
    """Reads a service from all views. `servers()` returns the running servers; the cluster and CoreDNS are optional."""

    def __init__(self, servers, zone, name, service, cluster=None, coredns=None):
        self.servers = servers
        self.zone, self.name, self.service = zone, name, service
        self.mirror = cluster and Mirror(cluster, zone)
        self.coredns = coredns

    def wait_for(self, expected, seconds=PATIENCE_SECONDS):
        """Waits until all views show these instances: id -> (IPv4 address, health status)."""
        def check_servers():
            for server in self.servers():
                self.check_server(server, expected)
            return True

        def check_coredns():
            found = self.coredns.resolver.addresses(f"{self.name}.{self.zone}")
            assert found == served(expected), "CoreDNS"
            return True

        eventually(check_servers, seconds)
        if self.coredns is not None:
            eventually(check_coredns, seconds)
        if self.mirror is not None:
            unready = {address for address, _ in expected.values()} - served(expected)
            self.mirror.shows(f"sd-{self.name}", served(expected), unready, seconds)

    def check_server(self, server, expected):
        cloudmap = server.cloudmap()
        statuses = {instance: status for instance, (_, status) in expected.items()}
        answered = {instance: statuses[instance] for instance in answering(expected)}
        where = str(server.directory)
        assert server.resolver.addresses(f"{self.name}.{self.zone}") == served(expected), where
        assert cloudmap.health(self.service) == statuses, where
        assert cloudmap.discovered(self.zone, self.name, HealthStatus="ALL") == statuses, where
        assert cloudmap.discovered(self.zone, self.name) == answered, where


def served(expected):
    """The addresses that DNS answers."""
    return {address for address, _ in answering(expected).values()}


def answering(expected):
    """The instances that DNS answers: the healthy ones, or those of unknown health if none is healthy."""
    def having(status):
        return {instance: found for instance, found in expected.items() if found[1] == status}

    return having(HEALTHY) or having(UNKNOWN)


def of_pods(*pods, status=HEALTHY):
    """The expected instances of these pods, under the ids that the server gives to them."""
    return {instance_id(pod): (pod["status"]["podIP"], status) for pod in pods}


def instance_id(pod):
    return pod["metadata"]["labels"].get("kecs.dev/task-id", pod["metadata"]["name"])
