"""The server under test: the real program, on free ports and with a directory of its own."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from .cloudmap import CloudMap
from .deadline import PATIENCE_SECONDS, eventually
from .dns import Resolver
from .program import free_port
from .sdk import Clients

LOG_TAIL_LINES = 60
SERVICES = ("dns", "api", "admin")


def binary():
    """The path of the program, which `tests/run` has built."""
    path = os.environ.get("CLOUDMAP_DNS_BIN")
    if not path:
        raise RuntimeError("CLOUDMAP_DNS_BIN is not set: run the tests through tests/run")
    return path


def plain_environment(home):
    """An environment without settings of the server or of AWS."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}


class Server:
    """One server and its directory, with the store in `data/` and zone files in `zones/`.

    Each start uses new ports: read `api_address`, `resolver` and `clients` again.
    """

    running = []

    def __init__(self, directory, *options):
        self.directory = Path(directory)
        self.options = [str(option) for option in options]
        self.data = self.directory / "data"
        self.zones = self.directory / "zones"
        self.zones.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.addresses = {}
        self.log = []
        self._changed = threading.Condition()
        self._launched_at = 0

    # -- process ------------------------------------------------------------------------------------------------------

    def command(self):
        given = set(self.options)
        # dig shares its port with other sockets. A port that the system picks for clients could therefore become dig's own
        # while the server has it.
        dns = f"127.0.0.1:{free_port()}"
        command = [binary(), "serve", "--data-dir", str(self.data), "--zones", str(self.zones)]
        for flag, value in (("--dns", dns), ("--api", "127.0.0.1:0"), ("--admin", "127.0.0.1:0"),
                            ("--log-format", "json")):
            if flag not in given:
                command += [flag, value]
        return command + self.options

    def environment(self):
        return plain_environment(self.directory)

    def launch(self):
        """Starts the program without waiting for it."""
        self.addresses = {}
        self._launched_at = self.log_mark()
        self.process = subprocess.Popen(
            self.command(), cwd=self.directory, env=self.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self._reader.start()
        Server.running.append(self)
        return self

    def start(self):
        """Starts the program and returns when it has logged that it is ready."""
        self.launch()
        self.wait_for_message("ready")
        missing = [name for name in SERVICES if name not in self.addresses]
        assert not missing, f"ready, but no 'listening' line for {missing}\n{self.log_tail()}"
        return self

    def stop(self, seconds=PATIENCE_SECONDS):
        """Stops the program with SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill9(self):
        """Kills the program with SIGKILL, which comes as close to a power cut as a process can."""
        self.process.kill()
        self.wait()

    def restart(self):
        """Starts the program again with its store. Stops it first if it still runs."""
        if self.process.poll() is None:
            self.stop()
        return self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def wait(self, seconds=PATIENCE_SECONDS):
        """Waits for the end of the process and returns its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running {seconds} s after it should have ended\n{self.log_tail()}") from None
        finally:
            if self in Server.running:
                Server.running.remove(self)
        self._reader.join(seconds)
        return code

    def end(self):
        """Stops the program if it runs. The test fails if the exit code is not 0."""
        if self.is_running():
            code = self.stop()
            assert code == 0, f"exit {code} after SIGTERM\n{self.log_tail()}"

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    # -- log ----------------------------------------------------------------------------------------------------------

    def _read_log(self, process):
        for line in process.stderr:
            self._note(line.rstrip("\n"))
        with self._changed:
            self._changed.notify_all()

    def _note(self, line):
        try:
            fields = json.loads(line).get("fields", {})
        except (ValueError, AttributeError):
            fields = {}
        with self._changed:
            self.log.append((line, fields))
            if fields.get("message") == "listening":
                host, _, port = fields["address"].rpartition(":")
                self.addresses.setdefault(fields["service"], (host.strip("[]"), int(port)))
            self._changed.notify_all()

    def log_mark(self):
        """The current end of the log, for `wait_for_log(..., since=mark)`."""
        with self._changed:
            return len(self.log)

    def wait_for_log(self, matches, seconds=PATIENCE_SECONDS, since=0):
        """Waits for a line for which `matches(line, fields)` is true, and returns (line, fields)."""
        end = time.monotonic() + seconds
        with self._changed:
            seen = since
            while True:
                while seen < len(self.log):
                    entry = self.log[seen]
                    seen += 1
                    if matches(*entry):
                        return entry
                ended = self.process.poll() is not None and not self._reader.is_alive()
                remaining = end - time.monotonic()
                if ended or remaining <= 0:
                    why = f"exited with {self.process.returncode}" if ended else f"nothing within {seconds} s"
                    raise AssertionError(f"waiting for the log: {why}\n{self.log_tail()}")
                self._changed.wait(min(remaining, 0.1))

    def wait_for_message(self, message, seconds=PATIENCE_SECONDS):
        """Waits for a message that was logged since the last start."""
        return self.wait_for_log(lambda _, fields: fields.get("message") == message, seconds, self._launched_at)

    def log_tail(self):
        with self._changed:
            lines = [line for line, _ in self.log[-LOG_TAIL_LINES:]]
        return "\n".join(lines) or "(the log is empty)"

    # -- admin endpoints ----------------------------------------------------------------------------------------------

    def page(self, path):
        """A page of the admin port, such as `/metrics`."""
        with urllib.request.urlopen(self.admin_url + path) as reply:
            return reply.read().decode()

    def readiness(self):
        """The verbose readiness report, which has status 200 or 503."""
        try:
            return self.page("/readyz?verbose")
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            return error.read().decode()

    def until_readiness(self, text, seconds=PATIENCE_SECONDS):
        """Waits until the readiness report contains this text."""
        def check():
            found = self.readiness()
            assert text in found, found
            return True
        eventually(check, seconds)

    def metric(self, name, **labels):
        """The value of a metric with these labels, or None if it does not exist."""
        pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
        sample = re.escape(f"cloudmap_dns_{name}" + (f"{{{pairs}}}" if pairs else ""))
        found = re.search(rf"^{sample} (\S+)$", self.page("/metrics"), re.MULTILINE)
        return float(found[1]) if found else None

    def until_metric(self, name, value, seconds=PATIENCE_SECONDS):
        def check():
            assert self.metric(name) == value, name
            return True
        eventually(check, seconds)

    # -- clients ------------------------------------------------------------------------------------------------------

    @property
    def api_address(self):
        return self.addresses["api"]

    @property
    def dns_address(self):
        return self.addresses["dns"]

    @property
    def endpoint(self):
        return "http://{}:{}".format(*self.api_address)

    @property
    def admin_url(self):
        return "http://{}:{}".format(*self.addresses["admin"])

    def cloudmap(self, protocol="json"):
        """The API in this protocol. Every response is checked against the model."""
        return CloudMap(self.api_address, protocol)

    @property
    def resolver(self):
        return Resolver(*self.dns_address)

    def dig(self, name, rrtype="A", *options):
        return self.resolver.dig(name, rrtype, *options)

    @property
    def clients(self):
        return Clients(self)

    def run(self, *arguments, check=True, environment=None, seconds=60):
        """Runs another command of the program, with this server's addresses in the environment."""
        env = plain_environment(self.directory) | self.settings_environment() | (environment or {})
        done = subprocess.run([binary(), *map(str, arguments)], cwd=self.directory, env=env, capture_output=True,
                              text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        if check:
            assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def explained(self, name, instance):
        """The line of `explain` about one of a service's instances."""
        [line] = [line for line in self.run("explain", name).stdout.splitlines() if line.split()[:1] == [instance]]
        return line

    def settings_environment(self):
        """This server's settings as environment variables."""
        settings = {"CLOUDMAP_DNS_DATA_DIR": str(self.data), "CLOUDMAP_DNS_ZONES": str(self.zones)}
        for name, (host, port) in self.addresses.items():
            settings[f"CLOUDMAP_DNS_{name.upper()}"] = f"{host}:{port}"
        return settings
