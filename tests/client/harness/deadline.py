"""Waits for a condition, with a deadline instead of a fixed sleep."""

import time

PATIENCE_SECONDS = 20.0


def eventually(check, seconds=PATIENCE_SECONDS, poll_seconds=0.02):
    """Calls `check` until it neither raises AssertionError nor returns False or None, and returns its result.

    At the deadline the last failure is raised.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            result = check()
            if result is not None and result is not False:
                return result
            failure = AssertionError(f"{getattr(check, '__name__', check)} still {result!r} after {seconds} s")
        except AssertionError as error:
            failure = error
        if time.monotonic() > end:
            raise failure
        time.sleep(poll_seconds)
