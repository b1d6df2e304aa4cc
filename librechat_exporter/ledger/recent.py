"""The last five minutes, told from memory: nothing is read for them."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.metric import LabelValues, Metric, Series

LENGTH = timedelta(minutes=5)


class Moment(NamedTuple):
    """When a message was created, as a Unix time, in which conversation, by whom, and whether that called tools."""

    created: float
    user: str | None
    conversation: str | None
    used_tools: bool


class _Entry(NamedTuple):
    moment: Moment
    samples: tuple[tuple[Series, float], ...]


class Recent:
    """Sums over the messages of the last five minutes, as each was read last. One that is deleted counts on.

    Of several threads, only one at a time may call it.
    """

    def __init__(self, mirrored: Mapping[str, Metric]) -> None:
        """mirrored: by the name of a metric that a message counts in, the one that shows it here."""
        self._mirrored = mirrored
        # Messages stay as long as they are open: the clock may go back.
        self._entries: dict[bytes, _Entry] = {}
        self._sealed: set[bytes] = set()
        # Those within the five minutes, and in order of time what will enter and leave them.
        self._within: set[bytes] = set()
        self._entering: list[tuple[float, bytes]] = []
        self._leaving: list[tuple[float, bytes]] = []
        self._now = float("-inf")
        # By series the sum, and how many messages it is of.
        self._sums: dict[Series, list[float]] = {}
        self._users: Counter[str] = Counter()
        self._conversations: Counter[str] = Counter()
        self._tool_users: Counter[str] = Counter()

    def put(self, document: bytes, moment: Moment, cell: Cell) -> None:
        """A message that was read."""
        if document in self._within:
            self._count(self._entries[document], -1)
            self._within.discard(document)
        pairs = zip(cell.series, cell.amounts, strict=True)
        samples = tuple((series, amount) for series, amount in pairs if series[0] in self._mirrored)
        self._entries[document] = _Entry(moment, samples)
        if moment.created > self._now - LENGTH.total_seconds():
            heapq.heappush(self._entering, (moment.created, document))

    def seal(self, documents: Iterable[bytes]) -> None:
        """Messages that are not read again."""
        for document in documents:
            entry = self._entries.get(document)
            if entry is None:
                continue
            if document in self._within or entry.moment.created > self._now:
                self._sealed.add(document)
            else:
                del self._entries[document]

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
            if self._is_of(document, created) and document not in self._within and created > since:
                self._within.add(document)
                self._count(self._entries[document], 1)
                heapq.heappush(self._leaving, (created, document))
        while self._leaving and self._leaving[0][0] <= since:
            created, document = heapq.heappop(self._leaving)
            if document in self._within and self._is_of(document, created):
                self._within.discard(document)
                self._count(self._entries[document], -1)
                if document in self._sealed:
                    self._sealed.discard(document)
                    del self._entries[document]

    def _is_of(self, document: bytes, created: float) -> bool:
        """Whether a place in the order of time is still the message's."""
        entry = self._entries.get(document)
        return entry is not None and entry.moment.created == created

    def _count(self, entry: _Entry, sign: int) -> None:
        for series, amount in entry.samples:
            held = self._sums.setdefault(series, [0, 0])
            held[0] += sign * amount
            held[1] += sign
            if not held[1]:
                del self._sums[series]
        moment = entry.moment
        for counter, one in (
            (self._users, moment.user),
            (self._conversations, moment.conversation),
            (self._tool_users, moment.user if moment.used_tools else None),
        ):
            if one is not None:
                counter[one] += sign
                if not counter[one]:
                    del counter[one]

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
