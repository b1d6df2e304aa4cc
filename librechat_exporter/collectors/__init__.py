"""One file a family: its metrics, and how they are counted or read. Each offers `collectors(settings)`, no more.

A new file needs no mention anywhere: every module of this package is one.
"""

import importlib
import pkgutil
from collections.abc import Collection, Iterable
from typing import Any

from librechat_exporter.collector import Collector
from librechat_exporter.folds.documents import DocumentsFold
from librechat_exporter.folds.messages import MESSAGES, MessagesFold
from librechat_exporter.folds.transactions import TRANSACTIONS, TransactionsFold
from librechat_exporter.ledger.fold import Counting, Fold
from librechat_exporter.ledger.last_seen import USERS_HELD
from librechat_exporter.ledger.windowed import HOUR, Windows
from librechat_exporter.settings import Settings


def all_collectors(settings: Settings) -> list[Collector]:
    """The collectors of all families, in the order of their modules' names."""
    modules = (importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__))
    return [collector for module in modules for collector in module.collectors(settings)]


def folds_of(
    collectors: Collection[Collector], settings: Settings, sources: Iterable[str] | None = None
) -> list[Fold[Any]]:
    """The folds that count for these collectors; of these sources alone, if any are given."""
    countings: dict[str, list[Counting[Any]]] = {}
    for collector in collectors:
        for counting in collector.countings:
            countings.setdefault(counting.source, []).append(counting)
    wanted = countings.keys() if sources is None else countings.keys() & set(sources)
    return [_fold(source, countings[source], collectors, settings) for source in countings if source in wanted]


def _fold(
    source: str, countings: list[Counting[Any]], collectors: Collection[Collector], settings: Settings
) -> Fold[Any]:
    if source == MESSAGES:
        mirrored = {one.recent_of: one for collector in collectors for one in collector.metrics if one.recent_of}
        kept = Windows(settings.windows, settings.metrics_timezone).kept
        return MessagesFold(
            countings,
            mirrored,
            kept + HOUR,
            settings.metrics_timezone,
            settings.hold_user(USERS_HELD),
            settings.name_user,
        )
    if source == TRANSACTIONS:
        return TransactionsFold(countings, settings.external_models, settings.name_user)
    return DocumentsFold(source, countings)
