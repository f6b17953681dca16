"""Objects as KECS writes them: ECS services as Deployments, their tasks as pods, TaskSets, standalone tasks.

Names, labels, annotations and their order are those of KECS (nandemo-ya/kecs) in December 2025.
"""

import json
import secrets
from dataclasses import dataclass, replace

ACCOUNT = "000000000000"
REGION = "us-east-1"
GRACE_SECONDS = 30


def namespace_of(cluster="default", region=REGION):
    """The Kubernetes namespace of an ECS cluster."""
    return f"{cluster}-{region}"


def namespace(cluster="default", region=REGION):
    """That namespace as an object."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": namespace_of(cluster, region),
        "labels": {"kecs.dev/managed": "true", "kecs.dev/cluster": cluster, "kecs.dev/region": region,
                   "kecs.dev/type": "ecs-cluster"},
        "annotations": {"kecs.dev/created-by": "kecs-server"}}}


def registry_arn(service_id, region=REGION):
    """The ARN of a Cloud Map service."""
    return f"arn:aws:servicediscovery:{region}:{ACCOUNT}:service/{service_id}"


def registry(service_id, container=None, container_port=None, port=None):
    """An entry of an ECS service's serviceRegistries, with the given members only."""
    members = {"containerName": container, "containerPort": container_port, "port": port,
               "registryArn": registry_arn(service_id)}
    return {name: value for name, value in members.items() if value is not None}


def registries_annotation(registries):
    """The text of the annotation. Without registries it is `null`, which Go writes for a nil slice."""
    return json.dumps(list(registries) or None, separators=(",", ":"))


@dataclass(frozen=True)
class EcsService:
    """An ECS service, and the objects that KECS creates for it."""

    name: str
    container: str
    port: int
    family: str
    cluster: str = "default"
    region: str = REGION
    launch_type: str = "FARGATE"
    image: str = "nginx:alpine"
    # The ECS health check as a tuple of command, interval, timeout, retries and start period.
    health_check: tuple | None = None

    @property
    def namespace(self):
        return namespace_of(self.cluster, self.region)

    def at(self, cluster, region=REGION):
        """This service in another ECS cluster."""
        return replace(self, cluster=cluster, region=region)

    def registry(self, service_id):
        """The registry that names this service's container and port."""
        return registry(service_id, self.container, self.port)

    def labels(self):
        return {"app": self.name, "kecs.dev/service": self.name, "kecs.dev/cluster": self.cluster,
                "kecs.dev/launch-type": self.launch_type, "kecs.dev/managed-by": "kecs"}

    def annotations(self):
        ecs = f"arn:aws:ecs:{self.region}:{ACCOUNT}"
        return {"kecs.dev/service-arn": f"{ecs}:service/{self.cluster}/{self.name}",
                "kecs.dev/task-definition": f"{ecs}:task-definition/{self.family}:1",
                "kecs.dev/scheduling-strategy": "REPLICA", "ecs.amazonaws.com/network-mode": "awsvpc",
                "ecs.amazonaws.com/subnets": "subnet-12345", "ecs.amazonaws.com/security-groups": "sg-12345",
                "ecs.amazonaws.com/assign-public-ip": "ENABLED"}

    def pod_spec(self):
        container = {"name": self.container, "image": self.image,
                     "ports": [{"containerPort": self.port, "protocol": "TCP"}]} | probes(self.health_check)
        return {"containers": [container], "terminationGracePeriodSeconds": GRACE_SECONDS}

    def pod(self, *registries, name=None, task_id=None, labels=None, annotations=None, **spec):
        """The pod of a task. KECS's webhook sets the label with the task id; `task_id=""` makes a pod that the webhook missed."""
        task_id = secrets.token_hex(16) if task_id is None else task_id
        labels = self.labels() | {"pod-template-hash": "6d4b75cb6d"} | (labels or {})
        labels |= {"kecs.dev/task-id": task_id} if task_id else {}
        annotations = (self.annotations() | {"kecs.dev/service-registries": registries_annotation(registries)}
                       | (annotations or {}))
        return pod(name or f"{self.name}-6d4b75cb6d-{secrets.token_hex(3)[:5]}", self.namespace, labels,
                   {key: value for key, value in annotations.items() if value is not None}, self.pod_spec() | spec)

    def deployment(self, *registries, replicas=1, **spec):
        """The service's Deployment. Its pods have no task id, because the tests do not run KECS's webhook."""
        template = {"metadata": {"labels": self.labels(), "annotations": self.annotations() | {
            "kecs.dev/service-registries": registries_annotation(registries)}}, "spec": self.pod_spec()}
        selector = {"app": self.name, "kecs.dev/service": self.name}
        return {"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels(),
                             "annotations": self.annotations()},
                "spec": {"replicas": replicas, "selector": {"matchLabels": selector}, "template": template} | spec}


BACKEND = EcsService("backend-api-service", "backend", 8080, "backend-api",
                     image="registry.kecs.local:5000/kecs-example-backend:latest",
                     health_check=("wget -q --spider http://localhost:8080/health", 30, 5, 3, 60))
FRONTEND = EcsService("frontend-web-service", "frontend", 3000, "frontend-web",
                      image="registry.kecs.local:5000/kecs-example-frontend:latest",
                      health_check=("wget -q --spider http://localhost:3000/health", 30, 5, 3, 60))
HEALTH_TEST = EcsService("health-test-service", "test-container", 80, "health-test-service",
                         health_check=("wget -q --spider http://localhost/ || exit 1", 10, 5, 2, 10))
NGINX = EcsService("single-task-nginx", "nginx", 80, "single-task-nginx")
USERS = EcsService("user-service", "user-service", 8080, "user-service", launch_type="EC2",
                   health_check=("curl -f http://localhost:8080/health || exit 1", 30, 5, 3, 60))
GATEWAY = EcsService("api-gateway", "api-gateway", 8080, "api-gateway", launch_type="EC2",
                     health_check=("curl -f http://localhost:8080/health || exit 1", 30, 5, 3, 60))


def task_set_pod(*service_ids, service="webapp-sd-service", task_set="ts-537efbba", cluster="default", name=None):
    """A pod of a TaskSet. It has an annotation with the ARN of each registry, and no label that KECS manages it."""
    labels = {"kecs.io/cluster": cluster, "kecs.io/service": service, "kecs.io/taskset": task_set,
              "kecs.io/taskset-external-id": "", "kecs.io/role": "taskset-pod",
              "kecs.io/service-discovery-enabled": "true"}
    ecs = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    # KECS gives one task ARN to all pods of a set.
    annotations = {"kecs.dev/task-arn": f"{ecs}:task/{cluster}/{task_set}",
                   "kecs.dev/task-definition-arn": f"{ecs}:task-definition/webapp:1"}
    annotations |= {f"kecs.io/sd-registry-{number}": registry_arn(service_id)
                    for number, service_id in enumerate(service_ids)}
    webapp = EcsService(service, "webapp", 80, service, cluster)
    return pod(name or f"{service}-{task_set}-{secrets.token_hex(3)[:5]}", webapp.namespace, labels, annotations,
               webapp.pod_spec())


def task_set_deployment(service_id, replicas, service="webapp-sd-service", task_set="ts-537efbba", cluster="default"):
    """The Deployment of a TaskSet. It has the registry's container and port; its pods have only the ARN."""
    pod = task_set_pod(service_id, service=service, task_set=task_set, cluster=cluster)
    labels = {"kecs.io/cluster": cluster, "kecs.io/service": service, "kecs.io/taskset": task_set,
              "kecs.io/taskset-external-id": "webapp-sd", "kecs.io/role": "taskset", "kecs.io/managed": "true"}
    registries = registries_annotation([registry(service_id, "webapp", 80)])
    template = {"metadata": {key: pod["metadata"][key] for key in ("labels", "annotations")}, "spec": pod["spec"]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
                "name": f"{service}-{task_set}", "namespace": pod["metadata"]["namespace"], "labels": labels,
                "annotations": {"kecs.io/service-registries": registries}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"kecs.io/taskset": task_set}},
                     "template": template}}


def standalone_pod(family="batch", cluster="default"):
    """A pod of RunTask, which belongs to no service and has no registries."""
    task_id = secrets.token_hex(16)
    labels = {"kecs.dev/cluster": cluster, "kecs.dev/task-id": task_id, "kecs.dev/task-family": family,
              "kecs.dev/task-revision": "1", "kecs.dev/launch-type": "FARGATE", "kecs.dev/managed-by": "kecs",
              "ecs.task.definition.family": family}
    ecs = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    annotations = {"kecs.dev/task-arn": f"{ecs}:task/{cluster}/{task_id}",
                   "kecs.dev/task-definition-arn": f"{ecs}:task-definition/{family}:1"}
    task = EcsService(family, family, 80, family, cluster)
    return pod(f"task-{task_id}", task.namespace, labels, annotations, task.pod_spec())


def pod(name, namespace, labels, annotations, spec):
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
        "name": name, "namespace": namespace, "labels": labels, "annotations": annotations}}


def probes(health_check):
    """The probes of an ECS health check. Both run its command; readiness starts after at most ten seconds."""
    if health_check is None:
        return {}
    command, interval, timeout, retries, start_period = health_check
    probe = {"exec": {"command": ["sh", "-c", command]}, "periodSeconds": interval, "timeoutSeconds": timeout,
             "failureThreshold": retries, "successThreshold": 1}
    return {"livenessProbe": probe | {"initialDelaySeconds": start_period},
            "readinessProbe": probe | {"initialDelaySeconds": min(start_period, 10)}}


def task_id(pod):
    """The ECS task id of a pod."""
    return pod["metadata"]["labels"]["kecs.dev/task-id"]


def coredns_block(namespace_id, zone):
    """KECS's own block for a Cloud Map namespace: key and text in the ConfigMap kube-system/coredns-custom."""
    name = zone.replace(".", r"\.")
    return f"kecs-{namespace_id}.server", f"""{zone}:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    rewrite stop {{
        name regex (.*)\\.{name} {{1}}.default.svc.cluster.local
    }}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    cache 30
    loop
    reload
    loadbalance
}}
"""


def alias_service(name, zone, service_id, namespace_id, target):
    """The ExternalName Service in `default` that KECS makes for a Cloud Map service."""
    return {"apiVersion": "v1", "kind": "Service", "spec": {"type": "ExternalName", "externalName": target},
            "metadata": {"name": name, "namespace": "default",
                         "labels": {"kecs.io/service-discovery": "true", "kecs.io/type": "alias",
                                    "kecs.io/namespace": zone, "kecs.io/service": name},
                         "annotations": {"kecs.io/service-id": service_id, "kecs.io/namespace-id": namespace_id}}}
