"""Balances: the credits that users have left."""

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat, number
from librechat_exporter.librechat.fields import BALANCE_USER, CREDITS_LEFT, REFILL
from librechat_exporter.metrics.metric import LabelValues, Metric
from librechat_exporter.settings import Settings

_LOW = 0.1  # of the amount that a refill brings

_USERS = Metric(
    name="librechat_balance_users",
    help="Users whose balance is `exhausted` (0 or less), `low` (below a tenth of their refill) or `ok`",
    type="gauge",
    kind="is",
    labels=("state",),
    toggles=("balance",),
)
_CREDITS = Metric(
    name="librechat_balance_credits",
    help="Credits that all users together have left; a million credits are one US dollar",
    type="gauge",
    kind="is",
    toggles=("balance",),
)


def _balances(librechat: LibreChat) -> list[tuple[float, float]]:
    """Each user's credits and refill, which is 0 if there is none; without balances whose credits are no number."""
    first = {"_id": BALANCE_USER, "credits": {"$first": CREDITS_LEFT}, "refill": {"$first": REFILL}}
    rows = librechat.aggregate("balances", {}, {"$sort": {"_id": 1}}, {"$group": first})
    return [(number(row["credits"]), number(row["refill"])) for row in rows if row["credits"] is not None]


def _read(librechat: LibreChat) -> Values:
    users: dict[LabelValues, float] = {("exhausted",): 0, ("low",): 0, ("ok",): 0}
    total = 0.0
    for credits_left, refill in _balances(librechat):
        total += credits_left
        state = "ok"
        if credits_left <= 0:
            state = "exhausted"
        elif credits_left < _LOW * refill:
            state = "low"
        users[state,] += 1
    return {_USERS: users, _CREDITS: {(): total}}


def collectors(_settings: Settings) -> list[Collector]:
    return [RefreshedCollector("balances", (_USERS, _CREDITS), _read, collection="balances")]
