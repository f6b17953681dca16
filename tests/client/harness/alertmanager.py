"""Alertmanager with the receiver of docs/health.md, and alerts as Prometheus sends them."""

import json
import os
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .documents import section
from .program import Program, free_port

SERVICE = "http://cloudmap.cloudmap-dns.svc.cluster.local/"
# Alerts of one name share a notification. The document leaves the route to the reader.
ROUTE = """
route:
  receiver: cloudmap
  group_by: [alertname]
  group_wait: 200ms
  group_interval: 200ms
"""
# Prometheus repeats a firing alert long before this time has passed.
FIRING = timedelta(minutes=4)
SILENCED = timedelta(hours=1)


class Alertmanager(Program):
    """One Alertmanager without peers, which notifies the server at `url`, such as `http://127.0.0.1:5301`."""

    def __init__(self, directory, url):
        folder = os.environ.get("CLOUDMAP_DNS_TEST_MONITORING")
        assert folder, "CLOUDMAP_DNS_TEST_MONITORING is not set: run the tests through tests/run"
        directory.mkdir()
        (directory / "alertmanager.yml").write_text(receivers(url) + ROUTE)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        super().__init__("alertmanager", [
            Path(folder) / "bin" / "alertmanager", "--config.file=alertmanager.yml", "--storage.path=data",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], directory)

    def start(self):
        super().start(self._is_ready)
        return self

    # -- alerts -------------------------------------------------------------------------------------------------------

    def send(self, firing=(), resolved=()):
        """Posts alerts of `alert` in one request, the resolved ones first."""
        now = datetime.now(UTC)
        alerts = [one | {"endsAt": now.isoformat()} for one in resolved]
        alerts += [one | {"endsAt": (now + FIRING).isoformat()} for one in firing]
        self._request("POST", "/api/v2/alerts", alerts)

    def silence(self, alert):
        """Silences an alert and returns the id of the silence."""
        now = datetime.now(UTC)
        matchers = [{"name": name, "value": value, "isRegex": False, "isEqual": True}
                    for name, value in alert["labels"].items()]
        return self._request("POST", "/api/v2/silences", {
            "matchers": matchers, "startsAt": now.isoformat(), "endsAt": (now + SILENCED).isoformat(),
            "createdBy": "test", "comment": "test"})["silenceID"]

    def end_silence(self, silence):
        self._request("DELETE", f"/api/v2/silence/{silence}")

    # -- notifications ------------------------------------------------------------------------------------------------

    def requests(self):
        """The number of requests that it has sent to the server and that have ended."""
        return self._requests("notification_requests_total")

    def failed_requests(self):
        """The number of requests without an answer of 2xx."""
        return self._requests("notification_requests_failed_total")

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _is_ready(self):
        try:
            return "OK" in self._text("GET", "/-/ready")
        except OSError:
            return False

    def _requests(self, name):
        return float(re.search(rf'^alertmanager_{name}{{integration="webhook"}} (\S+)$', self._text("GET", "/metrics"), re.M)[1])

    def _request(self, method, path, body=None):
        return json.loads(self._text(method, path, body) or "null")

    def _text(self, method, path, body=None):
        request = urllib.request.Request(self._url + path, method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            assert error.code == 503, f"{method} {path}: {error.code} {error.read().decode()}"
            raise


def receivers(url):
    """The configuration of docs/health.md word by word, but for the address of the server."""
    [text] = re.findall(r"^```yaml\n(.*?)^```$", section("health.md", "Reports of other systems"), re.MULTILINE | re.DOTALL)
    assert text.count(SERVICE) == 1, text
    return text.replace(SERVICE, f"{url}/")


def alert(name, **labels):
    """An alert that began now, with its labels and a summary."""
    return {"labels": {"alertname": name, "severity": "critical", **labels}, "annotations": {"summary": f"{name} is bad"},
            "startsAt": datetime.now(UTC).isoformat(), "generatorURL": "http://prometheus.example/graph"}
