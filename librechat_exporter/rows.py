"""What LibreChat's database answers: the rows of its aggregations, made fit for counting."""

import sys
from typing import Any, NamedTuple

from bson import Decimal128

from librechat_exporter.fields import AMOUNTS, CREDIT_PARTS, REASONS, UNKNOWN, Document
from librechat_exporter.metric import MAX_LABEL_LENGTH

# Of a dollar, which is a million credits.
USD_PARTS = 1_000_000 * CREDIT_PARTS


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


class MessageKind(NamedTuple):
    """Messages that are counted together share these.

    unfinished: stopped by the user, or broken off. reason: why one failed, in LibreChat's word; None if it did not, or
    said nothing that is one of REASONS.
    """

    by_user: bool
    failed: bool
    model: Model
    unfinished: bool
    reason: str | None

    @classmethod
    def of(cls, row: Document) -> "MessageKind":
        reason = row.get("reason")
        return cls(
            row["users"],
            row["failed"],
            model_of(row["model"]),
            row["unfinished"],
            REASONS[reason] if reason is not None and reason >= 0 else None,
        )


class Messages:
    """Messages of a kind. Its lists have an entry for each.

    links: a user's message by its own id, an answer by its parent's; None where that is no id.
    tokens: whole; 0 where tokenCount cannot be used; skipped counts those of these where there was something.
    created: createdAt as a Unix time; 0 if it is no date that can be meant, or was not asked for; negative if it is
    more than a day before the time of the `_id`, as of an imported chat.
    tool_calls: of each message, if tools were asked for.
    rating, tag: of each of them, None where there is none, if ratings were asked for.
    """

    def __init__(self, row: Document, latest: float = float("inf")) -> None:
        """latest: the Unix time after which nothing can have been created."""
        self.kind = MessageKind.of(row["_id"])
        # LibreChat writes a string in messages, an ObjectId in other collections.
        self.users: list[str | None] = row["user"]
        if set(map(type, self.users)) != {str} or "" in self.users:
            self.users = [str(user) if user else None for user in self.users]
        self.links: list[Link | None] = list(zip(self.users, row["link"], strict=True))
        if not all(row["link"]):
            self.links = [(user, link) if link else None for user, link in zip(self.users, row["link"], strict=True)]
        self.tokens: list[float] = row["tokens"]
        self.skipped = 0
        if set(map(type, self.tokens)) != {int} or min(self.tokens) < 0:
            self.skipped = sum(is_skipped(tokens) for tokens in row["tokens"])
            self.tokens = [whole_tokens(tokens) for tokens in row["tokens"]]
        self.created = [milliseconds / 1000 for milliseconds in row.get("created", [0] * len(self.users))]
        if max(self.created) > latest:
            self.created = [moment if moment <= latest else 0 for moment in self.created]
        self.tool_calls = [() if tools is None else tool_calls(tools) for tools in row.get("tools", ())]
        rated = row["_id"].get("rated") or {}
        self.rating: str | None = rated.get("rating")
        self.tag: str | None = (rated.get("tag") or "")[:MAX_LABEL_LENGTH] or None


class Message:
    """One message: the same fields as Messages, for itself.

    unsettled: more is to come, as the answer is being written. conversation: a hash of its id.
    """

    __slots__ = ("calls", "conversation", "created", "kind", "link", "skipped", "tokens", "unsettled", "user")

    def __init__(self, row: Document, latest: float) -> None:
        self.kind = MessageKind.of(row)
        self.user = sys.intern(str(row["user"])) if row["user"] else None  # thousands are held
        self.link: Link | None = (self.user, row["link"]) if row["link"] else None
        self.tokens = whole_tokens(row["tokens"])
        self.skipped = is_skipped(row["tokens"])
        self.created = row["created"] / 1000 if row["created"] <= latest * 1000 else 0
        self.calls = tool_calls(row["tools"]) if row["tools"] is not None else ()
        self.conversation = hash(row["conversation"]) if row["conversation"] else None
        self.unsettled: bool = row["unsettled"]


def is_skipped(tokens: Any) -> bool:
    """TOKENS stands for something that is no number of tokens."""
    return tokens is not None and (isinstance(tokens, Decimal128) or tokens < 0)


def whole_tokens(tokens: Any) -> int:
    """Of what TOKENS gives; 0 for what is no number of tokens."""
    return 0 if tokens is None or is_skipped(tokens) else int(tokens + 0.5)


def tool_calls(tools: Document) -> tuple[ToolCall, ...]:
    """Of what TOOLS gives. Of those beyond MOST_CALLS, the number alone is known."""
    endpoint = (tools["endpoint"] or UNKNOWN)[:MAX_LABEL_LENGTH]
    calls = tuple(
        ToolCall((call["name"] or UNKNOWN)[:MAX_LABEL_LENGTH], call["failed"], endpoint) for call in tools["calls"]
    )
    beyond: int = tools["count"] - len(calls)
    return calls + (ToolCall(UNKNOWN, False, endpoint),) * beyond


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

    @property
    def usd(self) -> float:
        """Charged."""
        return self.charged / USD_PARTS


def labels_of(texts: Document, count: int) -> tuple[str, ...]:
    """Of fields "0" to count - 1; "unknown" stands for none."""
    return tuple((texts.get(str(number)) or UNKNOWN)[:MAX_LABEL_LENGTH] for number in range(count))


def number(value: Any) -> float:
    """Of any of MongoDB's kinds of number."""
    return float(str(value)) if isinstance(value, Decimal128) else float(value)
