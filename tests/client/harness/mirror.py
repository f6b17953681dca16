"""What of a Cloud Map namespace is in the cluster: headless Services, EndpointSlices and Endpoints, as kubectl shows them."""

from .deadline import PATIENCE_SECONDS, eventually

# kubectl is a program each time.
POLL_SECONDS = 0.1
CONDITIONS = ("ready", "serving", "terminating")


class Mirror:
    """The Kubernetes namespace of one zone."""

    def __init__(self, cluster, zone):
        self.cluster = cluster
        self.namespace = zone.replace(".", "")

    def services(self):
        # Not those of the namespace's own controllers, and none when there is no such namespace.
        words = self.cluster.kubectl("-n", self.namespace, "get", "services", "-o", "name").split()
        return {word.removeprefix("service/") for word in words}

    def conditions(self, service):
        """Address -> (ready, serving, terminating) in the Service's EndpointSlices."""
        row = " ".join(["{.addresses[0]}", *(f"{{.conditions.{name}}}" for name in CONDITIONS)])
        rows = self.cluster.kubectl(
            "-n", self.namespace, "get", "endpointslices", "-l", f"kubernetes.io/service-name={service}", "-o",
            f'jsonpath={{range .items[*].endpoints[*]}}{row}{{"\\n"}}{{end}}')
        found = [line.split() for line in rows.splitlines()]
        return {address: tuple(word == "true" for word in words) for address, *words in found}

    def endpoints(self, service):
        """Addresses that are ready, and those that are not. None is terminating: that is no instance any more."""
        found = self.conditions(service)
        assert all(conditions in ((True, True, False), (False, False, False)) for conditions in found.values()), found
        return ({address for address, (ready, *_) in found.items() if ready},
                {address for address, (ready, *_) in found.items() if not ready})

    def addresses(self, service):
        """Addresses of the Service's Endpoints object that are ready, and those that are not; None where there is none."""
        found = self.cluster.get("Endpoints", service, self.namespace)
        if found is None:
            return None
        subsets = found.get("subsets", [])
        return tuple({address["ip"] for subset in subsets for address in subset.get(kind, [])}
                     for kind in ("addresses", "notReadyAddresses"))

    def shows(self, service, ready, not_ready=(), seconds=PATIENCE_SECONDS):
        """Waits until these are the Service's addresses."""
        def check():
            assert self.endpoints(service) == (set(ready), set(not_ready))
            return True
        eventually(check, seconds, POLL_SECONDS)
