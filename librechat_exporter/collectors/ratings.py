"""Ratings: the users' opinions of answers.

No index of LibreChat's leads to rated messages. Those of the last day are found by their date, for older ones the
whole collection is read. Where that is quick, it is done on every scrape, else in the background, the last day's every
quarter of a minute, and less often the longer it takes; `librechat_exporter_data_age_seconds` says how old the older
ones are. Where an operator has made an index for ratings, all are read as the last day's are.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from librechat_exporter.collector import Collector, Scrape, Shown
from librechat_exporter.ledger.kept_reading import KeptReading
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document, is_between, when
from librechat_exporter.librechat.fields import (
    IS_RATED,
    MODEL,
    RATED_AT,
    RATING,
    RATINGS,
    TAG,
    THUMBS_UP,
    created_after,
    not_created_after,
)
from librechat_exporter.librechat.models import model_of, read_labels
from librechat_exporter.metrics.metric import Family, LabelValues, Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings

_WINDOW = timedelta(minutes=5)
# Ratings of messages that are not older than this, or that an index leads to, are read after so many seconds.
_NEWER = timedelta(days=1)
_NEWER_SECONDS = 15.0
_NAMED = ("model", "agent")


_gauge = partial(Metric, type="gauge", kind="is", toggles=("rating",))

_THUMBS_UP = _gauge(name="librechat_thumbs_up_total", help="Messages rated thumbs up")
_THUMBS_DOWN = _gauge(name="librechat_thumbs_down_total", help="Messages rated thumbs down")
_THUMBS_UP_PER_MODEL = _gauge(
    name="librechat_thumbs_up_per_model", help="Messages rated thumbs up, per model", labels=("model",)
)
_THUMBS_DOWN_PER_MODEL = _gauge(
    name="librechat_thumbs_down_per_model", help="Messages rated thumbs down, per model", labels=("model",)
)
_RATIO_PER_MODEL = _gauge(
    name="librechat_rating_ratio_per_model",
    help="Thumbs up among a model's ratings, in percent; absent without ratings",
    labels=("model",),
)
_RATIO = _gauge(
    name="librechat_overall_rating_ratio", help="Thumbs up among all ratings, in percent; absent without ratings"
)
_PER_TAG = _gauge(
    name="librechat_rating_counts_per_tag",
    help="Rated messages, by the tag that was chosen and the rating",
    labels=("tag", "rating"),
)
_UP_PER_MODEL_AND_TAG = _gauge(
    name="librechat_model_tag_thumbs_up", help="Messages rated thumbs up, per model and tag", labels=("model", "tag")
)
_DOWN_PER_MODEL_AND_TAG = _gauge(
    name="librechat_model_tag_thumbs_down",
    help="Messages rated thumbs down, per model and tag",
    labels=("model", "tag"),
)
_RATED = _gauge(name="librechat_rated_messages_total", help="Messages that have a rating")
_UP_RECENT = Metric(
    name="librechat_thumbs_up_5m",
    help="Thumbs up in the last 5 minutes; on messages older than a day, in the 5 minutes before the last reading",
    type="gauge",
    kind="recent",
    toggles=("rating", "time_window"),
)
_DOWN_RECENT = Metric(
    name="librechat_thumbs_down_5m",
    help="Thumbs down in the last 5 minutes; on messages older than a day, in the 5 minutes before the last reading",
    type="gauge",
    kind="recent",
    toggles=("rating", "time_window"),
)


_UP_PER_AGENT = _gauge(
    name="librechat_agent_thumbs_up",
    help="Answers of the agent rated thumbs up, by its name now",
    labels=("agent",),
    toggles=("rating", "agent"),
)
_DOWN_PER_AGENT = _gauge(
    name="librechat_agent_thumbs_down",
    help="Answers of the agent rated thumbs down, by its name now",
    labels=("agent",),
    toggles=("rating", "agent"),
)
_NONE: list[Document] = []  # the same object on each scrape


class _Older(NamedTuple):
    """Rows of rated messages that were created at a Unix time or before, or have no date; of all if it is None.

    newer: those after it.
    """

    until: float | None
    rows: list[Document]
    newer: Refreshed[list[Document]]


def _read(librechat: LibreChat, created: Document) -> list[Document]:
    """Rows of rated messages by MODEL, rating and TAG: their count, how many were rated in the last 5 minutes, and the
    label of the model and the name of the agent.

    created: matches their createdAt.
    """
    now = librechat.now()
    rows = librechat.aggregate(
        "messages",
        IS_RATED | created,
        {
            "$group": {
                "_id": {"model": MODEL, "rating": RATING, "tag": TAG},
                "count": {"$sum": 1},
                "recent": {"$sum": when(is_between(RATED_AT, now - _WINDOW, now), 1, 0)},
            }
        },
    )
    rows = [row for row in rows if row["_id"]["rating"] in RATINGS]  # the match looks into arrays as well
    labels = read_labels(librechat, (model_of(row["_id"]["model"]) for row in rows))
    return [row | dict(zip(_NAMED, labels[model_of(row["_id"]["model"])], strict=True)) for row in rows]


class _RatingsCollector(Collector):
    name = "ratings"
    metrics = (
        _THUMBS_UP,
        _THUMBS_DOWN,
        _THUMBS_UP_PER_MODEL,
        _THUMBS_DOWN_PER_MODEL,
        _RATIO_PER_MODEL,
        _RATIO,
        _PER_TAG,
        _UP_PER_MODEL_AND_TAG,
        _DOWN_PER_MODEL_AND_TAG,
        _RATED,
        _UP_PER_AGENT,
        _DOWN_PER_AGENT,
        _UP_RECENT,
        _DOWN_RECENT,
    )

    def __init__(self) -> None:
        self._older: Refreshed[_Older] = Refreshed(self.name)
        self._kept = KeptReading("older ratings by model, agent and tag")
        self._has_index = False
        self._shown = Shown()

    def data_age(self) -> float | None:
        return self._older.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        kept = self._kept.restored(scrape.ledger, scrape.now)
        if kept is not None:
            until, rows = kept.content
            self._older.restore(_Older(until, rows, Refreshed(self.name)), kept.age, kept.took)
        every = _NEWER_SECONDS if self._has_index else scrape.settings.state_refresh
        older = self._older.get(lambda: self._read_older(scrape), scrape.deadline, every)
        newer: list[Document] = _NONE
        if older.until is not None:
            created = created_after(datetime.fromtimestamp(older.until, UTC))
            newer = older.newer.get(lambda: _read(scrape.librechat, created), scrape.deadline, _NEWER_SECONDS)
        yield from self._shown.families(lambda: self._families(scrape, older.rows + newer), older.rows, newer)

    def _families(self, scrape: Scrape, rows: list[Document]) -> Iterator[Family]:
        samples = scrape.samples()
        for row in rows:
            _count(samples, row, *(row[name] for name in _NAMED))
        for metric in self.metrics:
            if metric not in (_RATIO, _RATIO_PER_MODEL):
                yield samples.family(metric)
        yield _RATIO.family(_percent(samples, _THUMBS_UP, _THUMBS_DOWN))
        yield _RATIO_PER_MODEL.family(_percent(samples, _THUMBS_UP_PER_MODEL, _THUMBS_DOWN_PER_MODEL))

    def _read_older(self, scrape: Scrape) -> _Older:
        newer: Refreshed[list[Document]] = Refreshed(self.name)
        self._has_index = scrape.librechat.has_ratings_index()
        if self._has_index:
            return _Older(None, _read(scrape.librechat, {}), newer)
        started = time.time()
        until = int((scrape.librechat.now() - _NEWER).timestamp())
        rows = _read(scrape.librechat, not_created_after(datetime.fromtimestamp(until, UTC)))
        self._kept.keep(scrape.ledger, [until, rows], started)
        # Both change at once: no scrape waits for the newer ones because the older ones have been read.
        begun = time.monotonic()
        found = _read(scrape.librechat, created_after(datetime.fromtimestamp(until, UTC)))
        newer.restore(found, 0.0, time.monotonic() - begun)
        return _Older(until, rows, newer)


def _count(samples: Samples, row: Document, model: str, agent: str | None) -> None:
    up = row["count"] if row["_id"]["rating"] == THUMBS_UP else 0
    down = row["count"] - up
    samples.add(_RATED, row["count"])
    samples.add(_THUMBS_UP, up)
    samples.add(_THUMBS_DOWN, down)
    samples.add(_THUMBS_UP_PER_MODEL, up, model)
    samples.add(_THUMBS_DOWN_PER_MODEL, down, model)
    samples.add(_UP_PER_AGENT, up, agent)
    samples.add(_DOWN_PER_AGENT, down, agent)
    samples.add(_UP_RECENT if up else _DOWN_RECENT, row["recent"])
    tag = row["_id"]["tag"]
    if tag:
        samples.add(_PER_TAG, row["count"], tag, row["_id"]["rating"])
        samples.add(_UP_PER_MODEL_AND_TAG if up else _DOWN_PER_MODEL_AND_TAG, row["count"], model, tag)


def _percent(samples: Samples, ups: Metric, downs: Metric) -> dict[LabelValues, float]:
    """Ups among both, for each tuple of labels that has any."""
    percent = {}
    for (name, labels), up in samples.items():
        if name == ups.name and (total := up + samples[downs.name, labels]):
            percent[labels] = 100 * up / total
    return percent


def collectors(_settings: Settings) -> list[Collector]:
    return [_RatingsCollector()]
