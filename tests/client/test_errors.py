"""A table of all errors that a client can provoke, for every operation and in both protocols."""

import pytest

from harness import model
from harness.cloudmap import Refused, unique
from harness.model import OPERATIONS, errors_of

NAMESPACE_ARN = "arn:aws:servicediscovery:us-east-1:000000000000:namespace/ns-aaaaaaaaaaaaaaaa"
NO_NAMESPACE, NO_SERVICE = "ns-aaaaaaaaaaaaaaaa", "srv-aaaaaaaaaaaaaaaa"
TAGS_51 = [{"Key": f"key-{number}", "Value": ""} for number in range(51)]
ADDRESS = {"AWS_INSTANCE_IPV4": "10.0.0.1"}


class World:
    """The objects that the requests of the table name."""

    def __init__(self, cloudmap):
        self.cloudmap = cloudmap
        self.http = cloudmap.http_namespace("calls")
        self.private = cloudmap.private_namespace("production.local", CreatorRequestId="token-private")
        self.public = cloudmap.public_namespace("shop.example")
        self.checked = cloudmap.service(self.private, "backend", A=60, custom_health=True,
                                        CreatorRequestId="token-service")
        self.unchecked = cloudmap.service(self.private, "plain", A=60)
        self.namespace_arn = cloudmap.GetNamespace(Id=self.private)["Namespace"]["Arn"]
        self.service_arn = cloudmap.GetService(Id=self.checked)["Service"]["Arn"]
        for service in (self.checked, self.unchecked):
            for number in range(2):
                cloudmap.instance(service, f"web-{number}", ipv4=f"10.0.0.{number}")
        cloudmap.UpdateServiceAttributes(ServiceId=self.checked, Attributes={f"k{n}": "" for n in range(30)})


@pytest.fixture(scope="module")
def server(start_shared):
    return start_shared("--store", "memory", "--validation", "strict", "--max-instances-per-service", "2")


@pytest.fixture(scope="module")
def world(server):
    return World(server.cloudmap())


NAMESPACE_CHANGE = {"Description": "d"}

# (operation, code, parameters, words of the message or None)
TABLE = [
    ("CreateHttpNamespace", "NamespaceAlreadyExists", lambda w: {"Name": "calls"}, None),
    ("CreateHttpNamespace", "TooManyTagsException", lambda w: {"Name": "tagged", "Tags": TAGS_51}, None),
    ("CreatePrivateDnsNamespace", "TooManyTagsException",
     lambda w: {"Name": "tagged.local", "Vpc": "vpc-1", "Tags": TAGS_51}, None),
    ("CreatePublicDnsNamespace", "NamespaceAlreadyExists", lambda w: {"Name": "shop.example"}, None),
    ("CreatePublicDnsNamespace", "TooManyTagsException", lambda w: {"Name": "tagged.example", "Tags": TAGS_51}, None),
    ("CreateService", "NamespaceNotFound", lambda w: {"Name": "s", "NamespaceId": NO_NAMESPACE}, "Namespace not found"),
    ("CreateService", "ServiceAlreadyExists", lambda w: {"Name": "backend", "NamespaceId": w.private},
     "Service already exists."),
    ("CreateService", "TooManyTagsException", lambda w: {"Name": "s", "NamespaceId": w.http, "Tags": TAGS_51}, None),
    ("DeleteNamespace", "NamespaceNotFound", lambda w: {"Id": NO_NAMESPACE}, "Namespace not found"),
    ("DeleteNamespace", "ResourceInUse", lambda w: {"Id": w.private},
     "Namespace has associated services; delete the services before deleting the namespace"),
    ("DeleteService", "ServiceNotFound", lambda w: {"Id": NO_SERVICE}, None),
    ("DeleteService", "ResourceInUse", lambda w: {"Id": w.checked},
     "Service contains registered instances; delete the instances before deleting the service"),
    ("DeleteServiceAttributes", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE, "Attributes": ["a"]}, None),
    ("DeregisterInstance", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE, "InstanceId": "web-0"}, None),
    ("DeregisterInstance", "InstanceNotFound", lambda w: {"ServiceId": w.checked, "InstanceId": "nope"}, None),
    ("DiscoverInstances", "NamespaceNotFound", lambda w: {"NamespaceName": "nope", "ServiceName": "backend"},
     "Namespace not found"),
    ("DiscoverInstances", "ServiceNotFound",
     lambda w: {"NamespaceName": "production.local", "ServiceName": "nope"}, None),
    ("DiscoverInstancesRevision", "NamespaceNotFound", lambda w: {"NamespaceName": "nope", "ServiceName": "backend"},
     "Namespace not found"),
    ("DiscoverInstancesRevision", "ServiceNotFound",
     lambda w: {"NamespaceName": "production.local", "ServiceName": "nope"}, None),
    ("GetInstance", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE, "InstanceId": "web-0"}, None),
    ("GetInstance", "InstanceNotFound", lambda w: {"ServiceId": w.checked, "InstanceId": "nope"}, None),
    ("GetInstancesHealthStatus", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE}, None),
    ("GetInstancesHealthStatus", "InstanceNotFound",
     lambda w: {"ServiceId": w.checked, "Instances": ["web-0", "nope"]}, None),
    ("GetNamespace", "NamespaceNotFound", lambda w: {"Id": NO_NAMESPACE}, "Namespace not found"),
    ("GetNamespace", "NamespaceNotFound", lambda w: {"Id": NAMESPACE_ARN}, "Namespace not found"),
    ("GetOperation", "OperationNotFound", lambda w: {"OperationId": "gv4g5meo7ndmeh4fqskygvk23d2fijwa-k9302yzd"}, None),
    ("GetService", "ServiceNotFound", lambda w: {"Id": NO_SERVICE}, None),
    ("GetServiceAttributes", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE}, None),
    ("ListInstances", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE}, None),
    ("ListTagsForResource", "ResourceNotFoundException", lambda w: {"ResourceARN": NAMESPACE_ARN}, None),
    ("RegisterInstance", "ServiceNotFound",
     lambda w: {"ServiceId": NO_SERVICE, "InstanceId": "web-1", "Attributes": ADDRESS}, None),
    ("RegisterInstance", "ResourceLimitExceeded",
     lambda w: {"ServiceId": w.checked, "InstanceId": "web-3", "Attributes": ADDRESS}, None),
    ("TagResource", "ResourceNotFoundException",
     lambda w: {"ResourceARN": NAMESPACE_ARN, "Tags": [{"Key": "a", "Value": "b"}]}, None),
    ("TagResource", "TooManyTagsException", lambda w: {"ResourceARN": w.service_arn, "Tags": TAGS_51}, None),
    ("UntagResource", "ResourceNotFoundException", lambda w: {"ResourceARN": NAMESPACE_ARN, "TagKeys": ["a"]}, None),
    ("UpdateHttpNamespace", "NamespaceNotFound", lambda w: {"Id": NO_NAMESPACE, "Namespace": NAMESPACE_CHANGE},
     "Namespace not found"),
    ("UpdatePrivateDnsNamespace", "NamespaceNotFound", lambda w: {"Id": NO_NAMESPACE, "Namespace": NAMESPACE_CHANGE},
     "Namespace not found"),
    ("UpdatePublicDnsNamespace", "NamespaceNotFound", lambda w: {"Id": NO_NAMESPACE, "Namespace": NAMESPACE_CHANGE},
     "Namespace not found"),
    ("UpdateInstanceCustomHealthStatus", "ServiceNotFound",
     lambda w: {"ServiceId": NO_SERVICE, "InstanceId": "web-0", "Status": "HEALTHY"}, None),
    ("UpdateInstanceCustomHealthStatus", "CustomHealthNotFound",
     lambda w: {"ServiceId": w.unchecked, "InstanceId": "web-0", "Status": "HEALTHY"}, None),
    ("UpdateInstanceCustomHealthStatus", "CustomHealthNotFound",
     lambda w: {"ServiceId": w.unchecked, "InstanceId": "nope", "Status": "HEALTHY"}, None),
    ("UpdateInstanceCustomHealthStatus", "InstanceNotFound",
     lambda w: {"ServiceId": w.checked, "InstanceId": "nope", "Status": "HEALTHY"}, None),
    ("UpdateService", "ServiceNotFound", lambda w: {"Id": NO_SERVICE, "Service": {"Description": "d"}}, None),
    ("UpdateServiceAttributes", "ServiceNotFound", lambda w: {"ServiceId": NO_SERVICE, "Attributes": {"a": "b"}}, None),
    ("UpdateServiceAttributes", "ServiceAttributesLimitExceededException",
     lambda w: {"ServiceId": w.checked, "Attributes": {"one-more": "b"}}, None),
    # AWS's messages for invalid combinations of members.
    ("CreateService", "InvalidInput", lambda w: {"Name": "s"}, None),
    ("CreateService", "InvalidInput",
     lambda w: {"Name": "s", "NamespaceId": w.http, "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 60}]}},
     "When you specify an HTTP service, you can't include a DnsConfig element."),
    ("CreateService", "InvalidInput",
     lambda w: {"Name": "s", "NamespaceId": w.private, "Type": "HTTP",
                "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 60}]}},
     "When you specify an HTTP service, you can't include a DnsConfig element."),
]

# Modelled errors that are not in the table, with the test that covers them or the reason.
ELSEWHERE = {
    "InvalidInput": "test_constraints",
    "DuplicateRequest": "operations are finished when they are answered",
    "RequestLimitExceeded": "there is no rate limit",
}
NEVER = {
    ("CreatePrivateDnsNamespace", "NamespaceAlreadyExists"): "the operation fails instead: test_namespaces",
    ("CreateHttpNamespace", "ResourceLimitExceeded"): "test_quotas",
    ("CreatePrivateDnsNamespace", "ResourceLimitExceeded"): "test_quotas",
    ("CreatePublicDnsNamespace", "ResourceLimitExceeded"): "test_quotas",
    ("CreateService", "ResourceLimitExceeded"): "test_quotas",
    ("DeregisterInstance", "ResourceInUse"): "nothing holds an instance",
    ("RegisterInstance", "ResourceInUse"): "nothing holds an instance",
    ("UpdateHttpNamespace", "ResourceInUse"): "nothing holds a namespace",
    ("UpdatePrivateDnsNamespace", "ResourceInUse"): "nothing holds a namespace",
    ("UpdatePublicDnsNamespace", "ResourceInUse"): "nothing holds a namespace",
}


@pytest.mark.parametrize("row", range(len(TABLE)), ids=lambda row: "-".join(TABLE[row][:2]))
def test_an_error_has_its_code_members_and_status(server, world, protocol, row):
    operation, code, params, words = TABLE[row]
    reply = server.cloudmap(protocol).reply(operation, params(world))
    data = reply.data()
    assert reply.code == code, data
    assert data["Message"]
    assert words is None or data["Message"] == words
    if protocol == "json":
        assert reply.status == 400
        assert reply.headers["X-Amzn-ErrorType"].partition(":")[0].rpartition("#")[2] == code
    else:
        assert reply.status == model.modelled_status(code)


@pytest.mark.parametrize("protocol_of_sdk", ["json", "cbor"])
def test_boto3_raises_the_modelled_exceptions(server, world, protocol_of_sdk):
    client = server.clients.boto(protocol_of_sdk)
    for operation, code, params, _ in TABLE:
        method = getattr(client, client_method(client, operation))
        with pytest.raises(getattr(client.exceptions, code)) as raised:
            method(**params(world))
        assert raised.value.response["Error"]["Code"] == code
        assert raised.value.response["Error"]["Message"]


def client_method(client, operation):
    return next(name for name, known in client.meta.method_to_api_mapping.items() if known == operation)


def test_every_modelled_error_is_in_the_table_or_has_its_reason():
    covered = {(operation, code) for operation, code, _, _ in TABLE}
    for operation in OPERATIONS:
        for code in errors_of(operation) - set(ELSEWHERE):
            assert ((operation, code) in covered) != ((operation, code) in NEVER), (operation, code)


def refusal(cloudmap, operation, **params):
    with pytest.raises(Refused) as refused:
        cloudmap.call(operation, params)
    return refused.value


def test_namespace_already_exists_names_the_existing_one(server, world, protocol):
    cloudmap = server.cloudmap(protocol)
    name, token = unique("taken"), unique("token")
    namespace = cloudmap.http_namespace(name, CreatorRequestId=token)
    error = refusal(cloudmap, "CreateHttpNamespace", Name=name, CreatorRequestId=unique("token"))
    assert (error.code, error.data["NamespaceId"]) == ("NamespaceAlreadyExists", namespace)
    assert error.data["CreatorRequestId"] == token


def test_service_already_exists_names_the_existing_one(server, world, protocol):
    config = {"DnsRecords": [{"Type": "A", "TTL": 1}]}
    error = refusal(server.cloudmap(protocol), "CreateService", Name="BackEnd", NamespaceId=world.private,
                    DnsConfig=config)
    assert error.code == "ServiceAlreadyExists", "names of DNS services are equal whatever their case"
    assert error.data["ServiceId"] == world.checked
    assert error.data["ServiceArn"] == world.service_arn
    assert error.data["CreatorRequestId"] == "token-service"


def test_service_already_exists_with_the_namespace_in_the_dns_config(server, world, protocol):
    config = {"NamespaceId": world.private, "DnsRecords": [{"Type": "A", "TTL": 1}]}
    error = refusal(server.cloudmap(protocol), "CreateService", Name="backend", DnsConfig=config)
    assert (error.code, error.data["ServiceId"]) == ("ServiceAlreadyExists", world.checked)


def test_too_many_tags_names_the_resource(server, world, protocol):
    error = refusal(server.cloudmap(protocol), "TagResource", ResourceARN=world.namespace_arn, Tags=TAGS_51)
    assert (error.code, error.data["ResourceName"]) == ("TooManyTagsException", world.namespace_arn)
