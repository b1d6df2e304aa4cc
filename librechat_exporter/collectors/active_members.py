"""Who was active: users by group, by the domain of the e-mail address, and of all who registered.

The ledger tells from memory who was seen when; who belongs to what is read in the background, and so is this worked out
where it takes longer than a moment.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from librechat_exporter.collector import Collector, Scrape, Shown, Values
from librechat_exporter.folds.messages import MESSAGES, SEEN
from librechat_exporter.ledger import Ledger
from librechat_exporter.librechat.members import NOBODY, Member
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import WINDOW, Family, LabelValues, Metric
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings
from librechat_exporter.user_ids import raw

_GROUP_USERS = Metric(
    name="librechat_group_active_users",
    help="Distinct members of the group with a message in the window, exact to the hour; `none`: users without a group",
    type="gauge",
    kind="recent",
    labels=("group", WINDOW),
)
_DOMAIN_USERS = Metric(
    name="librechat_active_users_by_domain",
    help="Distinct users with a message in the window, exact to the hour, by the domain of their e-mail address",
    type="gauge",
    kind="recent",
    labels=("domain", WINDOW),
)
_RETENTION = Metric(
    name="librechat_user_retention_ratio",
    help="Of the users who registered before the window, the share with a message in it; absent if there are none",
    type="gauge",
    kind="recent",
    labels=(WINDOW,),
    toggles=("user",),
)
_ACTIVATION = Metric(
    name="librechat_new_user_activation_ratio",
    help="Of the users who registered in the window, the share with at least one message; absent if there are none",
    type="gauge",
    kind="recent",
    labels=(WINDOW,),
    toggles=("user",),
)


class _MembersCollector(Collector):
    """Shows what it counts of all users and of when each was last seen."""

    sources = (MESSAGES,)

    def __init__(self, name: str, metrics: tuple[Metric, ...]) -> None:
        self.name = name
        self.metrics = metrics
        self._values: Refreshed[Values] = Refreshed(name, in_turn=False)
        self._age: float | None = None
        self._shown = Shown()

    def data_age(self) -> float | None:
        return self._age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        if not scrape.totals.has_seen_all(SEEN):
            return
        ledger, now = scrape.ledger, scrape.now
        values = self._values.get(lambda: self._read(ledger, now), scrape.deadline, scrape.settings.state_refresh)
        self._age = max(self._values.age, ledger.membership.age)
        yield from self._shown.families(lambda: self._families(scrape, values), values)

    def _families(self, scrape: Scrape, values: Values) -> Iterator[Family]:
        samples = scrape.samples()
        for metric in self.metrics:
            for labels, value in values[metric].items():
                samples.add(metric, value, *labels)
            if values[metric]:
                yield samples.family(metric)

    def _read(self, ledger: Ledger, now: datetime) -> Values:
        members: Mapping[str, Member] = ledger.membership.members()
        if ledger.totals.user_key is not raw:
            members = {ledger.totals.user_key(user): member for user, member in members.items()}
        windows, seen = ledger.totals.windows, ledger.totals.seen(SEEN)
        found: dict[Metric, dict[LabelValues, float]] = {metric: {} for metric in self.metrics}
        for window in windows.names:
            since = windows.beginning(window, now)
            for metric, values in self._count(members, seen, since.timestamp(), now.timestamp()).items():
                found[metric] |= {(*labels, window): value for labels, value in values.items()}
        return found

    @abstractmethod
    def _count(
        self, members: Mapping[str, Member], seen: Mapping[str, float], since: float, now: float
    ) -> dict[Metric, dict[LabelValues, float]]:
        """Values of a window that begins at `since`, by labels but for the window. Times are Unix times."""


class _GroupsCollector(_MembersCollector):
    def _count(
        self, members: Mapping[str, Member], seen: Mapping[str, float], since: float, now: float
    ) -> dict[Metric, dict[LabelValues, float]]:
        together = Counter(members.get(user, NOBODY).charged for user, last in seen.items() if last >= since)
        users: Counter[LabelValues] = Counter()
        for groups, count in together.items():
            users.update({(group,): count for group in groups})
        return {_GROUP_USERS: dict(users)}

    def _families(self, scrape: Scrape, values: Values) -> Iterator[Family]:
        """Without `other`, in which members of several groups would count several times."""
        samples = scrape.samples()
        for labels, value in values[_GROUP_USERS].items():
            samples.add(_GROUP_USERS, value, *labels)
        if samples:
            yield _GROUP_USERS.family({labels: users for (_, labels), users in samples.items() if labels[0] != OTHER})


class _DomainsCollector(_MembersCollector):
    def _count(
        self, members: Mapping[str, Member], seen: Mapping[str, float], since: float, now: float
    ) -> dict[Metric, dict[LabelValues, float]]:
        users = Counter(members.get(user, NOBODY).domain for user, last in seen.items() if last >= since)
        return {_DOMAIN_USERS: {(domain,): count for domain, count in users.items()}}


class _RatiosCollector(_MembersCollector):
    def _count(
        self, members: Mapping[str, Member], seen: Mapping[str, float], since: float, now: float
    ) -> dict[Metric, dict[LabelValues, float]]:
        registered = [(user, one.created) for user, one in members.items() if one.created is not None]
        before = [user for user, created in registered if created < since]
        new = [user for user, created in registered if since <= created <= now]
        retained = sum(seen.get(user, 0) >= since for user in before)
        activated = sum(user in seen for user in new)
        return {
            _RETENTION: {(): retained / len(before)} if before else {},
            _ACTIVATION: {(): activated / len(new)} if new else {},
        }


def collectors(settings: Settings) -> list[Collector]:
    found: list[Collector] = [_RatiosCollector("adoption", (_RETENTION, _ACTIVATION))]
    if settings.group_metrics:
        found.append(_GroupsCollector("active_groups", (_GROUP_USERS,)))
    if settings.domain_metrics:
        found.append(_DomainsCollector("active_domains", (_DOMAIN_USERS,)))
    return found
