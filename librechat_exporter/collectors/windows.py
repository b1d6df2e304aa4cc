"""Usage in the windows of USAGE_WINDOWS: who used which models, what came of it, what it took."""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.folds.documents import DocumentGroup
from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.folds.transactions import CHAT_CONTEXTS, CLASSES, SEEN_BY_CLASS, TRANSACTIONS, class_of
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.ledger.windowed import hour_of
from librechat_exporter.librechat.fields import CREDIT_PARTS
from librechat_exporter.librechat.transactions import Billed
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import WINDOW, Family, LabelValues, Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_USERS = "users"

_gauge = partial(
    Metric,
    type="gauge",
    kind="recent",
    toggles=("usage_window",),
    chosen=("class", "type", "usage", "reason"),
)

_SEQUENTIAL = "0.2.0: `sequential` is a chat context"

_UNIQUE_USERS = _gauge(
    name="librechat_window_unique_users",
    help="Distinct users with a chat request that was billed in the window, exact to the hour",
    labels=(WINDOW,),
)
_USERS_BY_CLASS = _gauge(
    name="librechat_window_users_by_model_class",
    help="Distinct users by the class of the models that they used in the window, exact to the hour",
    labels=("usage", WINDOW),
)
_ANSWERS = _gauge(
    name="librechat_window_answers_per_model",
    help="Answers that did not fail in the window, exact to the hour",
    labels=("model", "class", WINDOW),
    since=(WITHOUT_SUBAGENTS,),
)
_UNFINISHED = _gauge(
    name="librechat_window_unfinished_answers_per_model",
    help="Answers that were stopped in the window, exact to the hour",
    labels=("model", "class", WINDOW),
    since=(WITHOUT_SUBAGENTS, "0.2.0: one that ended by its many tool calls is not stopped"),
)
_TOKENS = _gauge(
    name="librechat_window_tokens_per_model",
    help="Tokens billed for chat requests, cached ones among the input, in the window, exact to the hour",
    labels=("model", "class", "type", WINDOW),
    since=(_SEQUENTIAL,),
)
_CACHE_TOKENS = _gauge(
    name="librechat_window_cache_tokens_per_model",
    help="Input tokens of chat requests read from or written to the cache in the window, exact to the hour",
    labels=("model", "class", "type", WINDOW),
    since=(_SEQUENTIAL,),
)
_BACKGROUND_TOKENS = _gauge(
    name="librechat_window_background_tokens_per_model",
    help="Tokens billed for titles, summaries and the like in the window, exact to the hour",
    labels=("model", "class", "context", "type", WINDOW),
    since=(_SEQUENTIAL,),
)
_CREDITS = _gauge(
    name="librechat_window_credits_per_model",
    help="Credits charged; a million are a dollar; in the window, exact to the hour",
    labels=("model", "class", "context", "type", WINDOW),
)
_REJECTED = _gauge(
    name="librechat_window_rejected_requests",
    help="Failed messages, by the reason that LibreChat gave, in the window, exact to the hour",
    labels=("reason", WINDOW),
    since=(WITHOUT_SUBAGENTS, "0.2.0: by all reasons of LibreChat, as it writes them"),
)
_NEW_USERS = _gauge(
    name="librechat_window_new_users",
    help="Users that registered in the window, exact to the hour",
    labels=(WINDOW,),
)

# The ledger counts these by the hour. A model's class is told when they are shown.
_hourly = partial(Metric, help="", type="gauge", kind="recent", chosen=("type", "reason"))
_HOURLY_ANSWERS = _hourly(name="librechat_window_answers_per_model", labels=("model", WINDOW), since=_ANSWERS.since)
_HOURLY_UNFINISHED = _hourly(
    name="librechat_window_unfinished_answers_per_model", labels=("model", WINDOW), since=_UNFINISHED.since
)
_HOURLY_TOKENS = _hourly(
    since=(_SEQUENTIAL,), name="librechat_window_tokens_per_model", labels=("model", "type", WINDOW)
)
_HOURLY_CACHE_TOKENS = _hourly(
    since=(_SEQUENTIAL,), name="librechat_window_cache_tokens_per_model", labels=("model", "type", WINDOW)
)
_HOURLY_BACKGROUND_TOKENS = _hourly(
    since=(_SEQUENTIAL,),
    name="librechat_window_background_tokens_per_model",
    labels=("model", "context", "type", WINDOW),
)
_HOURLY_CREDITS = _hourly(
    name="librechat_window_credits_per_model", labels=("model", "context", "type", WINDOW), parts=CREDIT_PARTS
)

# By what is shown, with the model's class after its name, what is counted by the hour.
_BILLED = {
    _TOKENS: _HOURLY_TOKENS,
    _CACHE_TOKENS: _HOURLY_CACHE_TOKENS,
    _BACKGROUND_TOKENS: _HOURLY_BACKGROUND_TOKENS,
    _CREDITS: _HOURLY_CREDITS,
}


def _add_messages(samples: Samples, group: MessageGroup) -> None:
    kind = group.kind
    for hour, count in group.hours.items():
        if kind.failed:
            samples.add(_REJECTED, count, kind.reason or OTHER, hour)
        elif not kind.by_user:
            samples.add(_HOURLY_ANSWERS, count, group.model, hour)
            if kind.unfinished:
                samples.add(_HOURLY_UNFINISHED, count, group.model, hour)


def _add_billed(samples: Samples, billed: Billed) -> None:
    if billed.hour is None or billed.kind not in ("prompt", "completion"):
        return
    hour, token_type = str(billed.hour), billed.token_type
    tokens = billed.tokens + sum(billed.cache or ())
    if billed.context in CHAT_CONTEXTS:
        samples.add(_HOURLY_TOKENS, tokens, billed.model, token_type, hour)
        for kind, cached in zip(("read", "write"), billed.cache or (), strict=False):
            samples.add(_HOURLY_CACHE_TOKENS, cached, billed.model, kind, hour)
    else:
        samples.add(_HOURLY_BACKGROUND_TOKENS, tokens, billed.model, billed.context, token_type, hour)
    samples.add(_HOURLY_CREDITS, billed.charged, billed.model, billed.context, token_type, hour)


def _add_users(samples: Samples, group: DocumentGroup) -> None:
    if group.hour is not None:
        samples.add(_NEW_USERS, group.count, group.hour)


class _AnswersCollector(Collector):
    name = "window_answers"
    metrics = (_ANSWERS, _UNFINISHED, _REJECTED)
    countings = (Counting(MESSAGES, (_HOURLY_ANSWERS, _HOURLY_UNFINISHED, _REJECTED), _add_messages),)
    sources = (MESSAGES,)

    def __init__(self, external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX."""
        self._external = external

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        totals, now = scrape.totals, scrape.now
        answers = totals.in_windows(_HOURLY_ANSWERS, now)
        if totals.is_folded(_HOURLY_ANSWERS):
            yield _ANSWERS.family(_with_class(answers, self._external))
        if totals.is_folded(_HOURLY_UNFINISHED, _HOURLY_ANSWERS):
            unfinished = dict.fromkeys(answers, 0.0) | totals.in_windows(_HOURLY_UNFINISHED, now)
            yield _UNFINISHED.family(_with_class(unfinished, self._external))
        if totals.is_folded(_REJECTED):
            yield _REJECTED.family(totals.in_windows(_REJECTED, now))


class _BilledCollector(Collector):
    name = "window_billed"
    metrics = (_UNIQUE_USERS, _USERS_BY_CLASS, *_BILLED)
    countings = (Counting(TRANSACTIONS, tuple(_BILLED.values()), _add_billed),)
    sources = (TRANSACTIONS,)

    def __init__(self, external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX."""
        self._external = external
        # The hour and the users seen that the families were counted of.
        self._counted: tuple[int, Mapping[str, Mapping[str, float]], list[Family]] = (0, {}, [])

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(TRANSACTIONS)
        for shown, counted in _BILLED.items():
            if scrape.totals.is_folded(counted):
                yield shown.family(_with_class(scrape.totals.in_windows(counted, scrape.now), self._external))
        if scrape.totals.has_seen_all(*SEEN_BY_CLASS.values()):
            yield from self._users(scrape)

    def _users(self, scrape: Scrape) -> list[Family]:
        """Counted anew only when an hour has passed, or anybody was seen in another hour than before."""
        seen = {name: scrape.totals.seen(kind) for name, kind in SEEN_BY_CLASS.items()}
        hour, counted, families = self._counted
        if hour != hour_of(scrape.now) or any(seen[name] is not counted.get(name) for name in seen):
            families = self._count(scrape, seen)
            self._counted = hour_of(scrape.now), seen, families
        return families

    def _count(self, scrape: Scrape, seen: Mapping[str, Mapping[str, float]]) -> list[Family]:
        users: dict[LabelValues, float] = {}
        classes: dict[LabelValues, float] = {}
        windows = scrape.totals.windows
        for window in windows.names:
            since = windows.beginning(window, scrape.now).timestamp()
            of_class = {name: {user for user, last in seen[name].items() if last >= since} for name in CLASSES}
            local, external = of_class["local"], of_class["external"]
            users[window,] = len(local | external | of_class["unclassified"])
            classes["local_only", window] = len(local - external)
            classes["external_only", window] = len(external - local)
            classes["both", window] = len(local & external)
        families = [_UNIQUE_USERS.family(users)]
        if self._external is not None:
            families.append(_USERS_BY_CLASS.family(classes))
        return families


class _NewUsersCollector(Collector):
    name = "window_new_users"
    metrics = (_NEW_USERS,)
    countings = (Counting(_USERS, (_NEW_USERS,), _add_users),)
    sources = (_USERS,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(_USERS)
        if scrape.totals.is_folded(_NEW_USERS):
            yield _NEW_USERS.family(scrape.totals.in_windows(_NEW_USERS, scrape.now))


def _with_class(values: Mapping[LabelValues, float], external: re.Pattern[str] | None) -> dict[LabelValues, float]:
    return {(model, class_of(model, external), *rest): value for (model, *rest), value in values.items()}


def collectors(settings: Settings) -> list[Collector]:
    """Each reads a source of its own: one that may not be read takes nothing else away."""
    external = settings.external_models
    return [_AnswersCollector(external), _BilledCollector(external), _NewUsersCollector()]
