"""DNS cookies (RFC 7873) that any server with the secret can check (RFC 9018). The tests compute the hash independently."""

import ipaddress
import struct
import time

import pytest

from harness.packet import COOKIE, FORMERR, NOERROR, QUERY, REFUSED, Client, message, name, opt, option, question, record

WEB = "web.svc.local."
CLIENT_COOKIE = bytes.fromhex("2464c4abcf10c957")
SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OLD_SECRET = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715")
LOOPBACK = "127.0.0.1"
# RFC 9018 section 4.3: older cookies are renewed, then refused; cookies from the future are due to a wrong clock.
RENEWED_AFTER_SECONDS, EXPIRED_AFTER_SECONDS, AHEAD_SECONDS = 30 * 60, 60 * 60, 5 * 60


def siphash_2_4(key, data):
    """SipHash-2-4 (Aumasson and Bernstein) with 64 bits of output, as octets."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack("<2Q", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(word, bits):
        return (word << bits | word >> 64 - bits) & mask

    def rounds(count):
        for _ in range(count):
            v[0] = v[0] + v[1] & mask
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = v[2] + v[3] & mask
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = v[0] + v[3] & mask
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = v[2] + v[1] & mask
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    padded = data + b"\x00" * (7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return struct.pack("<Q", v[0] ^ v[1] ^ v[2] ^ v[3])


def server_cookie(secret, client_cookie, address, seconds, version=1, reserved=b"\x00\x00\x00"):
    """A server cookie of 16 octets (RFC 9018 section 4)."""
    head = bytes([version]) + reserved + struct.pack("!I", seconds & 0xFFFFFFFF)
    return head + siphash_2_4(secret, client_cookie + head + ipaddress.ip_address(address).packed)


def whole(secret, client_cookie=CLIENT_COOKIE, address=LOOPBACK, age=0, **more):
    """A client cookie and a server cookie that was made `age` seconds ago."""
    return client_cookie + server_cookie(secret, client_cookie, address, int(time.time()) - age, **more)


def edns(cookie, **more):
    return opt(option(COOKIE, cookie), **more)


def is_of(secret, cookie, address=LOOPBACK, client_cookie=CLIENT_COOKIE):
    """True if these 24 octets are a cookie by this secret, from within a minute of now."""
    made, = struct.unpack_from("!I", cookie, 12)
    return (cookie == client_cookie + server_cookie(secret, client_cookie, address, made)) and abs(made - time.time()) < 60


# Checks of the hash above: RFC 9018 appendix A, and the first vectors of SipHash's reference implementation.
@pytest.mark.parametrize("secret, address, cookie", [
    (SECRET, "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480"),
    (SECRET, "198.51.100.100", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"),
    (SECRET, "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"),
    (SECRET, "203.0.113.203", "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"),
    (OLD_SECRET, "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8"),
    (bytes.fromhex("445536bcd2513298075a5d379663c962"), "2001:db8:220:1:59de:d0f4:8769:82b8",
     "22681ab97d52c298010000005cf7c609a6bb79d16625507a")], ids=["A.1", "A.2", "A.3 query", "A.3 reply", "A.4 query", "A.4 reply"])
def test_the_vectors_of_rfc_9018(secret, address, cookie):
    octets = bytes.fromhex(cookie)
    made, = struct.unpack_from("!I", octets, 12)
    assert octets == octets[:8] + server_cookie(secret, octets[:8], address, made, reserved=octets[9:12])


@pytest.fixture(scope="module")
def secret_server(start_shared):
    return start_shared("--store", "memory", "--cookie-secret", SECRET.hex(), "--cookie-secret", OLD_SECRET.hex())


@pytest.fixture(params=["udp", "tcp"])
def knowing(request, secret_server):
    """A client of a server with known secrets. The server has no zone, because cookies do not depend on zones."""
    return Client(secret_server.resolver, request.param)


def test_a_client_learns_a_cookie_of_the_newest_secret(knowing):
    cookie = knowing.ask(WEB, edns=edns(CLIENT_COOKIE)).option(COOKIE)
    assert len(cookie) == 24 and cookie[8:12] == b"\x01\x00\x00\x00"
    assert is_of(SECRET, cookie)


def test_cookies_depend_on_the_client(knowing):
    other = bytes(8)
    cookie = knowing.ask(WEB, edns=edns(other)).option(COOKIE)
    assert is_of(SECRET, cookie, client_cookie=other)


def test_a_good_cookie_is_answered_with_itself_or_a_newer_one(knowing):
    for age in (0, 60, RENEWED_AFTER_SECONDS - 60):
        sent = whole(SECRET, age=age)
        cookie = knowing.ask(WEB, edns=edns(sent)).option(COOKIE)
        assert cookie == sent or is_of(SECRET, cookie)


@pytest.mark.parametrize("sent", [
    lambda: whole(SECRET, age=RENEWED_AFTER_SECONDS + 60), lambda: whole(SECRET, age=EXPIRED_AFTER_SECONDS + 60),
    lambda: whole(SECRET, age=-AHEAD_SECONDS - 60), lambda: whole(SECRET, age=1 << 31), lambda: whole(OLD_SECRET),
    lambda: whole(bytes(16)), lambda: whole(SECRET, address="127.0.0.2"), lambda: whole(SECRET, version=2),
    lambda: whole(SECRET, version=0), lambda: bytes(8) + whole(SECRET)[8:], lambda: CLIENT_COOKIE + b"\xff" * 16,
    lambda: CLIENT_COOKIE + b"\xff" * 8, lambda: CLIENT_COOKIE + b"\xff" * 32],
    ids=["old", "expired", "of the future", "half a circle away", "of the second secret", "of another secret", "of another address",
         "of version 2", "of version 0", "of another client", "nonsense", "of 8 octets", "of 32 octets"])
def test_other_cookies_are_answered_with_a_new_one(knowing, sent):
    """RFC 7873 section 5.2.3 and 5.2.4: the query is answered like one without a cookie, and the reply has a good cookie."""
    sent = sent()
    reply = knowing.ask(WEB, edns=edns(sent))
    assert reply.rcode == REFUSED
    cookie = reply.option(COOKIE)
    assert cookie != sent and is_of(SECRET, cookie, client_cookie=sent[:8])


def test_a_cookie_with_reserved_bits_is_answered(knowing):
    """RFC 9018 section 4.2 and appendix A.3: the reserved bits are part of the hash and have no meaning."""
    cookie = knowing.ask(WEB, edns=edns(whole(SECRET, reserved=b"\xab\xcd\xef"))).option(COOKIE)
    assert is_of(SECRET, cookie) or cookie[9:12] == b"\xab\xcd\xef"


def test_two_servers_with_one_secret_know_each_others_cookies(secret_server, start_shared):
    """A client then keeps its cookie across anycast servers, replicas and restarts."""
    other = start_shared("--store", "memory", "--cookie-secret", SECRET.hex())
    first = Client(secret_server.resolver, "udp").ask(WEB, edns=edns(CLIENT_COOKIE)).option(COOKIE)
    second = Client(other.resolver, "udp").ask(WEB, edns=edns(first)).option(COOKIE)
    assert second == first or is_of(SECRET, second)


def test_without_a_setting_the_secret_is_random(start_shared):
    cookies = []
    for _ in range(2):
        client = Client(start_shared("--store", "memory").resolver, "udp")
        cookies.append(client.ask(WEB, edns=edns(CLIENT_COOKIE)).option(COOKIE))
    for cookie in cookies:
        made, = struct.unpack_from("!I", cookie, 12)
        assert abs(made - time.time()) < 60 and not is_of(SECRET, cookie) and not is_of(bytes(16), cookie)
    assert cookies[0][16:] != cookies[1][16:]


@pytest.mark.parametrize("length", [0, 1, 2, 7, 9, 12, 15, 41, 42, 100])
def test_cookies_of_a_wrong_length_are_format_errors(client, length):
    """RFC 7873 section 5.2.2."""
    reply = client.send(message(question(WEB), edns(b"c" * length)))
    assert reply.rcode == FORMERR and reply.counts[1:3] == (0, 0)


@pytest.mark.parametrize("length", [8, *range(16, 41)])
def test_cookies_of_a_right_length_are_completed(client, length):
    sent = bytes(range(length))
    reply = client.ask(WEB, edns=edns(sent))
    assert reply.rcode == NOERROR and reply.counts[1] == 2
    cookie = reply.option(COOKIE)
    assert len(cookie) == 24 and cookie[:8] == sent[:8]


def test_of_two_cookies_the_first_counts_or_it_is_a_format_error(client):
    """RFC 7873 section 5.2: all but the first are ignored."""
    reply = client.send(message(question(WEB), opt(option(COOKIE, b"11111111") + option(COOKIE, b"22222222"))))
    assert reply.rcode in (NOERROR, FORMERR)
    assert reply.rcode == FORMERR or reply.option(COOKIE)[:8] == b"11111111"


@pytest.mark.parametrize("qname, rrtype", [("nope.svc.local.", "A"), ("www.example.com.", "A"), ("x.sub.svc.local.", "A"), (WEB, "ANY"),
                                           ("big.svc.local.", "A"), ("b.ent.svc.local.", "A")])
def test_every_kind_of_reply_has_the_cookie(client, qname, rrtype):
    cookie = client.ask(qname, rrtype, edns=edns(CLIENT_COOKIE)).option(COOKIE)
    assert len(cookie) == 24 and cookie[:8] == CLIENT_COOKIE


def test_a_query_without_a_cookie_gets_none(client):
    assert client.ask(WEB, edns=opt()).option(COOKIE) is None


@pytest.mark.parametrize("cookie", [CLIENT_COOKIE, CLIENT_COOKIE + b"\xff" * 16], ids=["new", "with a wrong one"])
def test_a_cookie_is_learned_without_a_question(client, cookie):
    """RFC 7873 section 5.4."""
    reply = client.send(message(additional=edns(cookie)))
    assert reply.rcode == NOERROR and reply.counts == (0, 0, 0, 1)
    assert reply.option(COOKIE)[:8] == CLIENT_COOKIE and len(reply.option(COOKIE)) == 24


def test_no_question_and_no_cookie_is_a_format_error(client):
    """RFC 9619. A malformed cookie option does not change that."""
    for additional in (b"", opt(), opt(option(100)), edns(b"short"), record("x.", "A", b"\x01\x02\x03\x04")):
        reply = client.send(message(additional=additional))
        assert reply.rcode == FORMERR, additional


def test_dig_calls_the_cookie_good(zoned):
    first = zoned.dig(WEB, "A", "+cookie=0102030405060708")
    assert "(good)" in first.text, first.text
    cookie = next(line for line in first.options if line.startswith("COOKIE")).split()[1]
    assert "(good)" in zoned.dig(WEB, "A", f"+cookie={cookie}").text


def test_the_cookie_of_an_ipv6_client(start_shared):
    server = start_shared("--store", "memory", "--dns", "[::1]:0", "--cookie-secret", SECRET.hex())
    cookie = Client(server.resolver, "udp").ask(WEB, edns=edns(CLIENT_COOKIE)).option(COOKIE)
    assert is_of(SECRET, cookie, address="::1")


@pytest.mark.parametrize("secret", ["zz", "e5e973e5", SECRET.hex() + "00", "", "g" * 32])
def test_a_secret_is_32_hex_digits(start, secret):
    server = start("--store", "memory", "--cookie-secret", secret, wait=False).launch()
    assert server.wait() != 0
