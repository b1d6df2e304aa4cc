"""The last five minutes, told from memory: nothing is read for them."""

import heapq
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.metrics.metric import LabelValues, Metric, Series

_T = TypeVar("_T")

LENGTH = timedelta(minutes=5)
_BEHIND = timedelta(seconds=2)
_PLACES_REMEMBERED = 5_000


class Moment(NamedTuple):
    """When a message was created, as a Unix time, by whom, a hash of its conversation, and whether it calls tools."""

    created: float
    user: str | None
    conversation: int | None
    used_tools: bool


class _Entry:
    """A message by the time it was created. series, amounts: what it counts as, as its cell holds it, so that it takes
    no place of its own."""

    __slots__ = ("amounts", "conversation", "created", "document", "series", "tool_user", "user")

    def __init__(self, document: bytes, moment: Moment, cell: Cell) -> None:
        self.document = document
        self.created, self.user, self.conversation, used_tools = moment
        self.tool_user = moment.user if used_tools else None
        self.series, self.amounts = cell.series, cell.amounts

    def __lt__(self, other: "_Entry") -> bool:
        return self.created < other.created


class Recent:
    """Sums over the messages of the last five minutes, as each was read last. One that is deleted counts on.

    Of several threads, only one at a time may call it.
    """

    def __init__(self, mirrored: Mapping[str, Metric]) -> None:
        """mirrored: by the name of a metric that a message counts in, the one that shows it here."""
        self._mirrored = mirrored
        # By the series of messages, the places of those that are mirrored.
        self._places: dict[tuple[Series, ...], tuple[int, ...]] = {}
        # Messages that will be within the five minutes, and those that are; in order of time, what enters and leaves
        # them, among which are entries that others have replaced.
        self._waiting: dict[bytes, _Entry] = {}
        self._within: dict[bytes, _Entry] = {}
        self._entering: list[_Entry] = []
        self._leaving: list[_Entry] = []
        self._now = float("-inf")
        # By series the sum, and how many messages it is of.
        self._sums: dict[Series, list[float]] = {}
        self._users: Counter[str] = Counter()
        self._conversations: Counter[int] = Counter()
        self._tool_users: Counter[str] = Counter()

    def put(self, document: bytes, moment: Moment, cell: Cell) -> None:
        """A message that was read, and what it counts as."""
        replaced = self._within.pop(document, None)
        if replaced is not None:
            self._count(replaced, -1)
        if moment.created > self._now - LENGTH.total_seconds():
            entry = self._waiting[document] = _Entry(document, moment, cell)
            heapq.heappush(self._entering, entry)
        else:
            self._waiting.pop(document, None)

    def advance(self, now: datetime) -> None:
        """Moves the five minutes so that they end now."""
        moment = now.timestamp()
        if moment < self._now:
            for entry in self._within.values():
                self._count(entry, -1)
            self._waiting |= self._within
            self._within.clear()
            self._leaving.clear()
            self._entering = list(self._waiting.values())
            heapq.heapify(self._entering)
        self._now = moment
        since = moment - LENGTH.total_seconds()
        while self._entering and self._entering[0].created <= moment:
            entry = heapq.heappop(self._entering)
            if self._waiting.get(entry.document) is not entry:
                continue
            del self._waiting[entry.document]
            if entry.created > since:
                self._within[entry.document] = entry
                self._count(entry, 1)
                heapq.heappush(self._leaving, entry)
        while self._leaving and self._leaving[0].created <= since:
            entry = heapq.heappop(self._leaving)
            if self._within.get(entry.document) is entry:
                del self._within[entry.document]
                self._count(entry, -1)

    def follow(self, now: datetime) -> None:
        """Moves them on though nobody asks, so that not all that comes is held, and who asks finds little to do. They
        stay a little behind, as going back, for one who asked before now, is slow."""
        behind = now - _BEHIND
        ahead = self._now - behind.timestamp()
        if ahead < 0 or ahead > LENGTH.total_seconds():  # in which the clock has been set back
            self.advance(behind)

    def _count(self, entry: _Entry, sign: int) -> None:
        places = self._places.get(entry.series)
        if places is None:
            if len(self._places) >= _PLACES_REMEMBERED:
                self._places.clear()
            places = tuple(place for place, (name, _) in enumerate(entry.series) if name in self._mirrored)
            self._places[entry.series] = places
        for place in places:
            series, amount = entry.series[place], entry.amounts[place]
            held = self._sums.setdefault(series, [0, 0])
            held[0] += sign * amount
            held[1] += sign
            if not held[1]:
                del self._sums[series]
        _add(self._users, entry.user, sign)
        _add(self._conversations, entry.conversation, sign)
        _add(self._tool_users, entry.tool_user, sign)

    def values(self) -> dict[Metric, dict[LabelValues, float]]:
        """Sums by metric and labels; a metric without labels is 0 if there are no messages."""
        found: dict[Metric, dict[LabelValues, float]] = {
            metric: {} if metric.labels else {(): 0.0} for metric in self._mirrored.values()
        }
        for (name, labels), (amount, _) in self._sums.items():
            found[self._mirrored[name]][labels] = amount
        return found

    def distinct(self) -> tuple[int, int, int]:
        """Users, conversations, and users who called tools."""
        return len(self._users), len(self._conversations), len(self._tool_users)


def _add(counter: Counter[_T], one: _T | None, sign: int) -> None:
    if one is not None:
        counter[one] += sign
        if not counter[one]:
            del counter[one]
