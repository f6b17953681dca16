"""The mirror of a Cloud Map namespace in the cluster: headless Services, EndpointSlices and Endpoints."""

from .deadline import PATIENCE_SECONDS, eventually

# Each poll starts kubectl, so it is less frequent than others.
POLL_SECONDS = 0.1
CONDITIONS = ("ready", "serving", "terminating")
READY, NOT_READY = (True, True, False), (False, False, False)
DRAINING, ENDING = (False, True, True), (False, False, True)
STATES = (READY, NOT_READY, DRAINING, ENDING)


class Mirror:
    """The mirrored objects in the Kubernetes namespace of one zone."""

    def __init__(self, cluster, zone):
        self.cluster = cluster
        self.namespace = zone.replace(".", "")

    def services(self):
        # Only the server's Services; an empty list if the Kubernetes namespace does not exist.
        words = self.cluster.kubectl("-n", self.namespace, "get", "services", "-o", "name").split()
        return {word.removeprefix("service/") for word in words}

    def conditions(self, service):
        """(ready, serving, terminating) by address, from the Service's EndpointSlices."""
        row = " ".join(["{.addresses[0]}", *(f"{{.conditions.{name}}}" for name in CONDITIONS)])
        rows = self.cluster.kubectl(
            "-n", self.namespace, "get", "endpointslices", "-l", f"kubernetes.io/service-name={service}", "-o",
            f'jsonpath={{range .items[*].endpoints[*]}}{row}{{"\\n"}}{{end}}')
        found = [line.split() for line in rows.splitlines()]
        return {address: tuple(word == "true" for word in words) for address, *words in found}

    def endpoints(self, service):
        """The ready addresses and the others. Those of terminating pods are in neither: such a pod is not an instance any more."""
        found = self.conditions(service)
        assert all(conditions in STATES for conditions in found.values()), found
        return ({address for address, (ready, *_) in found.items() if ready},
                {address for address, (ready, _, terminating) in found.items() if not ready and not terminating})

    def details(self, service, namespace=None):
        """Conditions, node, zone and pod of each endpoint of the Service, or of one in another Kubernetes namespace, by address."""
        pieces = self.cluster.list("discovery.k8s.io/v1/EndpointSlice", namespace or self.namespace,
                                   f"kubernetes.io/service-name={service}")
        return {endpoint["addresses"][0]: (
                    tuple(endpoint["conditions"][name] for name in CONDITIONS), endpoint.get("nodeName"), endpoint.get("zone"),
                    endpoint.get("targetRef", {}).get("name"))
                for piece in pieces for endpoint in piece["endpoints"] or ()}

    def addresses(self, service):
        """The ready and the other addresses of the Service's Endpoints object, or None if it does not exist."""
        found = self.cluster.get("Endpoints", service, self.namespace)
        if found is None:
            return None
        subsets = found.get("subsets", [])
        return tuple({address["ip"] for subset in subsets for address in subset.get(kind, [])}
                     for kind in ("addresses", "notReadyAddresses"))

    def shows(self, service, ready, not_ready=(), seconds=PATIENCE_SECONDS):
        """Waits until the Service has these addresses."""
        def check():
            assert self.endpoints(service) == (set(ready), set(not_ready))
            return True
        eventually(check, seconds, POLL_SECONDS)
