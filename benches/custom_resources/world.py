"""Instances of ECS tasks, eight in each service, as API requests and as custom resources."""

import hashlib
import json
from dataclasses import dataclass

NAMESPACE = "bench.local"
INSTANCES_PER_SERVICE = 8
# Number of ports. Each registration of an instance uses the next one, so that every registration is a change.
PORTS = 1_000
FIRST_ADDRESS = 10 << 24


@dataclass
class World:
    """So many services, with the ids that the server under test gave to them."""

    services: int
    ids: list

    def service(self, number):
        """Index of an instance's service. The first instances fill the services one by one; later ones are spread over all."""
        first = number // INSTANCES_PER_SERVICE
        return first if first < self.services else number % self.services

    def registration(self, number, version):
        """Parameters of RegisterInstance."""
        return {"ServiceId": self.ids[self.service(number)], "InstanceId": instance_id(number),
                "CreatorRequestId": request_id(number, version), "Attributes": self.attributes(number, version)}

    def attributes(self, number, version):
        """Address and port, and the five attributes that ECS gives to a task."""
        return {"AWS_INSTANCE_IPV4": address(number), "AWS_INSTANCE_PORT": str(8_000 + version % PORTS),
                "AVAILABILITY_ZONE": "us-east-1a", "REGION": "us-east-1", "ECS_CLUSTER_NAME": "default",
                "ECS_SERVICE_NAME": service_name(self.service(number)), "ECS_TASK_DEFINITION_FAMILY": "backend-api"}

    def object_name(self, number):
        """An object name with the length of those that the server gives to instances."""
        return f"i-{hashlib.sha256(instance_id(number).encode()).hexdigest()[:24]}"

    def object_spec(self, number, version):
        return {"instanceId": instance_id(number), "serviceId": self.ids[self.service(number)],
                "attributes": self.attributes(number, version), "creatorRequestId": request_id(number, version)}

    def by_service(self, versions):
        """Groups instance numbers with their versions by the index of their service."""
        found = [[] for _ in range(self.services)]
        for number, version in versions.items():
            found[self.service(number)].append((number, version))
        return found


def service_name(service):
    return f"service-{service:04}"


def domain(service):
    return f"{service_name(service)}.{NAMESPACE}"


def instance_id(number):
    return f"{number * 0x9e3779b97f4a7c15 % (1 << 64):016x}{number:016x}"


def request_id(number, version):
    return f"{version:08x}-aaaa-4aaa-8aaa-{number:012x}"


def address(number):
    return ".".join(str(byte) for byte in (FIRST_ADDRESS + number).to_bytes(4, "big"))


def compact(value):
    """JSON without spaces, as the server writes it."""
    return json.dumps(value, separators=(",", ":")).encode()
