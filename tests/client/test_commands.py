"""The program's other commands: check, env, explain, zone, completions and the man page."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.server import binary, plain_environment

FIXTURE = Path(__file__).parent / "zones" / "svc.local.zone"
SOA = "@ 300 IN SOA ns hostmaster 1 7200 900 1209600 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n"


@pytest.fixture
def run(tmp_path):
    """Runs the program in an empty directory and returns the finished process."""
    def run_in_directory(*arguments, **environment):
        return subprocess.run([binary(), *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              env=plain_environment(tmp_path) | environment, stdin=subprocess.DEVNULL)
    return run_in_directory


# -- check ------------------------------------------------------------------------------------------------------------

def test_check_accepts_valid_settings_and_zone_files(run, tmp_path):
    (tmp_path / "zones").mkdir()
    shutil.copy(FIXTURE, tmp_path / "zones")
    (tmp_path / "right.toml").write_text('dns = ["127.0.0.1:5300"]\nvalidation = "strict"\n', encoding="utf-8")
    done = run("check", "--config", "right.toml", "--zones", "zones")
    assert done.returncode == 0, done.stderr
    assert run("check").returncode == 0


def test_check_prints_every_error_with_its_place(run, tmp_path):
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "svc.local.zone").write_text(
        SOA + "web 300 IN A not-an-address\nok 300 IN A 192.0.2.1\nalso 300 IN NOTYPE x\n", encoding="utf-8")
    (tmp_path / "zones" / "other.local.zone").write_text(SOA + "a 300 IN A 1.2.3\n", encoding="utf-8")
    (tmp_path / "wrong.toml").write_text('dns = ["127.0.0.1:5300"]\nvalidaton = "strict"\nstore = "cloud"\n',
                                         encoding="utf-8")
    done = run("check", "--config", "wrong.toml", "--zones", "zones")
    assert done.returncode == 1
    for place in ("wrong.toml:2:", "wrong.toml:3:", "svc.local.zone:4:", "svc.local.zone:6:", "other.local.zone:4:"):
        assert place in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) >= 5 and "validation" in done.stderr and "embedded" in done.stderr, "what would be right"


# -- env --------------------------------------------------------------------------------------------------------------

def test_env_prints_the_given_address_and_region(run):
    printed = run("env", "--api", "127.0.0.1:7777", "--region", "eu-central-1").stdout
    assert "http://127.0.0.1:7777" in printed and "eu-central-1" in printed


def test_env_without_a_port_reports_what_is_missing(run):
    done = run("env", "--api", "127.0.0.1:0")
    assert done.returncode != 0 and "--api" in done.stderr and done.stdout == ""


# -- explain ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def explained(server):
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60, SRV=60, custom_health=True)
    for number in range(3):
        cloudmap.instance(service, f"web-{number}", ipv4=f"10.0.0.{number}", port=80)
    cloudmap.set_health(service, "web-1", "UNHEALTHY")
    return server


def test_explain_shows_zone_service_and_whether_each_instance_is_served(explained):
    said = explained.run("explain", "web.production.local").stdout
    for word in ("production.local", "web-0", "web-1", "web-2", "HEALTHY", "UNHEALTHY", "10.0.0.0", "10.0.0.2"):
        assert word in said, said
    line = next(line for line in said.splitlines() if "web-1" in line)
    assert "UNHEALTHY" in line or "unhealthy" in line


def test_explain_shows_why_there_is_no_answer(explained):
    assert "NXDOMAIN" in explained.run("explain", "nope.production.local", "A").stdout
    assert "REFUSED" in explained.run("explain", "www.example.com").stdout
    said = explained.run("explain", "web.production.local", "TXT").stdout
    assert "NODATA" in said or "NOERROR" in said, said


def test_explain_without_a_server_is_an_error(run):
    done = run("explain", "web.production.local", "--admin", "127.0.0.1:1")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr


# -- zone -------------------------------------------------------------------------------------------------------------

def named_checkzone(origin, text, tmp_path):
    file = tmp_path / f"{origin}.printed"
    file.write_text(text, encoding="utf-8")
    return subprocess.run(["named-checkzone", "-i", "local", "-k", "ignore", "-n", "ignore", origin, str(file)],
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_zone_prints_a_namespace_as_a_file_that_named_accepts(explained, tmp_path):
    (explained.zones / "production.local.zone").write_text("db 300 IN TXT \"from a file\"\n", encoding="utf-8")
    explained.restart()
    printed = explained.run("zone", "production.local").stdout
    checked = named_checkzone("production.local", printed, tmp_path)
    assert checked.returncode == 0, checked.stdout + printed
    for text in ("10.0.0.0", "10.0.0.2", "1 1 80 web-0.web", "from a file", "SOA", "NS"):
        assert text in printed, printed
    web = [line.split() for line in printed.splitlines() if line.split()[:1] == ["web.production.local."]]
    assert not any(fields[-2:] == ["A", "10.0.0.1"] for fields in web), "web-1 is unhealthy"


def test_zone_prints_an_equivalent_zone_file(start, tmp_path):
    server = start(wait=False)
    shutil.copy(FIXTURE, server.zones)
    server.start()
    printed = server.run("zone", "svc.local").stdout
    checked = named_checkzone("svc.local", printed, tmp_path)
    assert checked.returncode == 0, checked.stdout + printed
    again = start(wait=False)
    (again.zones / "svc.local.zone").write_text(printed, encoding="utf-8")
    again.start()
    for name, rrtype in (("many", "NAPTR"), ("many", "TXT"), ("many", "LOC"), ("strange", "TYPE65280"), ("web", "HTTPS"),
                         ("foo.wild", "A"), ("host.dname", "A"), ("_http._tcp.web", "SRV"), ("", "SOA"), ("", "TXT")):
        full = f"{name}.svc.local" if name else "svc.local"
        asked = [sorted(each.dig(full, rrtype).data()) for each in (server, again)]
        assert asked[0] == asked[1] and asked[0], full


def test_zone_of_an_unknown_name_is_an_error(explained):
    done = explained.run("zone", "nope.local", check=False)
    assert done.returncode == 1 and "nope.local" in done.stderr and done.stdout == ""


# -- help -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_printed(run, shell):
    assert "cloudmap-dns" in run("completions", shell).stdout


def test_a_man_page_is_printed(run):
    assert run("man").stdout.lstrip().startswith((".TH", ".ie"))


def test_help_names_every_setting_with_flag_and_variable(run):
    said = run("serve", "--help").stdout
    for flag in ("--dns", "--api", "--admin", "--data-dir", "--store", "--zones", "--region", "--account-id",
                 "--validation", "--log-format", "--fail-open", "--unknown", "--negative-ttl"):
        assert flag in said
        assert f"CLOUDMAP_DNS_{flag[2:].upper().replace('-', '_')}" in said
