"""Scheduled runs, and the API keys of agents that were used: of the windows, as the documents say it now."""

from datetime import timedelta

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.fields import STATUS, created_between, used_between
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import WINDOW, LabelValues, Metric
from librechat_exporter.settings import Settings

RUNS = Metric(
    "librechat_window_schedule_runs",
    "Scheduled runs in the window, exact to the hour",
    "gauge",
    "recent",
    ("status", WINDOW),
    ("usage_window",),
)
KEYS_USED = Metric(
    "librechat_window_agent_api_keys_used",
    "API keys of agents that were last used in the window, exact to the hour",
    "gauge",
    "recent",
    (WINDOW,),
    ("usage_window",),
)


def read(librechat: LibreChat, windows: Windows) -> Values:
    there = librechat.collections()
    now = librechat.now()
    found: dict[Metric, dict[LabelValues, float]] = {}
    for window in windows.names:
        since = windows.beginning(window, now)
        until = now + timedelta(milliseconds=1)
        if "scheduleruns" in there:
            runs = librechat.count_by("scheduleruns", STATUS, match=created_between(since, until))
            found.setdefault(RUNS, {}).update({(status, window): count for (status,), count in runs.items()})
        if "agentapikeys" in there:
            used = librechat.count("agentapikeys", used_between(since, until))
            found.setdefault(KEYS_USED, {})[window,] = used
    return found


def collector(settings: Settings) -> StateCollector:
    windows = Windows(settings.windows, settings.metrics_timezone)
    return StateCollector("schedules", (RUNS, KEYS_USED), lambda librechat: read(librechat, windows))
