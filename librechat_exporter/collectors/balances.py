"""What users have left to spend."""

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import LabelValues, Metric

LOW = 0.1  # of the amount that a refill brings

USERS = Metric(
    "librechat_balance_users",
    "Users whose balance is `exhausted` (0 or less), `low` (below a tenth of their refill) or `ok`",
    "gauge",
    "is",
    ("state",),
    ("balance",),
)
CREDITS = Metric(
    "librechat_balance_credits", "Credits that users have left; a million are a dollar", "gauge", "is", (), ("balance",)
)


def read(librechat: LibreChat) -> Values:
    """The states of all balances."""
    if "balances" not in librechat.collections():
        return {}
    users: dict[LabelValues, float] = {("exhausted",): 0, ("low",): 0, ("ok",): 0}
    total = 0.0
    for credits_left, refill in librechat.balances():
        total += credits_left
        state = "ok"
        if credits_left <= 0:
            state = "exhausted"
        elif credits_left < LOW * refill:
            state = "low"
        users[state,] += 1
    return {USERS: users, CREDITS: {(): total}}


def collector() -> StateCollector:
    return StateCollector("balances", (USERS, CREDITS), read)
