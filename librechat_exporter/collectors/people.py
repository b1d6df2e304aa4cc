"""Users as they are now: by provider and role, and who is logged in."""

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.librechat import PROVIDER, ROLE, LibreChat
from librechat_exporter.metric import Metric

USERS = Metric("librechat_users", "Users", "gauge", "is", ("provider", "role"), ("user",))
LOGGED_IN = Metric(
    "librechat_logged_in_users", "Users with a session that has not expired", "gauge", "is", groups=("user",)
)


def read(librechat: LibreChat) -> Values:
    there = librechat.collections()
    found: dict[Metric, dict[tuple[str, ...], float]] = {}
    if "users" in there:
        found[USERS] = librechat.count_by("users", PROVIDER, ROLE)
    if "sessions" in there:
        found[LOGGED_IN] = {(): librechat.logged_in()}
    return found


def collector() -> StateCollector:
    return StateCollector("people", (USERS, LOGGED_IN), read)
