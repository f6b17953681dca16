"""Requests that are made at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

from .cloudmap import Refused


def outcome(call, *arguments, **parameters):
    """What a call returns, or the error with which it was refused."""
    try:
        return call(*arguments, **parameters)
    except Refused as refused:
        return refused


def at_once(*calls):
    """The outcomes of calls that start together."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
