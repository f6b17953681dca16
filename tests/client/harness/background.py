"""Work in threads during a `with` statement."""

import threading


class Background:
    """Runs functions in threads of their own while its `with` statement runs. Each returns soon after `_ended` is set."""

    def __init__(self, works):
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()
