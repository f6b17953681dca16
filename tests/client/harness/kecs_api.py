"""The part of KECS's API that makes ECS services, for the real `aws ecs`: what a request asks for becomes a Deployment."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import kecs

ECS = f"arn:aws:ecs:{kecs.REGION}:{kecs.ACCOUNT}"


class KecsApi(ThreadingHTTPServer):
    """A KECS without clusters at first. `called` has the names of all operations, in order."""

    daemon_threads = True

    def __init__(self, cluster):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cluster, self.url = cluster, "http://127.0.0.1:{}".format(*self.server_address[1:])
        self.called, self._clusters, self._definitions = [], set(), {}

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.shutdown()
        self.server_close()

    def call(self, operation, request):
        self.called.append(operation)
        return getattr(self, f"_{operation}")(**request)

    def _DescribeClusters(self, clusters):
        found = [{"clusterName": name, "status": "ACTIVE"} for name in clusters if name in self._clusters]
        return {"clusters": found, "failures": [{"reason": "MISSING"}] * (len(clusters) - len(found))}

    def _CreateCluster(self, clusterName):
        self._clusters.add(clusterName)
        self.cluster.apply(kecs.namespace(clusterName))
        return {"cluster": {"clusterName": clusterName, "status": "ACTIVE"}}

    def _DeleteCluster(self, cluster):
        self._clusters.remove(cluster)
        self.cluster.delete("Namespace", kecs.namespace_of(cluster))
        return {"cluster": {"clusterName": cluster, "status": "INACTIVE"}}

    def _RegisterTaskDefinition(self, family, containerDefinitions):
        [self._definitions[family]] = containerDefinitions
        return {"taskDefinition": {"taskDefinitionArn": f"{ECS}:task-definition/{family}:1"}}

    def _DeregisterTaskDefinition(self, taskDefinition):
        del self._definitions[taskDefinition.rpartition("/")[2].rpartition(":")[0]]
        return {"taskDefinition": {"taskDefinitionArn": taskDefinition, "status": "INACTIVE"}}

    def _CreateService(self, cluster, serviceName, serviceRegistries, taskDefinition, desiredCount):
        container = self._definitions[taskDefinition]
        check = container["healthCheck"]
        shell, command = check["command"]
        assert shell == "CMD-SHELL"
        [port] = container["portMappings"]
        service = kecs.EcsService(
            serviceName, container["name"], port["containerPort"], taskDefinition, cluster, image=container["image"],
            health_check=(command, check["interval"], check["timeout"], check["retries"], check["startPeriod"]))
        deployment = service.deployment(*serviceRegistries, replicas=desiredCount)
        deployment["spec"]["template"]["spec"]["containers"][0]["command"] = container["command"]
        self.cluster.create(deployment)
        return {"service": {"serviceName": serviceName, "serviceArn": f"{ECS}:service/{cluster}/{serviceName}"}}

    def _DeleteService(self, cluster, service, force):
        assert force
        self.cluster.delete("apps/v1/Deployment", service, kecs.namespace_of(cluster))
        return {"service": {"serviceName": service, "status": "DRAINING"}}


class Handler(BaseHTTPRequestHandler):
    """Requests of the protocol awsJson1.1."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prefix, _, operation = self.headers["X-Amz-Target"].partition(".")
        assert prefix == "AmazonEC2ContainerServiceV20141113", prefix
        body = json.dumps(self.server.call(operation, request)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
