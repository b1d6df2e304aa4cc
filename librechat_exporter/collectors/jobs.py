"""Jobs that LibreChat does by itself, by their state: scheduled runs, triggers, queued turns, skills, files."""

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat, allowed
from librechat_exporter.librechat.fields import STATUS
from librechat_exporter.metrics.metric import LabelValues, Metric
from librechat_exporter.settings import Settings

_STATES = Metric(
    name="librechat_job_states",
    help="Jobs by their state now, as far as LibreChat keeps them; job, for which Prometheus writes "
    "exported_job, is the collection",
    type="gauge",
    kind="is",
    labels=("job", "state"),
    toggles=("feature",),
)
_JOBS = ("scheduleruns", "agenttriggerdeliveries", "agentqueuedturns", "skillsyncstatuses", "files")


def _read(librechat: LibreChat) -> Values:
    """A collection that may not be read is left out."""
    states: dict[LabelValues, float] = {}
    for job in sorted(librechat.collections().intersection(_JOBS)):
        counts = allowed(lambda job=job: librechat.count_by(job, STATUS))  # type: ignore[misc]
        states |= {(job, state): count for (state,), count in (counts or {}).items()}
    return {_STATES: states}


def collectors(_settings: Settings) -> list[Collector]:
    return [RefreshedCollector("jobs", (_STATES,), _read)]
