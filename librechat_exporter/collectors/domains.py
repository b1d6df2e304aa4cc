"""Users by the domain of their e-mail address: off unless asked for, as a small domain can be a person."""

from collections.abc import Iterator, Mapping

from librechat_exporter.collector import Collector, RefreshedCollector, Scrape, Values
from librechat_exporter.folds.messages import MESSAGES, SEEN
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import EMAIL_DOMAIN, UNKNOWN
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH
from librechat_exporter.metrics.metric import WINDOW, Family, Metric
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings

_USERS = Metric(
    name="librechat_users_by_domain",
    help="Users, by the domain of their e-mail address",
    type="gauge",
    kind="is",
    labels=("domain",),
)
_ACTIVE = Metric(
    name="librechat_active_users_by_domain",
    help="Distinct users with a message in the window, exact to the hour, by the domain of their e-mail address",
    type="gauge",
    kind="recent",
    labels=("domain", WINDOW),
    toggles=("usage_window",),
)


def _read(librechat: LibreChat) -> Values:
    return {_USERS: librechat.count_by("users", EMAIL_DOMAIN)} if "users" in librechat.collections() else {}


def _domains_of_users(librechat: LibreChat) -> dict[str, str]:
    """The domain of each user's e-mail address, by the user's id."""
    rows = librechat.aggregate("users", {}, {"$project": {"domain": EMAIL_DOMAIN}})
    return {str(row["_id"]): (row["domain"] or UNKNOWN)[:MAX_LABEL_LENGTH] for row in rows}


class _DomainsCollector(RefreshedCollector):
    def __init__(self) -> None:
        super().__init__("domains", (_USERS,), _read)

    def is_used(self, settings: Settings) -> bool:
        return settings.domain_metrics


class _ActiveDomainsCollector(Collector):
    """The ledger tells from memory who was active; the users' domains are read in the background."""

    name = "active_domains"
    metrics = (_ACTIVE,)
    sources = (MESSAGES,)

    def __init__(self) -> None:
        self._domains: Refreshed[Mapping[str, str]] = Refreshed(self.name, at_once=0.0)

    def is_used(self, settings: Settings) -> bool:
        return settings.domain_metrics

    def data_age(self) -> float | None:
        return self._domains.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        domains = self._domains.get(
            lambda: _domains_of_users(scrape.librechat), scrape.deadline, scrape.settings.state_refresh
        )
        if not scrape.totals.has_seen_all(SEEN):
            return
        of_user = {scrape.totals.user_key(user): domain for user, domain in domains.items()}
        samples = scrape.samples()
        windows, seen = scrape.totals.windows, scrape.totals.seen(SEEN)
        for window in windows.names:
            since = windows.beginning(window, scrape.now).timestamp()
            for user, last in seen.items():
                if last >= since:
                    samples.add(_ACTIVE, 1, of_user.get(user, UNKNOWN), window)
        yield samples.family(_ACTIVE)


def collectors(_settings: Settings) -> list[Collector]:
    return [_DomainsCollector(), _ActiveDomainsCollector()]
