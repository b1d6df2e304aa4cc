"""Usage in the windows of USAGE_WINDOWS: who used which models, what came of it, what it took."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.fields import CREDIT_PARTS, UNKNOWN
from librechat_exporter.ledger.fold import Fold, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.ledger.windowed import HOUR, hour_of
from librechat_exporter.metric import OTHER, WINDOW, Family, LabelValues, Metric, Samples
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.rows import Billed, MessageKind
from librechat_exporter.settings import Settings

_CHAT_CONTEXTS = frozenset(("message", "incomplete", "abort", "subagent"))
_CLASSES = ("local", "external", "unclassified")
# Kinds of users seen: who had a transaction with a model of the class, and who had any message.
OF_CLASS = {name: f"window_{name}" for name in _CLASSES}
SEEN = "messages"


def _hourly(name: str, *labels: str, parts: int = 1) -> Metric:
    """A metric that the ledger counts by the hour, for the one of its name, which shows a model's class as well."""
    chosen = ("type", "reason")
    return Metric(f"librechat_window_{name}", "", "gauge", "recent", (*labels, WINDOW), chosen=chosen, parts=parts)


_ANSWERS = _hourly("answers_per_model", "model")
_UNFINISHED = _hourly("unfinished_answers_per_model", "model")
_REJECTED = _hourly("rejected_requests", "reason")
OF_MESSAGES = (_ANSWERS, _UNFINISHED, _REJECTED)
_TOKENS = _hourly("tokens_per_model", "model", "type")
_CACHE_TOKENS = _hourly("cache_tokens_per_model", "model", "type")
_BACKGROUND_TOKENS = _hourly("background_tokens_per_model", "model", "context", "type")
_CREDITS = _hourly("credits_per_model", "model", "context", "type", parts=CREDIT_PARTS)
OF_TRANSACTIONS = (_TOKENS, _CACHE_TOKENS, _BACKGROUND_TOKENS, _CREDITS)


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
# What is shown with the model's class after its name, and what is counted by the hour.
_SHOWN = (
    (ANSWERS, _ANSWERS),
    (TOKENS, _TOKENS),
    (CACHE_TOKENS, _CACHE_TOKENS),
    (BACKGROUND_TOKENS, _BACKGROUND_TOKENS),
    (CREDITS, _CREDITS),
)
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


def hours(reading: Reading, created: Iterable[float]) -> Counter[str]:
    """Counts these Unix times by the hour, as far as it is kept; their sign does not matter."""
    if reading.kept is None or not reading.wants(*(metric.name for metric in OF_MESSAGES)):
        return Counter()
    found = Counter(map(reading.hour, map(abs, created)))
    found.pop(None, None)
    return Counter({hour: count for hour, count in found.items() if hour is not None})


def add_messages(samples: Samples, kind: MessageKind, model: str, hour: str, count: int) -> None:
    """Counts so many messages of a kind."""
    if kind.failed:
        samples.add(_REJECTED, count, kind.reason or OTHER, hour)
    elif not kind.by_user:
        samples.add(_ANSWERS, count, model, hour)
        if kind.unfinished:
            samples.add(_UNFINISHED, count, model, hour)


def add_billed(samples: Samples, billed: Billed, token_type: str, hour: str) -> None:
    """Counts transactions for prompts or completions."""
    tokens = billed.tokens + sum(billed.cache or ())
    if billed.context in _CHAT_CONTEXTS:
        samples.add(_TOKENS, tokens, billed.model, token_type, hour)
        for kind, cached in zip(("read", "write"), billed.cache or (), strict=False):
            samples.add(_CACHE_TOKENS, cached, billed.model, kind, hour)
    else:
        samples.add(_BACKGROUND_TOKENS, tokens, billed.model, billed.context, token_type, hour)
    samples.add(_CREDITS, billed.charged, billed.model, billed.context, token_type, hour)


def seen_by_class(billed: Iterable[Billed], external: re.Pattern[str] | None) -> Seen:
    """When the users of chat requests were last seen, to the hour, by the class of the model."""
    seen: Seen = {}
    for one in billed:
        if one.hour is not None and one.kind in ("prompt", "completion") and one.context in _CHAT_CONTEXTS:
            moment = one.hour * HOUR.total_seconds()
            users = seen.setdefault(OF_CLASS[class_of(one.model, external)], {})
            users.update((user, moment) for user in one.users if moment > users.get(user, 0))
    return seen


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

    def __init__(self, settings: Settings, folds: Sequence[Fold]) -> None:
        """folds: of messages, transactions and users."""
        self.folds = tuple(folds)
        self._external = settings.external_models
        # The hour and the users seen that the families were counted of.
        self._counted: tuple[int, Mapping[str, Mapping[str, float]], list[Family]] = (0, {}, [])

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        for fold in self.folds:
            scrape.refresh(fold)
        ledger, now = scrape.ledger, scrape.now
        for shown, counted in _SHOWN:
            if ledger.is_folded(counted):
                yield shown.family(self._with_class(ledger.in_windows(counted, now)))
        if ledger.is_folded(_UNFINISHED, _ANSWERS):
            unfinished = dict.fromkeys(ledger.in_windows(_ANSWERS, now), 0.0) | ledger.in_windows(_UNFINISHED, now)
            yield UNFINISHED_ANSWERS.family(self._with_class(unfinished))
        for shown, counted in ((REJECTED, _REJECTED), (NEW_USERS, NEW_USERS)):
            if ledger.is_folded(counted):
                yield shown.family(ledger.in_windows(counted, now))
        if ledger.has_seen_all(*OF_CLASS.values()):
            yield from self._users(scrape)

    def _with_class(self, values: Mapping[LabelValues, float]) -> dict[LabelValues, float]:
        return {(model, class_of(model, self._external), *rest): value for (model, *rest), value in values.items()}

    def _users(self, scrape: Scrape) -> list[Family]:
        """Counted anew only when an hour has passed, or anybody was seen in another hour than before."""
        seen = {name: scrape.ledger.seen(kind) for name, kind in OF_CLASS.items()}
        hour, counted, families = self._counted
        if hour != hour_of(scrape.now) or any(seen[name] is not counted.get(name) for name in seen):
            families = self._count(scrape, seen)
            self._counted = hour_of(scrape.now), seen, families
        return families

    def _count(self, scrape: Scrape, seen: Mapping[str, Mapping[str, float]]) -> list[Family]:
        users: dict[LabelValues, float] = {}
        classes: dict[LabelValues, float] = {}
        windows = scrape.ledger.windows
        for window in windows.names:
            since = windows.beginning(window, scrape.now).timestamp()
            of_class = {name: {user for user, last in seen[name].items() if last >= since} for name in _CLASSES}
            local, external = of_class["local"], of_class["external"]
            users[window,] = len(local | external | of_class["unclassified"])
            classes["local_only", window] = len(local - external)
            classes["external_only", window] = len(external - local)
            classes["both", window] = len(local & external)
        return [UNIQUE_USERS.family(users), *([USERS_BY_CLASS.family(classes)] if self._external is not None else [])]


class ActiveDomainsCollector(Collector):
    """Who was active, by domain. Whose domain it is is read in the background."""

    name = "active_domains"
    metrics = (BY_DOMAIN,)

    def __init__(self, messages: Fold) -> None:
        self.folds = (messages,)
        self._domains: Refreshed[Mapping[str, str]] = Refreshed(self.name, at_once=0.0)

    def is_used(self, settings: Settings) -> bool:
        return settings.domain_metrics

    def data_age(self) -> float | None:
        return self._domains.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(self.folds[0])
        domains = self._domains.get(scrape.librechat.domains_of_users, scrape.deadline, scrape.settings.state_refresh)
        of_user = {scrape.ledger.user_key(user): domain for user, domain in domains.items()}
        samples = scrape.samples()
        windows, seen = scrape.ledger.windows, scrape.ledger.seen(SEEN)
        if not scrape.ledger.has_seen_all(SEEN):
            return
        for window in windows.names:
            since = windows.beginning(window, scrape.now).timestamp()
            for user, last in seen.items():
                if last >= since:
                    samples.add(BY_DOMAIN, 1, of_user.get(user, UNKNOWN), window)
        yield samples.family(BY_DOMAIN)
