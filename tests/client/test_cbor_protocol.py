"""Smithy RPC v2 CBOR in raw requests: all forms of encoding, and errors for broken bytes."""

import struct

import cbor2
import pytest

from harness.wire import CBOR_TYPE, Connection, cbor_headers, cbor_path

BREAK = b"\xff"


@pytest.fixture
def api(shared):
    return Connection(shared.api_address)


def text(value):
    return cbor2.dumps(value)


def pairs(*members):
    """A definite-length map of encoded members."""
    return bytes([0xA0 + len(members) // 2]) + b"".join(members)


def assert_error(reply, code, status=400):
    assert (reply.status, reply.code) == (status, code), (reply.status, reply.body[:500])
    assert reply.headers["Content-Type"] == CBOR_TYPE
    assert reply.headers["smithy-protocol"] == "rpc-v2-cbor"
    assert reply.headers["x-amzn-RequestId"]


def test_request_without_body_and_content_type_is_an_empty_input(api):
    reply = api.request("POST", cbor_path("ListNamespaces"), b"", {"smithy-protocol": "rpc-v2-cbor"})
    assert reply.status == 200 and "Namespaces" in reply.cbor()


def test_the_path_alone_selects_cbor(api):
    reply = api.request("POST", cbor_path("ListNamespaces"), cbor2.dumps({}), {})
    assert reply.status == 200 and reply.headers["Content-Type"] == CBOR_TYPE


def test_a_path_before_the_operation_is_accepted(api):
    reply = api.request("POST", f"/x{cbor_path('ListNamespaces')}", cbor2.dumps({}), cbor_headers())
    assert reply.status == 200 and "Namespaces" in reply.cbor()


def test_an_unknown_operation_is_refused_in_cbor(api):
    for path in (cbor_path("NoSuchOperation"), "/service/DynamoDB_20120810/operation/ListTables"):
        reply = api.request("POST", path, cbor2.dumps({}), cbor_headers())
        assert reply.status in (400, 404)
        assert_error(reply, "UnknownOperationException", reply.status)


def test_another_service_s_operation_of_a_known_name_is_refused(api):
    path = cbor_path("ListNamespaces")
    other = path.replace("Route53AutoNaming_v20170314", "DynamoDB_20120810")
    assert other != path
    reply = api.request("POST", other, cbor2.dumps({}), cbor_headers())
    assert_error(reply, "UnknownOperationException")


@pytest.mark.parametrize("body", [
    b"\xbf" + text("MaxResults") + b"\x05" + BREAK,
    b"\xbf" + b"\x7f" + text("Max") + text("Results") + BREAK + b"\x05" + BREAK,
    pairs(text("Filters"), b"\x9f" + b"\xbf" + text("Name") + text("NAME") + text("Values") + b"\x9f" + text("x") + BREAK
          + BREAK + BREAK),
    pairs(text("NextToken"), b"\xf6"),
    pairs(text("NextToken"), b"\xf7"),
    b"\xbf" + BREAK,
    b"\xb8\x01" + text("MaxResults") + b"\x18\x05",
    b"\xbb" + struct.pack("!Q", 1) + text("MaxResults") + b"\x1b" + struct.pack("!Q", 5),
    b"\xb9\x00\x01" + b"\x78\x0aMaxResults" + b"\x1a\x00\x00\x00\x05",
], ids=["indefinite map", "indefinite key", "indefinite list", "null", "undefined", "empty indefinite map",
        "long map head", "longest heads", "middle heads"])
def test_every_form_of_encoding_is_read(api, body):
    reply = api.cbor_bytes("ListNamespaces", body)
    assert reply.status == 200, reply.data()


def test_an_indefinite_length_text_is_joined(api):
    body = pairs(text("Id"), b"\x7f" + text("ns-aaaa") + text("aaaaaaaaaaaa") + BREAK)
    assert_error(api.cbor_bytes("GetNamespace", body), "NamespaceNotFound", 404)


@pytest.mark.parametrize("value", [
    b"\xf9\x3c\x00", b"\xfa\x3f\x80\x00\x00", b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00", b"\xf9\x7e\x00", b"\xf9\x7c\x00",
    b"\xc1\x1a\x5f\x00\x00\x00", b"\xc1\xf9\x3c\x00", b"\xc2\x49" + b"\x01" * 9, b"\x44\x00\x01\x02\x03",
    b"\x5f\x41\x00\x41\x01\xff", b"\x3b" + b"\xff" * 8, b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xf8\xff", b"\xe0",
    b"\xd9\xd9\xf7\xa0", b"\x82\x01\x9f\xff", b"\xa1\x61a\x02"], ids=lambda value: value.hex())
def test_unknown_members_of_any_type_are_ignored(api, value):
    reply = api.cbor_bytes("ListNamespaces", pairs(text("Future"), value, text("MaxResults"), b"\x05"))
    assert reply.status == 200, reply.data()


def test_whole_numbers_in_floats_are_numbers_or_refused(api):
    for value in (b"\xf9\x45\x00", b"\xfa\x40\xa0\x00\x00", b"\xfb" + struct.pack("!d", 5.0)):
        assert api.cbor_bytes("ListNamespaces", pairs(text("MaxResults"), value)).status in (200, 400)


@pytest.mark.parametrize("body", [
    b"\xa1", b"\xa1\x62Id", b"\xa1\x62I", b"\xbf", b"\xbf\x62Id", b"\xff", b"\x80", b"\x01", b"\x62Id", b"\xf6\x00",
    b"\xa0\x00", b"\x1c", b"\xa1\x62Id\x1d", b"\xa1\x62Id\x62\xff\xfe", b"\xa1\x62Id\x42ns", b"\xa1\x62Id\x05",
    b"\xa1\x62Id\x81\x62ns", b"\xa1\x62Id\xff", b"\xa1\x01\x02\x03", b"\xa1\x62Id\x7f\x41\x00\xff", b'{"Id":"ns"}',
    b"\xa1\x62Id\xf9\x3c", b"\xa1\x62Id\xfb\x00"], ids=lambda body: body.hex())
def test_broken_bytes_are_a_serialization_error(api, body):
    assert_error(api.cbor_bytes("GetNamespace", body), "SerializationException")


@pytest.mark.parametrize("cut", [1, 5, 20, 50, -1])
def test_a_truncated_body_is_a_serialization_error(api, cut):
    whole = cbor2.dumps({"ServiceId": "srv-aaaaaaaaaaaaaaaa", "InstanceId": "web-1",
                         "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1"}})
    assert_error(api.cbor_bytes("RegisterInstance", whole[:cut]), "SerializationException")


def peak_memory_bytes(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_huge_declared_lengths_cost_nothing(shared, api):
    before = peak_memory_bytes(shared)
    for length in (b"\x1a\x7f\xff\xff\xff", b"\x1b\x00\x00\x00\xff\xff\xff\xff\xff", b"\x1b" + b"\xff" * 8):
        for major in (2, 3, 4, 5):
            head = bytes([major << 5 | length[0] & 0x1F]) + length[1:]
            for body in (head, pairs(text("Future"), head), pairs(text("Id"), head), pairs(text("Id"), b"\x9f" + head)):
                assert_error(api.cbor_bytes("GetNamespace", body), "SerializationException")
    assert peak_memory_bytes(shared) - before < 64 * 1024 * 1024


@pytest.mark.parametrize("depth", [200, 50_000])
@pytest.mark.parametrize("opening", [b"\x81", b"\x9f", b"\xa1\x61a", b"\xbf\x61a", b"\xc1"],
                         ids=["lists", "open lists", "maps", "open maps", "tags"])
def test_deep_nesting_is_refused(api, opening, depth):
    closing = BREAK * depth if opening[0] in (0x9F, 0xBF) else b""
    body = pairs(text("Future"), opening * depth + b"\x01" + closing)
    assert_error(api.cbor_bytes("ListNamespaces", body), "SerializationException")


def test_errors_carry_their_type_in_the_body(api):
    reply = api.cbor("GetNamespace", {"Id": "ns-aaaaaaaaaaaaaaaa"})
    assert_error(reply, "NamespaceNotFound", 404)
    assert reply.cbor()["__type"] in ("NamespaceNotFound", "com.amazonaws.servicediscovery#NamespaceNotFound")
    assert reply.message == "Namespace not found"


def test_operations_without_output_answer_an_empty_map_or_nothing(shared):
    cloudmap = shared.cloudmap("cbor")
    service = cloudmap.service(cloudmap.private_namespace(), A=60, custom_health=True)
    cloudmap.instance(service, "web-1", ipv4="10.0.0.1")
    reply = cloudmap.reply("UpdateInstanceCustomHealthStatus",
                           {"ServiceId": service, "InstanceId": "web-1", "Status": "HEALTHY"})
    assert reply.body in (b"", b"\xa0", b"\xbf\xff")
