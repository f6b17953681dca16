"""Concurrent requests for one object on different servers, with one store in a real API server and etcd.

Every pair of outcomes has to be one that a single server gives for one of the two orders of the requests. Two separate
servers determine these outcomes: each of them carries out the requests one after the other, in one of the orders.
"""

import itertools
from dataclasses import dataclass
from typing import Callable

import pytest

from harness.cloudmap import Refused, unique
from harness.deadline import eventually
from harness.kubernetes import defined_cluster
from harness.race import at_once, outcome

ROUNDS = 9
VPC = "vpc-12345678"


@dataclass
class Race:
    """Two requests for one object. `prepare(cloudmap, name)` creates the objects that they need, and returns a service's id if any."""

    first: Callable
    second: Callable
    prepare: Callable = lambda cloudmap, name: None


def with_namespace(cloudmap, name):
    cloudmap.private_namespace(name)


def with_service(cloudmap, name):
    return cloudmap.service(cloudmap.private_namespace(name), "web", A=60, custom_health=True)


def with_instance(cloudmap, name):
    service = with_service(cloudmap, name)
    cloudmap.instance(service, "i", ipv4="10.0.0.9")
    return service


def with_tag(cloudmap, name):
    service = with_service(cloudmap, name)
    cloudmap.TagResource(ResourceARN=arn(cloudmap, service), Tags=[{"Key": "a", "Value": "0"}])
    return service


def arn(cloudmap, service):
    return cloudmap.GetService(Id=service)["Service"]["Arn"]


def create_service(**more):
    return lambda cloudmap, name, _: cloudmap.CreateService(Name="new", NamespaceId=NAMESPACES[name], **more)


def create_http(**more):
    return lambda cloudmap, name, _: cloudmap.CreateHttpNamespace(Name=name, **token_of(name, more))


def create_private(**more):
    return lambda cloudmap, name, _: cloudmap.CreatePrivateDnsNamespace(Name=name, Vpc=VPC, **token_of(name, more))


def token_of(name, more):
    """The parameters, with a creator request id that is unique for this namespace."""
    return {key: f"{name}-{value}" if key == "CreatorRequestId" else value for key, value in more.items()}


def register(address, **more):
    return lambda cloudmap, _, service: cloudmap.RegisterInstance(
        ServiceId=service, InstanceId="i", Attributes={"AWS_INSTANCE_IPV4": address}, **more)


def deregister(cloudmap, _, service):
    return cloudmap.DeregisterInstance(ServiceId=service, InstanceId="i")


def update_service(description):
    return lambda cloudmap, _, service: cloudmap.UpdateService(
        Id=service, Service={"Description": description, "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 5}]}})


def delete_service(cloudmap, _, service):
    return cloudmap.DeleteService(Id=service)


def delete_namespace(cloudmap, name, _):
    return cloudmap.DeleteNamespace(Id=NAMESPACES[name])


def tag(key, value="1"):
    return lambda cloudmap, _, service: cloudmap.TagResource(
        ResourceARN=ARNS[service], Tags=[{"Key": key, "Value": value}])


def untag(key):
    return lambda cloudmap, _, service: cloudmap.UntagResource(ResourceARN=ARNS[service], TagKeys=[key])


def attribute(key):
    return lambda cloudmap, _, service: cloudmap.UpdateServiceAttributes(ServiceId=service, Attributes={key: "1"})


def health(status):
    return lambda cloudmap, _, service: cloudmap.UpdateInstanceCustomHealthStatus(
        ServiceId=service, InstanceId="i", Status=status)


# ARNs of services, and ids of namespaces by name. They are read before the race, so that each request is a single call.
ARNS, NAMESPACES = {}, {}

RACES = {
    "create-service": Race(create_service(Description="1"), create_service(Description="2"), with_namespace),
    "create-service-again": Race(
        create_service(CreatorRequestId="t"), create_service(CreatorRequestId="t"), with_namespace),
    "create-service-token-for-another": Race(
        create_service(CreatorRequestId="t", Description="1"), create_service(CreatorRequestId="t", Description="2"),
        with_namespace),
    "create-http-namespace": Race(create_http(Description="1"), create_http(Description="2")),
    "create-http-namespace-again": Race(create_http(CreatorRequestId="t"), create_http(CreatorRequestId="t")),
    "create-http-namespace-token-for-another": Race(
        create_http(CreatorRequestId="t", Description="1"), create_http(CreatorRequestId="t", Description="2")),
    "create-private-namespace": Race(create_private(Description="1"), create_private(Description="2")),
    "create-private-namespace-again": Race(create_private(CreatorRequestId="t"), create_private(CreatorRequestId="t")),
    "create-private-namespace-other-token": Race(
        create_private(CreatorRequestId="1"), create_private(CreatorRequestId="2")),
    "register": Race(register("10.0.0.1"), register("10.0.0.2"), with_service),
    "register-again": Race(
        register("10.0.0.1", CreatorRequestId="t"), register("10.0.0.1", CreatorRequestId="t"), with_service),
    "register-anew-again": Race(
        register("10.0.0.1", CreatorRequestId="t"), register("10.0.0.1", CreatorRequestId="t"), with_instance),
    "register-and-deregister": Race(register("10.0.0.1"), deregister, with_instance),
    "register-and-deregister-nothing": Race(register("10.0.0.1"), deregister, with_service),
    "deregister-twice": Race(deregister, deregister, with_instance),
    "update-and-delete-service": Race(update_service("1"), delete_service, with_service),
    "update-service-twice": Race(update_service("1"), update_service("2"), with_service),
    "delete-service-twice": Race(delete_service, delete_service, with_service),
    "create-service-and-delete-namespace": Race(create_service(), delete_namespace, with_namespace),
    "delete-namespace-twice": Race(delete_namespace, delete_namespace, with_namespace),
    "register-and-delete-service": Race(register("10.0.0.1"), delete_service, with_service),
    "tag-two-keys": Race(tag("a"), tag("b"), with_service),
    "tag-and-untag": Race(tag("a"), untag("a"), with_tag),
    "tag-and-delete-service": Race(tag("a"), delete_service, with_service),
    "attributes-two-keys": Race(attribute("a"), attribute("b"), with_service),
    "health": Race(health("HEALTHY"), health("UNHEALTHY"), with_instance),
}


@pytest.fixture(scope="module")
def servers(start_shared, tmp_path_factory):
    """Three servers on one store."""
    with defined_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        place = cluster.namespace("races")
        yield [start_shared("--store", "kubernetes", "--store-namespace", place, "--kubeconfig", cluster.kubeconfig)
               for _ in range(3)]


@pytest.fixture(scope="module")
def alone(start_shared):
    """Two independent servers."""
    return [start_shared("--store", "memory") for _ in range(2)]


def without_dates(value):
    """Removes the members that depend on the time or on the account."""
    if isinstance(value, dict):
        left = {"CreateDate", "UpdateDate", "ResourceOwner", "CreatedByAccount"}
        return {key: without_dates(one) for key, one in value.items() if key not in left}
    return [without_dates(one) for one in value] if isinstance(value, list) else value


def ending(cloudmap, result):
    """The result of a request, independent of the server. An operation is read from the server of the request."""
    if isinstance(result, Refused):
        return result.code, without_dates(result.data)
    if "OperationId" not in result:
        return "done", without_dates(result)
    operation = eventually(lambda: known(outcome(lambda: cloudmap.operation(result["OperationId"]))))
    targets = operation["Targets"] if operation["Status"] == "SUCCESS" else None
    return operation["Type"], operation["Status"], operation.get("ErrorCode"), targets


def known(result):
    return None if isinstance(result, Refused) else result


def pair(clients, results):
    """Both outcomes, and true if they are one operation."""
    operations = [None if isinstance(result, Refused) else result.get("OperationId") for result in results]
    is_one = operations[0] is not None and operations[0] == operations[1]
    return [ending(cloudmap, result) for cloudmap, result in zip(clients, results)] + [is_one]


def look(cloudmap, name, service):
    """All API data of a namespace and its services, as text."""
    def seen(call):
        result = outcome(call)
        return result.code if isinstance(result, Refused) else without_dates(result)

    namespaces = [one for page in cloudmap.pages("ListNamespaces") for one in page["Namespaces"] if one["Name"] == name]
    inside = {one["Id"] for namespace in namespaces
              for page in cloudmap.pages("ListServices", Filters=[{"Name": "NAMESPACE_ID", "Values": [namespace["Id"]]}])
              for one in page["Services"]}
    services = [
        {
            "service": seen(lambda one=one: cloudmap.GetService(Id=one)),
            "instances": seen(lambda one=one: cloudmap.listed_instances(one)),
            "health": seen(lambda one=one: cloudmap.health(one)),
            "attributes": seen(lambda one=one: cloudmap.GetServiceAttributes(ServiceId=one)),
            "tags": seen(lambda one=one: sorted(
                each["Key"] for each in cloudmap.ListTagsForResource(ResourceARN=arn(cloudmap, one))["Tags"])),
        }
        for one in sorted(inside | ({service} if service else set()))
    ]
    return repr((without_dates(namespaces), services))


def expected_of(race, alone, name):
    """The outcomes and the final data for both orders."""
    possible = []
    for order, server in enumerate(alone):
        cloudmap = server.cloudmap()
        service = race.prepare(cloudmap, name)
        note(cloudmap, name, service)
        calls = [lambda call=call: call(cloudmap, name, service) for call in (race.first, race.second)]
        results = {at: outcome(calls[at]) for at in ((0, 1) if order == 0 else (1, 0))}
        possible.append((pair([cloudmap] * 2, [results[0], results[1]]), look(cloudmap, name, service)))
    return possible


def note(cloudmap, name, service):
    """Stores the ARN and the ids that the requests of a race need."""
    for page in cloudmap.pages("ListNamespaces"):
        NAMESPACES.update((one["Name"], one["Id"]) for one in page["Namespaces"] if one["Name"] == name)
    if service:
        ARNS[service] = arn(cloudmap, service)


@pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())
def test_two_concurrent_requests_end_like_sequential_ones(servers, alone, race):
    clients = [server.cloudmap() for server in servers]
    ways = itertools.cycle(itertools.permutations(clients, 2))
    for one, two in itertools.islice(ways, ROUNDS):
        name = f"{unique('race')}.local"
        possible = expected_of(race, alone, name)
        service = race.prepare(one, name)
        prepared = look(one, name, service)
        for cloudmap in clients:
            eventually(lambda: look(cloudmap, name, service) == prepared)
        results = at_once(
            lambda: race.first(one, name, service),
            lambda: race.second(two, name, service),
        )
        outcomes = pair([one, two], results)
        ends = [end for outcomes_of_order, end in possible if outcomes_of_order == outcomes]
        assert ends, f"{outcomes}\nis none of\n" + "\n".join(str(outcomes) for outcomes, _ in possible)
        for cloudmap in clients:
            eventually(lambda: look(cloudmap, name, service) in ends)
        shown = look(one, name, service)
        for cloudmap in clients:
            eventually(lambda: look(cloudmap, name, service) == shown)
            for result in results:
                if "OperationId" in (known(result) or {}):
                    eventually(lambda: known(outcome(lambda: cloudmap.operation(result["OperationId"]))))


def test_tags_that_three_servers_add_at_once_are_all_stored(servers):
    name = f"{unique('burst')}.local"
    first = servers[0].cloudmap()
    service = with_service(first, name)
    resource = arn(first, service)
    for server in servers:
        eventually(lambda: known(outcome(lambda: server.cloudmap().GetService(Id=service))))
    keys = [f"key-{number:02}" for number in range(30)]
    results = at_once(*(
        lambda cloudmap=servers[number % 3].cloudmap(), key=key: cloudmap.TagResource(
            ResourceARN=resource, Tags=[{"Key": key, "Value": "1"}])
        for number, key in enumerate(keys)))
    assert [result for result in results if isinstance(result, Refused)] == []
    for server in servers:
        cloudmap = server.cloudmap()
        eventually(lambda: sorted(
            one["Key"] for one in cloudmap.ListTagsForResource(ResourceARN=resource)["Tags"]) == keys)
