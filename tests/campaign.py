"""Faults for minutes on end, one after the other, under traffic."""

import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from librechat_exporter.ledger.ledger import TICK_SECONDS
from tests.conftest import METRICS_PY, Document, Process, with_read_only
from tests.meanings import Values
from tests.test_truth import Recorder, with_payers
from tools.simulator import INDEXES

SECONDS = float(os.environ.get("CAMPAIGN_SECONDS", "600"))
SEED = int(os.environ.get("CAMPAIGN_SEED", "1"))
HISTORY = 3000
DEADLINE = 1.5  # what each scrape tells as its timeout
# The clock that makes `_id`s is wrong by so many seconds, for some chats.
SKEWS = (-200, 400)
# The exporter with MongoDB's clock set by a file, in seconds ahead, and with the number of its release in another: with
# each, the meaning of every metric has changed once more.
CONTROLLED = """
import runpy, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {root!r})
from librechat_exporter.ledger.source import Source
from librechat_exporter.librechat.database import LibreChat
now = LibreChat.now
LibreChat.now = lambda self: now(self) + timedelta(seconds=float(Path({clock!r}).read_text()))
now_and_ids = LibreChat.now_and_ids
def shifted(self, *arguments):
    told, ids = now_and_ids(self, *arguments)
    return told + timedelta(seconds=float(Path({clock!r}).read_text())), ids
LibreChat.now_and_ids = shifted
shapes, release = Source._shapes, int(Path({release!r}).read_text())
Source._shapes = lambda self: {{name: (shape, changes + release) for name, (shape, changes) in shapes(self).items()}}
sys.argv[1:] = []
runpy.run_path({root!r} + "/metrics.py", run_name="__main__")
"""


class Traffic(Recorder):
    """The first user deletes nothing: what a wrong clock has dated is seen by no scrape, but by a tick."""

    def clear_history(self) -> None:
        users, self.users = self.users, self.users[1:]
        try:
            super().clear_history()
        finally:
            self.users = users

    def ask_at_a_wrong_time(self) -> None:
        self.skew = timedelta(seconds=self.random.uniform(*SKEWS))
        try:
            self.ask(self.users[0], self.uuid())
        finally:
            self.skew = timedelta(0)

    def ask_for_much(self) -> None:
        """Texts and tools' outputs of a million characters."""
        texts, self._texts = self._texts, ["x" * 1_000_000]
        try:
            self.ask(self.users[0], self.uuid())
        finally:
            self._texts = texts


class Campaign:
    """The exporter, and what befalls it."""

    def __init__(self, folder: Path, client: pymongo.MongoClient[Document], uri: str) -> None:
        """uri: for the exporter."""
        self.client = client
        self.database = self.client["campaign"]
        self.clock, self.release = folder / "clock", folder / "release"
        self.clock.write_text("0")
        self.release.write_text("0")
        self.exporter = Process(
            folder,
            MONGODB_URI=uri,
            MONGODB_DATABASE="campaign",
            ENABLE_USAGE_WINDOW_METRICS="false",
            **with_payers(folder),
        )
        controlled = folder / "controlled.py"
        controlled.write_text(
            CONTROLLED.format(root=str(METRICS_PY.parent), clock=str(self.clock), release=str(self.release))
        )
        self.exporter.command = [sys.executable, str(controlled)]
        self.simulator = Traffic(self.database)
        self.writing = threading.Lock()
        self.chance = random.Random(SEED)
        self.scrapes = self.late = self.complete = 0
        self.memory = self.threads = 0
        self.worst = 0.0
        self.is_paused = False
        self.may_delete = True
        self.highest: dict[object, float] = {}
        self.stop = threading.Event()
        self.errors: list[BaseException] = []

    # What goes on meanwhile.

    def send(self) -> None:
        """Traffic. A deletion waits for a scrape that has seen all, and is left out if that fails."""
        one = self.simulator
        while not self.stop.wait(self.chance.expovariate(20)):
            with self.writing:
                action = self.chance.choices(
                    (
                        *(one.chat, one.regenerate, one.upload, one.join, one.delete_chat, one.clear_history),
                        *(one.ask_at_a_wrong_time, one.ask_for_much),
                    ),
                    (60, 10, 5, 3, 12, 1, 5, 0.5),
                )[0]
                deletes = action in (one.delete_chat, one.clear_history)
                if deletes and not (self.may_delete and self.has_seen_all()):
                    continue
                action()

    def has_seen_all(self) -> bool:
        """Two scrapes, as the first may share the run of one that began before the last message was sent.

        What a new user wrote is charged to a domain when users have been read again.
        """
        try:
            self.exporter.scrape(DEADLINE)
            values = self.exporter.scrape(DEADLINE)
        except (OSError, AssertionError):
            return False
        charged = sum(value for (name, _), value in values.items() if name == "librechat_domain_messages_total")
        is_complete = all(value == 1 for (name, _), value in values.items() if name.endswith("collector_success"))
        return is_complete and charged == values.get(("librechat_messages_total", ()))

    def watch(self) -> None:
        """Scrapes each second, as Prometheus would: in time, and without a fall."""
        while not self.stop.wait(1):
            begun, was_paused = time.monotonic(), self.is_paused
            try:
                values = self.exporter.scrape(DEADLINE)
            except OSError:
                continue  # it is stopped just now
            if was_paused or self.is_paused:
                continue
            took = time.monotonic() - begun
            self.scrapes += 1
            self.worst = max(self.worst, took)
            self.late += took > DEADLINE + 0.5
            self.complete += all(v == 1 for (name, _), v in values.items() if name.endswith("collector_success"))
            self.check(values)
            self.measure()

    def check(self, values: Values) -> None:
        for series in self.simulator_series() & values.keys():
            value = values[series]
            assert value >= self.highest.get(series, 0), f"{series} fell from {self.highest[series]} to {value}"
            self.highest[series] = value

    def simulator_series(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {named(series) for series in list(self.simulator.sent)}

    def measure(self) -> None:
        process = self.exporter.process
        if process is not None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            told = dict(line.split(":", 1) for line in status.splitlines())
            if "VmRSS" in told:
                self.memory = max(self.memory, int(told["VmRSS"].split()[0]) // 1000)
                self.threads = max(self.threads, int(told["Threads"]))

    def guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)
                raise

        return run

    # What befalls it. Each lasts some seconds, and is over when it returns.

    def wait(self) -> None:
        time.sleep(self.chance.uniform(1, 6))

    def killed(self) -> None:
        self.exporter.stop(signal.SIGKILL)
        time.sleep(self.chance.uniform(0, 3))
        self.exporter.start()

    def stopped(self) -> None:
        assert self.exporter.stop(signal.SIGTERM) < 8
        time.sleep(self.chance.uniform(0, 3))
        self.exporter.start()

    def paused(self) -> None:
        assert self.exporter.process is not None
        self.is_paused = True
        self.exporter.process.send_signal(signal.SIGSTOP)
        self.wait()
        self.exporter.process.send_signal(signal.SIGCONT)
        time.sleep(2)
        self.is_paused = False

    def disk_full(self) -> None:
        assert self.exporter.process is not None
        pid = self.exporter.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        self.wait()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        time.sleep(2)

    def disk_read_only(self) -> None:
        """From a start to the next. What is deleted meanwhile, nobody knows afterwards."""
        with self.writing:
            self.may_delete = False
        assert self.exporter.stop(signal.SIGTERM) < 8
        usual = self.exporter.command
        self.exporter.command = with_read_only(self.exporter.folder, usual)
        self.exporter.start()
        self.wait()
        self.exporter.command = usual
        self.killed()
        self.may_delete = True

    def clock_steps(self) -> None:
        for seconds in self.chance.choice(((3600, 0), (-3600, 0), (3600, -3600, 0))):
            self.clock.write_text(str(seconds))
            self.wait()

    def restored(self) -> None:
        """The same messages in a new collection, as after a restore; while the exporter runs, or while it does not."""
        is_running = self.chance.random() < 0.5
        if not is_running:
            self.exporter.stop(signal.SIGKILL)
        with self.writing:
            documents = list(self.database["messages"].find())
            self.database["spare"].insert_many(documents)
            for field in INDEXES["messages"]:
                self.database["spare"].create_index(field)
            self.database["spare"].rename("messages", dropTarget=True)
        if not is_running:
            self.exporter.start()
        self.wait()

    def upgraded(self) -> None:
        """To a release in which everything has another meaning, when nothing is half counted."""
        with self.writing:
            end = time.monotonic() + 60
            while not self.has_seen_all():
                assert time.monotonic() < end
            self.exporter.stop(self.chance.choice((signal.SIGTERM, signal.SIGKILL)))
            self.release.write_text(str(int(self.release.read_text()) + 1))
            self.exporter.start()

    FAULTS: tuple[Callable[[Any], None], ...] = (
        *(killed, stopped, upgraded, restored, paused, disk_full, disk_read_only, clock_steps),
    )

    def go_on(self) -> None:
        """Faults until the time is over; then every counter equals the truth."""
        before = complete_scrape(self.exporter)
        happened: Counter[str] = Counter()
        end = time.monotonic() + SECONDS
        with going_on(self):
            while time.monotonic() < end and not self.errors:
                fault = self.chance.choice(self.FAULTS)
                fault(self)
                happened[fault.__name__] += 1
                time.sleep(self.chance.uniform(1, 3))
        assert not self.errors, self.exporter.log[-3000:]
        # What a clock that was behind took for the future is found by the ticker.
        time.sleep(TICK_SECONDS + 5)
        after = complete_scrape(self.exporter)
        sent = self.simulator.sent
        print(f"\n{SECONDS:.0f} s, seed {SEED}: {dict(happened)}")  # noqa: T201
        print(  # noqa: T201
            f"{self.scrapes} scrapes, {self.complete} of them complete, the longest {self.worst:.2f} s of {DEADLINE} s;"
            f" {sent[('__name__', 'librechat_messages_total'),]} messages sent; at most {self.memory} MB,"
            f" {self.threads} threads"
        )
        wrong = {
            series: (after.get(named(series), 0) - before.get(named(series), 0), amount)
            for series, amount in sent.items()
            if after.get(named(series), 0) - before.get(named(series), 0) != pytest.approx(amount, abs=1e-6)
        }
        assert not wrong, f"{wrong}\n{self.exporter.log[-3000:]}"
        assert sent[("__name__", "librechat_messages_total"),] > SECONDS * 2
        assert self.late == 0, f"the longest scrape took {self.worst:.2f} s"
        assert self.memory < 150
        assert self.threads < 120


def named(series: tuple[tuple[str, str], ...]) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = dict(series)
    return labels.pop("__name__"), tuple(sorted(labels.items()))


@contextmanager
def going_on(campaign: Campaign) -> Iterator[None]:
    threads = [threading.Thread(target=campaign.guarded(work)) for work in (campaign.send, campaign.watch)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        campaign.stop.set()
        for thread in threads:
            thread.join()


def complete_scrape(one: Process) -> Values:
    end = time.monotonic() + 60
    while True:
        values = one.scrape()
        if all(value == 1 for (name, _), value in values.items() if name.endswith("collector_success")):
            return values
        assert time.monotonic() < end, one.log[-2000:]
        time.sleep(0.5)


@contextmanager
def prepared(one: Campaign) -> Iterator[None]:
    one.simulator.fill(HISTORY, days=3)
    one.simulator.is_live = True
    one.exporter.start()
    yield
    one.exporter.stop(signal.SIGKILL)
    one.client.close()
