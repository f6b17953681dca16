"""The cluster under load: requests of plain clients to its API server, and counts of the writes that reach it."""

import json
import re
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPSConnection
from urllib.parse import quote

from harness.kubernetes import TOKEN, path_of

from .load import Target, Wrong

GROUP = "cloudmap-dns.io"
VERSION = f"{GROUP}/v1alpha1"
KINDS = ("CloudMapNamespace", "CloudMapService", "CloudMapInstance", "CloudMapOperation", "CloudMapHealthReport",
         "CloudMapStore")
PAGE_OBJECTS = 500
# The parameters of the server's writes, so that the API server has to do equal work for both.
PARAMETERS = "?fieldManager=cloudmap-dns&fieldValidation=Strict"
WRITE_VERBS = ("POST", "PUT", "PATCH", "DELETE")
# The server delays statuses by up to 2.5 s.
QUIET_SECONDS = 3.0
QUIET_SECONDS_MAX = 300.0
POLL_SECONDS = 0.5
LEASE_WRITES_MAX = 2
GC_CYCLES = 2
GC_SECONDS_MAX = 60.0
REQUESTS = re.compile(r'^apiserver_request_total\{(.*)\} (\S+)$', re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
CONTINUE = re.compile(rb'"continue":"([^"]*)"')
# The token for the next page is after the items of a list.
TAIL_BYTES = 1_000


def instances_path(place, name=None):
    return path_of(f"{VERSION}/CloudMapInstance", place, name)


def tls(cluster):
    context = ssl.create_default_context(cafile=str(cluster.ca))
    # The API server's self-signed certificate has no key identifiers, which a strict verification requires.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def api_target(cluster):
    """The API server for plain clients."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return Target(("127.0.0.1", cluster.port), headers, tls(cluster))


# -- writes -----------------------------------------------------------------------------------------------------------

@dataclass
class Writes:
    """Counts of the writes to custom resources that have reached the API server, by verb and resource."""

    accepted: Counter
    refused: Counter

    def __sub__(self, before):
        return Writes(self.accepted - before.accepted, self.refused - before.refused)

    @property
    def count(self):
        """Number of all writes, including refused ones, which cost the API server time too."""
        return self.accepted.total() + self.refused.total()

    def __str__(self):
        return f"{listed(self.accepted)}; refused: {listed(self.refused)}"


def listed(counts):
    return ", ".join(f"{verb} {resource} {count}" for (verb, resource), count in sorted(counts.items())) or "none"


def writes(cluster):
    """The writes since the API server's start."""
    found = Writes(Counter(), Counter())
    for line, count in REQUESTS.findall(cluster.text("GET", "/metrics")):
        labels = dict(LABEL.findall(line))
        if labels["group"] != GROUP or labels["verb"] not in WRITE_VERBS:
            continue
        resource = labels["resource"] + (f"/{labels['subresource']}" if labels["subresource"] else "")
        counts = found.accepted if labels["code"].startswith("2") else found.refused
        counts[labels["verb"], resource] += int(float(count))
    return found


def wait_until_quiet(cluster):
    """Waits until nothing was written for some seconds: the server writes statuses and deletes old operations with a delay."""
    end = time.perf_counter() + QUIET_SECONDS_MAX
    before, since = cluster.revision(), time.perf_counter()
    while time.perf_counter() - since < QUIET_SECONDS:
        if time.perf_counter() > end:
            raise Wrong(f"writes do not end within {QUIET_SECONDS_MAX} s")
        time.sleep(POLL_SECONDS)
        now = cluster.revision()
        # A few writes are tolerated: the API server renews its own leases continuously.
        if now > before + LEASE_WRITES_MAX:
            before, since = now, time.perf_counter()


def live_heap_bytes(cluster):
    """Bytes in use on the API server's heap, as found by its next run of the garbage collector."""
    def read():
        text = cluster.text("GET", "/metrics")
        return [float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])
                for name in ("go_gc_cycles_total_gc_cycles_total", "go_gc_heap_live_bytes")]

    first, _ = read()
    end = time.perf_counter() + GC_SECONDS_MAX
    while True:
        # Reading the metrics makes garbage, so that the collector runs eventually.
        cycles, live = read()
        if cycles >= first + GC_CYCLES:
            return live
        if time.perf_counter() > end:
            raise Wrong(f"the API server collected no garbage within {GC_SECONDS_MAX} s")


# -- lists ------------------------------------------------------------------------------------------------------------

@dataclass
class Listing:
    """Decoded objects by kind, the number of received bytes, and the times of receiving and of decoding."""

    objects: dict
    bytes: int
    receiving_seconds: float
    decoding_seconds: float

    @property
    def seconds(self):
        return self.receiving_seconds + self.decoding_seconds


def list_all(cluster, place, kinds=KINDS):
    """Lists kinds as the server does at its start: in pages, and all kinds concurrently."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(kinds)) as threads:
        pages = list(threads.map(lambda kind: receive(cluster, path_of(f"{VERSION}/{kind}", place)), kinds))
    received = time.perf_counter()
    objects = {kind: [item for page in of_kind for item in json.loads(page)["items"]]
               for kind, of_kind in zip(kinds, pages)}
    size = sum(len(page) for of_kind in pages for page in of_kind)
    return Listing(objects, size, received - begin, time.perf_counter() - received)


def receive(cluster, path):
    """Reads the pages of a list over one connection."""
    connection = HTTPSConnection("127.0.0.1", cluster.port, timeout=60.0, context=tls(cluster))
    pages, token = [], b""
    try:
        while True:
            more = f"&continue={quote(token.decode())}" if token else ""
            connection.request("GET", f"{path}?limit={PAGE_OBJECTS}{more}", headers={"Authorization": f"Bearer {TOKEN}"})
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != 200:
                raise Wrong(f"list {path}: {reply.status} {body[:500]!r}")
            pages.append(body)
            found = CONTINUE.search(body, max(0, len(body) - TAIL_BYTES))
            if not found or not found[1]:
                return pages
            token = found[1]
    finally:
        connection.close()
