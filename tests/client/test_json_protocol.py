"""awsJson1.1 in raw requests: unusual but legal requests, and errors for broken ones."""

import json

import pytest

from harness.cloudmap import unique
from harness.wire import Connection, JSON_TYPE, target

NO_SERVICE = "srv-aaaaaaaaaaaaaaaa"


@pytest.fixture
def api(shared):
    return Connection(shared.api_address)


def assert_error(reply, code, status=400):
    assert (reply.status, reply.code) == (status, code), (reply.status, reply.body[:500])
    assert reply.headers["Content-Type"].startswith(JSON_TYPE)
    assert reply.headers["x-amzn-RequestId"]
    assert reply.headers["X-Amzn-ErrorType"].partition(":")[0] == code


def test_a_missing_body_is_an_empty_input(api):
    reply = api.json_bytes("ListNamespaces", b"")
    assert reply.status == 200 and "Namespaces" in reply.json()


@pytest.mark.parametrize("content_type", [
    "application/x-amz-json-1.1; charset=utf-8", "application/x-amz-json-1.1;charset=UTF-8",
    "application/x-amz-json-1.0", "application/json", "text/plain"])
def test_the_content_type_does_not_matter(api, content_type):
    assert api.json("ListNamespaces", **{"Content_Type": content_type}).status == 200


@pytest.mark.parametrize("path", ["/", "/x", "/x/y/z", "/x?query=1", "/service", "//"])
def test_any_path_is_accepted(api, path):
    assert api.json_bytes("ListNamespaces", b"{}", path=path).status == 200


@pytest.mark.parametrize("host", ["data-localhost", "data-cloudmap.kube-system.svc.cluster.local:5301",
                                  "servicediscovery.eu-west-1.amazonaws.com", "[::1]:5301"])
def test_any_host_is_accepted(api, host):
    reply = api.json("DiscoverInstancesRevision", {"NamespaceName": "nope", "ServiceName": "nope"}, Host=host)
    assert_error(reply, "NamespaceNotFound")


def test_any_signature_is_accepted(api):
    scope = "Credential=AK/20261120/ap-southeast-2/servicediscovery/aws4_request"
    reply = api.json("ListNamespaces", Authorization=f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=00",
                     X_Amz_Security_Token="token", X_Amz_Date="20261120T114500Z", x_amz_content_sha256="0" * 64)
    assert reply.status == 200


@pytest.mark.parametrize("encoding", ["identity", "gzip, deflate", "br;q=1.0, *;q=0.5"])
def test_any_accept_encoding_is_accepted(api, encoding):
    reply = api.json("ListNamespaces", Accept_Encoding=encoding)
    assert reply.status == 200 and "Content-Encoding" not in reply.headers


@pytest.mark.parametrize("wrong", [
    "Route53AutoNaming_v20170314.NoSuchOperation", "Route53AutoNaming_v20170314.listnamespaces",
    "Route53AutoNaming_v20170314.", "Route53AutoNaming_v20170314", "Route53AutoNaming_v20990101.ListNamespaces",
    "DynamoDB_20120810.ListTables", ""])
def test_an_unknown_target_is_an_unknown_operation(api, wrong):
    reply = api.json("ListNamespaces", X_Amz_Target=wrong)
    assert_error(reply, "UnknownOperationException")


def test_a_missing_target_is_an_unknown_operation(api):
    reply = api.request("POST", "/", b"{}", {"Content-Type": JSON_TYPE})
    assert_error(reply, "UnknownOperationException")


def test_header_names_are_case_insensitive(api):
    reply = api.request("POST", "/", b"{}", {"CONTENT-TYPE": JSON_TYPE, "x-AMZ-tArGeT": target("ListNamespaces")})
    assert reply.status == 200


@pytest.mark.parametrize("body", [
    b"{", b"}", b"not json", b'{"MaxResults": }', b'{"MaxResults": 1} x', b'{"MaxResults": 1,}', b"[]", b'"text"', b"5",
    b"true", b'{"NextToken": "\xff\xfe"}', b'{"NextToken": "\\ud800"}', b'{"NextToken": "a\nb"}', b"\x00", b"{'a': 1}",
    b'{"MaxResults": 01}', b'{"MaxResults": NaN}', b'{"a": 1'], ids=repr)
def test_a_body_that_is_not_a_json_object_is_a_serialization_error(api, body):
    assert_error(api.json_bytes("ListNamespaces", body), "SerializationException")


@pytest.mark.parametrize("operation, params", [
    ("GetNamespace", {"Id": 5}),
    ("GetNamespace", {"Id": ["ns-1"]}),
    ("GetNamespace", {"Id": {"Id": "ns-1"}}),
    ("GetNamespace", {"Id": True}),
    ("ListNamespaces", {"MaxResults": "10"}),
    ("ListNamespaces", {"MaxResults": 10.5}),
    ("ListNamespaces", {"MaxResults": True}),
    ("ListNamespaces", {"MaxResults": 2**70}),
    ("ListNamespaces", {"Filters": {"Name": "NAME"}}),
    ("ListNamespaces", {"Filters": ["NAME"]}),
    ("ListNamespaces", {"Filters": [{"Name": "NAME", "Values": "value"}]}),
    ("RegisterInstance", {"ServiceId": NO_SERVICE, "InstanceId": "i", "Attributes": {"AWS_INSTANCE_PORT": 80}}),
    ("RegisterInstance", {"ServiceId": NO_SERVICE, "InstanceId": "i", "Attributes": ["AWS_INSTANCE_PORT"]}),
    ("CreateService", {"Name": "s", "DnsConfig": "A"}),
    ("CreateService", {"Name": "s", "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": "60"}]}}),
    ("TagResource", {"ResourceARN": "arn", "Tags": {"a": "b"}}),
], ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value)
def test_a_value_of_the_wrong_type_is_a_serialization_error(api, operation, params):
    assert_error(api.json(operation, params), "SerializationException")


def test_unknown_members_are_ignored(api):
    params = {"MaxResults": 1, "Future": {"deep": [1, 2.5, None, True, {"x": "y"}]}, "maxResults": "text",
              "Filters": [{"Name": "NAME", "Values": ["a"], "Future": 1}]}
    assert api.json("ListNamespaces", params).status == 200


def test_null_means_absent(api):
    assert api.json("ListNamespaces", {"MaxResults": None, "Filters": None, "NextToken": None}).status == 200
    reply = api.json("GetNamespace", {"Id": None})
    assert_error(reply, "InvalidInput")
    assert reply.message.startswith("1 validation error detected: Value null at 'id'")


def test_white_space_and_escapes_are_read(api, shared):
    name = unique("escaped")
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
    assert api.json_bytes("CreateHttpNamespace", f' \r\n\t{{ "Name" :\n"{escaped}" }} \n'.encode()).status == 200
    found = shared.cloudmap().ListNamespaces(Filters=[{"Name": "NAME", "Values": [name]}])
    assert [namespace["Name"] for namespace in found["Namespaces"]] == [name]


def test_text_beyond_ascii_comes_back_unchanged(shared, protocol):
    cloudmap = shared.cloudmap(protocol)
    description = "Grüße, 世界 \U0001f600 \"quoted\" \\ \u2028"
    namespace = cloudmap.http_namespace(Description=description)
    assert cloudmap.GetNamespace(Id=namespace)["Namespace"]["Description"] == description


@pytest.mark.parametrize("depth", [200, 50_000])
@pytest.mark.parametrize("around", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_deep_nesting_is_refused(api, depth, around):
    opening, closing = around
    body = b'{"Future": ' + opening * depth + b"1" + closing * depth + b"}"
    assert_error(api.json_bytes("ListNamespaces", body), "SerializationException")


def test_operations_without_output_answer_an_empty_object(shared):
    cloudmap = shared.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace(), A=60, custom_health=True)
    cloudmap.instance(service, "web-1", ipv4="10.0.0.1")
    reply = cloudmap.reply("UpdateInstanceCustomHealthStatus",
                           {"ServiceId": service, "InstanceId": "web-1", "Status": "HEALTHY"})
    assert reply.body == b"{}"


def test_request_ids_differ(api):
    ids = {api.json("ListNamespaces").headers["x-amzn-RequestId"] for _ in range(5)}
    assert len(ids) == 5
