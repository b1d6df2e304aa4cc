"""Messages, tokens and cost by whom they are charged to: groups, domains of e-mail addresses, users.

Each is off unless it is asked for, as a small group, or a domain, can be a person.
"""

from functools import partial

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, MessageGroup
from librechat_exporter.folds.payers import DOMAIN, GROUP, USER
from librechat_exporter.folds.transactions import TRANSACTIONS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.fields import USD_PARTS
from librechat_exporter.librechat.transactions import BY_USER, Billed
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_WHOSE = {
    GROUP: "members of the group, as it is when they are counted; `none`: users without a group",
    DOMAIN: "users whose e-mail address has the domain",
    USER: "the user, who is named by a keyed hash or LibreChat's id, as PER_USER_METRICS says",
}


def _metrics(kind: str, variant: str) -> tuple[Metric, Metric, Metric]:
    """Of messages, tokens and cost. variant: of Metric."""
    counter = partial(Metric, type="counter", kind="happened", variant=variant)
    return (
        counter(
            name=f"librechat_{kind}_messages_total", help=f"Questions and answers of {_WHOSE[kind]}", labels=(kind,)
        ),
        counter(
            name=f"librechat_{kind}_tokens_total",
            help=f"Tokens (input, output, cache_read, cache_write) billed to {_WHOSE[kind]}",
            labels=(kind, "token_type"),
            chosen=("token_type",),
        ),
        counter(
            name=f"librechat_{kind}_cost_usd_total",
            help=f"US dollars billed to {_WHOSE[kind]}",
            labels=(kind,),
            parts=USD_PARTS,
        ),
    )


def _collectors(kind: str, variant: str = "") -> list[Collector]:
    """A charge stays with whom it was charged to; there are no payers as long as it is not known who pays."""
    messages, tokens, cost = _metrics(kind, variant)

    def add_messages(samples: Samples, group: MessageGroup) -> None:
        if messages.name in group.counted:
            return
        for name, count in group.payers.get(kind, {}).items():
            samples.add(messages, count, name)

    def add_billed(samples: Samples, billed: Billed) -> None:
        if not billed.is_spent or cost.name in billed.counted:
            return
        for name in billed.payers.get(kind, ()):
            samples.add(cost, billed.charged, name)
            for token_type, count in billed.by_token_type().items():
                samples.add(tokens, count, name, token_type)

    return [
        CountingCollector(f"{kind}_messages", Counting(MESSAGES, (messages,), add_messages)),
        CountingCollector(f"{kind}_cost", Counting(TRANSACTIONS, (tokens, cost), add_billed, by=(BY_USER,))),
    ]


def collectors(settings: Settings) -> list[Collector]:
    """A user who is named in another way is another series."""
    found: list[Collector] = []
    if settings.group_metrics:
        found += _collectors(GROUP)
    if settings.domain_metrics:
        found += _collectors(DOMAIN)
    if settings.per_user_metrics != "off":
        found += _collectors(USER, variant=settings.name_user("how users are named"))
    return found
