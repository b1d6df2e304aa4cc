"""Wires the parts together; start, run, orderly end."""

import contextlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from librechat_exporter import __version__, ending
from librechat_exporter.access import Access
from librechat_exporter.collectors import (
    agents,
    answers,
    api,
    balances,
    conversations,
    cost,
    documents,
    features,
    messages,
    people,
    ratings,
    recent,
    schedules,
    storage,
    tools,
    unique_users,
    windows,
)
from librechat_exporter.collectors.base import Collector, LedgerCollector
from librechat_exporter.collectors.messages_fold import MessagesFold
from librechat_exporter.faults import describe
from librechat_exporter.fields import IS_RATED, RATINGS_INDEX
from librechat_exporter.ledger import Ledger, forgetting
from librechat_exporter.ledger.last_seen import SEEN_KEPT
from librechat_exporter.ledger.state_file import State, StateError
from librechat_exporter.ledger.windowed import HOUR, Windows
from librechat_exporter.librechat import LibreChat, connect
from librechat_exporter.metric import LabelGuard
from librechat_exporter.scrape import Outcome, Runner
from librechat_exporter.server import Server
from librechat_exporter.settings import Settings
from librechat_exporter.web import Application

log = logging.getLogger(__name__)

_READINESS_SECONDS = 2.0
_CHECK_SECONDS = 5.0
_INDEX_BYTES = 100  # an entry, before compression


def all_collectors(settings: Settings) -> list[Collector]:
    windows_shown = Windows(settings.windows, settings.metrics_timezone)
    fold = MessagesFold(max(SEEN_KEPT, windows_shown.kept) + HOUR)
    counted, billed = documents.collectors(), cost.collector(settings)
    users = next(collector for collector in counted if collector.name == "users")
    return [
        LedgerCollector("messages", fold, messages.COUNTED),
        tools.ToolsCollector(fold),
        LedgerCollector("agents", fold, agents.COUNTED),
        LedgerCollector("answers", fold, answers.COUNTED),
        *counted,
        billed,
        windows.WindowsCollector(settings, (fold, *billed.folds, *users.folds)),
        windows.ActiveDomainsCollector(fold),
        schedules.collector(settings),
        balances.collector(),
        *people.collectors(),
        *storage.collectors(),
        features.collector(),
        conversations.collector(),
        api.ApiCollector(),
        unique_users.UniqueUsersCollector(fold),
        recent.RecentCollector(fold),
        ratings.RatingsCollector(),
    ]


class Daemon:
    """The running exporter. Raises StateInUseError if another one has the state file, AccessError."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.librechat = connect(settings)
        groups = settings.groups
        collectors = [
            collector
            for collector in all_collectors(settings)
            if collector.is_used(settings) and any(groups.issuperset(one.groups) for one in collector.metrics)
        ]
        folds = {fold.name: fold for collector in collectors for fold in collector.folds}
        self.ledger = Ledger(
            self.librechat,
            State(settings.state_path),
            folds.values(),
            lambda known: LabelGuard(settings.max_label_values, settings.max_series, known),
            settings.ledger_open_minutes,
            Windows(settings.windows, settings.metrics_timezone),
            user_salt=settings.user_id_salt.get_secret_value() if settings.state_user_ids == "hash" else "",
        )
        self.runner = Runner(self.librechat, self.ledger, collectors, settings)
        self._examined = threading.Thread(target=self._examine_until_answered, name="examine", daemon=True)
        self._stop = threading.Event()
        self._access = Access(settings.web_config_file)

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises OSError if the address cannot be bound."""
        ending.hold()
        application = Application(self.runner.scrape, self, self.settings.scrape_timeout)
        server = Server(self.settings.bind_address, application.respond, self._access)
        self.ledger.start()
        self._examined.start()
        server.start()
        log.info("librechat-exporter %s serves on %s", __version__, self.settings.listen_address)
        ending.wait()
        log.info("Stopping")
        self._stop.set()
        self.runner.stop()
        server.stop()
        self.ledger.close(seconds=1.0)
        log.info("Stopped")

    # What the page and the health checks ask: web.Status.

    def readiness(self) -> list[str]:
        reasons = []
        try:
            with pymongo.timeout(_READINESS_SECONDS):
                self.librechat.now()
        except PyMongoError as error:
            reasons.append(f"MongoDB does not answer: {describe(error)}")
        reasons += [
            f"the history of {source} is folded to {ratio:.0%}" for source, ratio in self.ledger.pending().items()
        ]
        return reasons

    def history(self) -> Mapping[str, float]:
        return self.ledger.progress()

    def outcomes(self) -> Mapping[str, Outcome]:
        return self.runner.last

    def problems(self) -> Mapping[str, str]:
        return self.runner.problems()

    def is_up(self) -> bool:
        return self.runner.up

    def _examine_until_answered(self) -> None:
        """Once MongoDB answers, says what of this database will make trouble."""
        while not self._stop.is_set():
            try:
                with pymongo.timeout(_CHECK_SECONDS):
                    for warning in examine(self.librechat):
                        log.warning(warning)
            except PyMongoError as error:
                log.debug("The database could not be examined yet: %s", describe(error))
                self._stop.wait(5)
            else:
                return


def examine(librechat: LibreChat) -> list[str]:
    """What an operator should know of this database. Raises PyMongoError if it does not answer."""
    nothing = librechat.without_messages()
    if nothing is not None:
        return [nothing]
    return [
        f"{index} has no index, which LibreChat makes itself: scrapes read the whole collection"
        for index in librechat.missing_indexes()
    ]


def print_indexes(settings: Settings) -> None:
    """Prints the indexes that would make metrics exact or cheap. Raises PyMongoError if MongoDB cannot be read."""
    librechat = connect(settings)
    rated = librechat.count("messages", IS_RATED)
    print(
        "// Ratings: without an index they are read from all messages, once in a while; with this one, on every scrape."
    )
    print(f"// It holds rated messages alone, {rated:,} now, and takes about {rated * _INDEX_BYTES / 1e6:.1f} MB.")
    if librechat.has_ratings_index():
        print("// There is such an index already.")
    else:
        print(RATINGS_INDEX)


def forget_label(settings: Settings, label: str, value: str) -> int:
    """Forgets a label value in the state file: how many series had it. Raises StateError, sqlite3.Error.

    The daemon must not run: it has the file to itself.
    """
    if not Path(settings.state_path).is_file():
        raise StateError(f"STATE_PATH {settings.state_path} is not there; name the exporter's own")
    state = State(settings.state_path)
    if not state.on_disk:
        raise StateError(f"STATE_PATH {settings.state_path} cannot be written")
    folds = {fold.name: fold for collector in all_collectors(settings) for fold in collector.folds}
    with contextlib.closing(state):
        if (label, value) not in state.labels():
            known = sorted(one for name, one in state.labels() if name == label)
            there = f"it has {', '.join(map(repr, known))}" if known else "there is no such label"
            raise StateError(f"The label {label} has no value {value!r}: {there}")
        return forgetting.forget_label(state, folds.values(), label, value)


def check(settings: Settings) -> list[str]:
    """Warnings about the database that the settings name. Raises PyMongoError if it cannot be read."""
    librechat = connect(settings)
    with pymongo.timeout(_CHECK_SECONDS):
        librechat.now()
        warnings = examine(librechat)
        librechat.probe(("messages", "conversations", "users", "files", "agents", "transactions"))
    return warnings
