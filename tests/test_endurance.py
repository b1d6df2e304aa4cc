"""Memory and descriptors do not grow under a thousand requests a second, nor over an hour of traffic."""

import asyncio
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo.database import Database

from librechat_exporter.http.server import HEAD_SECONDS
from tests.conftest import METRICS_PY, Document, MakeProcess, Process
from tools.simulator import Simulator

RATE, SECONDS = 1000, float(os.environ.get("LOAD_SECONDS", "30"))
# A second of the exporter's time is a step of the test's: it inserts what a second would bring, and scrapes.
PER_SECOND, STEPS = 50, int(os.environ.get("SOAK_STEPS", "3600"))
ACCELERATED = """
import functools, itertools, sys
from datetime import datetime
from pathlib import Path
sys.path.insert(0, {root!r})
from librechat_exporter import cli
from librechat_exporter.ledger import ledger
ledger.TICK_SECONDS = 1.0  # in which about half a minute of the exporter's time passes
monotonic = itertools.count(0.0, 1e9)
cli.Daemon = functools.partial(
    cli.Daemon,
    clock=lambda: datetime.fromisoformat(Path({clock!r}).read_text()),
    monotonic=lambda: next(monotonic),
)
sys.exit(cli.main())
"""


def resident(one: Process) -> float:
    """MB."""
    assert one.process is not None
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def descriptors(one: Process) -> int:
    assert one.process is not None
    return sum(1 for _ in Path(f"/proc/{one.process.pid}/fd").iterdir())


async def ask(port: int, path: str) -> int | str:
    """A request on a connection of its own: the status, or why there is none."""
    writer = None
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readline()
            while await reader.read(65_536):
                pass
            return int(head.split()[1]) if head else "closed"  # to make room for a newer one
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    finally:
        if writer is not None:
            writer.transport.abort()


async def flood(port: int, seconds: float) -> Counter[int | str]:
    """RATE requests a second, however long the answers take; one in ten asks for the metrics."""
    tasks = []
    started = time.monotonic()
    for number in range(int(RATE * seconds)):
        delay = started + number / RATE - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(ask(port, "/metrics" if number % 10 == 0 else "/health")))
    return Counter(await asyncio.gather(*tasks))


@pytest.mark.slow
def test_a_thousand_requests_a_second(process: MakeProcess, database: Database[Document]) -> None:
    Simulator(database, users=20).fill(2000, days=3)
    one = process().start()
    one.scrape()
    asyncio.run(flood(one.port, SECONDS / 2))
    memory, open_files = resident(one), descriptors(one)
    answers = asyncio.run(flood(one.port, SECONDS))
    time.sleep(HEAD_SECONDS + 1)  # in which connections end that were given up before they said anything
    print(f"\n{dict(answers)}; {memory:.0f} MB before, {resident(one):.0f} MB after")  # noqa: T201
    assert set(answers) <= {200, 503, "closed", "TimeoutError", "ConnectionResetError"}
    assert answers[200] > 0.5 * RATE * SECONDS
    assert resident(one) < memory * 1.1
    assert descriptors(one) <= open_files + 5
    started = time.monotonic()
    assert one.scrape()["librechat_up", ()] == 1
    assert time.monotonic() - started < 2
    assert "Traceback" not in one.log


@pytest.mark.slow
def test_an_hour_of_traffic(process: MakeProcess, database: Database[Document], tmp_path: Path) -> None:
    simulator = Simulator(database, users=500)
    now = datetime.now(UTC)
    simulator.prepare(now - timedelta(days=1))
    clock = tmp_path / "clock"
    clock.write_text(now.isoformat())
    one = process()
    entry = tmp_path / "accelerated.py"
    entry.write_text(ACCELERATED.format(root=str(METRICS_PY.parent), clock=str(clock)))
    one.command = [sys.executable, str(entry)]
    one.start()
    one.scrape()
    sent, memory = 0, []
    for step in range(STEPS):
        now += timedelta(seconds=1)
        batch = []
        for _ in range(PER_SECOND // 2):
            user = simulator.random.choice(simulator.users)
            question = simulator.question(user, f"c{step}", "", now)
            answer = simulator.answer(question, now)
            batch += [{"_id": simulator.object_id(now)} | one for one in (question, answer)]
        database["messages"].insert_many(batch)
        sent += len(batch)
        temporary = clock.with_suffix(".new")
        temporary.write_text(now.isoformat())
        temporary.rename(clock)
        status, _, _ = one.get("/metrics")
        assert status == 200
        if step > STEPS / 3:  # by then, as much is open as ever
            memory.append(resident(one))
    assert one.scrape()["librechat_messages_total", ()] == sent
    tenth = len(memory) // 10
    first, last = (sum(part) / len(part) for part in (memory[:tenth], memory[-tenth:]))
    print(f"\n{sent} messages; {first:.1f} MB at a third of the hour, {last:.1f} MB at its end")  # noqa: T201
    # What is remembered up to a bound, as shapes of documents, fills for hours.
    assert last < first * 1.15
