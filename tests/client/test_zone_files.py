"""Changes of zone files while the server runs, broken and repaired files, and overlays on namespaces."""

import os
import re

import pytest

from harness.deadline import eventually
from harness.wire import Connection

SOA = "@ 300 IN SOA ns hostmaster 1 7200 900 1209600 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n"


def write(server, origin, text):
    """Replaces a zone file atomically by a new one, as editors do."""
    path = server.zones / f"{origin}.zone"
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)
    return path


def eventually_answers(server, name, *addresses, seconds=10):
    def answers():
        found = server.dig(name)
        assert sorted(found.data()) == sorted(addresses), found.text
        return found
    return eventually(answers, seconds)


def eventually_status(server, name, status, seconds=10):
    def has_status():
        found = server.dig(name)
        assert found.status == status, found.text
        return found
    return eventually(has_status, seconds)


def wait_for_error(server, path, line, mark):
    """Waits until the log has an error with the file and the line."""
    return server.wait_for_log(lambda text, _: f"{path.name}:{line}" in text, since=mark)


@pytest.fixture
def zoned(start):
    server = start(wait=False)
    write(server, "svc.local", SOA + "web 300 IN A 192.0.2.1\n")
    return server.start()


def test_a_changed_file_is_served_without_a_signal(zoned):
    eventually_answers(zoned, "web.svc.local", "192.0.2.1")
    write(zoned, "svc.local", SOA + "web 300 IN A 192.0.2.2\nnew 300 IN A 192.0.2.3\n")
    eventually_answers(zoned, "web.svc.local", "192.0.2.2")
    eventually_answers(zoned, "new.svc.local", "192.0.2.3")


def test_a_file_written_in_place_is_served(zoned):
    (zoned.zones / "svc.local.zone").write_text(SOA + "web 300 IN A 192.0.2.2\n", encoding="utf-8")
    eventually_answers(zoned, "web.svc.local", "192.0.2.2")


def test_a_broken_file_keeps_the_last_good_zone_until_it_is_repaired(zoned):
    mark = zoned.log_mark()
    path = write(zoned, "svc.local", SOA + "web 300 IN A 192.0.2.2\nbad 300 IN A not-an-address\n")
    wait_for_error(zoned, path, 5, mark)
    zoned.dig("web.svc.local").assert_positive("192.0.2.1")
    metrics = Connection(zoned.addresses["admin"]).request("GET", "/metrics").body.decode()
    assert re.search(r"^\w*zone_file_errors 1$", metrics, re.MULTILINE), metrics

    write(zoned, "svc.local", SOA + "web 300 IN A 192.0.2.3\n")
    eventually_answers(zoned, "web.svc.local", "192.0.2.3")


@pytest.mark.parametrize("broken", [
    "", "web 300 IN A 192.0.2.1\n", SOA + SOA.replace("hostmaster 1", "hostmaster 2"), SOA + "a IN CNAME b\na IN A 192.0.2.1\n",
    SOA + "www.example.com. 300 IN A 192.0.2.1\n", SOA + "web 300 IN\n", SOA + 'web 300 IN TXT "open\n', SOA + "( \n",
    SOA + "$INCLUDE missing.inc\n", SOA + "web 300 IN NOTYPE x\n", "\x00\x01\x02", SOA + f"{'l' * 64} 300 IN A 192.0.2.1\n"],
    ids=["empty", "no SOA", "two SOAs", "CNAME and other data", "out of zone", "no type", "open text", "open parenthesis",
         "missing include", "unknown type", "binary", "long label"])
def test_the_last_good_zone_is_served_with_any_kind_of_error(zoned, broken):
    mark = zoned.log_mark()
    write(zoned, "svc.local", broken)
    zoned.wait_for_log(lambda text, fields: "svc.local.zone" in text and '"INFO"' not in text, since=mark)
    zoned.dig("web.svc.local").assert_positive("192.0.2.1")


def test_a_new_file_becomes_a_zone_and_a_removed_one_is_refused(zoned):
    zoned.dig("web.other.local").assert_refused()
    path = write(zoned, "other.local", SOA + "web 300 IN A 192.0.2.9\n")
    eventually_answers(zoned, "web.other.local", "192.0.2.9")
    path.unlink()
    eventually_status(zoned, "web.other.local", "REFUSED")
    zoned.dig("web.svc.local").assert_positive("192.0.2.1")


def test_the_origin_is_the_name_of_the_file(zoned):
    write(zoned, "example.com", SOA + "$ORIGIN sub.example.com.\nweb 300 IN A 192.0.2.7\n")
    eventually_answers(zoned, "web.sub.example.com", "192.0.2.7")
    write(zoned, "10.in-addr.arpa", SOA + "4.3.2 300 IN PTR web.svc.local.\n")
    eventually(lambda: zoned.dig("4.3.2.10.in-addr.arpa", "PTR").data() == ["web.svc.local."])


def test_included_files_are_part_of_the_zone(zoned):
    (zoned.zones / "hosts.inc").write_text("host 300 IN A 192.0.2.8\n", encoding="utf-8")
    write(zoned, "svc.local", SOA + "$INCLUDE hosts.inc\n")
    eventually_answers(zoned, "host.svc.local", "192.0.2.8")


def test_one_broken_file_stops_neither_the_start_nor_other_zones(start):
    server = start(wait=False)
    write(server, "good.local", SOA + "web 300 IN A 192.0.2.1\n")
    path = write(server, "bad.local", "nonsense\n")
    server.start()
    wait_for_error(server, path, 1, 0)
    server.dig("web.good.local").assert_positive("192.0.2.1")
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    server.dig("web.production.local").assert_positive("10.0.0.1")


def test_files_of_a_config_map_are_followed_through_their_links(start):
    """Kubernetes replaces the link `..data`, through which the links of all files in the directory lead."""
    server = start(wait=False)
    for version in (1, 2):
        folder = server.zones / f"..version-{version}"
        folder.mkdir()
        (folder / "svc.local.zone").write_text(SOA + f"web 300 IN A 192.0.2.{version}\n", encoding="utf-8")
    os.symlink("..version-1", server.zones / "..data")
    os.symlink("..data/svc.local.zone", server.zones / "svc.local.zone")
    server.start()
    eventually_answers(server, "web.svc.local", "192.0.2.1")
    os.symlink("..version-2", server.zones / "..data-new")
    os.rename(server.zones / "..data-new", server.zones / "..data")
    eventually_answers(server, "web.svc.local", "192.0.2.2")


def test_a_signal_reloads_too(zoned):
    write(zoned, "svc.local", SOA + "web 300 IN A 192.0.2.2\n")
    zoned.reload()
    eventually_answers(zoned, "web.svc.local", "192.0.2.2")


# -- overlays ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def namespace(server):
    """A namespace production.local with the service web."""
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("production.local")
    service = cloudmap.service(namespace, "web", A=60, SRV=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1", port=80)
    return namespace


def test_an_overlay_adds_records_to_a_namespace(server, namespace):
    write(server, "production.local", "db 300 IN A 192.0.2.1\n@ 300 IN MX 10 mail\nwww 300 IN CNAME web\n")
    eventually_answers(server, "db.production.local", "192.0.2.1")
    server.dig("production.local", "MX").assert_positive("10 mail.production.local.")
    alias = server.dig("www.production.local", "A")
    assert alias.data() == ["web.production.local.", "10.0.0.1"]
    server.dig("web.production.local").assert_positive("10.0.0.1")
    server.dig("nope.production.local").assert_nxdomain("production.local.")
    server.dig("production.local", "NS").assert_positive("ns.dns.production.local.")


def test_an_overlay_that_conflicts_with_a_service_is_an_error_at_its_line(server, namespace):
    mark = server.log_mark()
    path = write(server, "production.local", "db 300 IN A 192.0.2.1\nweb 300 IN A 192.0.2.2\n")
    wait_for_error(server, path, 2, mark)
    server.dig("web.production.local").assert_positive("10.0.0.1")
    write(server, "production.local", "db 300 IN A 192.0.2.1\n")
    eventually_answers(server, "db.production.local", "192.0.2.1")


def test_an_overlay_waits_for_its_namespace(start):
    server = start(wait=False)
    write(server, "production.local", "db 300 IN A 192.0.2.1\n")
    server.start()
    server.dig("db.production.local").assert_refused()
    server.cloudmap().private_namespace("production.local")
    eventually_answers(server, "db.production.local", "192.0.2.1")


def test_a_removed_overlay_leaves_the_namespace(server, namespace):
    path = write(server, "production.local", "db 300 IN A 192.0.2.1\n")
    eventually_answers(server, "db.production.local", "192.0.2.1")
    path.unlink()
    eventually_status(server, "db.production.local", "NXDOMAIN")
    server.dig("web.production.local").assert_positive("10.0.0.1")


def test_an_overlay_remains_when_its_namespace_changes(server, namespace):
    write(server, "production.local", "db 300 IN A 192.0.2.1\n")
    eventually_answers(server, "db.production.local", "192.0.2.1")
    cloudmap = server.cloudmap()
    other = cloudmap.service(namespace, "other", A=60)
    cloudmap.instance(other, "a", ipv4="10.0.0.2")
    server.dig("db.production.local").assert_positive("192.0.2.1")
    server.dig("other.production.local").assert_positive("10.0.0.2")
    server.restart()
    server.dig("db.production.local").assert_positive("192.0.2.1")
    server.dig("other.production.local").assert_positive("10.0.0.2")


def test_a_static_zone_keeps_its_records_while_it_is_a_namespace_and_afterwards(start):
    server = start(wait=False)
    write(server, "production.local", SOA + "db 300 IN A 192.0.2.1\n*.deep.down 300 IN A 192.0.2.2\n")
    server.start()
    cloudmap = server.cloudmap()
    for _ in range(2):
        server.dig("production.local", "NS").assert_positive("ns.production.local.")
        server.dig("db.production.local").assert_positive("192.0.2.1")
        namespace = cloudmap.private_namespace("production.local")
        server.dig("production.local", "NS").assert_positive("ns.dns.production.local.")
        server.dig("db.production.local").assert_positive("192.0.2.1")
        server.dig("x.deep.down.production.local").assert_positive("192.0.2.2")
        cloudmap.done(cloudmap.DeleteNamespace(Id=namespace))
    server.dig("deep.down.production.local").assert_nodata("production.local.")


# -- large zones ------------------------------------------------------------------------------------------------------

def test_a_large_file_is_replaced_by_another_as_a_whole(zoned):
    def names(numbers, network):
        return "".join(f"h{number}.rack{number % 7} 300 IN A {network}.{number // 250}.{number % 250}\n"
                       for number in numbers)
    write(zoned, "large.test", SOA + names(range(5000), "10.1"))
    eventually_answers(zoned, "h4999.rack1.large.test", "10.1.19.249")
    zoned.dig("rack6.large.test").assert_nodata("large.test.")
    write(zoned, "large.test", SOA + names(range(4000, 9000), "10.2") + "*.rack6 300 IN A 10.3.0.1\n")
    eventually_answers(zoned, "h4000.rack3.large.test", "10.2.16.0")
    zoned.dig("h3999.rack2.large.test").assert_nxdomain("large.test.")
    zoned.dig("h3.rack6.large.test").assert_positive("10.3.0.1")
    zoned.dig("h8999.rack4.large.test").assert_positive("10.2.35.249")
    zoned.dig("web.svc.local").assert_positive("192.0.2.1")
    write(zoned, "large.test", SOA).unlink()
    eventually_status(zoned, "ns.large.test", "REFUSED")
    zoned.dig("web.svc.local").assert_positive("192.0.2.1")
