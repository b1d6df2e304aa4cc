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
_PLACES_REMEMBERED = 20_000


class Moment(NamedTuple):
    """When a message was created, as a Unix time, by whom, a hash of its conversation, and whether it calls tools."""

    created: float
    user: str | None
    conversation: int | None
    used_tools: bool


class _Entry(NamedTuple):
    """series, amounts: what the message counts as, as its cell holds it, so that it takes no place of its own."""

    moment: Moment
    series: tuple[Series, ...]
    amounts: tuple[float, ...]


class Recent:
    """Sums over the messages of the last five minutes, as each was read last. One that is deleted counts on.

    Of several threads, only one at a time may call it.
    """

    def __init__(self, mirrored: Mapping[str, Metric]) -> None:
        """mirrored: by the name of a metric that a message counts in, the one that shows it here."""
        self._mirrored = mirrored
        # By the series of messages, the places of those that are mirrored.
        self._places: dict[tuple[Series, ...], tuple[int, ...]] = {}
        # Of messages that are within the five minutes, or will be.
        self._entries: dict[bytes, _Entry] = {}
        # Those within the five minutes, and in order of time what will enter and leave them.
        self._within: set[bytes] = set()
        self._entering: list[tuple[float, bytes]] = []
        self._leaving: list[tuple[float, bytes]] = []
        self._now = float("-inf")
        # By series the sum, and how many messages it is of.
        self._sums: dict[Series, list[float]] = {}
        self._users: Counter[str] = Counter()
        self._conversations: Counter[int] = Counter()
        self._tool_users: Counter[str] = Counter()

    def put(self, document: bytes, moment: Moment, cell: Cell) -> None:
        """A message that was read, and what it counts as."""
        if document in self._within:
            self._count(self._entries[document], -1)
            self._within.discard(document)
        if moment.created > self._now - LENGTH.total_seconds():
            self._entries[document] = _Entry(moment, cell.series, cell.amounts)
            heapq.heappush(self._entering, (moment.created, document))
        else:
            self._entries.pop(document, None)

    def advance(self, now: datetime) -> None:
        """Moves the five minutes so that they end now."""
        moment = now.timestamp()
        if moment < self._now:
            for document in self._within:
                self._count(self._entries[document], -1)
            self._within.clear()
            self._leaving.clear()
            self._entering = [(entry.moment.created, document) for document, entry in self._entries.items()]
            heapq.heapify(self._entering)
        self._now = moment
        since = moment - LENGTH.total_seconds()
        while self._entering and self._entering[0][0] <= moment:
            created, document = heapq.heappop(self._entering)
            if not self._is_of(document, created) or document in self._within:
                continue
            if created > since:
                self._within.add(document)
                self._count(self._entries[document], 1)
                heapq.heappush(self._leaving, (created, document))
            else:
                del self._entries[document]
        while self._leaving and self._leaving[0][0] <= since:
            created, document = heapq.heappop(self._leaving)
            if document in self._within and self._is_of(document, created):
                self._within.discard(document)
                self._count(self._entries.pop(document), -1)

    def _is_of(self, document: bytes, created: float) -> bool:
        """A place in the order of time is still the message's."""
        entry = self._entries.get(document)
        return entry is not None and entry.moment.created == created

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
        moment = entry.moment
        _add(self._users, moment.user, sign)
        _add(self._conversations, moment.conversation, sign)
        _add(self._tool_users, moment.user if moment.used_tools else None, sign)

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
