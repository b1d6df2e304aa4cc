"""A value that is expensive to read: read in the background, and the less often the longer that takes."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import pymongo

from librechat_exporter.faults import FaultLog

T = TypeVar("T")

INTERVAL_SECONDS = 60.0
# A reading takes at most this share of the time.
SHARE = 1 / 20
# Two readings of MongoDB at a time, of all values. Those that failed after long have a thread of their own, so that a
# collection that does not answer keeps no other waiting; so have those that were quick, for which scrapes wait, and
# what asks no MongoDB. The threads stay: no scrape starts one.
_IN_TURN, _APART, _QUICK, _ELSEWHERE = (ThreadPoolExecutor(most, thread_name_prefix="refresh") for most in (2, 1, 2, 2))
# What takes no longer than this is read on every scrape.
AT_ONCE_SECONDS = 0.003
# A value that cannot be read anew is served until it is this many intervals old.
KEPT_INTERVALS = 3
_READ_DEADLINE = 120.0
_LONGEST_PAUSE = 600.0


class Refreshed(Generic[T]):
    """Holds what was read last. Safe for use from several threads; at most one reading is under way."""

    def __init__(self, name: str, at_once: float = AT_ONCE_SECONDS, *, in_turn: bool = True) -> None:
        """at_once: what takes no more seconds is read on every call. in_turn: it waits as readings of MongoDB do."""
        self._name = name
        self.at_once = at_once
        self._in_turn = in_turn
        self._every = INTERVAL_SECONDS
        self._faults = FaultLog()
        self._lock = threading.Lock()
        self._reading: threading.Event | None = None
        self._held: list[T] = []
        self._error: Exception | None = None
        self._read_at = self._tried_at = float("-inf")
        self._took = 0.0
        self._pause = 0.0
        self._has_given_up = False  # the last reading, after so long that nobody should wait for the next one
        self._failures = 0  # since the last reading that worked

    def restore(self, value: T, age: float, took: float) -> None:
        """Takes over what a former process read so many seconds ago, and how long that took it."""
        with self._lock:
            self._held = [value]
            self._read_at = self._tried_at = time.monotonic() - age
            self._took = took

    @property
    def age(self) -> float:
        """Seconds since the value was read, infinite if it never was."""
        return time.monotonic() - self._read_at

    @property
    def interval(self) -> float:
        """Seconds between readings; 0 is on every call."""
        return 0.0 if self._took <= self.at_once else max(self._every, self._took / SHARE)

    def get(self, read: Callable[[], T], deadline: float, every: float | None = None) -> T:
        """The value, read anew if that is due, which is after `every` seconds at the earliest. Waits, until the
        deadline (time.monotonic()), only for the first reading, and for one that has been quick; for none if the last
        failed after long.

        Raises what `read` raised when there is no value that is young enough, TimeoutError when it is still being read.
        """
        with self._lock:
            self._every = INTERVAL_SECONDS if every is None else every
            interval = self.interval
            if self._reading is None and time.monotonic() - self._tried_at >= max(interval, self._pause):
                self._reading = threading.Event()  # before it starts: it takes itself away when it is done
                try:
                    self._threads(interval).submit(self._refresh, read)
                except RuntimeError:
                    self._reading = None
                    raise
            reading = self._reading
            must_wait = (interval == 0 or not self._is_young()) and not self._has_given_up
        if reading is not None and must_wait:
            reading.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if self._error is not None and (interval == 0 or not self._is_young()):
                raise self._error.with_traceback(None)  # else it grows each time
            if self._is_young():
                return self._held[0]
        raise TimeoutError("the first reading is not done yet" if not self._held else "what was read last is too old")

    def _is_young(self) -> bool:
        return self.age <= KEPT_INTERVALS * max(self.interval, self._every)

    def _threads(self, interval: float) -> ThreadPoolExecutor:
        if not self._in_turn:
            return _ELSEWHERE
        if self._has_given_up:
            return _APART
        return _QUICK if interval == 0 and self._held else _IN_TURN

    def _refresh(self, read: Callable[[], T]) -> None:
        started = time.monotonic()
        try:
            with pymongo.timeout(_READ_DEADLINE):
                value = read()
        except Exception as error:  # noqa: BLE001
            took = time.monotonic() - started
            self._faults.failed(f"Reading {self._name}", error)
            with self._lock:
                self._error = error
                self._has_given_up = took > _READ_DEADLINE * SHARE
                # The longer a fault lasts, the less often it is met.
                longer = min(1 + self._failures, 1 / SHARE)
                self._pause = min(took * longer, _LONGEST_PAUSE) if took > self.at_once else 0.0
                self._failures += 1
        else:
            self._faults.succeeded(f"Reading {self._name}")
            with self._lock:
                self._held = [value]
                self._error = None
                self._pause = 0.0
                self._has_given_up, self._failures = False, 0
                self._read_at = started
                self._took = time.monotonic() - started
        with self._lock:
            self._tried_at = time.monotonic()
            reading, self._reading = self._reading, None
        if reading is not None:
            reading.set()
