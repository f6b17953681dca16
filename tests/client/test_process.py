"""The process: invalid settings, ports in use, the log of the start, and the shutdown."""

import socket
import subprocess
import time

import pytest

from harness.deadline import eventually
from harness.dns import framed, read_framed
from harness.server import binary, plain_environment
from harness.wire import Connection, json_headers


def failed_start(server):
    server.launch()
    code = server.wait()
    assert code not in (0, 101), server.log_tail()
    return server.log_tail()


@pytest.mark.parametrize("options, words", [
    (("--no-such-flag", "1"), ["--no-such-flag"]),
    (("--validation", "lax"), ["--validation", "lenient", "strict"]),
    (("--store", "cloud"), ["--store", "embedded", "memory"]),
    (("--dns", "localhost"), ["--dns", "localhost"]),
    (("--api", "127.0.0.1:99999"), ["--api", "99999"]),
    (("--negative-ttl", "2147483648"), ["--negative-ttl", "2147483647"]),
    (("--account-id", "12"), ["--account-id", "12 digits"]),
    (("--fail-open", "perhaps"), ["--fail-open", "true"]),
    (("--config", "missing.toml"), ["missing.toml"]),
])
def test_invalid_settings_end_the_start_with_the_valid_values(start, options, words):
    said = failed_start(start(*options, wait=False))
    assert all(word in said for word in words), said


def test_invalid_variables_and_files_are_reported_with_their_name_and_line(start, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text('store = "memory"\n\nunknwon = 1\n', encoding="utf-8")
    said = failed_start(start("--config", config, wait=False))
    assert "settings.toml:3:" in said and "unknwon" in said
    done = subprocess.run([binary(), "serve"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          env=plain_environment(tmp_path) | {"CLOUDMAP_DNS_STORE": "cloud"}, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and "CLOUDMAP_DNS_STORE" in done.stderr


def test_flags_override_files(start, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text('region = "eu-west-1"\naccount-id = "111111111111"\n', encoding="utf-8")
    cloudmap = start("--config", config, "--region", "us-west-2").cloudmap()
    arn = cloudmap.GetNamespace(Id=cloudmap.http_namespace())["Namespace"]["Arn"]
    assert arn.startswith("arn:aws:servicediscovery:us-west-2:111111111111:namespace/")


@pytest.mark.parametrize("flag", ["--dns", "--api", "--admin"])
def test_a_port_in_use_is_reported_with_a_remedy(start, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = failed_start(start(flag, address, wait=False))
    assert address in said and flag in said, said


def test_several_dns_addresses_are_served(start):
    server = start("--dns", "127.0.0.1:0", "--dns", "127.0.0.2:0", "--dns", "[::1]:0")
    listening = [fields["address"] for _, fields in server.log
                 if fields.get("message") == "listening" and fields["service"] == "dns"]
    hosts = {address.rpartition(":")[0].strip("[]") for address in listening}
    assert hosts == {"127.0.0.1", "127.0.0.2", "::1"}
    for address in set(listening):
        host, _, port = address.rpartition(":")
        for transport in ("+notcp", "+tcp"):
            asked = subprocess.run(["dig", "+norec", transport, "+time=5", "+tries=1", f"@{host.strip('[]')}", "-p", port,
                                    "-q", "www.example.com"], capture_output=True, text=True, timeout=60)
            assert "status: REFUSED" in asked.stdout, asked.stdout


def test_udp_and_tcp_share_their_port(shared):
    shared.dig("www.example.com", "A", "+notcp").assert_refused()
    shared.dig("www.example.com", "A", "+tcp").assert_refused()


def test_a_shutdown_is_quick_and_keeps_acknowledged_changes(server):
    cloudmap = server.cloudmap()
    namespace = cloudmap.http_namespace()
    idle = [socket.create_connection(address) for address in (server.api_address, server.dns_address)]
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5, "idle connections don't hold it up"
    for stream in idle:
        stream.close()
    server.start()
    assert server.cloudmap().GetNamespace(Id=namespace)


def test_the_log_of_the_start_has_no_warning(server):
    """Every line is JSON, none is a warning, and `ready` is the last line of the start."""
    messages = [fields.get("message") for _, fields in server.log]
    assert all(fields for _, fields in server.log), server.log_tail()
    assert not any('"WARN"' in line or '"ERROR"' in line for line, _ in server.log), server.log_tail()
    assert messages.index("ready") == len(messages) - 1


def test_many_clients_at_once_are_served(shared):
    """Fifty clients send requests on a connection each."""
    connections = [Connection(shared.api_address) for _ in range(50)]
    for _ in range(3):
        assert all(each.request("POST", "/", b"{}", json_headers("ListNamespaces")).status == 200
                   for each in connections)


def test_a_client_that_disconnects_does_not_affect_the_server(shared):
    for _ in range(200):
        with socket.create_connection(shared.api_address) as stream:
            stream.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        with shared.resolver.tcp_socket() as stream:
            stream.sendall(b"\x00\x50half a message")
    eventually(lambda: shared.cloudmap().ListNamespaces() is not None)
    with shared.resolver.tcp_socket() as stream:
        stream.sendall(framed(b"\x12\x34" + b"\x00\x00\x00\x01" + b"\x00" * 6 + b"\x00\x00\x02\x00\x01"))
        assert read_framed(stream)[:2] == b"\x12\x34"
