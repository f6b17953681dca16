"""HTTP of the API: methods, limits of size and time, and many requests on one connection."""

import json
import socket
import time

import pytest

from harness.deadline import eventually
from harness.wire import Connection, json_headers, target

BODY_BYTES_MAX = 1_048_576


def exchange(address, data, seconds=10):
    """Sends raw bytes and returns the response, up to the end of the connection or a timeout."""
    with socket.create_connection(address, seconds) as stream:
        try:
            stream.sendall(data)
        except OSError:
            pass
        received = b""
        try:
            while b"\r\n\r\n" not in received:
                more = stream.recv(65536)
                if not more:
                    break
                received += more
        except ConnectionResetError:
            pass
        return received


def status_of(response):
    assert response.startswith(b"HTTP/1.1 "), response[:100]
    return int(response.split()[1])


def head(operation, **headers):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST / HTTP/1.1", "Host: x", f"X-Amz-Target: {target(operation)}", *lines, "", ""]).encode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_get_a_client_error(shared, method):
    reply = Connection(shared.api_address).request(method, "/", b"", {})
    assert 400 <= reply.status < 500


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(shared):
    response = exchange(shared.api_address, head("ListNamespaces", Content_Length=BODY_BYTES_MAX + 1))
    assert status_of(response) in (400, 413)


def test_a_chunked_body_over_the_limit_is_refused(shared):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    response = exchange(shared.api_address, head("ListNamespaces", Transfer_Encoding="chunked") + chunk * 32 + b"0\r\n\r\n")
    assert response == b"" or status_of(response) in (400, 413)
    assert shared.cloudmap().ListNamespaces()["Namespaces"] == []


def test_a_body_at_the_limit_is_read(shared):
    padding = BODY_BYTES_MAX - len(b'{"Future":""}')
    reply = Connection(shared.api_address).json_bytes("ListNamespaces", b'{"Future":"' + b"x" * padding + b'"}')
    assert reply.status == 200


def test_the_body_limit_is_a_setting(start):
    server = start("--api-body-bytes-max", "2048")
    connection = Connection(server.api_address)
    assert connection.json_bytes("ListNamespaces", b"{}" + b" " * 2046).status == 200
    assert connection.json_bytes("ListNamespaces", b"{}" + b" " * 2047).status in (400, 413)


def test_a_chunked_body_is_read(shared):
    response = exchange(shared.api_address, head("ListNamespaces", Transfer_Encoding="chunked", Connection="close")
                        + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
    assert status_of(response) == 200


def test_endless_headers_are_refused(shared):
    response = exchange(shared.api_address, head("ListNamespaces", X_Long="x" * 2_000_000))
    assert response == b"" or 400 <= status_of(response) < 500


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00", b"GARBAGE\r\n\r\n", b"\r\n" * 50])
def test_requests_that_are_not_http_are_refused(shared, garbage):
    with socket.create_connection(shared.api_address, 10) as stream:
        stream.sendall(garbage)
        stream.shutdown(socket.SHUT_WR)
        response = stream.recv(65536)
    assert response == b"" or 400 <= status_of(response) < 500


def test_a_request_that_never_ends_times_out(start):
    server = start("--api-request-timeout-ms", "300")
    began = time.monotonic()
    response = exchange(server.api_address, head("ListNamespaces", Content_Length=10) + b"{", seconds=15)
    assert response == b"" or status_of(response) in (400, 408)
    assert time.monotonic() - began < 10


def test_many_requests_go_over_one_connection(shared):
    connection = Connection(shared.api_address)
    for _ in range(200):
        assert connection.request_once("POST", "/", b"{}", json_headers("ListNamespaces")).status == 200


def test_pipelined_requests_are_answered_in_order(shared):
    one = head("GetNamespace", Content_Length=2) + b"{}"
    last = head("ListNamespaces", Content_Length=2, Connection="close") + b"{}"
    with socket.create_connection(shared.api_address, 10) as stream:
        stream.sendall(one + one + last)
        received = b""
        while more := stream.recv(65536):
            received += more
    assert [int(part.split()[0]) for part in received.split(b"HTTP/1.1 ")[1:]] == [400, 400, 200]


def test_admin_port_has_liveness_and_readiness(shared):
    def get(path):
        connection = Connection(shared.addresses["admin"])
        return connection.request("GET", path)

    assert get("/livez").status == 200
    eventually(lambda: get("/readyz").status == 200)
    metrics = get("/metrics")
    assert metrics.status == 200 and b"# TYPE " in metrics.body
    assert get("/no-such-page").status == 404


def test_the_admin_port_does_not_serve_the_api(shared):
    reply = Connection(shared.addresses["admin"]).request("POST", "/", json.dumps({}), json_headers("ListNamespaces"))
    assert 400 <= reply.status < 500
