"""Faults for minutes on end, one after the other, under traffic: afterwards every counter equals the truth.

`make faults` runs this; CAMPAIGN_SECONDS and CAMPAIGN_SEED change how long, and which schedule.
"""

import os
import random
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pymongo
import pytest

from librechat_exporter import __version__
from librechat_exporter.ledger.ledger import TICK_SECONDS
from tests.conftest import METRICS_PY, Document, Process, with_read_only
from tests.oracle import Values
from tests.payers_oracle import PayersOracle
from tests.test_truth import Recorder, with_payers
from tools.mongod import Mongod
from tools.simulator import INDEXES

SECONDS = float(os.environ.get("CAMPAIGN_SECONDS", "600"))
SEED = int(os.environ.get("CAMPAIGN_SEED", "1"))
HISTORY = 3000
DEADLINE = 1.5  # what each scrape tells as its timeout
# The exporter with MongoDB's clock set by a file: seconds ahead.
CLOCKED = """
import runpy, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {root!r})
from librechat_exporter.librechat.database import LibreChat
now = LibreChat.now
LibreChat.now = lambda self: now(self) + timedelta(seconds=float(Path({clock!r}).read_text()))
sys.argv[1:] = []
runpy.run_path({root!r} + "/metrics.py", run_name="__main__")
"""


class Proxy:
    """A network that can be cut: between the exporter and MongoDB. mode: pass, drop, delay, or reset."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with source:
            self._forward(source, sink)
            self._close(pair)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                if self.mode == "reset":
                    break
                if self.mode == "delay":
                    time.sleep(0.3)
                while self.mode == "drop":  # nothing arrives, and nothing says so
                    time.sleep(0.05)
                sink.sendall(data)
        except OSError:
            return  # one of them has gone, or was cut off

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            try:
                if self.mode == "reset":  # a connection that is broken off, not ended
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def reset(self) -> None:
        self.mode = "reset"
        for pair in list(self._pairs):
            self._close(pair)

    def close(self) -> None:
        self._listener.close()
        self.mode = "pass"
        for pair in list(self._pairs):
            self._close(pair)


class Campaign:
    """The exporter, what it stands on, and what befalls it."""

    def __init__(self, folder: Path, mongod: Mongod, proxy: Proxy) -> None:
        self.mongod, self.proxy = mongod, proxy
        self.client: pymongo.MongoClient[Document] = pymongo.MongoClient(mongod.uri, journal=True, tz_aware=True)
        self.database = self.client["campaign"]
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.exporter = Process(
            folder,
            MONGODB_URI=f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true",
            MONGODB_DATABASE="campaign",
            ENABLE_USAGE_WINDOW_METRICS="false",
            **with_payers(folder),
        )
        clocked = folder / "clocked.py"
        clocked.write_text(CLOCKED.format(root=str(METRICS_PY.parent), clock=str(self.clock)))
        self.exporter.command = [sys.executable, str(clocked)]
        self.simulator = Recorder(self.database)
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
                    (one.chat, one.regenerate, one.upload, one.join, one.delete_chat, one.clear_history),
                    (60, 10, 5, 3, 12, 1),
                )[0]
                deletes = action in (one.delete_chat, one.clear_history)
                if deletes and not (self.may_delete and self.has_seen_all()):
                    continue
                action()

    def has_seen_all(self) -> bool:
        """Two scrapes, as the first may share the run of one that began before the last message was sent."""
        try:
            self.exporter.scrape(DEADLINE)
            values = self.exporter.scrape(DEADLINE)
        except (OSError, AssertionError):
            return False
        return all(value == 1 for (name, _), value in values.items() if name.endswith("collector_success"))

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

    def mongodb_paused(self) -> None:
        with self.writing:
            self.mongod.pause()
            self.wait()
            self.mongod.resume()

    def mongodb_killed(self) -> None:
        with self.writing:
            self.mongod.kill()
            self.wait()
            self.mongod.start()
            self.client.admin.command("ping")

    def fails(self, **how: object) -> None:
        data = {"failCommands": ["aggregate", "find"], "appName": f"librechat-exporter/{__version__}"} | how
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        self.wait()
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    def errors_injected(self) -> None:
        self.fails(errorCode=self.chance.choice((11600, 91, 50, 241)))

    def delays_injected(self) -> None:
        self.fails(blockConnection=True, blockTimeMS=self.chance.choice((200, 1000, 3000)))

    def network_drops(self) -> None:
        self.network("drop")

    def network_delays(self) -> None:
        self.network("delay")

    def network(self, mode: str) -> None:
        self.proxy.mode = mode
        self.wait()
        self.proxy.mode = "pass"

    def network_resets(self) -> None:
        self.proxy.reset()
        self.wait()
        self.proxy.mode = "pass"

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

    FAULTS = (
        *(killed, stopped, restored, paused, mongodb_paused, mongodb_killed, errors_injected, delays_injected),
        *(network_drops, network_delays, network_resets, disk_full, disk_read_only, clock_steps),
    )


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


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    with Mongod() as mongod:
        proxy = Proxy(mongod.port)
        one = Campaign(tmp_path, mongod, proxy)
        one.simulator.fill(HISTORY, days=3)
        one.simulator.is_live = True
        one.exporter.start()
        yield one
        one.exporter.stop(signal.SIGKILL)
        proxy.close()
        one.client.close()


@pytest.mark.slow
def test_every_counter_equals_the_truth_after_all_of_it(campaign: Campaign) -> None:
    before = complete_scrape(campaign.exporter)
    happened: dict[str, int] = {}
    end = time.monotonic() + SECONDS
    with going_on(campaign):
        while time.monotonic() < end and not campaign.errors:
            fault = campaign.chance.choice(campaign.FAULTS)
            fault(campaign)
            happened[fault.__name__] = happened.get(fault.__name__, 0) + 1
            time.sleep(campaign.chance.uniform(1, 3))
    assert not campaign.errors, campaign.exporter.log[-3000:]
    # What a clock that was behind took for the future is found by the ticker.
    time.sleep(TICK_SECONDS + 5)
    after = complete_scrape(campaign.exporter)
    sent = campaign.simulator.sent
    print(f"\n{SECONDS:.0f} s, seed {SEED}: {happened}")  # noqa: T201
    print(  # noqa: T201
        f"{campaign.scrapes} scrapes, {campaign.complete} of them complete, the longest {campaign.worst:.2f} s of "
        f"{DEADLINE} s; {sent[('__name__', 'librechat_messages_total'),]} messages sent; at most {campaign.memory} MB, "
        f"{campaign.threads} threads"
    )
    wrong = {
        series: (after.get(named(series), 0) - before.get(named(series), 0), amount)
        for series, amount in sent.items()
        if after.get(named(series), 0) - before.get(named(series), 0) != pytest.approx(amount, abs=1e-6)
    }
    assert not wrong, campaign.exporter.log[-3000:]
    assert sent[("__name__", "librechat_messages_total"),] > SECONDS * 2
    assert campaign.late == 0, f"the longest scrape took {campaign.worst:.2f} s"
    assert campaign.memory < 150
    assert campaign.threads < 120


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "gone"])
def test_a_damaged_state_starts_afresh_from_what_is_stored(campaign: Campaign, damage: str) -> None:
    complete_scrape(campaign.exporter)
    for _ in range(20):
        campaign.simulator.chat()
    campaign.simulator.delete_chat()
    complete_scrape(campaign.exporter)
    campaign.exporter.stop(signal.SIGKILL)
    path = campaign.exporter.folder / "ledger.sqlite"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(os.urandom(len(content)))
    elif damage == "empty":
        path.write_bytes(b"")
    for other in campaign.exporter.folder.glob("ledger.sqlite*"):
        if damage == "gone" or other != path:
            other.unlink()
    campaign.exporter.start()
    values = complete_scrape(campaign.exporter)
    documents = {
        name: list(campaign.database[name].find()) for name in ("messages", "conversations", "users", "agents")
    }
    truth = PayersOracle(documents, datetime.now(UTC), kinds=()).values
    for name in ("librechat_messages_total", "librechat_output_tokens_total", "librechat_conversations_total"):
        assert values[name, ()] == truth[name, ()]
