"""DNS over TLS, HTTPS and QUIC (RFC 7858, 8484, 9250): with kdig, with dnspython, and by hand where neither does it."""

import base64
import http.client
import re
import shutil
import socket
import ssl
import subprocess

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from harness.deadline import eventually
from harness.dns import framed, read_framed
from harness.server import binary, plain_environment

ZONE = """@ 300 IN SOA ns hostmaster 1 7200 900 1209600 60
@ 300 IN NS ns
ns 300 IN A 192.0.2.53
web 60 IN A 192.0.2.1
web 60 IN AAAA 2001:db8::1
alias 90 IN CNAME web
_http._tcp 120 IN SRV 1 1 80 web
text 30 IN TXT "a" "b"
large 30 IN TXT {large}
"""
TRANSPORTS = {
    "tls": ("dot", ["+tls"]),
    "https": ("doh", ["+https"]),
    "https-get": ("doh", ["+https-get"]),
    "quic": ("doq", []),
}
QUESTIONS = [
    ("web.e.test.", "A"), ("web.e.test.", "AAAA"), ("alias.e.test.", "A"), ("_http._tcp.e.test.", "SRV"),
    ("text.e.test.", "TXT"), ("large.e.test.", "TXT"), ("web.e.test.", "MX"), ("none.e.test.", "A"), ("e.test.", "SOA"),
    ("e.test.", "ANY"), ("elsewhere.test.", "A"),
]


def make_certificate(directory, name):
    """A certificate for localhost that signs itself, and its key."""
    files = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", files[1], "-out", files[0]], check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(directory, name) for name in ("first", "second")}


@pytest.fixture
def encrypted(start, tmp_path, certificates):
    """Starts a server with all encrypted transports. Its certificate is in files of its own."""
    def start_one(*options):
        for source, target in zip(certificates["first"], ("tls.crt", "tls.key")):
            shutil.copy(source, tmp_path / target)
        server = start(
            "--dot", "127.0.0.1:0", "--doh", "127.0.0.1:0", "--doq", "127.0.0.1:0",
            "--tls-certificate", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key", *options)
        large = " ".join(f'"{letter * 250}"' for letter in "abcdefghij")
        (server.zones / "e.test.zone").write_text(ZONE.format(large=large))
        eventually(lambda: server.resolver.addresses("web.e.test.") == {"192.0.2.1"})
        return server
    return start_one


def kdig(server, transport, name, rrtype, *options, ca=None):
    service, flags = TRANSPORTS[transport]
    host, port = server.addresses[service]
    trusted = [f"+tls-ca={ca}", "+tls-hostname=localhost"] if ca else []
    return subprocess.run(
        ["kdig", f"@{host}", "-p", str(port), *flags, *trusted, "+timeout=5", "+retry=0", *options, name, rrtype],
        capture_output=True, text=True)


def over_quic(server, name, rrtype, ca, **options):
    """A reply over QUIC. Many builds of kdig have no QUIC, so that dnspython asks."""
    host, port = server.addresses["doq"]
    query = dns.message.make_query(name, rrtype, **options)
    return dns.query.quic(query, host, 5, port, verify=str(ca), hostname="localhost", one_rr_per_rrset=True)


def outline(text):
    """The parts of kdig's output that a reply decides: status, flags and records."""
    status = re.search(r"status: (\w+);", text)
    flags = re.search(r";; Flags: ([a-z ]*);", text)
    records = [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith(";")]
    return status and status[1], flags and flags[1], sorted(records)


def outline_of(reply):
    """The parts of `outline` of a message."""
    records = [rrset.to_text() for section in (reply.answer, reply.authority, reply.additional) for rrset in section]
    flags = dns.flags.to_text(reply.flags).lower()
    return dns.rcode.to_text(reply.rcode()), flags, sorted(records)


def reply_over(server, transport, name, rrtype, ca):
    if transport == "quic":
        return outline_of(over_quic(server, name, rrtype, ca))
    found = kdig(server, transport, name, rrtype, ca=ca)
    assert found.returncode == 0, found.stdout + found.stderr
    return outline(found.stdout)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_replies_are_those_of_tcp(encrypted, certificates, transport):
    server = encrypted()
    host, port = server.addresses["dns"]
    for name, rrtype in QUESTIONS:
        plain = subprocess.run(
            ["kdig", f"@{host}", "-p", str(port), "+tcp", name, rrtype], capture_output=True, text=True, check=True)
        found = reply_over(server, transport, name, rrtype, certificates["first"][0])
        assert found == outline(plain.stdout), (name, rrtype)
        assert found[0] in ("NOERROR", "NXDOMAIN", "REFUSED")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_identifies_itself(encrypted, certificates, transport):
    server = encrypted("--server-id", "here")
    if transport == "quic":
        nsid = dns.edns.GenericOption(dns.edns.NSID, b"")
        reply = over_quic(
            server, "id.server.", "TXT", certificates["first"][0], rdclass="CH", use_edns=0, options=[nsid])
        assert '"here"' in reply.answer[0].to_text()
        assert [option.otype for option in reply.options] == [dns.edns.NSID]
        return
    answer = kdig(server, transport, "id.server.", "TXT", "-c", "CH", "+nsid", ca=certificates["first"][0]).stdout
    assert '"here"' in answer, answer
    assert "NSID" in answer, answer


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_unknown_authority_is_noticed_by_the_client(encrypted, certificates, transport, caplog):
    server = encrypted()
    if transport == "quic":
        with pytest.raises(Exception):
            over_quic(server, "web.e.test.", "A", certificates["second"][0])
        assert "certificate" in caplog.text
        return
    refused = kdig(server, transport, "web.e.test.", "A", ca=certificates["second"][0])
    assert "192.0.2.1" not in refused.stdout


def trusting(*files):
    context = ssl.create_default_context()
    for certificate, _ in files:
        context.load_verify_locations(certificate)
    return context


def connect(server, service, context, protocols=()):
    if protocols:
        context.set_alpn_protocols(list(protocols))
    stream = socket.create_connection(server.addresses[service], timeout=10)
    return context.wrap_socket(stream, server_hostname="localhost")


def ask(stream, name="web.e.test.", rrtype="A", **options):
    stream.sendall(framed(dns.message.make_query(name, rrtype, **options).to_wire()))
    return dns.message.from_wire(read_framed(stream))


def common_name(stream):
    subject = dict(pair for part in stream.getpeercert()["subject"] for pair in part)
    return subject["commonName"]


def test_a_renewed_certificate_serves_new_connections_and_breaks_no_old_one(encrypted, certificates, tmp_path):
    server = encrypted()
    context = trusting(*certificates.values())
    old = connect(server, "dot", context)
    assert common_name(old) == "first"
    assert ask(old).rcode() == dns.rcode.NOERROR

    # The certificate is there before its key: until then the old pair stays in use.
    mark = server.log_mark()
    shutil.copy(certificates["second"][0], tmp_path / "tls.crt")
    server.wait_for_log(lambda line, _: "last good TLS certificate" in line, since=mark)
    with connect(server, "dot", context) as between:
        assert common_name(between) == "first"
    shutil.copy(certificates["second"][1], tmp_path / "tls.key")

    def renewed():
        for service in ("dot", "doh"):
            with connect(server, service, context) as new:
                assert common_name(new) == "second"
        return True
    eventually(renewed)
    assert over_quic(server, "web.e.test.", "A", certificates["second"][0]).answer
    assert ask(old).rcode() == dns.rcode.NOERROR
    old.close()


def test_a_connection_takes_many_queries_and_transfers(encrypted, certificates):
    server = encrypted()
    with connect(server, "dot", trusting(certificates["first"]), ["dot"]) as stream:
        assert stream.selected_alpn_protocol() == "dot"
        queries = [dns.message.make_query("large.e.test.", "TXT", use_edns=0) for _ in range(200)]
        stream.sendall(b"".join(framed(query.to_wire()) for query in queries))
        for query in queries:
            reply = dns.message.from_wire(read_framed(stream))
            assert reply.id == query.id and len(reply.answer) == 1
        stream.sendall(framed(dns.message.make_query("e.test.", "AXFR").to_wire()))
        transferred = dns.message.from_wire(read_framed(stream), one_rr_per_rrset=True)
        assert len(transferred.answer) > 8
        keepalive = ask(stream, options=[dns.edns.GenericOption(11, b"")], use_edns=0)
        assert [option.otype for option in keepalive.options] == [11]


def test_replies_are_padded_for_clients_that_pad(encrypted, certificates):
    server = encrypted()
    for transport in ("tls", "https"):
        answer = kdig(server, transport, "web.e.test.", "A", "+padding", ca=certificates["first"][0]).stdout
        received = int(re.search(r";; Received (\d+) B", answer)[1])
        assert received % 468 == 0, answer
        plain = kdig(server, transport, "web.e.test.", "A", "+nopadding", ca=certificates["first"][0]).stdout
        assert int(re.search(r";; Received (\d+) B", plain)[1]) < 100, plain


def test_connections_have_the_limits_of_tcp(encrypted, certificates):
    server = encrypted("--tcp-connections-max", "3", "--tcp-idle-timeout-ms", "60000")
    context = trusting(certificates["first"])
    streams = []
    for _ in range(3):
        streams.append(connect(server, "dot", context))
        ask(streams[-1])
    # The longest idle connection is closed for a new one, whichever transport that uses.
    with connect(server, "doh", context):
        assert streams[0].recv(1) == b""
        assert ask(streams[2]).rcode() == dns.rcode.NOERROR


def test_idle_connections_are_closed(encrypted, certificates):
    server = encrypted("--tcp-idle-timeout-ms", "300")
    context = trusting(certificates["first"])
    for service, protocols in (("dot", ["dot"]), ("doh", ["http/1.1"]), ("doh", ["h2"])):
        with connect(server, service, context, protocols) as stream:
            while stream.recv(4096):
                pass


def test_a_client_without_tls_is_closed(encrypted):
    server = encrypted()
    for service in ("dot", "doh"):
        with socket.create_connection(server.addresses[service], timeout=10) as stream:
            stream.sendall(framed(dns.message.make_query("web.e.test.", "A").to_wire()))
            received = stream.recv(4096)
            # An alert perhaps, but no reply.
            assert not received or received[0] == 21, received


@pytest.fixture
def https(encrypted, certificates):
    server = encrypted()

    def request(method, path, body=None, **headers):
        host, port = server.addresses["doh"]
        connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=trusting(certificates["first"]))
        connection.sock = connect(server, "doh", trusting(certificates["first"]), ["http/1.1"])
        connection.request(method, path, body, headers={name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response, content
    return request


def wire(name, rrtype):
    return dns.message.make_query(name, rrtype, id=0).to_wire()


def in_base64url(query):
    return base64.urlsafe_b64encode(query).decode().rstrip("=")


@pytest.mark.parametrize("name, rrtype, seconds", [
    ("web.e.test.", "A", 60), ("alias.e.test.", "A", 60), ("none.e.test.", "A", 60), ("_http._tcp.e.test.", "SRV", 120),
    ("elsewhere.test.", "A", 0),
])
def test_replies_may_be_cached_for_as_long_as_their_records(https, name, rrtype, seconds):
    query = wire(name, rrtype)
    for response, content in (
            https("GET", f"/dns-query?dns={in_base64url(query)}"),
            https("POST", "/dns-query", query, Content_Type="application/dns-message")):
        assert (response.status, response.headers["content-type"]) == (200, "application/dns-message")
        assert response.headers["cache-control"] == f"max-age={seconds}"
        assert dns.message.from_wire(content).question == dns.message.from_wire(query).question


@pytest.mark.parametrize("status, method, path, body, headers", [
    (404, "GET", "/", None, {}),
    (404, "POST", "/dns-queries", b"x", {"Content_Type": "application/dns-message"}),
    (405, "PUT", "/dns-query", b"x", {}),
    (400, "GET", "/dns-query", None, {}),
    (400, "GET", "/dns-query?dns=!!", None, {}),
    (400, "GET", "/dns-query?dns=AAA", None, {}),
    (400, "POST", "/dns-query", b"\x00" * 11, {"Content_Type": "application/dns-message"}),
    (415, "POST", "/dns-query", b"\x00" * 12, {"Content_Type": "application/json"}),
    (415, "POST", "/dns-query", b"\x00" * 12, {}),
    (413, "POST", "/dns-query", b"\x00" * 65536, {"Content_Type": "application/dns-message"}),
])
def test_requests_that_are_no_queries_are_refused(https, status, method, path, body, headers):
    response, content = https(method, path, body, **headers)
    assert response.status == status, content
    assert content, "a text says what is wrong"
    if status == 405:
        assert response.headers["allow"] == "GET, POST"


def test_a_format_error_is_a_reply(https):
    query = wire("web.e.test.", "A")[:-2]
    response, content = https("POST", "/dns-query", query, Content_Type="application/dns-message; charset=utf-8")
    assert response.status == 200
    assert content[3] & 15 == dns.rcode.FORMERR


def test_queries_are_counted_by_transport(encrypted, certificates):
    server = encrypted()
    ca = certificates["first"][0]
    for transport in ("tls", "https", "quic"):
        reply_over(server, transport, "web.e.test.", "A", ca)
    for transport in ("tls", "https", "quic"):
        assert server.metric("dns_queries_total", transport=transport) == 1


def program_error(tmp_path, *options):
    """The text with which the program ends, because its settings can't be used."""
    done = subprocess.run(
        [binary(), "--dns", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", "memory",
         *map(str, options)],
        cwd=tmp_path, env=plain_environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    return done.stderr


def test_wrong_settings_say_what_is_wrong(tmp_path, certificates):
    (first, first_key), (_, second_key) = certificates["first"], certificates["second"]
    dot = ["--dot", "127.0.0.1:0"]
    assert "--dot needs a certificate" in program_error(tmp_path, *dot)
    assert "--dot needs a certificate" in program_error(tmp_path, *dot, "--tls-certificate", first)
    absent = program_error(tmp_path, *dot, "--tls-certificate", tmp_path / "absent", "--tls-key", first_key)
    assert "absent" in absent and "No such file" in absent
    swapped = program_error(tmp_path, *dot, "--tls-certificate", first_key, "--tls-key", first)
    assert "expected a certificate in PEM form" in swapped
    other = program_error(tmp_path, *dot, "--tls-certificate", first, "--tls-key", second_key)
    assert "does not fit" in other
