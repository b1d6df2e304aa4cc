"""Transactions: what LibreChat bills."""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from librechat_exporter.librechat.database import LibreChat, Span
from librechat_exporter.librechat.expressions import Document, when
from librechat_exporter.librechat.fields import (
    AMOUNTS,
    ANSWER,
    BILLED,
    CREATED,
    DAY_OF_CREATION,
    GRANTED,
    HAS_AMOUNTS,
    UNKNOWN,
    USER,
    billed_for,
    hour_of_creation,
)
from librechat_exporter.librechat.models import Answer, read_agents_answers
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

_SKIPPED = when(HAS_AMOUNTS, 0, 1)
# What transactions can be set apart by, besides BILLED: the user, the answer, the day.
BY_USER, BY_ANSWER, BY_DAY = "user", "answer", "day"
BY = {BY_USER: USER, BY_ANSWER: ANSWER, BY_DAY: DAY_OF_CREATION}
_EPOCH = date(1970, 1, 1)
# What they are set apart by, and its field in a transaction's row.
_KEYS = {name: f"key_{name}" for name in BILLED} | {name: f"by_{name}" for name in BY}
# A transaction by itself: for Billed.of_row.
TRANSACTION_ROW: Document = (
    {_KEYS[name]: expression for name, expression in (BILLED | BY).items()}
    | AMOUNTS
    | {"granted": GRANTED, "skipped": _SKIPPED, "created": CREATED}
)


class Billed(NamedTuple):
    """Transactions of one kind ("prompt", "completion" or "credits"), model and context.

    tokens: of a prompt without those that went through its cache; of a completion all.
    cache: tokens read from and written to it; None if the transactions do not tell them apart.
    charged, granted: credits, of which one has CREDIT_PARTS. skipped: transactions whose amounts are no numbers, or
    absurd ones; those count as 0. hour, users: hours since 1970, None if they were not created in the time asked for,
    and whose they are, if these were asked for. answers: messageIds of those that they are for, if these were.

    day: of createdAt, in UTC; None if that is no date that can be meant. user, answer: by BY, if that was asked for.
    payers: whom they are charged to, by kind. agent: its name, if they are for an agent's answer. counted: names of the
    metrics that they were counted in before.
    """

    kind: str
    model: str
    context: str
    tokens: int
    cache: tuple[int, int] | None
    charged: int
    granted: int
    skipped: int
    hour: int | None = None
    users: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    day: date | None = None
    user: str | None = None
    answer: Answer | None = None
    payers: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    agent: str | None = None
    counted: Collection[str] = frozenset()

    @classmethod
    def of(cls, key: Document, row: Document, hour: int | None, users: Iterable[Any]) -> "Billed":
        """key: what BILLED and BY give; row: what AMOUNTS, GRANTED and HAS_AMOUNTS give, or their sums. users: what
        USER gives."""
        model, context = ((key[name] or UNKNOWN)[:MAX_LABEL_LENGTH] for name in ("model", "context"))
        raw, fresh, written, read, charged = (int(row[name]) for name in AMOUNTS)
        user, answer, day = str(key["user"]) if key.get("user") else None, key.get("answer"), key.get("day", -1)
        return cls(
            kind=key["kind"] or UNKNOWN,
            model=model,
            context=context,
            tokens=fresh if key["structured"] else raw,
            cache=(read, written) if key["structured"] else None,
            charged=charged,
            granted=int(row["granted"]),
            skipped=row["skipped"] if key["kind"] else 0,
            hour=hour,
            users=tuple(str(one) for one in users if one),
            answers=tuple(one for one in row.get("answers", ()) if one),
            day=_EPOCH + timedelta(days=day) if day >= 0 else None,
            user=user,
            answer=(user, answer) if answer else None,
        )

    @classmethod
    def of_row(cls, row: Document, hour: int | None) -> "Billed":
        """row: what TRANSACTION_ROW gives."""
        key = {name: row[field] for name, field in _KEYS.items()}
        return cls.of(key, row, hour, (key["user"],))

    @property
    def token_type(self) -> str:
        return "input" if self.kind == "prompt" else "output"

    def by_token_type(self) -> dict[str, int]:
        """Tokens: input or output, and those of the cache if they are told apart."""
        if self.cache is None:
            return {self.token_type: self.tokens}
        return {self.token_type: self.tokens, "cache_read": self.cache[0], "cache_write": self.cache[1]}

    @property
    def is_spent(self) -> bool:
        """It bills tokens; else it grants credits."""
        return self.kind in ("prompt", "completion")


def read_billed(
    librechat: LibreChat,
    match: Document,
    created: Span | None = None,
    by: Collection[str] = (),
    *,
    answers: bool = False,
) -> list[Billed]:
    """The matching transactions by kind, model and context; several rows can be of the same.

    created: by the hour too, and with their users; the hour is that of createdAt, if that lies after the first of
    these and not after the last. by: set apart by these of BY as well. answers: with those that they are for.
    """
    key = BILLED | {name: BY[name] for name in by}
    sums: Document = {name: {"$sum": parts} for name, parts in AMOUNTS.items()}
    sums |= {"granted": {"$sum": GRANTED}, "skipped": {"$sum": _SKIPPED}}
    if created is not None:
        key, sums = key | {"hour": hour_of_creation(*created)}, sums | {"users": {"$addToSet": USER}}
    if answers:
        sums |= {"answers": {"$addToSet": ANSWER}}
    rows = librechat.aggregate("transactions", match, {"$group": {"_id": key} | sums})
    return [Billed.of(row["_id"], row, _hour(row["_id"].get("hour")), row.get("users", ())) for row in rows]


def read_charged(
    librechat: LibreChat, match: Document, created: Span | None, by: Collection[str]
) -> tuple[list[Billed], list[Billed]]:
    """The same, and, if it is by answers, once more those for answers of agents: with the agents, by users and
    answers, as few others need to be set apart so."""
    billed = read_billed(librechat, match, created, set(by) - {BY_ANSWER}, answers=BY_ANSWER in by)
    agents = read_agents_answers(librechat, {answer for one in billed for answer in one.answers})
    if not agents:
        return billed, []
    of_these = {"$and": [match, billed_for(sorted({message for _, message in agents}))]}
    found = read_billed(librechat, of_these, by=(BY_USER, BY_ANSWER))
    return billed, [one._replace(agent=agents[one.answer]) for one in found if one.answer in agents]


def _hour(value: float | None) -> int | None:
    return int(value) if value is not None else None
