"""One scrape: all collectors, each isolated, all bound by the deadline.

Scrapes that overlap share one run. A collector that fails or is late has no samples: never a zero, never an old value.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime

import pymongo
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector as PrometheusCollector

from librechat_exporter.collector import Collector, Outcome, Scrape
from librechat_exporter.faults import REASONS, FaultLog, describe, reason
from librechat_exporter.ledger import Ledger
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import LabelValues
from librechat_exporter.self_metrics import about_itself
from librechat_exporter.settings import Settings

# Between what the scraper waits for and what is left for the work: the answer has to be written and sent as well.
MARGIN_SECONDS = 0.5

# Before a scrape's deadline its collectors give up, so that it can still tell why.
GRACE_SECONDS = 0.1

# A run has as long at least, whoever begins it: scrapes with hardly any time must not each begin one.
LEAST_SECONDS = 1.0

# A MongoDB that does not tell its time so soon is taken for one that is down.
ANSWER_SECONDS = 3.0

# One thread does the work of a usual scrape sooner than several, which would wait for each other to let go of the
# interpreter. Where it has to wait for MongoDB another joins in, and then more: no collector keeps the others waiting.
FIRST_PATIENCE_SECONDS, PATIENCE_SECONDS = 0.005, 0.05
# More than there are collectors, for a run that was given up and the one after it.
THREADS = 64

# Longer than a usual scrape: when the exporter stops, one that is cut off would tell less than is true.
LAST_SCRAPE_SECONDS = 0.5


class StoppingError(Exception):
    """No scrape begins any more: the exporter ends."""


@dataclass(frozen=True)
class LastScrape:
    """ended: of time.monotonic(). problems: of the collectors that failed."""

    ended: float
    seconds: float
    outcomes: Mapping[str, Outcome]
    problems: Mapping[str, str]

    @property
    def age(self) -> float:
        """Seconds since it ended."""
        return time.monotonic() - self.ended


class Scraped(PrometheusCollector):
    """The families that a scrape found, for an encoder. Scrapes that share a run share it."""

    def __init__(self, families: Iterable[PrometheusMetric]) -> None:
        self.families = tuple(families)
        self._texts: dict[Hashable, bytes] = {}
        self._lock = threading.Lock()

    def collect(self) -> Iterable[PrometheusMetric]:
        return self.families

    def text(self, form: Hashable, encode: Callable[["Scraped"], bytes]) -> bytes:
        """The text that `encode` makes in this form: made once, as nothing else in answering takes as long."""
        with self._lock:
            if form not in self._texts:
                self._texts[form] = encode(self)
            return self._texts[form]


@dataclass
class _Run:
    """A run under way. Its outcomes come in one by one; whoever waits takes those that are there at its deadline.

    told: what was made of its outcomes last, by whether MongoDB had answered, and how many they were.
    """

    deadline: float
    started: float = field(default_factory=time.monotonic)
    up: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    sharing: threading.Lock = field(default_factory=threading.Lock)
    told: tuple[tuple[bool, int], Scraped] | None = None
    done: threading.Event = field(default_factory=threading.Event)


def _by_source(collectors: Iterable[Collector]) -> list[Collector]:
    """First one of each of the ledger's sources, so that threads that work side by side read different ones."""
    read: set[str] = set()
    first: list[Collector] = []
    others: list[Collector] = []
    for collector in collectors:
        (others if read.issuperset(collector.sources) else first).append(collector)
        read.update(collector.sources)
    return first + others


class Runner:
    """Runs the collectors that are enabled."""

    def __init__(
        self,
        librechat: LibreChat,
        ledger: Ledger,
        guard: LabelGuard,
        collectors: Iterable[Collector],
        settings: Settings,
    ) -> None:
        self._librechat = librechat
        self._ledger = ledger
        self._guard = guard
        self._settings = settings
        enabled = frozenset(
            metric
            for collector in collectors
            for metric in collector.metrics
            if settings.toggles.issuperset(metric.toggles)
        )
        self._collectors = list(collectors)
        self._in_turn = _by_source(self._collectors)
        self._family_names = {metric.family().name for metric in enabled}
        self._lock = threading.Lock()
        self._current: _Run | None = None
        self._stopping = False
        self._faults = FaultLog()
        # They stay: no scrape starts a thread, but one that has to wait longer than any before it.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="scrape")
        self._failures: dict[LabelValues, float] = {
            (collector.name, why): 0 for collector in self._collectors for why in REASONS
        }
        self.last: LastScrape | None = None

    def scrape(self, deadline: float) -> Scraped:
        """All families that could be measured until the deadline (time.monotonic()). Raises StoppingError."""
        run, is_own = self._join(deadline)
        outcomes = self._wait(run, deadline)
        if not is_own and self._wants_another(run, outcomes, deadline):
            run, _ = self._join(deadline)
            outcomes = self._wait(run, deadline)
        self._ledger.save()
        with run.sharing:
            form = run.up, len(outcomes)
            if run.told is None or run.told[0] != form:
                run.told = form, self._scraped(run, outcomes)
            return run.told[1]

    def _join(self, deadline: float) -> tuple[_Run, bool]:
        """The run under way, or a new one; whether it is new.

        One that began longer ago than this scrape has time tells too little of now. Raises StoppingError.
        """
        now = time.monotonic()
        with self._lock:
            if self._stopping:
                raise StoppingError
            run = self._current
            if run is not None and now < run.deadline and now - run.started < max(LEAST_SECONDS, deadline - now):
                return run, False
            run = _Run(max(deadline - GRACE_SECONDS, now + LEAST_SECONDS))
            self._threads.submit(self._execute, run)
            self._current = run
            return run, True

    def _wait(self, run: _Run, deadline: float) -> dict[str, Outcome]:
        """The outcomes that the run has at the deadline, or at its own."""
        run.done.wait(max(0.0, min(deadline, run.deadline + GRACE_SECONDS) - time.monotonic()))
        with self._lock:
            return dict(run.outcomes)

    def _wants_another(self, run: _Run, outcomes: Mapping[str, Outcome], deadline: float) -> bool:
        """True if the run of another scrape failed for want of time, of which this one has enough left."""
        errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
        was_late = not run.done.is_set() or any(reason(error) in ("timeout", "history") for error in errors)
        has_time = deadline - time.monotonic() > (run.deadline - run.started) / 2
        return run.up and was_late and has_time and not self._stopping

    def _scraped(self, run: _Run, outcomes: Mapping[str, Outcome]) -> Scraped:
        late = Outcome((), time.monotonic() - run.started, TimeoutError("it was not done at the scrape's deadline"))
        outcomes = {collector.name: outcomes.get(collector.name, late) for collector in self._collectors}
        ended = time.monotonic()
        problems = {name: describe(outcome.error) for name, outcome in outcomes.items() if outcome.error is not None}
        self.last = LastScrape(ended, ended - run.started, outcomes, problems)
        families = [family for outcome in outcomes.values() for family in outcome.families]
        return Scraped((*families, *self._about_itself(run.up, outcomes)))

    def stop(self) -> None:
        """Lets the scrape under way end if it is quick, then ends all waiting: they are answered with what there is."""
        with self._lock:
            self._stopping = True
            run = self._current
        if run is not None:
            run.done.wait(LAST_SCRAPE_SECONDS)
            run.done.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _execute(self, run: _Run) -> None:
        """Asks MongoDB for its time, and if it answers, lets the collectors work."""
        try:
            try:
                left = max(0.01, run.deadline - time.monotonic())
                with pymongo.timeout(min(left, ANSWER_SECONDS)):
                    now = self._ledger.ask()
            except Exception as error:  # noqa: BLE001
                self._faults.failed("MongoDB", error)
                for collector in self._collectors:
                    self._record(run, collector, Outcome((), time.monotonic() - run.started, error), log=False)
                return
            self._faults.succeeded("MongoDB")
            run.up = True
            pending = deque(self._in_turn)
            workers = [self._threads.submit(self._work, pending, run, now)]
            wait(workers, FIRST_PATIENCE_SECONDS)
            while pending:
                workers.append(self._threads.submit(self._work, pending, run, now))
                wait(workers[-1:], PATIENCE_SECONDS)
            wait(workers)
        finally:
            with self._lock:
                if self._current is run:
                    self._current = None
            run.done.set()

    def _work(self, pending: deque[Collector], run: _Run, now: datetime) -> None:
        while True:
            try:
                collector = pending.popleft()
            except IndexError:
                return
            self._collect(collector, run, now)

    def _collect(self, collector: Collector, run: _Run, now: datetime) -> None:
        started = time.monotonic()
        scrape = Scrape(self._librechat, self._ledger, self._settings, self._guard, now, run.started, run.deadline)
        try:
            with pymongo.timeout(max(0.01, run.deadline - started)):
                families = [family for family in collector.collect(scrape) if family.name in self._family_names]
        except Exception as error:  # noqa: BLE001
            outcome = Outcome((), time.monotonic() - started, error)
        else:
            outcome = Outcome(families, time.monotonic() - started)
        self._record(run, collector, outcome)

    def _record(self, run: _Run, collector: Collector, outcome: Outcome, *, log: bool = True) -> None:
        with self._lock:
            run.outcomes[collector.name] = outcome
            if outcome.error is not None:
                self._failures[collector.name, reason(outcome.error)] += 1
        if log and outcome.error is not None:
            self._faults.failed(f"Collector {collector.name}", outcome.error)
        elif log:
            self._faults.succeeded(f"Collector {collector.name}")
        if outcome.error is not None:
            outcome.error.__traceback__ = None  # its frames hold the run, which holds it

    def _about_itself(self, up: bool, outcomes: Mapping[str, Outcome]) -> Iterator[PrometheusMetric]:
        ages: dict[LabelValues, float] = {
            (collector.name,): age
            for collector in self._collectors
            if outcomes[collector.name].error is None and (age := collector.data_age()) is not None
        }
        with self._lock:
            failures = dict(self._failures)
        return about_itself(self._ledger, self._guard, outcomes, up=up, ages=ages, failures=failures)
