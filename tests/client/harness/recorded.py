"""All answers of the API about a store, as data. They are recorded once, and later versions have to give them again.

    python -m harness.recorded http://127.0.0.1:5301 127.0.0.1:5300 < export.jsonl > expected.json
"""

import json
import sys
from datetime import UTC, datetime

from .dns import Resolver
from .sdk import boto_client

# Lists without an order, and the member that identifies their items.
UNORDERED = {"discover_instances": ("Instances", "InstanceId"), "list_tags_for_resource": ("Tags", "Key")}
HEALTH_FILTERS = ("HEALTHY", "UNHEALTHY", "ALL", "HEALTHY_OR_ELSE_ALL")


def record(client, resolver, exported):
    """All calls with their outputs, the serials of all zones, and the sequence number of the newest change in the export."""
    calls = list(everything(client))
    zones = [namespace["Name"] for namespace in outputs(calls, "get_namespace", "Namespace")
             if namespace["Type"] != "HTTP"]
    [sequence] = [line["sequence"] for line in map(json.loads, exported) if "sequence" in line]
    return {"calls": calls, "serials": {zone: resolver.serial(zone) for zone in zones}, "sequence": sequence}


def everything(client):
    """All read calls with their outputs. The items of each list are the parameters of further calls."""
    def call(operation, **parameters):
        calls.append({"call": operation, "parameters": parameters, "output": answer(client, operation, parameters)})
        return calls[-1]["output"]

    calls = []
    names = {}
    for namespace in call("list_namespaces")["Namespaces"]:
        found = call("get_namespace", Id=namespace["Id"])["Namespace"]
        names[found["Id"]] = found["Properties"]["HttpProperties"]["HttpName"]
        call("list_tags_for_resource", ResourceARN=found["Arn"])
    for listed in call("list_services")["Services"]:
        service = call("get_service", Id=listed["Id"])["Service"]
        call("list_tags_for_resource", ResourceARN=service["Arn"])
        call("get_service_attributes", ServiceId=service["Id"])
        for instance in call("list_instances", ServiceId=service["Id"])["Instances"]:
            call("get_instance", ServiceId=service["Id"], InstanceId=instance["Id"])
        call("get_instances_health_status", ServiceId=service["Id"])
        name = {"NamespaceName": names[service["NamespaceId"]], "ServiceName": service["Name"]}
        call("discover_instances", **name)
        for health in HEALTH_FILTERS:
            call("discover_instances", **name, HealthStatus=health)
        call("discover_instances_revision", **name)
    for operation in call("list_operations", MaxResults=100)["Operations"]:
        call("get_operation", OperationId=operation["Id"])
    return calls


def outputs(calls, operation, member):
    return [call["output"][member] for call in calls if call["call"] == operation]


def answer(client, operation, parameters):
    """boto3's response without its HTTP metadata. Dates are converted to text, and lists without an order are sorted."""
    output = getattr(client, operation)(**parameters)
    del output["ResponseMetadata"]
    assert "NextToken" not in output, f"{operation}: more than one page"
    if operation in UNORDERED:
        member, key = UNORDERED[operation]
        output[member].sort(key=lambda item: item[key])
    return json.loads(json.dumps(output, default=in_words))


def in_words(value):
    assert isinstance(value, datetime), value
    return value.astimezone(UTC).isoformat(timespec="milliseconds")


def print_by_line(recorded):
    """Prints each call in a line of its own, so that differences are easy to read."""
    calls = recorded.pop("calls")
    print(json.dumps(recorded)[:-1] + ', "calls": [')
    print(",\n".join(json.dumps(call) for call in calls))
    print("]}")


if __name__ == "__main__":
    endpoint, address = sys.argv[1:]
    host, _, port = address.rpartition(":")
    print_by_line(record(boto_client(endpoint), Resolver(host, int(port)), sys.stdin))
