"""Wires the parts together; start, run, orderly end."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import pymongo
from pymongo.errors import PyMongoError

from librechat_exporter import __version__, ending
from librechat_exporter.collector import Collector, Outcome
from librechat_exporter.collectors import all_collectors, folds_of
from librechat_exporter.faults import describe
from librechat_exporter.http.access import Access
from librechat_exporter.http.application import Application
from librechat_exporter.http.server import Server
from librechat_exporter.ledger import Ledger
from librechat_exporter.ledger.membership import Membership
from librechat_exporter.ledger.state_file import State
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.librechat.database import LibreChat, connect
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.scrape import Runner
from librechat_exporter.settings import Settings

log = logging.getLogger(__name__)

_READINESS_SECONDS = 2.0
CHECK_SECONDS = 5.0


class Daemon:
    """The running exporter. Raises StateInUseError if another one has the state file, AccessError."""

    def __init__(
        self,
        settings: Settings,
        offered: Sequence[Collector] | None = None,
        clock: Callable[[], datetime] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """offered: those of all_collectors if it is None. clock: instead of MongoDB's. monotonic: by which it is
        believed.
        """
        self.settings = settings
        self.librechat = connect(settings, clock)
        offered = all_collectors(settings) if offered is None else offered
        toggles = settings.toggles
        collectors = [
            collector
            for collector in offered
            if collector.is_used(settings) and any(toggles.issuperset(one.toggles) for one in collector.metrics)
        ]
        sources = {source for collector in collectors for source in collector.sources}
        state = State(settings.state_path)
        guard = LabelGuard(settings.max_label_values, settings.max_series, state.labels(), settings.label_limits)
        self.ledger = Ledger(
            self.librechat,
            state,
            folds_of(offered, settings, sources),
            guard,
            settings.ledger_open_minutes,
            Windows(settings.windows, settings.metrics_timezone),
            Membership(self.librechat, settings.state_refresh, groups=settings.group_metrics),
            user_salt=settings.user_id_salt.get_secret_value() if settings.state_user_ids == "hash" else "",
            monotonic=monotonic,
        )
        self.runner = Runner(self.librechat, self.ledger, guard, collectors, settings)
        self._examined = threading.Thread(target=self._examine_until_answered, name="examine", daemon=True)
        self._stop = threading.Event()
        self._access = Access(settings.web_config_file, settings.metrics_secret.get_secret_value())

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
                nothing = self.librechat.without_messages()
            if nothing is not None:
                return [nothing]
        except PyMongoError as error:
            reasons.append(f"MongoDB does not answer: {describe(error)}")
        pending = self.ledger.totals.pending()
        return reasons + [f"the history of {source} is folded to {ratio:.0%}" for source, ratio in pending.items()]

    def history(self) -> Mapping[str, float]:
        return self.ledger.totals.progress()

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
                with pymongo.timeout(CHECK_SECONDS):
                    for warning in examine(self.librechat):
                        log.warning(warning)
            except PyMongoError as error:
                log.debug("The database could not be examined yet: %s", describe(error))
                self._stop.wait(5)
            else:
                return


def examine(librechat: LibreChat) -> list[str]:
    """Warnings about this database, for its operator. Raises PyMongoError if it does not answer."""
    nothing = librechat.without_messages()
    if nothing is not None:
        return [nothing]
    return [
        f"{index} has no index, which LibreChat makes itself: scrapes read the whole collection"
        for index in librechat.missing_indexes()
    ]
