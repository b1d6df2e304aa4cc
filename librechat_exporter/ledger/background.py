"""Threads that do their work again and again, whatever fails."""

import threading
import time
from collections.abc import Callable

from librechat_exporter.faults import FaultLog


class Background:
    """ending: set when all work is to end soon."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._faults = FaultLog()
        self._threads: list[threading.Thread] = []

    def run(self, thread: threading.Thread) -> None:
        """Starts a thread, which end() waits for."""
        self._threads.append(thread)
        thread.start()

    def repeat(self, name: str, what: str, work: Callable[[], None], every: float, first: float = 0.0) -> None:
        """Starts a thread that works with pauses of so many seconds, and the first after so many."""
        arguments = what, work, every, first
        self.run(threading.Thread(target=self._repeat, args=arguments, name=name, daemon=True))

    def _repeat(self, what: str, work: Callable[[], None], every: float, first: float) -> None:
        self.ending.wait(first)
        while not self.ending.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001
                if not self.ending.is_set():
                    self._faults.failed(what, error)
            else:
                self._faults.succeeded(what)
            self.ending.wait(every)

    def end(self, seconds: float) -> None:
        """Waits so long at most for what the threads are doing."""
        self.ending.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
