"""All 30 operations through boto3, in JSON and in CBOR, with outputs that have only members of the model."""

import datetime
import re

import pytest

from harness import model
from harness.cloudmap import unique
from harness.model import OPERATIONS
from harness.sdk import boto_client
from harness.wire import TARGET_PREFIX, cbor_path

ACCOUNT = "000000000000"
ARN = f"arn:aws:servicediscovery:us-east-1:{ACCOUNT}"


class Recorder:
    """A boto3 client that records the called operations and their protocol."""

    def __init__(self, server, protocol):
        self.client = server.clients.boto(protocol)
        self.protocol, self.called = protocol, set()
        self.client.meta.events.register("before-send.servicediscovery.*", self._note)

    def _note(self, request, **_):
        headers = {name.lower(): value for name, value in request.headers.items()}
        target = headers.get("x-amz-target")
        path = "/" + request.url.split("/", 3)[3]
        target = target.decode() if isinstance(target, bytes) else target
        operation = target.partition(".")[2] if self.protocol == "json" else path.rpartition("/")[2]
        if self.protocol == "json":
            assert target == f"{TARGET_PREFIX}.{operation}"
        else:
            assert target is None and path == cbor_path(operation)
        self.called.add(operation)

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(**params):
            output = method(**params)
            metadata = output.pop("ResponseMetadata")
            assert metadata["HTTPStatusCode"] == 200 and metadata["HTTPHeaders"]["x-amzn-requestid"]
            return output

        return call

    def done(self, output, kind, target):
        """The target of an operation. Fails unless the operation succeeded."""
        operation = self.get_operation(OperationId=output["OperationId"])["Operation"]
        assert re.fullmatch(r"[a-z0-9]{32}-[a-z0-9]{8}", operation["Id"])
        assert (operation["Status"], operation["Type"]) == ("SUCCESS", kind)
        assert operation["CreateDate"] <= operation["UpdateDate"]
        assert operation.get("OwnerAccount", ACCOUNT) == ACCOUNT
        assert "ErrorCode" not in operation and "ErrorMessage" not in operation
        return operation["Targets"][target]


def test_a_life_cycle_uses_all_operations(server, protocol):
    aws = Recorder(server, protocol)
    private = namespaces(aws)
    service = services(aws, private)
    instances(aws, service)
    discovery(aws, service)
    service_attributes(aws, service)
    tags(aws, service)
    removal(aws, service)
    assert aws.called == set(OPERATIONS)


def namespaces(aws):
    http = aws.done(aws.create_http_namespace(Name="calls", Description="d", CreatorRequestId="token-http"),
                    "CREATE_NAMESPACE", "NAMESPACE")
    private = aws.done(aws.create_private_dns_namespace(Name="production.local", Vpc="vpc-12345678"),
                       "CREATE_NAMESPACE", "NAMESPACE")
    public = aws.done(
        aws.create_public_dns_namespace(Name="shop.example", Properties={"DnsProperties": {"SOA": {"TTL": 33}}}),
        "CREATE_NAMESPACE", "NAMESPACE")

    assert re.fullmatch(r"ns-[a-z0-9]{16}", http)
    found = aws.get_namespace(Id=http)["Namespace"]
    assert isinstance(found.pop("CreateDate"), datetime.datetime)
    found["Properties"]["DnsProperties"].pop("SOA", None)
    assert found == {
        "Id": http, "Arn": f"{ARN}:namespace/{http}", "ResourceOwner": ACCOUNT, "Name": "calls", "Type": "HTTP",
        "Description": "d", "ServiceCount": 0, "CreatorRequestId": "token-http",
        "Properties": {"DnsProperties": {}, "HttpProperties": {"HttpName": "calls"}}}
    dns = aws.get_namespace(Id=f"{ARN}:namespace/{public}")["Namespace"]["Properties"]["DnsProperties"]
    assert re.fullmatch(r"Z[A-Z0-9]+", dns["HostedZoneId"]) and dns["SOA"] == {"TTL": 33}
    dns = aws.get_namespace(Id=private)["Namespace"]["Properties"]["DnsProperties"]
    assert re.fullmatch(r"Z[A-Z0-9]+", dns["HostedZoneId"]) and "TTL" not in dns.get("SOA", {})

    aws.done(aws.update_http_namespace(Id=http, Namespace={"Description": "new"}), "UPDATE_NAMESPACE", "NAMESPACE")
    assert aws.get_namespace(Id=http)["Namespace"]["Description"] == "new"
    change = {"Description": "new", "Properties": {"DnsProperties": {"SOA": {"TTL": 7}}}}
    for update, namespace in ((aws.update_private_dns_namespace, private), (aws.update_public_dns_namespace, public)):
        assert aws.done(update(Id=namespace, Namespace=change), "UPDATE_NAMESPACE", "NAMESPACE") == namespace
        after = aws.get_namespace(Id=namespace)["Namespace"]
        assert after["Description"] == "new" and after["Properties"]["DnsProperties"]["SOA"] == {"TTL": 7}

    listed = aws.list_namespaces()["Namespaces"]
    assert [(each["Name"], each["Type"]) for each in listed] == [
        ("calls", "HTTP"), ("production.local", "DNS_PRIVATE"), ("shop.example", "DNS_PUBLIC")]
    for namespace in (http, public):
        assert aws.done(aws.delete_namespace(Id=namespace), "DELETE_NAMESPACE", "NAMESPACE") == namespace
    assert [each["Id"] for each in aws.list_namespaces()["Namespaces"]] == [private]
    return private


def services(aws, namespace):
    created = aws.create_service(
        Name="backend", NamespaceId=namespace, Description="the backend", CreatorRequestId="token-service",
        DnsConfig={"RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "A", "TTL": 60}, {"Type": "SRV", "TTL": 30}]},
        HealthCheckCustomConfig={"FailureThreshold": 1}, Tags=[{"Key": "team", "Value": "core"}])["Service"]
    service = created["Id"]
    assert re.fullmatch(r"srv-[a-z0-9]{16}", service)
    found = aws.get_service(Id=service)["Service"]
    assert {key: value for key, value in found.items() if key != "InstanceCount"} == {
        key: value for key, value in created.items() if key != "InstanceCount"}
    assert isinstance(found.pop("CreateDate"), datetime.datetime)
    assert found.pop("InstanceCount", 0) == 0
    assert found == {
        "Id": service, "Arn": f"{ARN}:service/{service}", "ResourceOwner": ACCOUNT, "Name": "backend",
        "NamespaceId": namespace, "Description": "the backend", "Type": "DNS_HTTP",
        "CreatorRequestId": "token-service", "CreatedByAccount": ACCOUNT,
        "HealthCheckCustomConfig": {"FailureThreshold": 1},
        "DnsConfig": {"NamespaceId": namespace, "RoutingPolicy": "MULTIVALUE",
                      "DnsRecords": [{"Type": "A", "TTL": 60}, {"Type": "SRV", "TTL": 30}]}}
    changed = aws.update_service(Id=service, Service={"Description": "new", "DnsConfig": {
        "DnsRecords": [{"Type": "A", "TTL": 10}, {"Type": "SRV", "TTL": 10}]}})
    assert aws.done(changed, "UPDATE_SERVICE", "SERVICE") == service
    listed = aws.list_services()["Services"]
    assert [(each["Id"], each["Description"]) for each in listed] == [(service, "new")]
    assert {record["TTL"] for record in listed[0]["DnsConfig"]["DnsRecords"]} == {10}
    return service


def instances(aws, service):
    attributes = {"AWS_INSTANCE_IPV4": "10.0.0.11", "AWS_INSTANCE_PORT": "8080", "stage": "blue"}
    registration = aws.register_instance(ServiceId=service, InstanceId="web-1", CreatorRequestId="token-instance",
                                         Attributes=attributes)
    assert aws.done(registration, "REGISTER_INSTANCE", "INSTANCE") == "web-1"
    got = aws.get_instance(ServiceId=service, InstanceId="web-1")
    assert got == {"ResourceOwner": ACCOUNT, "Instance": {
        "Id": "web-1", "CreatorRequestId": "token-instance", "Attributes": attributes, "CreatedByAccount": ACCOUNT}}
    assert aws.list_instances(ServiceId=service) == {"ResourceOwner": ACCOUNT, "Instances": [
        {"Id": "web-1", "Attributes": attributes, "CreatedByAccount": ACCOUNT}]}
    assert aws.get_service(Id=service)["Service"]["InstanceCount"] == 1
    assert aws.update_instance_custom_health_status(ServiceId=service, InstanceId="web-1", Status="UNHEALTHY") == {}
    assert aws.get_instances_health_status(ServiceId=service) == {"Status": {"web-1": "UNHEALTHY"}}
    operations = aws.list_operations(Filters=[{"Name": "SERVICE_ID", "Values": [service]}])["Operations"]
    assert registration["OperationId"] in {each["Id"] for each in operations}
    assert all(set(each) == {"Id", "Status"} for each in operations)


def discovery(aws, service):
    name = {"NamespaceName": "production.local", "ServiceName": "backend"}
    assert aws.discover_instances(**name)["Instances"] == []
    found = aws.discover_instances(**name, HealthStatus="ALL")
    assert [(each["InstanceId"], each["HealthStatus"]) for each in found["Instances"]] == [("web-1", "UNHEALTHY")]
    assert aws.discover_instances_revision(**name) == {"InstancesRevision": found["InstancesRevision"]}


def service_attributes(aws, service):
    assert aws.update_service_attributes(ServiceId=service, Attributes={"a": "1", "b": "2"}) == {}
    assert aws.delete_service_attributes(ServiceId=service, Attributes=["a"]) == {}
    assert aws.get_service_attributes(ServiceId=service) == {"ServiceAttributes": {
        "ServiceArn": f"{ARN}:service/{service}", "ResourceOwner": ACCOUNT, "Attributes": {"b": "2"}}}


def tags(aws, service):
    arn = f"{ARN}:service/{service}"
    assert aws.tag_resource(ResourceARN=arn, Tags=[{"Key": "stage", "Value": "blue"}]) == {}
    assert aws.untag_resource(ResourceARN=arn, TagKeys=["team"]) == {}
    assert aws.list_tags_for_resource(ResourceARN=arn) == {"Tags": [{"Key": "stage", "Value": "blue"}]}


def removal(aws, service):
    assert aws.done(aws.deregister_instance(ServiceId=service, InstanceId="web-1"),
                    "DEREGISTER_INSTANCE", "INSTANCE") == "web-1"
    assert aws.delete_service(Id=service) == {}
    assert aws.list_services()["Services"] == []


def test_both_protocols_return_equal_data(shared):
    json, cbor = shared.cloudmap("json"), shared.cloudmap("cbor")
    namespace = json.private_namespace()
    service = cbor.service(namespace, A=60)
    json.instance(service, "web-1", ipv4="10.0.0.1")
    for operation, params in (("GetNamespace", {"Id": namespace}), ("GetService", {"Id": service}),
                              ("GetInstance", {"ServiceId": service, "InstanceId": "web-1"})):
        in_json, in_cbor = json.call(operation, params), cbor.call(operation, params)
        for structure in (*in_json.values(), *in_cbor.values()):
            if "CreateDate" in structure:
                structure["CreateDate"] = round(structure["CreateDate"], 3)
        assert in_json == in_cbor


def test_timestamps_carry_milliseconds_of_now(shared, protocol):
    cloudmap = shared.cloudmap(protocol)
    before = datetime.datetime.now().timestamp()
    operation = cloudmap.operation(cloudmap.CreateHttpNamespace(Name=unique("clock"))["OperationId"])
    after = datetime.datetime.now().timestamp()
    assert before - 0.002 <= operation["CreateDate"] <= after + 0.002


def test_members_that_are_absent_are_omitted(shared, protocol):
    cloudmap = shared.cloudmap(protocol)
    namespace = cloudmap.http_namespace()
    service = cloudmap.service(namespace)
    found = cloudmap.GetService(Id=service)["Service"]
    assert not {"Description", "HealthCheckConfig", "HealthCheckCustomConfig"} & set(found)
    assert found["DnsConfig"] == {}
    assert "NextToken" not in cloudmap.ListInstances(ServiceId=service)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_known_in_both_protocols(shared, protocol, operation):
    reply = shared.cloudmap(protocol).reply(operation, {})
    required = model.SERVICE.operation_model(operation).input_shape.required_members
    assert reply.status == (400 if required else 200)
    assert not required or reply.code == "InvalidInput"


def test_botocore_chooses_json_by_default(shared):
    client = boto_client(shared.endpoint)
    assert client.meta.service_model.resolved_protocol == "json"
