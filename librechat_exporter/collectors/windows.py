"""Usage in the windows of USAGE_WINDOWS: who used which models, what came of it, what it took."""

import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from bson import ObjectId

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.fields import UNKNOWN
from librechat_exporter.fold import Reading
from librechat_exporter.librechat import Span
from librechat_exporter.metric import OTHER, WINDOW, Family, LabelValues, Metric, Samples
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.rows import Billed, Hourly, Model
from librechat_exporter.settings import Settings
from librechat_exporter.state import Cell, Seen
from librechat_exporter.windows import HOUR, WindowFold, hour_of

_CHAT_CONTEXTS = frozenset(("message", "incomplete", "abort", "subagent"))
_CLASSES = ("local", "external", "unclassified")
# Kinds of users seen: who had a transaction with a model of the class, and who had any message.
_OF_CLASS = {name: f"window_{name}" for name in _CLASSES}
ACTIVE = "window_active"
# The types of LibreChat's errors and violations. A text could quote anything else, so nothing else becomes a label.
REASONS = frozenset(
    {
        *("token_balance", "illegal_model_request", "concurrent", "message_limit", "moderation", "ban", "refusal"),
        *("no_user_key", "expired_user_key", "invalid_user_key", "auth_failed", "no_base_url", "invalid_base_url"),
        *("missing_model", "models_not_loaded", "endpoint_models_not_loaded", "invalid_agent_provider"),
        *("input_length", "invalid_request", "invalid_action", "no_system_messages", "tool_call_limit"),
        *("google_error", "google_tool_conflict", "file_upload_limit"),
    }
)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    help_text = f"{text} in the window, exact to the hour"
    return Metric(
        f"librechat_window_{name}",
        help_text,
        "gauge",
        "recent",
        (*labels, WINDOW),
        ("usage_window",),
        chosen=("class", "type", "usage", "reason"),
    )


UNIQUE_USERS = _gauge("unique_users", "Distinct users with a chat request that was billed")
USERS_BY_CLASS = _gauge("users_by_model_class", "Distinct users by the class of the models that they used", "usage")
ANSWERS = _gauge("answers_per_model", "Answers that did not fail", "model", "class")
UNFINISHED_ANSWERS = _gauge("unfinished_answers_per_model", "Answers that were stopped", "model", "class")
TOKENS = _gauge(
    "tokens_per_model", "Tokens billed for chat requests, cached ones among the input,", "model", "class", "type"
)
CACHE_TOKENS = _gauge(
    "cache_tokens_per_model",
    "Input tokens of chat requests read from or written to the cache",
    "model",
    "class",
    "type",
)
BACKGROUND_TOKENS = _gauge(
    "background_tokens_per_model",
    "Tokens billed for titles, summaries and the like",
    *("model", "class", "context", "type"),
)
CREDITS = _gauge("credits_per_model", "Credits charged; a million are a dollar;", "model", "class", "context", "type")
REJECTED = _gauge("rejected_requests", "Failed messages, by the reason that LibreChat gave", "reason")
NEW_USERS = _gauge("new_users", "Users that registered")
BY_DOMAIN = Metric(
    "librechat_active_users_by_domain",
    "Distinct users with a message in the window, exact to the hour, by the domain of their e-mail address",
    "gauge",
    "recent",
    ("domain", WINDOW),
    ("usage_window",),
)


def class_of(model: str, external: re.Pattern[str] | None) -> str:
    """Where a model runs, by EXTERNAL_MODEL_REGEX."""
    if external is None:
        return "unclassified"
    return "external" if external.search(model) else "local"


class _Row(Protocol):
    """What all rows tell: Billed and Hourly."""

    @property
    def id(self) -> ObjectId | None: ...
    @property
    def hour(self) -> float | None: ...
    @property
    def users(self) -> frozenset[str]: ...
    @property
    def model(self) -> Model: ...


_R = TypeVar("_R", bound=_Row)


class _Windows(WindowFold, Generic[_R]):
    """Documents of the windows, by the hour of createdAt."""

    code_version = 2

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.windows)
        self._external = settings.external_models
        self._with_domains = settings.domain_metrics
        told = (self.code_version, self.kept, settings.external_model_regex, settings.domain_metrics)
        self.version = zlib.crc32(repr(told).encode())

    @abstractmethod
    def rows(self, reading: Reading, created: Span, first: int | None) -> Sequence[_R]:
        """The matching documents by the hour of createdAt. first: only so many, by `_id`, each by itself."""

    @abstractmethod
    def add(self, samples: Samples, row: _R, model: str, hour: str) -> None:
        """Counts a row whose label `model` this is."""

    def kind(self, _row: _R, _model: str) -> str | None:
        """The kind of what the row's users are seen with."""
        return None

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        rows = self.rows(reading, self._span(reading.now), limit)
        labels = reading.librechat.model_labels(row.model for row in rows)
        found: dict[ObjectId, Cell] = {}
        for row in rows:
            if row.id is not None:
                # An agent that is given another model moves no count.
                before = cells[row.id].model if row.id in cells else None
                label = before[1] if before is not None and before[0] == row.model else labels[row.model]
                samples = Samples(reading.guard)
                if row.hour is not None:
                    self.add(samples, row, label, str(int(row.hour)))
                found[row.id] = Cell(samples, (row.model, label))
        return found, self._seen(rows, labels)

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        rows = self.rows(reading, self._span(reading.now), None)
        labels = reading.librechat.model_labels(row.model for row in rows)
        samples = Samples(reading.guard)
        for row in rows:
            if row.hour is not None:
                self.add(samples, row, labels[row.model], str(int(row.hour)))
        return samples, self._seen(rows, labels)

    def _span(self, now: datetime) -> Span:
        """The longest window."""
        since = datetime.fromtimestamp(hour_of(now - self.kept) * HOUR.total_seconds(), UTC)
        return since - timedelta(milliseconds=1), now

    def _seen(self, rows: Sequence[_R], labels: Mapping[Model, str]) -> Seen:
        seen: Seen = {}
        for row in rows:
            kind = self.kind(row, labels[row.model])
            if kind is not None and row.hour is not None:
                moment = row.hour * HOUR.total_seconds()
                users = seen.setdefault(kind, {})
                users.update((user, moment) for user in row.users if moment > users.get(user, 0))
        return seen


class MessageWindows(_Windows[Hourly]):
    name = "window_messages"
    collection = "messages"
    metrics = (ANSWERS, UNFINISHED_ANSWERS, REJECTED)
    kinds = (ACTIVE,)

    def rows(self, reading: Reading, created: Span, first: int | None) -> Sequence[Hourly]:
        return reading.librechat.messages_by_hour(reading.match, created, first=first, with_users=self._with_domains)

    def add(self, samples: Samples, row: Hourly, model: str, hour: str) -> None:
        if row.failed:
            samples.add(REJECTED, row.count, row.reason if row.reason in REASONS else OTHER, hour)
        elif not row.by_user:
            labels = (model, class_of(model, self._external), hour)
            samples.add(ANSWERS, row.count, *labels)
            if row.unfinished:
                samples.add(UNFINISHED_ANSWERS, row.count, *labels)

    def kind(self, _row: Hourly, _model: str) -> str | None:
        return ACTIVE


class TransactionWindows(_Windows[Billed]):
    name = "window_transactions"
    collection = "transactions"
    metrics = (TOKENS, CACHE_TOKENS, BACKGROUND_TOKENS, CREDITS)
    kinds = tuple(_OF_CLASS.values())

    def rows(self, reading: Reading, created: Span, first: int | None) -> Sequence[Billed]:
        return reading.librechat.billed(reading.match, first=first, created=created)

    def add(self, samples: Samples, row: Billed, model: str, hour: str) -> None:
        if row.kind not in ("prompt", "completion"):
            return
        token_type = "input" if row.kind == "prompt" else "output"
        labels = (model, class_of(model, self._external))
        tokens = row.tokens + sum(row.cache or ())
        if row.context in _CHAT_CONTEXTS:
            samples.add(TOKENS, tokens, *labels, token_type, hour)
            for kind, cached in zip(("read", "write"), row.cache or (), strict=False):
                samples.add(CACHE_TOKENS, cached, *labels, kind, hour)
        else:
            samples.add(BACKGROUND_TOKENS, tokens, *labels, row.context, token_type, hour)
        samples.add(CREDITS, row.credits, *labels, row.context, token_type, hour)

    def kind(self, row: Billed, model: str) -> str | None:
        is_chat = row.kind in ("prompt", "completion") and row.context in _CHAT_CONTEXTS
        return _OF_CLASS[class_of(model, self._external)] if is_chat else None


class UserWindows(_Windows[Hourly]):
    name = "window_users"
    collection = "users"
    metrics = (NEW_USERS,)

    def rows(self, reading: Reading, created: Span, first: int | None) -> Sequence[Hourly]:
        return reading.librechat.count_by_hour(self.collection, reading.match, created, first=first)

    def add(self, samples: Samples, row: Hourly, _model: str, hour: str) -> None:
        samples.add(NEW_USERS, row.count, hour)


# The ticker folds as often, so usually no scrape has to: what is exact to the hour may be a minute old.
_FRESH_SECONDS = 60.0


class WindowsCollector(Collector):
    name = "windows"
    metrics = (
        UNIQUE_USERS,
        USERS_BY_CLASS,
        ANSWERS,
        UNFINISHED_ANSWERS,
        TOKENS,
        CACHE_TOKENS,
        BACKGROUND_TOKENS,
        CREDITS,
        REJECTED,
        NEW_USERS,
    )

    def __init__(self, settings: Settings) -> None:
        self.messages = MessageWindows(settings)
        self._transactions = TransactionWindows(settings)
        self.folds = (self.messages, self._transactions, UserWindows(settings))
        self._has_classes = settings.external_models is not None
        # The hour and the users seen that the families were counted of.
        self._counted: tuple[int, Mapping[str, Mapping[str, float]], list[Family]] = (0, {}, [])

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        for fold in self.folds:
            scrape.refresh(fold, _FRESH_SECONDS)
        for metric in (ANSWERS, TOKENS, CACHE_TOKENS, BACKGROUND_TOKENS, CREDITS, REJECTED, NEW_USERS):
            yield metric.family(scrape.ledger.in_windows(metric, scrape.now))
        unfinished = dict.fromkeys(scrape.ledger.in_windows(ANSWERS, scrape.now), 0.0)
        yield UNFINISHED_ANSWERS.family(unfinished | scrape.ledger.in_windows(UNFINISHED_ANSWERS, scrape.now))
        yield from self._users(scrape)

    def _users(self, scrape: Scrape) -> list[Family]:
        """Counted anew only when an hour has passed, or anybody was seen in another hour than before."""
        seen = {name: scrape.ledger.seen(kind) for name, kind in _OF_CLASS.items()}
        hour, counted, families = self._counted
        if hour != hour_of(scrape.now) or any(seen[name] is not counted.get(name) for name in seen):
            families = self._count(scrape, seen)
            self._counted = hour_of(scrape.now), seen, families
        return families

    def _count(self, scrape: Scrape, seen: Mapping[str, Mapping[str, float]]) -> list[Family]:
        users: dict[LabelValues, float] = {}
        classes: dict[LabelValues, float] = {}
        for window in self._transactions.windows:
            since = self._transactions.first_hour(window, scrape.now) * HOUR.total_seconds()
            of_class = {name: {user for user, last in seen[name].items() if last >= since} for name in _CLASSES}
            local, external = of_class["local"], of_class["external"]
            users[window,] = len(local | external | of_class["unclassified"])
            classes["local_only", window] = len(local - external)
            classes["external_only", window] = len(external - local)
            classes["both", window] = len(local & external)
        return [UNIQUE_USERS.family(users), *([USERS_BY_CLASS.family(classes)] if self._has_classes else [])]


class ActiveDomainsCollector(Collector):
    """Who was active, by domain. Whose domain it is is read in the background."""

    name = "active_domains"
    metrics = (BY_DOMAIN,)

    def __init__(self, messages: MessageWindows) -> None:
        self.folds = (messages,)
        self._messages = messages
        self._domains: Refreshed[Mapping[str, str]] = Refreshed(self.name, at_once=0.0)

    def is_used(self, settings: Settings) -> bool:
        return settings.domain_metrics

    def data_age(self) -> float | None:
        return self._domains.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(self._messages, _FRESH_SECONDS)
        domains = self._domains.get(scrape.librechat.domains_of_users, scrape.deadline, scrape.settings.state_refresh)
        of_user = {scrape.ledger.user_key(user): domain for user, domain in domains.items()}
        samples = scrape.samples()
        seen = scrape.ledger.seen(ACTIVE)
        for window in self._messages.windows:
            since = self._messages.first_hour(window, scrape.now) * HOUR.total_seconds()
            for user, last in seen.items():
                if last >= since:
                    samples.add(BY_DOMAIN, 1, of_user.get(user, UNKNOWN), window)
        yield samples.family(BY_DOMAIN)
