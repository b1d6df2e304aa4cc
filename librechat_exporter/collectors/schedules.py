"""Scheduled runs, and the API keys of agents that were used: of the windows, as the documents say it now."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import STATUS, created_between, used_between
from librechat_exporter.metrics.metric import WINDOW, LabelValues, Metric
from librechat_exporter.settings import Settings

_RUNS = Metric(
    name="librechat_window_schedule_runs",
    help="Scheduled runs in the window, exact to the hour",
    type="gauge",
    kind="recent",
    labels=("status", WINDOW),
    toggles=("usage_window",),
)
_KEYS_USED = Metric(
    name="librechat_window_agent_api_keys_used",
    help="API keys of agents that were last used in the window, exact to the hour",
    type="gauge",
    kind="recent",
    labels=(WINDOW,),
    toggles=("usage_window",),
)


def _bounds(windows: Windows, now: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    """Each window with its beginning and the first moment after it."""
    for window in windows.names:
        yield window, windows.beginning(window, now), now + timedelta(milliseconds=1)


def _read_runs(librechat: LibreChat, windows: Windows) -> Values:
    runs: dict[LabelValues, float] = {}
    for window, since, until in _bounds(windows, librechat.now()):
        counts = librechat.count_by("scheduleruns", STATUS, match=created_between(since, until))
        runs |= {(status, window): count for (status,), count in counts.items()}
    return {_RUNS: runs}


def _read_keys_used(librechat: LibreChat, windows: Windows) -> Values:
    bounds = _bounds(windows, librechat.now())
    used: dict[LabelValues, float] = {
        (window,): librechat.count("agentapikeys", used_between(since, until)) for window, since, until in bounds
    }
    return {_KEYS_USED: used}


def collectors(settings: Settings) -> list[Collector]:
    windows = Windows(settings.windows, settings.metrics_timezone)
    in_windows = partial(RefreshedCollector, depends_on=f"{settings.windows} {settings.metrics_timezone}")
    read_runs, read_keys_used = (partial(read, windows=windows) for read in (_read_runs, _read_keys_used))
    return [
        in_windows("schedule_runs", (_RUNS,), read_runs, collection="scheduleruns"),
        in_windows("agent_api_keys_used", (_KEYS_USED,), read_keys_used, collection="agentapikeys"),
    ]
