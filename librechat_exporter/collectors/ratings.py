"""What users think of the answers.

No index of LibreChat's leads to rated messages. Those of the last day are found by their date, for older ones the
whole collection is read. Where that is quick, it is done on every scrape, else in the background, the last day's every
quarter of a minute, and less often the longer it takes; `librechat_exporter_data_age_seconds` says how old the older
ones are. Where an operator has made an index for ratings, all are read on every scrape.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.fields import (
    IS_RATED,
    MODEL,
    RATING,
    RATINGS,
    TAG,
    Document,
    created_after,
    is_between,
    not_created_after,
    when,
)
from librechat_exporter.ledger import Ledger
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Family, LabelValues, Metric, Samples
from librechat_exporter.refreshed import AT_ONCE_SECONDS, Refreshed
from librechat_exporter.rows import model_of

WINDOW = timedelta(minutes=5)
# Ratings of messages that are not older than this are read more often than the others: after so many seconds.
NEWER = timedelta(days=1)
NEWER_SECONDS = 15.0


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, text, "gauge", "is", labels, ("rating",))


THUMBS_UP = _gauge("librechat_thumbs_up_total", "Messages rated thumbs up")
THUMBS_DOWN = _gauge("librechat_thumbs_down_total", "Messages rated thumbs down")
THUMBS_UP_PER_MODEL = _gauge("librechat_thumbs_up_per_model", "Messages rated thumbs up", "model")
THUMBS_DOWN_PER_MODEL = _gauge("librechat_thumbs_down_per_model", "Messages rated thumbs down", "model")
RATIO_PER_MODEL = _gauge(
    "librechat_rating_ratio_per_model", "Thumbs up among the ratings, in percent; absent without ratings", "model"
)
RATIO = _gauge("librechat_overall_rating_ratio", "Thumbs up among the ratings, in percent; absent without ratings")
PER_TAG = _gauge("librechat_rating_counts_per_tag", "Rated messages", "tag")
UP_PER_MODEL_AND_TAG = _gauge("librechat_model_tag_thumbs_up", "Messages rated thumbs up", "model", "tag")
DOWN_PER_MODEL_AND_TAG = _gauge("librechat_model_tag_thumbs_down", "Messages rated thumbs down", "model", "tag")
RATED = _gauge("librechat_rated_messages_total", "Messages that have a rating")
UP_RECENT = Metric(
    "librechat_thumbs_up_5m",
    "Thumbs up given in the last 5 minutes; to messages older than a day, in those before they were read",
    "gauge",
    "recent",
    groups=("rating", "time_window"),
)
DOWN_RECENT = Metric(
    "librechat_thumbs_down_5m",
    "Thumbs down given in the last 5 minutes; to messages older than a day, in those before they were read",
    "gauge",
    "recent",
    groups=("rating", "time_window"),
)


_KEPT = "older ratings"


class Older(NamedTuple):
    """Rows of rated messages that were created at a Unix time or before, or have no date; of all if it is None.

    newer: those after it.
    """

    until: float | None
    rows: list[Document]
    newer: Refreshed[list[Document]]


def read(librechat: LibreChat, created: Document) -> list[Document]:
    """Rows of rated messages by MODEL, rating and TAG: their count, and how many were rated in the WINDOW.

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
                "recent": {"$sum": when(is_between("$updatedAt", now - WINDOW, now), 1, 0)},
            }
        },
    )
    return [row for row in rows if row["_id"]["rating"] in RATINGS]  # the match looks into arrays as well


class RatingsCollector(Collector):
    name = "ratings"
    metrics = (
        THUMBS_UP,
        THUMBS_DOWN,
        THUMBS_UP_PER_MODEL,
        THUMBS_DOWN_PER_MODEL,
        RATIO_PER_MODEL,
        RATIO,
        PER_TAG,
        UP_PER_MODEL_AND_TAG,
        DOWN_PER_MODEL_AND_TAG,
        RATED,
        UP_RECENT,
        DOWN_RECENT,
    )

    def __init__(self) -> None:
        self._older: Refreshed[Older] = Refreshed(self.name)
        self._restored = False

    def data_age(self) -> float | None:
        return self._older.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        if not self._restored:
            self._restore(scrape.ledger)
        older = self._older.get(lambda: self._read(scrape), scrape.deadline, scrape.settings.state_refresh)
        rows = older.rows
        if older.until is not None:
            created = created_after(datetime.fromtimestamp(older.until, UTC))
            rows = rows + older.newer.get(lambda: read(scrape.librechat, created), scrape.deadline, NEWER_SECONDS)
        labels = scrape.librechat.model_labels(model_of(row["_id"]["model"]) for row in rows)
        samples = scrape.samples()
        for row in rows:
            _count(samples, row, labels[model_of(row["_id"]["model"])])
        for metric in self.metrics:
            if metric not in (RATIO, RATIO_PER_MODEL):
                yield samples.family(metric)
        yield RATIO.family(_percent(samples, THUMBS_UP, THUMBS_DOWN))
        yield RATIO_PER_MODEL.family(_percent(samples, THUMBS_UP_PER_MODEL, THUMBS_DOWN_PER_MODEL))

    def _read(self, scrape: Scrape) -> Older:
        newer: Refreshed[list[Document]] = Refreshed(self.name)
        if scrape.librechat.has_ratings_index():
            self._older.at_once = float("inf")
            return Older(None, read(scrape.librechat, {}), newer)
        self._older.at_once = AT_ONCE_SECONDS
        started = time.time()
        until = int((scrape.librechat.now() - NEWER).timestamp())
        rows = read(scrape.librechat, not_created_after(datetime.fromtimestamp(until, UTC)))
        took = time.time() - started
        if took > AT_ONCE_SECONDS:
            scrape.ledger.keep(_KEPT, json.dumps([started, took, until, rows]))
        # Both change at once: no scrape waits for the newer ones because the older ones have been read.
        begun = time.monotonic()
        found = read(scrape.librechat, created_after(datetime.fromtimestamp(until, UTC)))
        newer.restore(found, 0.0, time.monotonic() - begun)
        return Older(until, rows, newer)

    def _restore(self, ledger: Ledger) -> None:
        """After a restart, what was read before serves until it is read anew."""
        self._restored = True
        kept = ledger.kept(_KEPT)
        if kept is not None:
            started, took, until, rows = json.loads(kept)
            self._older.restore(Older(until, rows, Refreshed(self.name)), max(0.0, time.time() - started), took)


def _count(samples: Samples, row: Document, model: str) -> None:
    up = row["count"] if row["_id"]["rating"] == "thumbsUp" else 0
    down = row["count"] - up
    samples.add(RATED, row["count"])
    samples.add(THUMBS_UP, up)
    samples.add(THUMBS_DOWN, down)
    samples.add(THUMBS_UP_PER_MODEL, up, model)
    samples.add(THUMBS_DOWN_PER_MODEL, down, model)
    samples.add(UP_RECENT if up else DOWN_RECENT, row["recent"])
    tag = row["_id"]["tag"]
    if tag:
        samples.add(PER_TAG, row["count"], tag)
        samples.add(UP_PER_MODEL_AND_TAG if up else DOWN_PER_MODEL_AND_TAG, row["count"], model, tag)


def _percent(samples: Samples, ups: Metric, downs: Metric) -> dict[LabelValues, float]:
    """Ups among both, for each tuple of labels that has any."""
    percent = {}
    for (name, labels), up in samples.items():
        if name == ups.name and (total := up + samples[downs.name, labels]):
            percent[labels] = 100 * up / total
    return percent
