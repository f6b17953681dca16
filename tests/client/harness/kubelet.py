"""A fake kubelet: it reports addresses, readiness, restarts and the end of pods to the API server, and runs nothing."""

import itertools
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPException

from .kubernetes import ApiError

FOLLOW_SECONDS = 0.05
RUNNING = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
READINESS = ("ContainersReady", "Ready")

_networks = itertools.cycle(range(1, 255))


class Kubelet:
    """The kubelet of one node, which it creates. Each node has its own pod network `10.42.<n>.0/24`."""

    def __init__(self, cluster, node=None):
        self.cluster = cluster
        network = next(_networks)
        self.node = cluster.node(node or f"node-{network}")
        self.host_ip = f"10.0.0.{network}"
        self._addresses = (f"10.42.{network}.{host}" for host in itertools.cycle(range(2, 255)))

    # -- one pod ------------------------------------------------------------------------------------------------------

    def create(self, manifest, *ips, ready=True):
        """Creates a pod and runs it. Returns the API server's object."""
        return self.run(self.cluster.create(manifest), *ips, ready=ready)

    def run(self, pod, *ips, ready=True):
        """Binds the pod to the node and reports its containers as started, with addresses, and ready or not."""
        if "nodeName" not in pod["spec"]:
            self.bind(pod)
        ips = ips or ((self.host_ip,) if pod["spec"].get("hostNetwork") else (next(self._addresses),))
        return self._patch(pod, phase="Running", podIP=ips[0], podIPs=[{"ip": ip} for ip in ips], hostIP=self.host_ip,
                           startTime=now(), conditions=conditions(pod, ready), containerStatuses=containers(pod, ready))

    def set_ready(self, pod, ready):
        """Reports the result of the readiness probe."""
        return self._probed(pod, ready, 0)

    def restart(self, pod, ready=False):
        """Reports a restart of the pod's container. The pod keeps its address."""
        return self._probed(pod, ready, 1)

    def _probed(self, pod, ready, more_restarts):
        pod = self.cluster.get("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
        return self._patch(pod, conditions=conditions(pod, ready),
                           containerStatuses=containers(pod, ready, restarts(pod) + more_restarts))

    def finish(self, pod, phase="Succeeded", **status):
        """Reports the end of all containers: Succeeded, Failed, or evicted (`"Failed", reason="Evicted"`). The address remains."""
        return self._patch(pod, phase=phase, conditions=conditions(pod, False), **status)

    def end(self, pod):
        """Deletes the object of a pod whose containers have ended, which is the last step of a graceful deletion."""
        self.cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_seconds=0)

    def bind(self, pod):
        """Binds the pod to the node, and starts nothing."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", {
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.node}})

    def _patch(self, pod, **status):
        metadata = pod["metadata"]
        return self.cluster.patch("Pod", metadata["name"], metadata["namespace"], {"status": status}, "status")

    # -- all pods -----------------------------------------------------------------------------------------------------

    @contextmanager
    def follow(self, *namespaces, ready_after_seconds=0.0):
        """While this context is open, runs every new pod of these Kubernetes namespaces, and ends every deleted one.

        A pod's readiness probe succeeds this many seconds after its start, or never if they are None.
        """
        ended = threading.Event()
        # The times at which the probes of the running pods succeed, by uid.
        probes = {}

        def work():
            while not ended.wait(FOLLOW_SECONDS):
                for namespace in namespaces:
                    self._follow(namespace, ready_after_seconds, probes)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def _follow(self, namespace, ready_after_seconds, probes):
        try:
            for pod in self.cluster.list("Pod", namespace):
                uid = pod["metadata"]["uid"]
                if "deletionTimestamp" in pod["metadata"]:
                    self.end(pod)
                elif "podIP" not in pod["status"]:
                    self.run(pod, ready=ready_after_seconds == 0)
                    if ready_after_seconds:
                        probes[uid] = time.monotonic() + ready_after_seconds
                elif probes.get(uid, float("inf")) <= time.monotonic():
                    self.set_ready(pod, True)
                    del probes[uid]
        except (ApiError, OSError, HTTPException):
            # The pod was deleted meanwhile, or the API server does not answer: try again in the next round.
            return


def conditions(pod, ready):
    """The pod's conditions. A condition that does not change keeps its transition time."""
    old = {found["type"]: found for found in pod["status"].get("conditions", [])}
    new = [{"type": kind, "status": "False" if kind in READINESS and not ready else "True", "lastTransitionTime": now()}
           for kind in RUNNING]
    return [old[found["type"]] if found["status"] == old.get(found["type"], {}).get("status") else found for found in new]


def containers(pod, ready, restarts=0):
    """The statuses of the pod's containers, all of which are running."""
    old = {found["name"]: found for found in pod["status"].get("containerStatuses", [])}

    def started(name):
        same = old.get(name, {}).get("restartCount") == restarts and old[name]["state"].get("running")
        return same["startedAt"] if same else now()

    return [{"name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "started": True,
             "restartCount": restarts, "state": {"running": {"startedAt": started(container["name"])}}}
            for container in pod["spec"]["containers"]]


def restarts(pod):
    return max((status["restartCount"] for status in pod["status"].get("containerStatuses", [])), default=0)


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
