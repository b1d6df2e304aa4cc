"""A fold says how the documents of one collection are counted."""

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from librechat_exporter.ledger.cell import Cell, Pins
from librechat_exporter.ledger.recent import Moment
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.ledger.windowed import HOUR, hour_of
from librechat_exporter.librechat.database import LibreChat, Span
from librechat_exporter.librechat.expressions import Document, Expression
from librechat_exporter.librechat.fields import Without
from librechat_exporter.librechat.members import Members
from librechat_exporter.librechat.messages import Link, Question
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples

_HOUR_SECONDS = HOUR.total_seconds()
_COMING_SECONDS = 60.0

_Group = TypeVar("_Group")
_K = TypeVar("_K")
_V = TypeVar("_V")


class Cache(dict[_K, _V]):
    """Forgets the older half of what was put in when there is more than `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: _K, value: _V) -> None:
        self[key] = value
        if len(self) > self._most:
            for old in list(self)[: self._most // 2]:
                del self[old]


@dataclass(frozen=True)
class Kind:
    """Users are seen with something of this kind. Those who were seen when it had another shape are forgotten."""

    name: str
    shape: str


def _no_members() -> Members | None:
    return None


@dataclass(frozen=True)
class Reading:
    """A fold reads and counts with these, as of the server's time `now`.

    trusted: that time, as far as it is believed; steady: of Clock. kept: hours of windows are counted from then on;
    None if what is read is older. only: names of the metrics and kinds that are counted; None stands for all.
    questions: users' messages that were met lately. read_members: of Membership. begun: by time.monotonic(), when the
    documents were there.
    """

    librechat: LibreChat
    now: datetime
    trusted: datetime
    steady: datetime
    guard: LabelGuard
    kept: datetime | None
    only: Collection[str] | None = None
    questions: Cache[Link, Question] = field(default_factory=lambda: Cache(0))
    read_members: Callable[[], Members | None] = _no_members
    begun: float = field(default_factory=time.monotonic)

    def samples(self) -> Samples:
        return Samples(self.guard, self.only)

    def wants(self, *names: str) -> bool:
        return self.only is None or any(name in self.only for name in names)

    def hour(self, created: float) -> str | None:
        """The hour of a Unix time, as the last label of what is counted in windows; None if it is in no window."""
        since, until = self._bounds
        return str(int(created // _HOUR_SECONDS)) if since <= created <= until else None

    @functools.cached_property
    def members(self) -> Members | None:
        """All users, the same for all that is read with this; None where they may not be read.

        Raises PyMongoError, TimeoutError as long as they have never been read.
        """
        return self.read_members()

    def is_coming(self, created: float) -> bool:
        """A document of this Unix time was made while this was read: the next reading finds it in its windows."""
        return self._bounds[1] < created <= self._bounds[1] + _COMING_SECONDS

    @functools.cached_property
    def _bounds(self) -> tuple[float, float]:
        return self.kept.timestamp() if self.kept is not None else float("inf"), self.now.timestamp()

    @property
    def span(self) -> Span | None:
        """From after the first moment on that is in any window, until now."""
        return (self.kept - timedelta(milliseconds=1), self.now) if self.kept is not None else None


def kept_from(now: datetime, kept: timedelta) -> datetime:
    """The beginning of the first hour that is kept."""
    return datetime.fromtimestamp(hour_of(now - kept) * HOUR.total_seconds(), UTC)


class Found(NamedTuple):
    """An open document counts as this now.

    final: it would count the same at any later time, unless it is changed. unsettled: it is still being written.
    """

    samples: Samples
    pins: Pins | None = None
    final: bool = True
    unsettled: bool = False
    moment: Moment | None = None


@dataclass(frozen=True)
class Counting(Generic[_Group]):
    """A collector counts documents of a source in these metrics.

    source: the fold's name. add: adds the samples of a group of documents that count alike; the fold says what a group
    is. labels: expressions, for sources that are counted by their texts alone; without: documents that are not counted
    there. of_subagents: messages of sub-agents' threads are counted, and no others. by: transactions of a group share
    these too.
    """

    source: str
    metrics: tuple[Metric, ...]
    add: Callable[[Samples, _Group], None]
    labels: tuple[Expression, ...] = ()
    without: Without | None = None
    of_subagents: bool = False
    by: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self.metrics)


class Fold(ABC, Generic[_Group]):
    """A fold turns documents of one collection into samples: it makes groups of them, which its countings count.

    name: of its source. metrics: all that is counted, the ones in windows among them, which are counted by the hour.
    kinds: of the users seen that it finds. row: expressions that make a document's row, each of bounded size. mirrored:
    by the name of a counter, the metric that shows its last five minutes. reads: other collections
    that tell what documents count as.
    """

    name: str
    collection: str
    kinds: tuple[Kind, ...] = ()
    row: Document
    mirrored: Mapping[str, Metric] = MappingProxyType({})
    reads: tuple[str, ...] = ()

    def __init__(self, countings: Iterable[Counting[_Group]]) -> None:
        self.countings = tuple(countings)
        self.metrics = tuple(metric for counting in self.countings for metric in counting.metrics)

    def counts(self, counting: Counting[_Group], group: _Group) -> bool:
        """The group is counted by this counting."""
        return True

    def count(self, reading: Reading, groups: Iterable[_Group]) -> Samples:
        """The samples of these groups together."""
        samples = reading.samples()
        wanted = self.countings
        if reading.only is not None:
            wanted = tuple(one for one in wanted if reading.wants(*one.names))
        for group in groups:
            for counting in wanted:
                if self.counts(counting, group):
                    counting.add(samples, group)
        return samples

    @abstractmethod
    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        """Each document by itself, in the order of the rows. cells: what they were counted as before."""

    @abstractmethod
    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        """All matching documents together; the sum of what fold_open gives for each."""
