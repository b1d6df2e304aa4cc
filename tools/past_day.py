"""A Prometheus that has seen a university's last day, with all rules.

The exporter is scraped once for each minute of it. Its clock is told what time it is, so that a day takes a minute.
"""

import functools
import itertools
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymongo
from prometheus_client import generate_latest
from pydantic import SecretStr

from librechat_exporter.daemon import Daemon
from librechat_exporter.settings import Settings
from tools.mongod import Mongod
from tools.prometheus import Prometheus
from tools.shapes import Document
from tools.university import University

RULES = Path(__file__).parent.parent / "prometheus-dev" / "rules"
_DATABASE = "past_day"
_BEFORE, _LENGTH, _STEP = timedelta(days=60), timedelta(hours=26), timedelta(seconds=60)
_MESSAGES_BEFORE, _MESSAGES = 150_000, 6000
_PATIENCE_SECONDS = 60
_TARGET = 'job="librechat",instance="exporter:8000"'


class PastDay(Prometheus):
    """Holds what was scraped between `begin` and `end`. Raises RuntimeError if it cannot be made."""

    def __init__(self) -> None:
        self.end = datetime.now(UTC).replace(second=0, microsecond=0)
        self.begin = self.end - _LENGTH
        rules = f"global: {{evaluation_interval: 60s}}\nrule_files: ['{RULES}/*.yml']\n"
        super().__init__(rules)
        try:
            for _ in range(2):  # rules are made of rules
                self._evaluate()
                self.kill()
                self.start()
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        super().prepare()
        scraped = self.folder / "scraped"
        with scraped.open("w") as file:
            file.writelines(_scrapes(self.begin, self.end))
            file.write("# EOF\n")
        _promtool("create-blocks-from", "openmetrics", str(scraped), str(self.folder / "tsdb"))
        scraped.unlink()

    def _evaluate(self) -> None:
        """Writes what the rules would have recorded."""
        between = (f"--start={self.begin.timestamp():.0f}", f"--end={self.end.timestamp():.0f}", "--eval-interval=60s")
        made = (f"--url={self.url}", f"--output-dir={self.folder / 'tsdb'}")
        _promtool("create-blocks-from", "rules", *between, *made, *map(str, sorted(RULES.glob("*.yml"))))


def _promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", "tsdb", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"promtool cannot write the past day: {done.stderr[-2000:]}")


def _scrapes(begin: datetime, end: datetime) -> Iterator[str]:
    """Samples with their times, a scrape for each step, as messages come in between."""
    folder = Path(tempfile.mkdtemp(prefix="past-day-"))
    try:
        with Mongod() as server, pymongo.MongoClient[Document](server.uri) as client:
            university = University(client[_DATABASE], users=400)
            university.fill(_MESSAGES_BEFORE, _BEFORE / timedelta(days=1), begin)
            coming = sorted(university.chats(_MESSAGES, begin, end), key=lambda one: one[1]["createdAt"])
            clock = _Clock(begin)
            daemon = Daemon(_settings(server.uri, folder), clock=clock.now, monotonic=clock.lasting)
            daemon.ledger.start()
            with closing(daemon.librechat), closing(daemon.ledger):
                _wait_until_folded(daemon)
                while clock.at < end:
                    clock.at += _STEP
                    while coming and coming[0][1]["createdAt"] <= clock.at:
                        collection, document = coming.pop(0)
                        client[_DATABASE][collection].insert_one(document)
                    yield from _scrape(daemon, clock.at)
    finally:
        shutil.rmtree(folder)


class _Clock:
    """It is believed, as much time passes between two looks at it."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.lasting = functools.partial(next, itertools.count(0.0, 1e9))

    def now(self) -> datetime:
        return self.at


def _settings(uri: str, folder: Path) -> Settings:
    return Settings(
        mongodb_uri=SecretStr(uri),
        mongodb_database=_DATABASE,
        state_path=str(folder / "ledger.sqlite"),
        state_refresh=1,
        group_metrics=True,
        usage_windows="1d,7d,30d,month",
        external_model_regex="gpt|claude|mistral",
    )


def _wait_until_folded(daemon: Daemon) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while min(daemon.history().values()) < 1 or daemon.pending():
        daemon.runner.scrape(time.monotonic() + 10)
        if time.monotonic() > end:
            raise RuntimeError(f"the history is not folded: {dict(daemon.history())}")
        time.sleep(0.1)


def _scrape(daemon: Daemon, moment: datetime) -> Iterator[str]:
    started = time.monotonic()
    text = generate_latest(daemon.runner.scrape(started + 10)).decode()
    took = time.monotonic() - started
    for line in (*text.splitlines(), "up 1", f"scrape_duration_seconds {took}"):
        if not line.startswith("#"):
            name, rest = re.fullmatch(r"(\w+)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
            labels, _, value = rest.rpartition(" ")
            # As Prometheus renames labels that its target has.
            inner = re.sub('(^|,)(job|instance)="', r'\1exported_\2="', labels.removeprefix("{").removesuffix("}"))
            yield f"{name}{{{_TARGET}{',' * bool(inner)}{inner}}} {value} {moment.timestamp():.0f}\n"
