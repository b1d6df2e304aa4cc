"""The rows that every table of the historic export should hold, in plain Python, document by document."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests import meanings
from tests.meanings import Document
from tests.payers_oracle import Belonging, Price

Rows = dict[tuple[Any, ...], list[float]]
Tables = dict[str, Rows]

DAY = timedelta(days=1)


def label(value: Any) -> str:
    """MariaDB does not tell names apart that differ in trailing spaces."""
    return (meanings.text(value) or "unknown").rstrip(" ")


class ExportOracle:
    """The tables after the export of first to last, on the morning of `today`, into an empty database."""

    def __init__(
        self,
        collections: Mapping[str, Iterable[Document]],
        first: date,
        last: date,
        today: date,
        timezone: str,
        price: Price,
    ) -> None:
        self.price = price
        self.belonging = Belonging(collections)
        self.unpriced: set[tuple[Any, ...]] = set()
        self.distinct: dict[tuple[str, tuple[Any, ...]], set[str]] = defaultdict(set)
        self.collections = {name: list(documents) for name, documents in collections.items()}
        self.first, self.last, self.today = first, last, today
        self.timezone = ZoneInfo(timezone)
        self.tables: Tables = defaultdict(dict)
        self.users: dict[date, set[str]] = defaultdict(set)
        for number in range((last - first).days + 1):
            self._add("daily_users", (first + number * DAY,), 0)
            self._add("daily_messages", (first + number * DAY,), 0, 0)
        self.messages = [one for one in self.collections.get("messages", ()) if one.get("subagentTask") is None]
        for message in self.messages:
            self._message(message)
        for conversation in self.collections.get("conversations", ()):
            if conversation.get("subagentThread") is None:
                self._on_day(conversation, "daily_messages", (), 0, 1)
        for user in self.collections.get("users", ()):
            self._on_day(user, "daily_new_users", (label(user.get("provider")),), 1)
        for transaction in self.collections.get("transactions", ()):
            self._transaction(transaction)
        for day in [day for (day,) in self.tables["daily_users"]]:
            self._add("daily_users", (day,), len(self.users[day]))
        self._periods()
        self._finish()

    def _finish(self) -> None:
        """Distinct users, prices that are not known, and whole numbers."""
        for (table, key), users in self.distinct.items():
            self.tables[table][key][1 if table == "daily_usage_by_group" else 2] = len(users)
        for key in self.unpriced:
            self.tables["daily_cost_by_model"][key][5] = -1
        for name, rows in self.tables.items():
            counts = {"daily_cost_by_model": 4, "daily_usage_by_group": 6, "daily_usage_by_agent": 7}.get(name, 99)
            for values in rows.values():
                values[:] = [round(value) if number < counts else value for number, value in enumerate(values)]

    def _day(self, document: Document) -> date | None:
        created = document.get("createdAt")
        if not isinstance(created, datetime) or created.year < 2000 or created.year > 2100:
            return None
        return created.replace(tzinfo=created.tzinfo or UTC).astimezone(self.timezone).date()

    def _add(self, table: str, key: tuple[Any, ...], *values: float) -> None:
        before = self.tables[table].setdefault(key, [0] * len(values))
        self.tables[table][key] = [one + other for one, other in zip(before, values, strict=True)]

    def _on_day(self, document: Document, table: str, key: tuple[Any, ...], *values: float) -> None:
        day = self._day(document)
        if day is not None and self.first <= day <= self.last:
            self._add(table, (day, *key), *values)

    def _message(self, message: Document) -> None:
        day = self._day(message)
        user = meanings.user(message)
        if day is not None and user is not None:
            self.users[day].add(user)
        model = meanings.model(message, self.collections.get("agents", ())).rstrip(" ")
        self._on_day(message, "daily_messages", (), 1, 0)
        for group in {one.rstrip(" ") for one in self.belonging.payers(user, "group")}:
            self._on_day(message, "daily_usage_by_group", (group,), 1, *[0] * 6)
            self._distinct(day, "daily_usage_by_group", group, user)
        agent = self.belonging.agents_name(message)
        if agent is not None and not meanings.is_users(message):
            self._on_day(message, "daily_usage_by_agent", (agent.rstrip(" "),), 1, meanings.failed(message), *[0] * 6)
            self._distinct(day, "daily_usage_by_agent", agent.rstrip(" "), user)
        prompt = 0.0 if meanings.is_users(message) else meanings.prompt(message, self.messages)
        output = 0.0 if meanings.is_users(message) else meanings.tokens(message)
        self._on_day(message, "daily_tokens_by_user", ((user or "unknown").rstrip(" "),), prompt, output)
        if not meanings.is_users(message):
            self._on_day(message, "daily_messages_by_model", (model,), 1)
            self._on_day(message, "daily_tokens_by_model", (model,), prompt, output)
        if meanings.failed(message):
            self._on_day(message, "daily_errors_by_model", (model,), 1)
        feedback = message.get("feedback")
        rating = feedback.get("rating") if isinstance(feedback, dict) else None
        if isinstance(feedback, dict) and rating in ("thumbsUp", "thumbsDown"):
            tag = feedback.get("tag")
            tag = "" if tag in (None, "") else (meanings.text(tag) or "unknown").rstrip(" ")
            up = rating == "thumbsUp"
            self._on_day(message, "daily_ratings_by_model", (model, tag), up, not up)
        for name, failed in meanings.tool_calls(message):
            self._on_day(message, "daily_tool_calls", (name.rstrip(" "),), 1, failed)

    def _transaction(self, transaction: Document) -> None:
        kind = transaction.get("tokenType")
        if kind not in ("prompt", "completion"):
            return
        raw, fresh, written, read, value = (
            meanings.amount(transaction.get(name))
            for name in ("rawAmount", "inputTokens", "writeTokens", "readTokens", "tokenValue")
        )
        structured = kind == "prompt" and any(one is not None for one in (fresh, written, read))
        counted = meanings.whole(fresh if structured else raw)
        tokens = [
            counted if kind == "prompt" else 0,
            meanings.whole(raw) if kind == "completion" else 0,
            meanings.whole(read) if structured else 0,
            meanings.whole(written) if structured else 0,
        ]
        cost = meanings.whole(value, 10_000) / 1e10
        key = (label(transaction.get("model")), label(transaction.get("context")))
        day = self._day(transaction)
        prices = self.price(
            meanings.text(transaction.get("model")) or "unknown", transaction["createdAt"] if day else None
        )
        listed = sum(count * each for count, each in zip(tokens, prices or (0, 0, 0, 0), strict=True)) / 1e12
        self._on_day(transaction, "daily_cost_by_model", key, *tokens, cost, listed)
        if prices is None and day is not None and self.first <= day <= self.last:
            self.unpriced.add((day, *key))
        for group in {one.rstrip(" ") for one in self.belonging.payers(meanings.user(transaction), "group")}:
            self._on_day(transaction, "daily_usage_by_group", (group,), 0, 0, *tokens, cost)
        agent = self.belonging.answering(transaction)
        if agent is not None:
            self._on_day(transaction, "daily_usage_by_agent", (agent.rstrip(" "),), 0, 0, 0, *tokens, cost)

    def _distinct(self, day: date | None, table: str, name: str, user: str | None) -> None:
        if day is not None and self.first <= day <= self.last and user is not None:
            self.distinct[table, (day, name)].add(user)

    def _periods(self) -> None:
        """Weeks and months that are over and of which a day was asked for; all their days count."""
        for number in range((self.last - self.first).days + 1):
            day = self.first + number * DAY
            monday = day - day.weekday() * DAY
            month = day.replace(day=1)
            after_month = (month + 31 * DAY).replace(day=1)
            for table, start, end in (
                ("weekly_users", monday, monday + 7 * DAY),
                ("monthly_users", month, after_month),
            ):
                if end <= self.today:
                    users = [users for day, users in self.users.items() if start <= day < end]
                    self.tables[table][(start,)] = [len(set().union(*users))]
