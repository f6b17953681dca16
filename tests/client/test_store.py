"""The store on disk: a store that cannot be used is reported and not changed."""

import re

import pytest

FILE = "cloudmap.redb"


@pytest.fixture
def stored(start):
    """A stopped server whose store is not empty."""
    server = start()
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60)
    cloudmap.instances(service, 50)
    assert server.stop() == 0
    return server


def refused_start(server):
    """The error lines of a start that fails."""
    mark = server.log_mark()
    server.launch()
    code = server.wait()
    said = "\n".join(line for line, _ in server.log[mark:])
    assert code not in (0, 101, -6), said
    assert "panicked" not in said and "ready" not in {fields.get("message") for _, fields in server.log[mark:]}
    return said


def damage(data, how):
    middle = len(data) // 2
    return {
        "garbage": lambda: bytes(range(256)) * 64,
        "text": lambda: b"this is no store\n",
        "header": lambda: b"\0" * 512 + data[512:],
        "half": lambda: data[:middle],
        "pages": lambda: data[:4096] + b"\xff" * (len(data) - 4096),
    }[how]()


@pytest.mark.parametrize("how", ["garbage", "text", "header", "half", "pages"])
def test_a_damaged_store_is_refused_and_not_changed(stored, how):
    path = stored.data / FILE
    damaged = damage(path.read_bytes(), how)
    path.write_bytes(damaged)
    said = refused_start(stored)
    assert FILE in said, said
    assert path.read_bytes() == damaged


def test_a_store_of_a_newer_version_is_refused_and_not_changed(stored):
    """The test changes the value of the key `schema` to 99. In a page of the file, all keys come before the values."""
    path = stored.data / FILE
    number = re.compile(rb"((?P<commits>commits)?schema(?:sequence)?(?(commits).{8}))\x01(?P<rest>\x00{7})", re.DOTALL)
    data = path.read_bytes()
    assert number.search(data), "the schema's version is where this test looks for it"
    newer = number.sub(lambda found: found[1] + b"\x63" + found["rest"], data)
    path.write_bytes(newer)
    said = refused_start(stored)
    assert FILE in said and "schema 99" in said, said
    assert path.read_bytes() == newer
    path.write_bytes(data)
    stored.start()
    assert len(stored.dig("web.production.local").data("A")) == 8


def test_a_store_in_use_is_refused_and_its_server_keeps_running(start):
    first = start()
    namespace = first.cloudmap().http_namespace()
    second = start(wait=False, directory=first.directory)
    said = refused_start(second)
    assert FILE in said or str(first.data) in said, said
    assert first.cloudmap().GetNamespace(Id=namespace)


def test_a_data_directory_that_cannot_be_made_is_named(start):
    server = start(wait=False)
    server.data.parent.mkdir(exist_ok=True)
    server.data.write_text("a file is in the way", encoding="utf-8")
    assert "data" in refused_start(server)
    assert server.data.read_text(encoding="utf-8") == "a file is in the way"


def test_a_store_survives_a_stop_and_a_kill_right_after_the_start(stored):
    for end in (stored.stop, stored.kill9) * 3:
        stored.start()
        end()
    stored.start()
    assert len(stored.dig("web.production.local").data("A")) == 8


def test_stored_ids_are_kept_when_the_region_changes(start):
    """Ids are derived from account and region, but stored namespaces keep the ids that they have."""
    server = start()
    namespace = server.cloudmap().http_namespace("calls")
    server.stop()
    server.options += ["--region", "eu-central-1"]
    server.start()
    assert server.cloudmap().GetNamespace(Id=namespace)["Namespace"]["Id"] == namespace
