"""A day's rows, read from MongoDB by aggregation, in slices of bounded size."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bson.errors import BSONError
from pymongo.errors import OperationFailure

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
    Table,
    money,
)
from librechat_exporter.historic.usage import Usage
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import (
    REGISTRATION,
    SUBAGENT_THREADS,
    THUMBS_UP,
    UNKNOWN,
    USD_PARTS,
    created_between,
    indexed_between,
    inserted_between,
)
from librechat_exporter.librechat.halving import halved, is_documents_fault
from librechat_exporter.librechat.members import Members
from librechat_exporter.librechat.messages import Messages, read_messages, read_questions
from librechat_exporter.librechat.models import Model, read_labels
from librechat_exporter.librechat.transactions import BY_ANSWER, BY_DAY, BY_USER, Billed, read_charged
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH
from librechat_exporter.prices import PARTS, PriceList
from librechat_exporter.settings import ExportSettings
from librechat_exporter.user_ids import UserKey, keyed_hash, raw

SLICE_DOCUMENTS = 20_000
# Transactions have no index on createdAt; their `_id` and createdAt are made within moments of each other.
ID_MARGIN = timedelta(hours=1)

Row = tuple[Any, ...]
_Within = Callable[[datetime, datetime], Document]
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
    for lower, upper in _slices(librechat, "messages", indexed_between, start, end):
        _read_slice(librechat, created_between(lower, upper), counts.add)
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


def _slices(
    librechat: LibreChat, collection: str, within: _Within, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The time in parts with not more documents than a query should hold in memory at once.

    within: matches those of a time, by an index alone.
    """
    half = (end - start) / 2
    if librechat.count(collection, within(start, end)) <= SLICE_DOCUMENTS or half < timedelta(milliseconds=1):
        yield start, end
    else:
        middle = start + timedelta(milliseconds=half // timedelta(milliseconds=1))
        yield from _slices(librechat, collection, within, start, middle)
        yield from _slices(librechat, collection, within, middle, end)


def _read_slice(librechat: LibreChat, match: Document, add: Callable[[list[Messages]], None]) -> None:
    """Adds the matching messages, in parts if they call more tools than fits into an answer of MongoDB's."""

    def read(of: Document) -> None:
        messages = read_messages(librechat, of, tools=True, ratings=True)
        add([group for group in messages if not group.kind.subagent])

    def read_some(ids: Sequence[Any]) -> None:
        read({"_id": {"$in": list(ids)}})

    try:
        read(match)
    except (OperationFailure, BSONError) as error:
        if not is_documents_fault(error):
            raise
        ids = [row["_id"] for row in librechat.aggregate("messages", match, {"$project": {"_id": 1}})]
        halved("messages", ids, read_some, lambda _: None)


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
    sums: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0, 0])
    skipped = 0
    for charged, of_agents in _charged(librechat, start, end, telling):
        for billed in (one for one in of_agents if one.is_spent):
            usage.bill_agent(billed)
        for billed in (one for one in charged if one.is_spent):
            usage.bill(billed)
            tokens = (billed.tokens, 0) if billed.kind == "prompt" else (0, billed.tokens)
            row = sums[billed.model.rstrip(" "), billed.context.rstrip(" ")]
            amounts = (*tokens, *(billed.cache or (0, 0)), billed.charged)
            row[:-1] = [before + amount for before, amount in zip(row[:-1], amounts, strict=True)]
            listed = _listed(billed, telling.prices)
            row[-1] = None if listed is None or row[-1] is None else row[-1] + listed
            skipped += billed.skipped
    return [
        (*names, *tokens, money(charged, USD_PARTS), None if listed is None else money(listed, PARTS))
        for names, (*tokens, charged, listed) in sums.items()
    ], skipped


def _charged(
    librechat: LibreChat, start: datetime, end: datetime, telling: Telling
) -> Iterator[tuple[list[Billed], list[Billed]]]:
    """The result of read_charged() for each slice."""
    wanted = {BY_ANSWER: True, BY_USER: telling.members is not None, BY_DAY: telling.prices is not None}
    by = {name for name, is_wanted in wanted.items() if is_wanted}
    for lower, upper in _slices(librechat, "transactions", inserted_between, start - ID_MARGIN, end + ID_MARGIN):
        yield read_charged(librechat, inserted_between(lower, upper) | created_between(start, end), None, by)


def _listed(billed: Billed, prices: PriceList | None) -> int | None:
    """By the price list, in PARTS of a dollar; None without a price."""
    price = prices.price(billed.model, billed.day) if prices is not None else None
    return price.cost(billed.by_token_type()) if price is not None else None


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
