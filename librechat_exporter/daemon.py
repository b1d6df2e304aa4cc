"""Wires the parts together; start, run, orderly end."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pymongo

from librechat_exporter import __version__, ending
from librechat_exporter.collector import Collector
from librechat_exporter.collectors import all_collectors, folds_of
from librechat_exporter.faults import ASKING_ERRORS, describe
from librechat_exporter.http.access import Access
from librechat_exporter.http.application import Application
from librechat_exporter.http.server import Server
from librechat_exporter.ledger import Ledger
from librechat_exporter.ledger.membership import Membership
from librechat_exporter.ledger.state_file import State
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.librechat.database import LibreChat, connect
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.page.page import Page
from librechat_exporter.scrape import LastScrape, Runner
from librechat_exporter.settings import Settings

log = logging.getLogger(__name__)

_READINESS_SECONDS = 2.0
CHECK_SECONDS = 5.0


class Daemon:
    """The running exporter. Raises StateError if the state file cannot be used, AccessError."""

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
            collector for collector in offered if any(toggles.issuperset(one.toggles) for one in collector.metrics)
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
            hold_user=settings.hold_user,
            monotonic=monotonic,
        )
        self.runner = Runner(self.librechat, self.ledger, guard, collectors, settings)
        self._examined = threading.Thread(target=self._examine_until_answered, name="examine", daemon=True)
        self._stop = threading.Event()
        # MongoDB's clock, of which the exporter's may differ.
        self._ahead = timedelta(0)
        self._access = Access(settings.web_config_file, settings.metrics_secret.get_secret_value())

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises OSError if the address cannot be bound."""
        ending.hold()
        page = Page(self, self.ledger.totals, self.settings, self.ledger.save)
        application = Application(self.runner.scrape, self, page.render, self.settings.scrape_timeout)
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
        self._examined.join(1.0)
        log.info("Stopped")

    # What the page and the health checks ask: Status.

    def fault(self) -> str | None:
        try:
            with pymongo.timeout(_READINESS_SECONDS):
                self._ahead = self.librechat.now() - datetime.now(UTC)
                return self.librechat.without_messages()
        except ASKING_ERRORS as error:
            return f"MongoDB does not answer: {describe(error)}"

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def pending(self) -> Mapping[str, float]:
        return self.ledger.totals.pending()

    def history(self) -> Mapping[str, float]:
        return self.ledger.totals.progress()

    def last_scrape(self) -> LastScrape | None:
        return self.runner.last

    def is_persistent(self) -> bool:
        return self.ledger.persistent

    def _examine_until_answered(self) -> None:
        """Once MongoDB answers, says what of this database will make trouble."""
        while not self._stop.is_set():
            try:
                with pymongo.timeout(CHECK_SECONDS):
                    for warning in examine(self.librechat):
                        log.warning(warning)
            except ASKING_ERRORS as error:
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
