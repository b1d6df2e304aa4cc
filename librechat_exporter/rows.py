"""What LibreChat's database answers: the rows of its aggregations, made fit for counting."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from bson import Decimal128, ObjectId

from librechat_exporter.fields import AMOUNTS, CREDIT_PARTS, MAX_TOKENS, UNKNOWN, Document
from librechat_exporter.metric import MAX_LABEL_LENGTH

# Of a dollar, which is a million credits.
USD_PARTS = 1_000_000 * CREDIT_PARTS


def _usable_tokens(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


# A model's name, an agent's id in a tuple, or None.
Model = str | tuple[str] | None


def model_of(value: str | list[str] | None) -> Model:
    """What the server made of MODEL, cut to what a label may hold."""
    if isinstance(value, list):
        return (value[0],) if value[0] is not None else None  # an id that is absurdly long
    return value[:MAX_LABEL_LENGTH] if value is not None else None


class ToolCall(NamedTuple):
    """A tool's name, whether the call failed, and the endpoint of its message; "unknown" stands for no name."""

    name: str
    failed: bool
    endpoint: str


# A question's tokens, and its `created`.
Question = tuple[float, float]
NO_QUESTION: Question = (0, 0)

# What links an answer to its question: the user's id and the question's messageId.
Link = tuple[str | None, str]


class Messages:
    """Messages that share who wrote them, whether they failed, and the model. Its lists have an entry for each.

    links: a user's message by its own id, an answer by its parent's; None where that is no id.
    tokens: whole; 0 where tokenCount cannot be used; skipped counts those where there was something else than nothing.
    created: createdAt as a Unix time; 0 if it is not within the time asked for; negative if it is more than a day
    before the time of the `_id`, as of an imported chat.
    tool_calls: of each message, if tools were asked for.
    rating, tag: of each of them, None where there is none, if ratings were asked for.
    """

    def __init__(self, row: Document) -> None:
        self.by_user: bool = row["_id"]["users"]
        self.failed: bool = row["_id"]["failed"]
        self.model = model_of(row["_id"]["model"])
        # LibreChat writes a string in messages, an ObjectId in other collections.
        self.users: list[str | None] = row["user"]
        if set(map(type, self.users)) != {str} or "" in self.users:
            self.users = [str(user) if user else None for user in self.users]
        self.links: list[Link | None] = list(zip(self.users, row["link"], strict=True))
        if not all(row["link"]):
            self.links = [(user, link) if link else None for user, link in zip(self.users, row["link"], strict=True)]
        self.tokens: list[float] = row["tokens"]
        self.skipped = [False] * len(self.tokens)
        if set(map(type, self.tokens)) != {int} or min(self.tokens) < 0 or max(self.tokens) > MAX_TOKENS:
            usable = [_usable_tokens(tokens) for tokens in row["tokens"]]
            self.tokens = [int(t + 0.5) if ok else 0 for t, ok in zip(row["tokens"], usable, strict=True)]
            self.skipped = [not ok and t is not None for t, ok in zip(row["tokens"], usable, strict=True)]
        self.created: list[float] = [milliseconds / 1000 for milliseconds in row.get("created", [0] * len(self.users))]
        self.ids: list[ObjectId] = row.get("id", [])
        self.conversations = [conversation or None for conversation in row.get("conversation", [])]
        self.tool_calls = [() if tools is None else _tool_calls(tools) for tools in row.get("tools", ())]
        rated = row["_id"].get("rated") or {}
        self.rating: str | None = rated.get("rating")
        self.tag: str | None = (rated.get("tag") or "")[:MAX_LABEL_LENGTH] or None


def _tool_calls(tools: Document) -> tuple[ToolCall, ...]:
    endpoint = (tools["endpoint"] or UNKNOWN)[:MAX_LABEL_LENGTH]
    return tuple(
        ToolCall((call["name"] or UNKNOWN)[:MAX_LABEL_LENGTH], call["failed"], endpoint) for call in tools["calls"]
    )


@dataclass(frozen=True)
class Billed:
    """Transactions of one kind ("prompt", "completion" or "credits"), model and context.

    tokens: of a prompt without those that went through its cache; of a completion all.
    cache: tokens read from and written to it; None if the transactions do not tell them apart.
    charged, granted: credits, of which one has CREDIT_PARTS. skipped: transactions whose amounts are no numbers, or
    absurd ones; those count as 0. id: of a single transaction. hour, users: hours since 1970, and whose they are, if
    these were asked for.
    """

    kind: str
    model: str
    context: str
    tokens: int
    cache: tuple[int, int] | None
    charged: int
    granted: int
    skipped: int
    id: ObjectId | None
    hour: float | None
    users: frozenset[str]

    @classmethod
    def of(cls, row: Document) -> "Billed":
        key = row["_id"]
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
            id=key.get("id"),
            hour=key.get("hour"),
            users=_users(row),
        )

    @property
    def credits(self) -> float:
        """Charged."""
        return self.charged / CREDIT_PARTS

    @property
    def usd(self) -> float:
        """Charged."""
        return self.charged / USD_PARTS


@dataclass(frozen=True)
class Hourly:
    """Documents that were created within an hour, since 1970, and that share the rest of these; hour is None if they
    were not created in the time asked for.

    id: of a single document. by_user, failed, unfinished, reason: of messages; reason is why one failed, in
    LibreChat's word.
    """

    id: ObjectId | None
    hour: float | None
    count: int
    users: frozenset[str]
    model: Model = None
    by_user: bool = False
    failed: bool = False
    unfinished: bool = False
    reason: str | None = None

    @classmethod
    def of(cls, row: Document, **what: Any) -> "Hourly":
        """what: the fields that have a default."""
        return cls(row["_id"].get("id"), row["_id"]["hour"], row["count"], _users(row), **what)


def labels_of(texts: Document, count: int) -> tuple[str, ...]:
    """Of fields "0" to count - 1; "unknown" stands for none."""
    return tuple((texts.get(str(number)) or UNKNOWN)[:MAX_LABEL_LENGTH] for number in range(count))


def number(value: Any) -> float:
    """Of any of MongoDB's kinds of number."""
    return float(str(value)) if isinstance(value, Decimal128) else float(value)


def _users(row: Document) -> frozenset[str]:
    return frozenset(str(user) for user in row.get("users", ()) if user)
