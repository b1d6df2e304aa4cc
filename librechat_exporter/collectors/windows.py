"""Usage in the windows of USAGE_WINDOWS: who used which models, what came of it, what it took."""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from librechat_exporter.collector import Collector, Scrape, Shown
from librechat_exporter.folds import hours
from librechat_exporter.folds.documents import DocumentGroup
from librechat_exporter.folds.messages import MESSAGES
from librechat_exporter.folds.transactions import CLASSES, SEEN_BY_CLASS, TRANSACTIONS, class_of
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.ledger.windowed import hour_of
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
    since=hours.ANSWERS.since,
)
_UNFINISHED = _gauge(
    name="librechat_window_unfinished_answers_per_model",
    help="Answers that were stopped in the window, exact to the hour",
    labels=("model", "class", WINDOW),
    since=hours.UNFINISHED.since,
)
_TOKENS = _gauge(
    name="librechat_window_tokens_per_model",
    help="Tokens billed for chat requests, cached ones among the input, in the window, exact to the hour",
    labels=("model", "class", "type", WINDOW),
    since=(hours.SEQUENTIAL,),
)
_CACHE_TOKENS = _gauge(
    name="librechat_window_cache_tokens_per_model",
    help="Input tokens of chat requests read from or written to the cache in the window, exact to the hour",
    labels=("model", "class", "type", WINDOW),
    since=(hours.SEQUENTIAL,),
)
_BACKGROUND_TOKENS = _gauge(
    name="librechat_window_background_tokens_per_model",
    help="Tokens billed for titles, summaries and the like in the window, exact to the hour",
    labels=("model", "class", "context", "type", WINDOW),
    since=(hours.SEQUENTIAL,),
)
_CREDITS = _gauge(
    name="librechat_window_credits_per_model",
    help="Credits charged in the window, exact to the hour; a million credits are one US dollar",
    labels=("model", "class", "context", "type", WINDOW),
)
_REJECTED = _gauge(
    name="librechat_window_rejected_requests",
    help="Failed messages, by the reason that LibreChat gave, in the window, exact to the hour",
    labels=("reason", WINDOW),
    since=hours.REJECTED.since,
)
_NEW_USERS = _gauge(
    name="librechat_window_new_users",
    help="Users that registered in the window, exact to the hour",
    labels=(WINDOW,),
)

# By what is shown, with the model's class after its name, what the ledger counts by the hour.
_BILLED = {
    _TOKENS: hours.TOKENS,
    _CACHE_TOKENS: hours.CACHE_TOKENS,
    _BACKGROUND_TOKENS: hours.BACKGROUND_TOKENS,
    _CREDITS: hours.CREDITS,
}


def _add_users(samples: Samples, group: DocumentGroup) -> None:
    if group.hour is not None:
        samples.add(_NEW_USERS, group.count, group.hour)


class _AnswersCollector(Collector):
    name = "window_answers"
    metrics = (_ANSWERS, _UNFINISHED, _REJECTED)
    countings = hours.OF_MESSAGES
    sources = (MESSAGES,)

    def __init__(self, external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX."""
        self._external = external
        self._answers, self._unfinished = Shown(), Shown()

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        totals, now, external = scrape.totals, scrape.now, self._external
        answers, unfinished = totals.in_windows(hours.ANSWERS, now), totals.in_windows(hours.UNFINISHED, now)

        def all_unfinished() -> Iterator[Family]:
            yield _UNFINISHED.family(_with_class(dict.fromkeys(answers, 0.0) | unfinished, external))

        if totals.is_folded(hours.ANSWERS):
            yield from self._answers.families(lambda: [_ANSWERS.family(_with_class(answers, external))], answers)
        if totals.is_folded(hours.UNFINISHED, hours.ANSWERS):
            yield from self._unfinished.families(all_unfinished, answers, unfinished)
        if totals.is_folded(hours.REJECTED):
            yield _REJECTED.family(totals.in_windows(hours.REJECTED, now))


class _BilledCollector(Collector):
    name = "window_billed"
    metrics = (_UNIQUE_USERS, _USERS_BY_CLASS, *_BILLED)
    countings = (hours.OF_TRANSACTIONS,)
    sources = (TRANSACTIONS,)

    def __init__(self, external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX."""
        self._external = external
        self._billed = {shown: Shown() for shown in _BILLED}
        self._hour = 0
        self._users = Shown()

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(TRANSACTIONS)
        for metric, counted in _BILLED.items():
            if scrape.totals.is_folded(counted):
                yield from self._of_metric(metric, scrape.totals.in_windows(counted, scrape.now))
        if scrape.totals.has_seen_all(*SEEN_BY_CLASS.values()):
            # Counted anew only when an hour has passed, or anybody was seen in another hour than before.
            seen = {name: scrape.totals.seen(kind) for name, kind in SEEN_BY_CLASS.items()}
            if hour_of(scrape.now) != self._hour:  # an equal number would be another object
                self._hour = hour_of(scrape.now)
            yield from self._users.families(lambda: self._count(scrape, seen), self._hour, *seen.values())

    def _of_metric(self, metric: Metric, values: Mapping[LabelValues, float]) -> list[Family]:
        return self._billed[metric].families(lambda: [metric.family(_with_class(values, self._external))], values)

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
    """The models that a limit on labels drops are of no class, as they are not known."""
    return {
        (model, class_of(model, external if model != OTHER else None), *rest): value
        for (model, *rest), value in values.items()
    }


def collectors(settings: Settings) -> list[Collector]:
    """Each reads a source of its own: one that may not be read takes nothing else away."""
    external = settings.external_models
    return [_AnswersCollector(external), _BilledCollector(external), _NewUsersCollector()]
