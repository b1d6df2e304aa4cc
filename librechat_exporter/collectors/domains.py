"""Users by the domain of their e-mail address: off unless asked for, as a small domain can be a person."""

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import EMAIL_DOMAIN
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.settings import Settings

_USERS = Metric(
    name="librechat_users_by_domain",
    help="Users, by the domain of their e-mail address",
    type="gauge",
    kind="is",
    labels=("domain",),
)


def _read(librechat: LibreChat) -> Values:
    return {_USERS: librechat.count_by("users", EMAIL_DOMAIN)}


def collectors(settings: Settings) -> list[Collector]:
    return [RefreshedCollector("domains", (_USERS,), _read, collection="users")] if settings.domain_metrics else []
