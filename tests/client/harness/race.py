"""Concurrent requests."""

import threading
from concurrent.futures import ThreadPoolExecutor

from .cloudmap import Refused


def outcome(call, *arguments, **parameters):
    """The result of a call, or the error with which it was refused."""
    try:
        return call(*arguments, **parameters)
    except Refused as refused:
        return refused


def at_once(*calls):
    """The outcomes of calls that start at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
