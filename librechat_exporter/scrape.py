"""One scrape: all collectors, each isolated, all bound by the deadline; and what the exporter tells of
itself.

Scrapes that overlap share one run. A collector that fails or is late has no samples: never a zero, never an old value.
"""

import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pymongo
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector as PrometheusCollector

from librechat_exporter import __version__
from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.faults import REASONS, FaultLog, describe, reason
from librechat_exporter.ledger import Ledger
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Family, LabelValues, Metric
from librechat_exporter.settings import Settings

UP = Metric("librechat_up", "Whether LibreChat's MongoDB answered", "gauge", "self")
BUILD_INFO = Metric("librechat_exporter_build_info", "The exporter's version", "gauge", "self", ("version", "python"))
SUCCESS = Metric(
    "librechat_exporter_collector_success",
    "Whether the collector measured in this scrape",
    "gauge",
    "self",
    ("collector",),
)
DURATION = Metric(
    "librechat_exporter_collector_duration_seconds", "How long the collector took", "gauge", "self", ("collector",)
)
FAILURES = Metric(
    "librechat_exporter_collector_errors_total",
    "Scrapes in which the collector failed",
    "counter",
    "self",
    ("collector", "reason"),
)
PROGRESS = Metric(
    "librechat_exporter_history_progress_ratio",
    "How much of the time before the exporter's start is folded; the source's counters are absent until it is all",
    "gauge",
    "self",
    ("source",),
)
PERSISTENT = Metric(
    "librechat_exporter_state_persistent", "Whether the counters are on disk and survive a restart", "gauge", "self"
)
DATA_AGE = Metric(
    "librechat_exporter_data_age_seconds",
    "Age of what the collector serves, for one that is not read on every scrape",
    "gauge",
    "self",
    ("collector",),
)
DROPPED = Metric(
    "librechat_exporter_label_values_dropped_total",
    "Distinct label values since the start that are counted under `other`, as the label has MAX_LABEL_VALUES already",
    "counter",
    "self",
    ("label",),
)
SELF_METRICS = (UP, BUILD_INFO, SUCCESS, DURATION, FAILURES, PROGRESS, PERSISTENT, DATA_AGE, DROPPED)

# Between what the scraper waits for and what is left for the work: the answer has to be written and sent as well.
MARGIN_SECONDS = 0.5

# Before a scrape's deadline its collectors give up, so that it can still tell why.
GRACE_SECONDS = 0.1

# A MongoDB that does not tell its time so soon is taken for one that is down.
ANSWER_SECONDS = 3.0

# Two threads do the work of a usual scrape sooner than one for each collector, which would wait for each other to let
# go of the interpreter. A collector that takes longer than a moment keeps nobody waiting: another thread joins in.
WORKERS = 2
PATIENCE_SECONDS = 0.05

# Longer than a usual scrape: when the exporter stops, one that is cut off would tell less than is true.
LAST_SCRAPE_SECONDS = 0.5


class Scraped(PrometheusCollector):
    """What a scrape found, for an encoder. Scrapes that share a run in which all succeeded get the same one."""

    def __init__(self, families: Iterable[PrometheusMetric]) -> None:
        self.families = tuple(families)

    def collect(self) -> Iterable[PrometheusMetric]:
        return self.families


@dataclass(frozen=True)
class Outcome:
    """What one collector did in one run. error is None if it succeeded."""

    families: Sequence[Family]
    seconds: float
    error: BaseException | None = None


@dataclass
class _Run:
    """A run under way. Its outcomes come in one by one; whoever waits takes those that are there at its deadline."""

    deadline: float
    started: float = field(default_factory=time.monotonic)
    up: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    sharing: threading.Lock = field(default_factory=threading.Lock)
    scraped: Scraped | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Runs the collectors that are enabled."""

    def __init__(
        self,
        librechat: LibreChat,
        ledger: Ledger,
        collectors: Iterable[Collector],
        settings: Settings,
    ) -> None:
        self._librechat = librechat
        self._ledger = ledger
        self._settings = settings
        self._enabled = frozenset(
            metric
            for collector in collectors
            for metric in collector.metrics
            if settings.groups.issuperset(metric.groups)
        )
        self._collectors = [collector for collector in collectors if not self._enabled.isdisjoint(collector.metrics)]
        self._family_names = {metric.family().name for metric in self._enabled}
        self._lock = threading.Lock()
        self._current: _Run | None = None
        self._stopping = False
        self._faults = FaultLog()
        self._failures: dict[LabelValues, float] = {
            (collector.name, why): 0 for collector in self._collectors for why in REASONS
        }
        self.last: Mapping[str, Outcome] = {}
        self.up = False

    def scrape(self, deadline: float) -> Scraped:
        """All families that could be measured until the deadline (time.monotonic())."""
        while True:
            with self._lock:
                run = self._current
                joined = run is not None and time.monotonic() < run.deadline
                if run is None or not joined:
                    run = _Run(deadline - GRACE_SECONDS)
                    _start(self._execute, run)
                    self._current = run
            run.done.wait(max(0.0, deadline - time.monotonic()))
            with self._lock:
                outcomes = dict(run.outcomes)
            # What another scrape began may have failed for want of time that this one still has.
            complete = all(outcome.error is None for outcome in outcomes.values())
            ended = self._stopping or time.monotonic() >= deadline
            if not joined or ended or (run.done.is_set() and complete):
                break
        with run.sharing:
            return run.scraped or self._scraped(run, outcomes)

    def _scraped(self, run: _Run, outcomes: Mapping[str, Outcome]) -> Scraped:
        late = Outcome((), time.monotonic() - run.started, TimeoutError("it was not done at the scrape's deadline"))
        outcomes = {collector.name: outcomes.get(collector.name, late) for collector in self._collectors}
        self.last, self.up = outcomes, run.up
        families = [family for outcome in outcomes.values() for family in outcome.families]
        scraped = Scraped((*families, *self._about_itself(run.up, outcomes)))
        if all(outcome.error is None for outcome in outcomes.values()):
            run.scraped = scraped
        return scraped

    def stop(self) -> None:
        """Lets the scrape under way end if it is quick, then ends all waiting: they are answered with what there is."""
        with self._lock:
            self._stopping = True
            run = self._current
        if run is not None:
            run.done.wait(LAST_SCRAPE_SECONDS)
            run.done.set()

    def _execute(self, run: _Run) -> None:
        """Asks MongoDB for its time, and if it answers, lets the collectors work."""
        try:
            try:
                left = max(0.01, run.deadline - time.monotonic())
                with pymongo.timeout(min(left, ANSWER_SECONDS)):
                    now = self._librechat.now()
            except Exception as error:  # noqa: BLE001
                self._faults.failed("MongoDB", error)
                for collector in self._collectors:
                    self._record(run, collector, Outcome((), time.monotonic() - run.started, error), log=False)
                return
            self._faults.succeeded("MongoDB")
            run.up = True
            pending = deque(self._collectors)
            workers = [_start(self._work, pending, run, now) for _ in range(WORKERS)]
            while pending:
                workers[-1].join(PATIENCE_SECONDS)
                if pending:
                    workers.append(_start(self._work, pending, run, now))
            for worker in workers:
                worker.join()
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
        scrape = Scrape(self._librechat, self._ledger, self._enabled, self._settings, now, run.started, run.deadline)
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

    def _about_itself(self, up: bool, outcomes: Mapping[str, Outcome]) -> Iterator[PrometheusMetric]:
        ages: dict[LabelValues, float] = {
            (collector.name,): age
            for collector in self._collectors
            if outcomes[collector.name].error is None and (age := collector.data_age()) is not None
        }
        with self._lock:
            failures = dict(self._failures)
        yield UP.family({(): up})
        yield BUILD_INFO.family({(__version__, platform.python_version()): 1})
        yield SUCCESS.family({(name,): outcome.error is None for name, outcome in outcomes.items()})
        yield DURATION.family({(name,): outcome.seconds for name, outcome in outcomes.items()})
        yield FAILURES.family(failures)
        yield PROGRESS.family({(source,): ratio for source, ratio in self._ledger.progress().items()})
        yield PERSISTENT.family({(): self._ledger.persistent})
        yield DATA_AGE.family(ages)
        yield DROPPED.family(self._ledger.guard.dropped())
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            yield from collector.collect()

    def problems(self) -> dict[str, str]:
        """What went wrong in the last scrape, by collector."""
        return {name: describe(outcome.error) for name, outcome in self.last.items() if outcome.error is not None}


def _start(work: Callable[..., None], *args: Any) -> threading.Thread:
    """A thread that does not keep the process from ending."""
    thread = threading.Thread(target=work, args=args, name=work.__name__.strip("_"), daemon=True)
    thread.start()
    return thread
