"""Transactions: what LibreChat bills."""

from typing import NamedTuple

from librechat_exporter.librechat.database import LibreChat, Span
from librechat_exporter.librechat.expressions import Document, when
from librechat_exporter.librechat.fields import (
    AMOUNTS,
    BILLED,
    CREATED,
    GRANTED,
    HAS_AMOUNTS,
    UNKNOWN,
    USD_PARTS,
    USER,
    hour_of_creation,
)
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

_SKIPPED = when(HAS_AMOUNTS, 0, 1)
# A transaction by itself: for Billed.of_row.
TRANSACTION_ROW: Document = (
    {f"key_{name}": expression for name, expression in BILLED.items()}
    | AMOUNTS
    | {"granted": GRANTED, "skipped": _SKIPPED, "user": USER, "created": CREATED}
)


class Billed(NamedTuple):
    """Transactions of one kind ("prompt", "completion" or "credits"), model and context.

    tokens: of a prompt without those that went through its cache; of a completion all.
    cache: tokens read from and written to it; None if the transactions do not tell them apart.
    charged, granted: credits, of which one has CREDIT_PARTS. skipped: transactions whose amounts are no numbers, or
    absurd ones; those count as 0. hour, users: hours since 1970, None if they were not created in the time asked for,
    and whose they are, if these were asked for.
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

    @classmethod
    def of(cls, key: Document, row: Document, hour: int | None = None) -> "Billed":
        """key: what BILLED gives; row: what AMOUNTS, GRANTED and HAS_AMOUNTS give, or their sums."""
        model, context = ((key[name] or UNKNOWN)[:MAX_LABEL_LENGTH] for name in ("model", "context"))
        raw, fresh, written, read, charged = (int(row[name]) for name in AMOUNTS)
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
            users=tuple(str(user) for user in row.get("users", ()) if user),
        )

    @classmethod
    def of_row(cls, row: Document, hour: int | None) -> "Billed":
        """row: what TRANSACTION_ROW gives."""
        key = {name: row[f"key_{name}"] for name in BILLED}
        return cls.of(key, row | {"users": (row["user"],)}, hour)

    @property
    def usd(self) -> float:
        """Charged."""
        return self.charged / USD_PARTS


def read_billed(librechat: LibreChat, match: Document, created: Span | None = None) -> list[Billed]:
    """The matching transactions by kind, model and context; several rows can be of the same.

    created: by the hour too, and with their users; the hour is that of createdAt, if that lies after the first of
    these and not after the last.
    """
    key = BILLED
    sums: Document = {name: {"$sum": parts} for name, parts in AMOUNTS.items()}
    sums |= {"granted": {"$sum": GRANTED}, "skipped": {"$sum": _SKIPPED}}
    if created is not None:
        key, sums = key | {"hour": hour_of_creation(*created)}, sums | {"users": {"$addToSet": USER}}
    rows = librechat.aggregate("transactions", match, {"$group": {"_id": key} | sums})
    return [Billed.of(row["_id"], row, _hour(row["_id"].get("hour"))) for row in rows]


def _hour(value: float | None) -> int | None:
    return int(value) if value is not None else None
