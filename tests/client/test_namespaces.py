"""Namespaces: ids that are derived from names, conflicts of names, updates and deletion."""

import re

import pytest

from harness.cloudmap import code_of, unique

ACCOUNT = "000000000000"


@pytest.fixture
def cloudmap(shared, protocol):
    return shared.cloudmap(protocol)


def properties(cloudmap, namespace):
    return cloudmap.GetNamespace(Id=namespace)["Namespace"]["Properties"]


def test_ids_are_derived_from_names(start):
    ids = []
    for number in range(2):
        cloudmap = start("--store", "memory").cloudmap()
        private = cloudmap.private_namespace("production.local")
        ids.append((private, cloudmap.http_namespace("calls"), cloudmap.service(private, "backend", A=60)))
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


@pytest.mark.parametrize("options", [("--account-id", "123456789012"), ("--region", "eu-central-1")])
def test_account_and_region_are_in_arns_and_ids(start, options):
    plain, other = (server.cloudmap() for server in (start(), start(*options)))
    ids = [cloudmap.http_namespace("calls") for cloudmap in (plain, other)]
    assert ids[0] != ids[1]
    namespace = other.GetNamespace(Id=ids[1])["Namespace"]
    settings = {"--account-id": ACCOUNT, "--region": "us-east-1"} | dict([options])
    assert namespace["Arn"] == (f"arn:aws:servicediscovery:{settings['--region']}:{settings['--account-id']}"
                                f":namespace/{ids[1]}")
    assert namespace["ResourceOwner"] == settings["--account-id"]


def test_a_namespace_created_again_has_its_old_id(cloudmap):
    name = f"{unique('again')}.local"
    first = cloudmap.private_namespace(name)
    assert cloudmap.done(cloudmap.DeleteNamespace(Id=first)) == {"NAMESPACE": first}
    assert code_of(cloudmap.GetNamespace, Id=first) == "NamespaceNotFound"
    assert cloudmap.private_namespace(name) == first


@pytest.mark.parametrize("again", ["same", "upper"])
def test_creating_a_private_namespace_twice_returns_a_failed_operation(shared, cloudmap, again):
    name = f"{unique('taken')}.local"
    first = cloudmap.private_namespace(name)
    name = name.upper() if again == "upper" else name
    operation = cloudmap.operation(cloudmap.CreatePrivateDnsNamespace(Name=name, Vpc="vpc-12345678")["OperationId"])
    assert (operation["Status"], operation["ErrorCode"]) == ("FAIL", "CANNOT_CREATE_HOSTED_ZONE")
    assert "overlapping name space" in operation["ErrorMessage"]
    assert "ConflictingDomainExists" in operation["ErrorMessage"]
    assert cloudmap.GetNamespace(Id=first)["Namespace"]["Name"] == name.lower()
    found = cloudmap.ListNamespaces(Filters=[{"Name": "HTTP_NAME", "Values": [name.lower()]}])["Namespaces"]
    assert [namespace["Id"] for namespace in found] == [first]


@pytest.mark.parametrize("first", ["private", "public"])
@pytest.mark.parametrize("second", ["CreatePrivateDnsNamespace", "CreatePublicDnsNamespace"])
def test_the_error_of_a_taken_name_contains_the_existing_namespace(cloudmap, first, second):
    name = f"{unique('taken')}.local"
    holder = cloudmap.private_namespace(name) if first == "private" else cloudmap.public_namespace(name)
    reply = cloudmap.reply(second, {"Name": name} | ({"Vpc": "vpc-2"} if "Private" in second else {}))
    if (first, second) == ("public", "CreatePublicDnsNamespace"):
        assert reply.code == "NamespaceAlreadyExists"
        return
    operation = cloudmap.operation(reply.data()["OperationId"])
    assert (operation["Status"], operation["ErrorCode"]) == ("FAIL", "CANNOT_CREATE_HOSTED_ZONE")
    assert holder in operation["ErrorMessage"] and "ConflictingDomainExists" in operation["ErrorMessage"]
    assert "The VPC that you chose" not in operation["ErrorMessage"]
    assert ("vpc-12345678" in operation["ErrorMessage"]) == (first == "private")


@pytest.mark.parametrize("name", ["public_dns_ns", "one-label", "a_b.example"])
def test_public_names_outside_of_the_pattern_are_accepted_in_lenient_mode_only(start_shared, shared, name):
    lenient = shared.cloudmap()
    name = f"{unique('lenient')}-{name}"
    service = lenient.service(lenient.public_namespace(name), "web", A=60)
    lenient.instance(service, "i-1", ipv4="10.0.0.1")
    assert shared.dig(f"web.{name}.").data() == ["10.0.0.1"]
    strict = start_shared("--store", "memory", "--validation", "strict").cloudmap()
    assert code_of(strict.CreatePublicDnsNamespace, Name=name) == "InvalidInput"
    for wrong in ("a b", "a..b", "-a", "a/b"):
        assert code_of(lenient.CreatePublicDnsNamespace, Name=wrong) == "InvalidInput"


def test_a_namespace_may_be_the_child_of_another(cloudmap):
    name = f"{unique('nested')}.local"
    assert cloudmap.private_namespace(name) != cloudmap.private_namespace(f"eu.{name}")


def test_every_type_has_an_http_name_and_a_taken_one_gets_a_suffix(cloudmap):
    name = f"{unique('shared')}.local"
    http, private = cloudmap.http_namespace(name), cloudmap.private_namespace(name)
    assert properties(cloudmap, http)["HttpProperties"] == {"HttpName": name}
    http_name = properties(cloudmap, private)["HttpProperties"]["HttpName"]
    assert re.fullmatch(re.escape(name) + "-[a-z0-9]{16}", http_name)
    service = cloudmap.service(private, "backend", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    assert cloudmap.discovered(http_name, "backend") == {"a": "UNKNOWN"}


@pytest.mark.parametrize("name", ["a..local", ".local", f"{'l' * 64}.local", ".", ".".join(["l" * 50] * 5) + ".x"])
def test_private_names_that_cannot_be_in_dns_are_invalid(cloudmap, name):
    assert code_of(cloudmap.CreatePrivateDnsNamespace, Name=name, Vpc="vpc-1") == "InvalidInput"


def test_a_trailing_dot_means_the_same_name(shared, cloudmap):
    name = f"{unique('dot')}.local"
    namespace = cloudmap.private_namespace(f"{name}.")
    assert shared.dig(name, "SOA").owners() == {f"{name}."}
    operation = cloudmap.operation(cloudmap.CreatePrivateDnsNamespace(Name=name, Vpc="vpc-1")["OperationId"])
    assert operation["Status"] == "FAIL", f"{namespace} is there already"


def test_updates_change_only_the_given_members(cloudmap):
    namespace = cloudmap.private_namespace(soa_ttl=30, Description="old", CreatorRequestId=unique("token"))
    before = cloudmap.GetNamespace(Id=namespace)["Namespace"]

    cloudmap.done(cloudmap.UpdatePrivateDnsNamespace(Id=namespace, Namespace={"Description": "new"}))
    after = cloudmap.GetNamespace(Id=namespace)["Namespace"]
    assert after == before | {"Description": "new"}, "the SOA's TTL and everything else is kept"

    ttl = {"Properties": {"DnsProperties": {"SOA": {"TTL": 60}}}}
    operation = cloudmap.UpdatePrivateDnsNamespace(Id=before["Arn"], Namespace=ttl)
    assert cloudmap.done(operation) == {"NAMESPACE": namespace}
    after = cloudmap.GetNamespace(Id=before["Arn"])["Namespace"]
    assert after["Properties"]["DnsProperties"]["SOA"] == {"TTL": 60}
    assert after["Description"] == "new"
    assert after["Properties"]["DnsProperties"]["HostedZoneId"] == before["Properties"]["DnsProperties"]["HostedZoneId"]


def test_the_update_of_another_type_is_invalid(cloudmap):
    private, http = cloudmap.private_namespace(), cloudmap.http_namespace()
    change = {"Description": "new"}
    assert code_of(cloudmap.UpdateHttpNamespace, Id=private, Namespace=change) == "InvalidInput"
    assert code_of(cloudmap.UpdatePublicDnsNamespace, Id=private, Namespace=change) == "InvalidInput"
    assert code_of(cloudmap.UpdatePrivateDnsNamespace, Id=http, Namespace=change) == "InvalidInput"


def test_a_namespace_with_services_is_in_use(cloudmap):
    namespace = cloudmap.private_namespace()
    service = cloudmap.service(namespace, A=60)
    assert cloudmap.GetNamespace(Id=namespace)["Namespace"]["ServiceCount"] == 1
    assert code_of(cloudmap.DeleteNamespace, Id=namespace) == "ResourceInUse"
    cloudmap.DeleteService(Id=service)
    assert cloudmap.GetNamespace(Id=namespace)["Namespace"]["ServiceCount"] == 0
    cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))


def test_operations_remain_after_their_namespace_is_deleted_and_after_a_restart(server, protocol):
    cloudmap = server.cloudmap(protocol)
    namespace = cloudmap.http_namespace()
    deletion = cloudmap.DeleteNamespace(Id=namespace)["OperationId"]
    before = cloudmap.operation(deletion)
    assert (before["Type"], before["Status"], before["Targets"]) == (
        "DELETE_NAMESPACE", "SUCCESS", {"NAMESPACE": namespace})
    server.kill9()
    server.restart()
    assert server.cloudmap(protocol).operation(deletion) == before


def test_old_operations_are_dropped_beyond_ten_times_the_retention_limit(start):
    """Operations of the last 15 minutes are kept up to that limit, because clients poll them."""
    cloudmap = start("--operations-retained", "3").cloudmap()
    ids = [cloudmap.CreateHttpNamespace(Name=unique("kept"))["OperationId"] for _ in range(32)]
    assert {each["Id"] for each in cloudmap.ListOperations()["Operations"]} == set(ids[2:])
    assert code_of(cloudmap.GetOperation, OperationId=ids[0]) == "OperationNotFound"
    assert cloudmap.operation(ids[31])["Status"] == "SUCCESS"
