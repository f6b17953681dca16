"""Checks every answer during a change by the pods that were ready at that time."""

import time
from dataclasses import dataclass
from http.client import HTTPException

import dns.edns
import dns.rcode
from dns.exception import DNSException

from .background import Background
from .cloudmap import Refused
from .deadline import eventually
from .kubernetes import ApiError

# Limit of the age of an answer, relative to the API server's view, with the test's threads on the same two CPUs.
LATENCY_SECONDS = 1.0
ASK_PAUSE_SECONDS = 0.005
LOOK_PAUSE_SECONDS = 0.03


@dataclass
class Answer:
    """The addresses of an answer. A stale one has an extended error that says so."""

    rcode: str
    addresses: set
    is_stale: bool = False


@dataclass
class Heard(Answer):
    """An answer, its source, and the times of its query and of its arrival."""

    who: str = ""
    began: float = 0.0
    ended: float = 0.0


class Witness(Background):
    """Sends queries while its `with` statement runs. `sources` maps names to functions that return an Answer.

    `pods()` lists the pods behind the answers. A source in `behind` is answered by any of several servers, so that an
    answer may be as old as that of the slowest one.
    """

    def __init__(self, sources, pods, behind=()):
        self._sources, self._pods, self._behind = sources, pods, behind
        super().__init__((self._ask, self._look))
        self.heard, self.failures = [], []
        # Reads of the pods: begin, end, and the addresses that were ready.
        self._looks = []

    def __enter__(self):
        super().__enter__()
        eventually(lambda: self._looks and self.heard)
        return self

    def wait_for_answers(self, count):
        """Waits until so many more answers have arrived."""
        enough = len(self.heard) + count
        eventually(lambda: len(self.heard) >= enough)

    def judge(self):
        """Asserts that every answer had addresses, all of which were ready at that time or shortly before."""
        assert not self.failures, self.failures
        ever = set().union(*(ready for _, _, ready in self._looks))
        for heard in self.heard:
            assert (heard.rcode, bool(heard.addresses)) == ("NOERROR", True), heard
            # A stale answer, and an answer of any of several servers, may contain a pod that was ready at any time.
            is_new = not heard.is_stale and heard.who not in self._behind
            ready = self._ready(heard.began - LATENCY_SECONDS, heard.ended) if is_new else ever
            assert heard.addresses <= ready, (heard, ready)

    def _ready(self, begin, end):
        """The addresses that may have been ready at some moment of this time.

        The pods of a read may have become ready just after the begin of the read before, and may remain ready until the end of
        the next one.
        """
        found = set()
        for earlier, (_, _, ready), later in zip([None, *self._looks], self._looks, [*self._looks[1:], None]):
            if (earlier is None or earlier[0] <= end) and (later is None or later[1] >= begin):
                found |= ready
        return found

    def _ask(self):
        while not self._ended.wait(ASK_PAUSE_SECONDS):
            for who, ask in self._sources.items():
                began = time.monotonic()
                try:
                    answer = ask()
                except (OSError, HTTPException, DNSException, Refused) as error:
                    self.failures.append((who, repr(error)))
                    continue
                self.heard.append(Heard(**vars(answer), who=who, began=began, ended=time.monotonic()))

    def _look(self):
        while not self._ended.wait(LOOK_PAUSE_SECONDS):
            began = time.monotonic()
            try:
                pods = self._pods()
            except (ApiError, OSError, HTTPException):
                # While the API server does not answer, nothing changes.
                continue
            self._looks.append((began, time.monotonic(), {pod["status"]["podIP"] for pod in pods if is_ready(pod)}))


def by_dns(resolver, name):
    """A source that queries the A records of a name."""
    def ask():
        reply = resolver.ask(name, use_edns=0)
        addresses = {rdata.to_text() for rrset in reply.answer for rdata in rrset}
        codes = {option.code for option in reply.options if option.otype == dns.edns.OptionType.EDE}
        return Answer(dns.rcode.to_text(reply.rcode()), addresses, dns.edns.EDECode.STALE_ANSWER in codes)
    return ask


def by_discovery(cloudmap, namespace, service):
    """A source that calls DiscoverInstances without a filter."""
    def ask():
        return Answer("NOERROR", cloudmap.discovered_addresses(namespace, service))
    return ask


def is_ready(pod):
    conditions = {found["type"]: found["status"] for found in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
