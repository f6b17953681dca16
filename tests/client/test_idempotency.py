"""Idempotency tokens: a repeated request has no further effect."""

import pytest

from harness.cloudmap import code_of, unique


@pytest.fixture
def cloudmap(shared, protocol):
    return shared.cloudmap(protocol)


CREATIONS = {
    "CreateHttpNamespace": lambda: {"Name": unique("token")},
    "CreatePrivateDnsNamespace": lambda: {"Name": f"{unique('token')}.local", "Vpc": "vpc-1"},
    "CreatePublicDnsNamespace": lambda: {"Name": f"{unique('token')}.example"},
}


@pytest.mark.parametrize("operation", CREATIONS)
def test_a_repeated_creation_returns_its_first_operation(cloudmap, operation):
    params = CREATIONS[operation]() | {"CreatorRequestId": unique("token"), "Description": "d",
                                       "Tags": [{"Key": "a", "Value": "b"}]}
    first = cloudmap.call(operation, params)
    assert cloudmap.call(operation, params) == first
    found = cloudmap.ListNamespaces(Filters=[{"Name": "NAME", "Values": [params["Name"]]}])["Namespaces"]
    assert len(found) == 1


@pytest.mark.parametrize("operation", CREATIONS)
def test_a_used_token_with_other_parameters_is_refused(cloudmap, operation):
    params = CREATIONS[operation]() | {"CreatorRequestId": unique("token")}
    cloudmap.call(operation, params)
    reply = cloudmap.reply(operation, params | {"Description": "another"})
    if reply.status == 200:
        assert cloudmap.operation(reply.data()["OperationId"])["Status"] == "FAIL"
    else:
        assert reply.code in ("InvalidInput", "NamespaceAlreadyExists")


    reply = cloudmap.reply(operation, params | {"Tags": [{"Key": "a", "Value": "b"}]})
    assert reply.code == "InvalidInput" and params["Name"] in reply.data()["Message"]


@pytest.mark.parametrize("operation", CREATIONS)
def test_a_token_is_compared_within_one_name_and_kind_of_namespace(cloudmap, operation):
    token, names = {"CreatorRequestId": unique("token")}, set()
    for params in (CREATIONS[operation](), CREATIONS[operation]()):
        namespace = cloudmap.done(cloudmap.call(operation, params | token))["NAMESPACE"]
        names.add(cloudmap.GetNamespace(Id=namespace)["Namespace"]["Name"])
    assert len(names) == 2
    for other in CREATIONS.keys() - {operation}:
        cloudmap.done(cloudmap.call(other, CREATIONS[other]() | token))


def test_a_repeated_creation_returns_the_existing_service(cloudmap):
    namespace = cloudmap.private_namespace()
    params = {"Name": "backend", "NamespaceId": namespace, "CreatorRequestId": unique("token"),
              "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 60}]}}
    first = cloudmap.CreateService(**params)["Service"]
    again = cloudmap.CreateService(**params)["Service"]
    assert {**again, "InstanceCount": 0} == {**first, "InstanceCount": 0}
    assert code_of(cloudmap.CreateService, **params | {"CreatorRequestId": unique("token")}) == "ServiceAlreadyExists"
    assert code_of(cloudmap.CreateService, **params | {"Description": "d"}) in ("InvalidInput", "ServiceAlreadyExists")


def test_a_creation_is_recognised_after_a_restart(server):
    params = {"Name": "calls", "CreatorRequestId": "token"}
    first = server.cloudmap().CreateHttpNamespace(**params)
    server.kill9()
    server.restart()
    assert server.cloudmap().CreateHttpNamespace(**params) == first


def test_a_creation_after_a_deletion_is_a_new_one(cloudmap):
    params = {"Name": unique("again"), "CreatorRequestId": unique("token")}
    first = cloudmap.CreateHttpNamespace(**params)["OperationId"]
    namespace = cloudmap.operation(first)["Targets"]["NAMESPACE"]
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    again = cloudmap.CreateHttpNamespace(**params)["OperationId"]
    assert again != first
    assert cloudmap.GetNamespace(Id=namespace)["Namespace"]["Name"] == params["Name"]


def test_tokens_are_stored_as_given(cloudmap):
    token = unique("my token")
    namespace = cloudmap.http_namespace(CreatorRequestId=token)
    assert cloudmap.GetNamespace(Id=namespace)["Namespace"]["CreatorRequestId"] == token
