"""Documents that are only counted: conversations, files, registered users, audit events."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.documents import DocumentGroup
from librechat_exporter.folds.messages import WITHOUT_SUBAGENTS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.expressions import Expression
from librechat_exporter.librechat.fields import CATEGORY, OUTCOME, SUBAGENT_THREADS, Without
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_CONVERSATIONS = Metric(
    name="librechat_conversations_total",
    help="Conversations started",
    type="counter",
    kind="happened",
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS,),
)
_FILES = Metric(
    name="librechat_uploaded_files_total",
    help="Files uploaded",
    type="counter",
    kind="happened",
    toggles=("file",),
)
_USERS = Metric(
    name="librechat_registered_users_total",
    help="Users that registered",
    type="counter",
    kind="happened",
    toggles=("user",),
)
_AUDIT_EVENTS = Metric(
    name="librechat_audit_events_total",
    help="Events in LibreChat's audit log",
    type="counter",
    kind="happened",
    labels=("category", "outcome"),
    toggles=("feature",),
)


def _counted(collection: str, metric: Metric, *labels: Expression, without: Without | None = None) -> Collector:
    def add(samples: Samples, group: DocumentGroup) -> None:
        samples.add(metric, group.count, *group.labels)

    return CountingCollector(collection, Counting(collection, (metric,), add, labels, without))


def collectors(_settings: Settings) -> list[Collector]:
    return [
        _counted("conversations", _CONVERSATIONS, without=SUBAGENT_THREADS),
        _counted("files", _FILES),
        _counted("users", _USERS),
        _counted("auditlogs", _AUDIT_EVENTS, CATEGORY, OUTCOME),
    ]
