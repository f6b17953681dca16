"""List operations: filters as AWS documents them, and pages that are complete, stable and bounded."""

import pytest

from harness.cloudmap import Refused, unique


@pytest.fixture(scope="module")
def listed(start_shared):
    """A server with known objects, which no test of this module changes."""
    server = start_shared("--store", "memory")
    return Listed(server)


class Listed:
    def __init__(self, server):
        self.server = server
        cloudmap = server.cloudmap()
        self.private = cloudmap.private_namespace("production.local")
        self.staging = cloudmap.private_namespace("staging.local")
        self.public = cloudmap.public_namespace("production.example")
        self.http = cloudmap.http_namespace("production-http")
        self.services = [cloudmap.service(self.private, f"service-{number}", A=60) for number in range(12)]
        self.other = cloudmap.service(self.http, "other")
        self.ids = [f"i-{number:02}" for number in range(25)]
        for instance in self.ids:
            cloudmap.instance(self.services[0], instance, ipv4="10.0.0.1")
        cloudmap.deregister(self.services[0], "i-24")
        self.ids.remove("i-24")


def refused(cloudmap, operation, **params):
    with pytest.raises(Refused) as error:
        cloudmap.call(operation, params)
    return error.value.code


def condition(name, *values, **more):
    return {"Name": name, "Values": list(values), **({"Condition": more["condition"]} if more else {})}


NAMESPACE_FILTERS = [
    ([], "production.local staging.local production.example production-http"),
    ([condition("TYPE", "DNS_PRIVATE")], "production.local staging.local"),
    ([condition("TYPE", "DNS_PRIVATE", condition="EQ")], "production.local staging.local"),
    ([condition("TYPE", "DNS", condition="BEGINS_WITH")], "production.local staging.local production.example"),
    ([condition("TYPE", "HTTP", "DNS_PUBLIC", condition="IN")], "production.example production-http"),
    ([condition("NAME", "production.local")], "production.local"),
    ([condition("NAME", "production", condition="BEGINS_WITH")],
     "production.local production.example production-http"),
    ([condition("NAME", "staging.local", "production-http", condition="IN")], "staging.local production-http"),
    ([condition("HTTP_NAME", "staging.local")], "staging.local"),
    ([condition("HTTP_NAME", "production.", condition="BEGINS_WITH")], "production.local production.example"),
    ([condition("RESOURCE_OWNER", "SELF")], "production.local staging.local production.example production-http"),
    ([condition("RESOURCE_OWNER", "OTHER_ACCOUNTS")], ""),
    ([condition("TYPE", "DNS_PRIVATE"), condition("NAME", "production", condition="BEGINS_WITH")], "production.local"),
    ([condition("TYPE", "HTTP"), condition("NAME", "production.local")], ""),
    ([condition("NAME", "no.such.name")], ""),
    ([condition("TYPE", "NO_SUCH_TYPE")], ""),
]


@pytest.mark.parametrize("filters, names", NAMESPACE_FILTERS, ids=lambda value: str(value)[:70])
def test_namespaces_are_filtered(listed, protocol, filters, names):
    found = listed.server.cloudmap(protocol).ListNamespaces(Filters=filters)["Namespaces"]
    assert [namespace["Name"] for namespace in found] == names.split()


def test_services_are_filtered_by_namespace_id_or_arn(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    arn = cloudmap.GetNamespace(Id=listed.private)["Namespace"]["Arn"]
    for filters, ids in (
            ([condition("NAMESPACE_ID", listed.private)], listed.services),
            ([condition("NAMESPACE_ID", arn, condition="EQ")], listed.services),
            ([condition("NAMESPACE_ID", listed.http, condition="IN")], [listed.other]),
            ([condition("NAMESPACE_ID", "ns-aaaaaaaaaaaaaaaa")], []),
            ([condition("NAMESPACE_ID", "nonsense")], []),
            ([condition("RESOURCE_OWNER", "SELF")], [*listed.services, listed.other]),
            ([condition("RESOURCE_OWNER", "OTHER_ACCOUNTS")], []),
            ([condition("NAMESPACE_ID", listed.http), condition("RESOURCE_OWNER", "SELF")], [listed.other]),
            ([], [*listed.services, listed.other])):
        found = cloudmap.ListServices(Filters=filters)["Services"]
        assert [service["Id"] for service in found] == ids, filters


def operation_ids(cloudmap, *filters):
    return {operation["Id"] for page in cloudmap.pages("ListOperations", Filters=list(filters))
            for operation in page["Operations"]}


def test_operations_are_filtered(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    everything = operation_ids(cloudmap)
    assert len(everything) == 4 + 25 + 1
    first = listed.services[0]
    assert len(operation_ids(cloudmap, condition("SERVICE_ID", first))) == 26
    assert operation_ids(cloudmap, condition("SERVICE_ID", listed.services[1])) == set()
    assert len(operation_ids(cloudmap, condition("NAMESPACE_ID", listed.staging))) == 1
    assert len(operation_ids(cloudmap, condition("TYPE", "CREATE_NAMESPACE"))) == 4
    both = condition("TYPE", "REGISTER_INSTANCE", "DEREGISTER_INSTANCE", condition="IN")
    assert len(operation_ids(cloudmap, both)) == 26
    for success in ("SUCCESS", "SUCCEED"):
        assert operation_ids(cloudmap, condition("STATUS", success)) == everything
    assert operation_ids(cloudmap, condition("STATUS", "FAIL", "PENDING", condition="IN")) == set()
    ended = condition("TYPE", "DEREGISTER_INSTANCE")
    assert len(operation_ids(cloudmap, ended, condition("SERVICE_ID", first))) == 1
    assert operation_ids(cloudmap, ended, condition("NAMESPACE_ID", listed.http)) == set()


def test_operations_are_filtered_by_the_time_of_their_last_change(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    one = next(iter(operation_ids(cloudmap, condition("TYPE", "DEREGISTER_INSTANCE"))))
    changed = int(cloudmap.operation(one)["UpdateDate"])

    def between(start, end):
        return operation_ids(cloudmap, condition("UPDATE_DATE", str(start), str(end), condition="BETWEEN"))

    assert one in between(changed - 1, changed + 1)
    assert one in between(0, 4102444800)
    assert between(changed + 3600, changed + 7200) == set()
    assert between(0, 1) == set()
    for start, end in ((0, changed * 1000), (changed * 1000, 0)):
        filters = [condition("UPDATE_DATE", str(start), str(end), condition="BETWEEN")]
        reply = cloudmap.reply("ListOperations", {"Filters": filters})
        assert reply.code == "InvalidInput" and "seconds" in reply.data()["Message"], "milliseconds find nothing"


@pytest.mark.parametrize("operation, filters", [
    ("ListNamespaces", [condition("NAME", "a", condition="BETWEEN")]),
    ("ListNamespaces", [condition("NAME", "a", "b", condition="EQ")]),
    ("ListNamespaces", [condition("NAME", "a", "b", condition="BEGINS_WITH")]),
    ("ListNamespaces", [condition("NAME")]),
    ("ListNamespaces", [condition("NAMESPACE_ID", "a")]),
    ("ListServices", [condition("NAMESPACE_ID", "a", condition="BEGINS_WITH")]),
    ("ListServices", [condition("TYPE", "HTTP")]),
    ("ListOperations", [condition("UPDATE_DATE", "1", condition="BETWEEN")]),
    ("ListOperations", [condition("UPDATE_DATE", "one", "two", condition="BETWEEN")]),
    ("ListOperations", [condition("STATUS", "SUCCESS", condition="BEGINS_WITH")]),
    ("ListOperations", [condition("NO_SUCH_FILTER", "a")]),
], ids=lambda value: str(value)[:80])
def test_invalid_filters_are_refused(listed, protocol, operation, filters):
    assert refused(listed.server.cloudmap(protocol), operation, Filters=filters) == "InvalidInput"


LISTS = {
    "ListNamespaces": (lambda listed: {}, "Namespaces", 4),
    "ListServices": (lambda listed: {}, "Services", 13),
    "ListOperations": (lambda listed: {}, "Operations", 30),
    "ListInstances": (lambda listed: {"ServiceId": listed.services[0]}, "Instances", 24),
    "GetInstancesHealthStatus": (lambda listed: {"ServiceId": listed.services[0]}, "Status", 24),
}


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("size", [1, 3, 24, 100])
def test_pages_have_every_item_once(listed, protocol, operation, size):
    params, member, count = LISTS[operation]
    cloudmap = listed.server.cloudmap(protocol)
    pages = list(cloudmap.pages(operation, MaxResults=size, **params(listed)))
    keys = [item if isinstance(item, str) else item["Id"] for page in pages for item in page[member]]
    assert len(keys) == len(set(keys)) == count
    assert all(len(page[member]) == size for page in pages[:-1])
    assert 0 < len(pages[-1][member]) <= size, "the last page is not an empty one"
    assert all(len(page["NextToken"]) <= 4096 for page in pages[:-1])


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("token", ["nonsense", "", "AAAA", "0", "=" * 4096, "\u00e4"])
def test_an_invented_token_is_invalid(listed, operation, token):
    params, _, _ = LISTS[operation]
    cloudmap = listed.server.cloudmap()
    if token == "":
        assert cloudmap.reply(operation, {"NextToken": token, **params(listed)}).status in (200, 400)
    else:
        assert refused(cloudmap, operation, NextToken=token, **params(listed)) == "InvalidInput"


def test_a_token_of_another_list_is_invalid(listed):
    cloudmap = listed.server.cloudmap()
    token = cloudmap.ListServices(MaxResults=1)["NextToken"]
    assert refused(cloudmap, "ListInstances", ServiceId=listed.services[0], NextToken=token) == "InvalidInput"


def test_filtered_pages_are_full(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    pages = list(cloudmap.pages("ListServices", MaxResults=5, Filters=[condition("NAMESPACE_ID", listed.private)]))
    assert [len(page["Services"]) for page in pages] == [5, 5, 2]


def test_boto3_paginators_see_everything(listed, protocol):
    client = listed.server.clients.boto(protocol)
    for operation, member, params, count in (
            ("list_namespaces", "Namespaces", {}, 4), ("list_services", "Services", {}, 13),
            ("list_operations", "Operations", {}, 30),
            ("list_instances", "Instances", {"ServiceId": listed.services[0]}, 24)):
        pages = client.get_paginator(operation).paginate(**params, PaginationConfig={"PageSize": 7})
        assert len({item["Id"] for page in pages for item in page[member]}) == count


def test_health_of_chosen_instances(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    chosen = ["i-03", "i-07", "i-01"]
    assert cloudmap.health(listed.services[0], Instances=chosen) == dict.fromkeys(chosen, "UNKNOWN")
    assert cloudmap.health(listed.services[0], Instances=chosen, MaxResults=2) == dict.fromkeys(chosen, "UNKNOWN")


def test_summaries_have_the_members_that_clients_rely_on(listed, protocol):
    cloudmap = listed.server.cloudmap(protocol)
    service = cloudmap.ListServices(MaxResults=1)["Services"][0]
    assert {"Id", "Arn", "Name", "Type", "InstanceCount", "DnsConfig", "CreateDate"} <= set(service)
    assert (service["InstanceCount"], service["DnsConfig"]["DnsRecords"]) == (24, [{"Type": "A", "TTL": 60}])
    namespace = cloudmap.ListNamespaces(MaxResults=1)["Namespaces"][0]
    assert {"Id", "Arn", "Name", "Type", "ServiceCount", "Properties", "CreateDate"} <= set(namespace)
    assert namespace["ServiceCount"] == 12
    assert namespace["Properties"]["HttpProperties"] == {"HttpName": "production.local"}


def test_paging_continues_at_its_position_when_the_list_changes(server):
    cloudmap = server.cloudmap()
    names = [unique("namespace") for _ in range(6)]
    ids = [cloudmap.http_namespace(name) for name in names]
    first = cloudmap.ListNamespaces(MaxResults=3)
    cloudmap.done(cloudmap.DeleteNamespace(Id=ids[2]))
    cloudmap.done(cloudmap.DeleteNamespace(Id=ids[0]))
    added = cloudmap.http_namespace()
    rest = cloudmap.ListNamespaces(NextToken=first["NextToken"])
    assert [each["Id"] for each in rest["Namespaces"]] == [*ids[3:], added]


def test_a_token_is_valid_after_a_restart(server):
    cloudmap = server.cloudmap()
    ids = [cloudmap.http_namespace() for _ in range(3)]
    token = cloudmap.ListNamespaces(MaxResults=2)["NextToken"]
    server.restart()
    rest = server.cloudmap().ListNamespaces(NextToken=token)
    assert [each["Id"] for each in rest["Namespaces"]] == ids[2:]
