"""A day's rows, read from MongoDB by aggregation, its messages in slices of bounded size."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from librechat_exporter.historic.dates import Range, bounds
from librechat_exporter.historic.tables import (
    DAILY_COST_BY_MODEL,
    DAILY_ERRORS_BY_MODEL,
    DAILY_MESSAGES,
    DAILY_MESSAGES_BY_MODEL,
    DAILY_RATINGS_BY_MODEL,
    DAILY_TOKENS_BY_MODEL,
    DAILY_TOKENS_BY_USER,
    DAILY_TOOL_CALLS,
    DAILY_USERS,
    MONEY_DIGITS,
    Table,
)
from librechat_exporter.historic.usage import Usage
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import (
    REGISTRATION,
    SUBAGENT_THREADS,
    THUMBS_UP,
    UNKNOWN,
    created_between,
    indexed_between,
    inserted_between,
)
from librechat_exporter.librechat.members import Members
from librechat_exporter.librechat.messages import Messages, read_messages, read_questions
from librechat_exporter.librechat.models import Model, read_labels
from librechat_exporter.librechat.transactions import BY_ANSWER, BY_DAY, BY_USER, Billed, read_charged
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH
from librechat_exporter.prices import PARTS, PriceList
from librechat_exporter.settings import ExportSettings
from librechat_exporter.user_ids import UserKey, keyed_hash, raw

SLICE_MESSAGES = 20_000
# Transactions have no index on createdAt; their `_id` and createdAt are made within moments of each other.
ID_MARGIN = timedelta(hours=1)

Row = tuple[Any, ...]
# The label of a model, and the name of an agent.
Labels = dict[Model, tuple[str, str | None]]


@dataclass
class Day:
    """A day's rows by table, without their date; users: who wrote a message; skipped: amounts that were no numbers."""

    date: date
    users: set[str] = field(default_factory=set)
    messages: int = 0
    skipped: int = 0
    rows: dict[Table, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class Telling:
    """The way in which days are told.

    key: names a user in daily_tokens_by_user; None if none is named. members: of Usage. prices: for the list cost,
    which is NULL without.
    """

    key: UserKey | None
    members: Members | None = None
    prices: PriceList | None = None


def user_key(settings: ExportSettings) -> UserKey | None:
    """The function that names a user in daily_tokens_by_user, by USER_IDS; None if none is named."""
    if settings.user_ids == "none":
        return None
    if settings.user_ids == "raw":
        return raw
    return keyed_hash(settings.user_id_salt.get_secret_value())


def read_day(librechat: LibreChat, day: date, start: datetime, end: datetime, telling: Telling, labels: Labels) -> Day:
    """The day's rows, of documents created from start on and before end. Raises PyMongoError.

    labels: those of models, and names of agents, that are known already; those of this day are added.
    """
    found = Day(day)
    usage = Usage(telling.members)
    counts = _Counts(librechat, labels, usage)
    for lower, upper in _slices(librechat, start, end):
        messages = read_messages(librechat, created_between(lower, upper), tools=True, ratings=True)
        counts.add([group for group in messages if not group.kind.subagent])
    found.users = {user for user in counts.users if user is not None}
    found.messages = counts.messages
    found.rows = counts.rows(telling.key)
    found.rows[DAILY_USERS] = [(len(found.users),)]
    found.rows[DAILY_MESSAGES] = [
        (counts.messages, librechat.count("conversations", created_between(start, end) | SUBAGENT_THREADS.match))
    ]
    found.rows[DAILY_COST_BY_MODEL], skipped = _cost(librechat, start, end, telling, usage)
    found.rows |= usage.rows()
    found.skipped = counts.skipped + skipped
    return found


def new_users(librechat: LibreChat, days: Range, timezone: ZoneInfo) -> dict[date, list[Row]]:
    """Rows of DAILY_NEW_USERS by day. Users have no index on createdAt, so they are read once for all days."""
    found: dict[date, Counter[str]] = defaultdict(Counter)
    for created, provider in _registrations(librechat, created_between(*bounds(days, timezone))):
        found[created.astimezone(timezone).date()][provider] += 1
    return {day: _rows(providers) for day, providers in found.items()}


def _registrations(librechat: LibreChat, match: Document) -> list[tuple[datetime, str]]:
    """When each of the matching users was created, and the provider."""
    rows = librechat.aggregate("users", match, {"$project": REGISTRATION})
    return [(row["created"], (row["provider"] or UNKNOWN)[:MAX_LABEL_LENGTH]) for row in rows]


def _slices(librechat: LibreChat, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The time in parts with not more messages than a query should hold in memory at once."""
    half = (end - start) / 2
    count = librechat.count("messages", indexed_between(start, end))
    if count <= SLICE_MESSAGES or half < timedelta(milliseconds=1):
        yield start, end
    else:
        middle = start + timedelta(milliseconds=half // timedelta(milliseconds=1))
        yield from _slices(librechat, start, middle)
        yield from _slices(librechat, middle, end)


class _Counts:
    """Sums over a day's messages."""

    def __init__(self, librechat: LibreChat, labels: Labels, usage: Usage) -> None:
        self._librechat = librechat
        self._labels = labels
        self._usage = usage
        self.messages = 0
        self.skipped = 0
        self.users: dict[str | None, list[float]] = defaultdict(lambda: [0, 0])
        self._models: dict[str, list[float]] = defaultdict(lambda: [0, 0])
        self._answers: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._ratings: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._calls: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, groups: list[Messages]) -> None:
        questions = read_questions(self._librechat, groups)
        unnamed = {group.kind.model for group in groups} - self._labels.keys()
        self._labels |= read_labels(self._librechat, unnamed)
        for group in groups:
            model, agent = self._labels[group.kind.model]
            self._count(group, model)
            self._usage.add(group, agent)
            if group.kind.by_user:
                for user in set(group.users):
                    _ = self.users[user]
                continue
            read = 0.0
            for user, asked, tokens in zip(group.users, group.asked(questions), group.tokens, strict=True):
                sums = self.users[user]
                sums[0] += asked.tokens
                sums[1] += tokens
                read += asked.tokens
            self._models[model][0] += read
            self._models[model][1] += sum(group.tokens)

    def _count(self, group: Messages, model: str) -> None:
        count = len(group)
        self.messages += count
        self.skipped += group.skipped
        if group.kind.failed:
            self._errors[model] += count
        if not group.kind.by_user:
            self._answers[model] += count
        if group.rating is not None:
            self._ratings[model, group.tag or ""][0 if group.rating == THUMBS_UP else 1] += count
        for calls in filter(None, group.tool_calls):
            for call in calls:
                self._calls[call.name][0] += 1
                self._calls[call.name][1] += call.failed

    def rows(self, key: UserKey | None) -> dict[Table, list[Row]]:
        users: dict[str, list[float]] = defaultdict(lambda: [0, 0])
        if key is not None:
            for user, sums in self.users.items():
                name = UNKNOWN if user is None else key(user)  # a user's id can be that word
                users[name] = [one + other for one, other in zip(users[name], sums, strict=True)]
        return {
            DAILY_MESSAGES_BY_MODEL: _rows(self._answers),
            DAILY_TOKENS_BY_MODEL: _rows(self._models),
            DAILY_TOKENS_BY_USER: _rows(users),
            DAILY_ERRORS_BY_MODEL: _rows(self._errors),
            DAILY_RATINGS_BY_MODEL: _rows(self._ratings),
            DAILY_TOOL_CALLS: _rows(self._calls),
        }


def _cost(
    librechat: LibreChat, start: datetime, end: datetime, telling: Telling, usage: Usage
) -> tuple[list[Row], int]:
    """Rows of DAILY_COST_BY_MODEL; counts the usage as well."""
    near = inserted_between(start - ID_MARGIN, end + ID_MARGIN)
    sums: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, Decimal(), Decimal()])
    skipped = 0
    wanted = {BY_ANSWER: True, BY_USER: telling.members is not None, BY_DAY: telling.prices is not None}
    by = {name for name, is_wanted in wanted.items() if is_wanted}
    charged, of_agents = read_charged(librechat, near | created_between(start, end), None, by)
    for billed in filter(_is_spent, of_agents):
        usage.bill_agent(billed)
    for billed in filter(_is_spent, charged):
        usage.bill(billed)
        tokens = (billed.tokens, 0) if billed.kind == "prompt" else (0, billed.tokens)
        amounts = (*tokens, *(billed.cache or (0, 0)), round(Decimal(billed.usd), MONEY_DIGITS))
        row = sums[billed.model.rstrip(" "), billed.context.rstrip(" ")]
        row[:-1] = [before + amount for before, amount in zip(row[:-1], amounts, strict=True)]
        listed = _listed(billed, telling.prices)
        row[-1] = None if listed is None or row[-1] is None else row[-1] + listed
        skipped += billed.skipped
    return [(*names, *amounts) for names, amounts in sums.items()], skipped


def _is_spent(billed: Billed) -> bool:
    return billed.kind in ("prompt", "completion")


def _listed(billed: Billed, prices: PriceList | None) -> Decimal | None:
    """US dollars by the price list; None without a price."""
    price = prices.price(billed.model, billed.day) if prices is not None else None
    return round(Decimal(price.cost(billed.by_token_type())) / PARTS, MONEY_DIGITS) if price is not None else None


def _rows(sums: dict[Any, Any]) -> list[Row]:
    """Rows of names and sums. MariaDB takes names that differ in trailing spaces alone for the same."""
    merged: dict[Row, list[Any]] = {}
    for names, values in sums.items():
        key = tuple(name.rstrip(" ") for name in (names if isinstance(names, tuple) else (names,)))
        amounts = values if isinstance(values, list) else [values]
        before = merged.setdefault(key, [0] * len(amounts))
        merged[key] = [one + other for one, other in zip(before, amounts, strict=True)]
    return [(*key, *map(_whole, amounts)) for key, amounts in merged.items()]


def _whole(amount: Any) -> Any:
    """A tokenCount can be a double; the tables hold whole tokens."""
    return round(amount) if isinstance(amount, float) else amount
