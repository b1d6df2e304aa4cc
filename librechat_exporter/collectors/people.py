"""Users as they are now: by provider and role, and who is logged in."""

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.fields import EMAIL_DOMAIN, PROVIDER, ROLE
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Metric
from librechat_exporter.settings import Settings

USERS = Metric("librechat_users", "Users", "gauge", "is", ("provider", "role"), ("user",))
LOGGED_IN = Metric(
    "librechat_logged_in_users", "Users with a session that has not expired", "gauge", "is", groups=("user",)
)
BY_DOMAIN = Metric(
    "librechat_users_by_domain", "Users, by the domain of their e-mail address", "gauge", "is", ("domain",)
)


def read(librechat: LibreChat) -> Values:
    there = librechat.collections()
    found: dict[Metric, dict[tuple[str, ...], float]] = {}
    if "users" in there:
        found[USERS] = librechat.count_by("users", PROVIDER, ROLE)
    if "sessions" in there:
        found[LOGGED_IN] = {(): librechat.logged_in()}
    return found


def read_domains(librechat: LibreChat) -> Values:
    return {BY_DOMAIN: librechat.count_by("users", EMAIL_DOMAIN)} if "users" in librechat.collections() else {}


class DomainsCollector(StateCollector):
    """Off unless asked for: in a small organisation a domain can be a person."""

    def is_used(self, settings: Settings) -> bool:
        return settings.domain_metrics


def collectors() -> list[StateCollector]:
    return [
        StateCollector("people", (USERS, LOGGED_IN), read),
        DomainsCollector("domains", (BY_DOMAIN,), read_domains),
    ]
