"""Users as they are now: by provider and role, and who is logged in."""

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import PROVIDER, ROLE, SESSION_USER, is_unexpired
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.settings import Settings

_USERS = Metric(
    name="librechat_users",
    help="Users, by provider and role",
    type="gauge",
    kind="is",
    labels=("provider", "role"),
    toggles=("user",),
)
_LOGGED_IN = Metric(
    name="librechat_logged_in_users",
    help="Users with a session that has not expired",
    type="gauge",
    kind="is",
    toggles=("user",),
)


def _read_users(librechat: LibreChat) -> Values:
    return {_USERS: librechat.count_by("users", PROVIDER, ROLE)}


def _read_sessions(librechat: LibreChat) -> Values:
    return {_LOGGED_IN: {(): librechat.count_distinct("sessions", SESSION_USER, is_unexpired(librechat.now()))}}


def collectors(_settings: Settings) -> list[Collector]:
    return [
        RefreshedCollector("people", (_USERS,), _read_users, collection="users"),
        RefreshedCollector("sessions", (_LOGGED_IN,), _read_sessions, collection="sessions"),
    ]
