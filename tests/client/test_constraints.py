"""The server checks every published constraint of every input before it looks up any object."""

import re

import pytest

from harness.model import OPERATIONS, violations

NO_NAMESPACE, NO_SERVICE = "ns-aaaaaaaaaaaaaaaa", "srv-aaaaaaaaaaaaaaaa"
ARN = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-aaaaaaaaaaaaaaaa"
ACCOUNT = "000000000000"
TAGS = [{"Key": "stage", "Value": "blue"}]
SOA = {"DnsProperties": {"SOA": {"TTL": 30}}}
PAGE = {"NextToken": "token", "MaxResults": 10}
RECORDS = [{"Type": "A", "TTL": 60}]
HEALTH_CHECK = {"Type": "HTTP", "ResourcePath": "/health", "FailureThreshold": 3}
CHANGED_BY = {"UpdaterRequestId": "token"}
CREATED_BY = {"CreatorRequestId": "token", "Description": "a namespace", "Tags": TAGS}
DISCOVER = {"NamespaceName": "production.local", "ServiceName": "backend", "OwnerAccount": ACCOUNT}


def filters(name, condition="EQ"):
    return {"Filters": [{"Name": name, "Values": ["value"], "Condition": condition}]}


# A valid input with all members for every operation. The objects that it names do not exist: a broken constraint has to be
# reported before that.
VALID = {
    "CreateHttpNamespace": {"Name": "calls", **CREATED_BY},
    "CreatePrivateDnsNamespace": {"Name": "production.local", "Vpc": "vpc-1", "Properties": SOA, **CREATED_BY},
    "CreatePublicDnsNamespace": {"Name": "shop.example", "Properties": SOA, **CREATED_BY},
    "CreateService": {
        "Name": "backend", "NamespaceId": NO_NAMESPACE, "Type": "HTTP", **CREATED_BY,
        "DnsConfig": {"NamespaceId": NO_NAMESPACE, "RoutingPolicy": "MULTIVALUE", "DnsRecords": RECORDS},
        "HealthCheckConfig": HEALTH_CHECK, "HealthCheckCustomConfig": {"FailureThreshold": 1}},
    "DeleteNamespace": {"Id": NO_NAMESPACE},
    "DeleteService": {"Id": NO_SERVICE},
    "DeleteServiceAttributes": {"ServiceId": NO_SERVICE, "Attributes": ["key"]},
    "DeregisterInstance": {"ServiceId": NO_SERVICE, "InstanceId": "web-1"},
    "DiscoverInstances": {**DISCOVER, "MaxResults": 10, "QueryParameters": {"stage": "blue"},
                          "OptionalParameters": {"zone": "a"}, "HealthStatus": "ALL"},
    "DiscoverInstancesRevision": DISCOVER,
    "GetInstance": {"ServiceId": NO_SERVICE, "InstanceId": "web-1"},
    "GetInstancesHealthStatus": {"ServiceId": NO_SERVICE, "Instances": ["web-1"], **PAGE},
    "GetNamespace": {"Id": NO_NAMESPACE},
    "GetOperation": {"OperationId": "operation", "OwnerAccount": ACCOUNT},
    "GetService": {"Id": NO_SERVICE},
    "GetServiceAttributes": {"ServiceId": NO_SERVICE},
    "ListInstances": {"ServiceId": NO_SERVICE, **PAGE},
    "ListNamespaces": {**PAGE, **filters("NAME")},
    "ListOperations": {**PAGE, **filters("STATUS")},
    "ListServices": {**PAGE, **filters("NAMESPACE_ID")},
    "ListTagsForResource": {"ResourceARN": ARN},
    "RegisterInstance": {"ServiceId": NO_SERVICE, "InstanceId": "web-1", "CreatorRequestId": "token",
                         "Attributes": {"stage": "blue"}},
    "TagResource": {"ResourceARN": ARN, "Tags": TAGS},
    "UntagResource": {"ResourceARN": ARN, "TagKeys": ["stage"]},
    "UpdateHttpNamespace": {"Id": NO_NAMESPACE, **CHANGED_BY, "Namespace": {"Description": "new"}},
    "UpdatePrivateDnsNamespace": {"Id": NO_NAMESPACE, **CHANGED_BY,
                                  "Namespace": {"Description": "new", "Properties": SOA}},
    "UpdatePublicDnsNamespace": {"Id": NO_NAMESPACE, **CHANGED_BY,
                                 "Namespace": {"Description": "new", "Properties": SOA}},
    "UpdateInstanceCustomHealthStatus": {"ServiceId": NO_SERVICE, "InstanceId": "web-1", "Status": "HEALTHY"},
    "UpdateService": {"Id": NO_SERVICE, "Service": {
        "Description": "new", "DnsConfig": {"DnsRecords": RECORDS}, "HealthCheckConfig": HEALTH_CHECK}},
    "UpdateServiceAttributes": {"ServiceId": NO_SERVICE, "Attributes": {"key": "value"}},
}

VIOLATIONS = [violation for operation in OPERATIONS for violation in violations(operation, VALID[operation])]
MESSAGE = re.compile(r"(\d+) validation errors? detected: Value .* at '([^']+)' failed to satisfy constraint: .*", re.DOTALL)


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_a_broken_constraint_is_invalid_input_with_the_message_of_aws(shared, protocol, violation):
    reply = shared.cloudmap(protocol).reply(violation.operation, violation.params)
    message = reply.message
    assert (reply.status, reply.code) == (400, "InvalidInput"), reply.data()
    assert MESSAGE.fullmatch(message), message
    assert violation.expected in message
    member = [part for part in violation.path if not part.startswith("*")][-1]
    assert any(member.lower() in place.lower() for place in re.findall(r" at '([^']+)' failed", message)), message
    if violation.kind == "required":
        assert message.startswith("1 validation error detected: Value null at '"), message


def test_all_constraints_of_the_model_are_covered():
    kinds = {violation.kind for violation in VIOLATIONS}
    assert kinds == {"max", "min", "enum", "pattern", "required"}
    assert len(VIOLATIONS) > 150


def test_all_broken_constraints_are_reported_together(shared, protocol):
    reply = shared.cloudmap(protocol).reply("GetInstance", {"ServiceId": "s" * 256, "InstanceId": "i" * 65})
    assert reply.code == "InvalidInput"
    assert reply.message.startswith("2 validation errors detected: Value ")
    assert "less than or equal to 255; Value " in reply.message or "less than or equal to 64; Value " in reply.message


def test_the_message_of_a_missing_member_is_the_one_of_aws(shared, protocol):
    reply = shared.cloudmap(protocol).reply("GetNamespace", {})
    assert reply.message == ("1 validation error detected: Value null at 'id' failed to satisfy constraint: "
                             "Member must not be null")


@pytest.mark.parametrize("operation, params", [
    ("CreateHttpNamespace", {"Name": "n" * 1024, "Description": "d" * 1024, "CreatorRequestId": "c" * 64}),
    ("CreateHttpNamespace", {"Name": "!#$%~/\\\"", "Description": ""}),
    ("CreatePrivateDnsNamespace", {"Name": "single", "Vpc": "v" * 64}),
    ("CreatePrivateDnsNamespace", {"Name": "_a-b.l0cal", "Vpc": "vpc-default",
                                   "Properties": {"DnsProperties": {"SOA": {"TTL": 2147483647}}}}),
    ("CreatePublicDnsNamespace", {"Name": f"{'l' * 63}.example",
                                  "Properties": {"DnsProperties": {"SOA": {"TTL": 0}}}}),
    ("ListNamespaces", {"MaxResults": 1}),
    ("ListNamespaces", {"MaxResults": 100, "Filters": []}),
])
def test_values_at_the_limits_are_accepted(server, protocol, operation, params):
    assert server.cloudmap(protocol).reply(operation, params).status == 200
