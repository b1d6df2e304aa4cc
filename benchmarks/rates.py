"""Scrapes are measured at several rates of messages, in a steady state, in one run: `make bench`.

Eleven minutes of messages are there already, so that as many are open as ever; the exporter is scraped every five
seconds while more are sent by a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymongo

from benchmarks.scrape import memory_of
from tests.conftest import Process
from tools.mongod import Mongod
from tools.private_server import die_with_parent
from tools.shapes import Document
from tools.simulator import Simulator

RATES = (2, 20, 60, 200)
HISTORY = 100_000
BEFORE = timedelta(minutes=11)
EVERY_SECONDS = 5.0
SCRAPES = 24
_STEP_SECONDS = 0.1
_BATCH = 1000


def messages(simulator: Simulator, moment: datetime, count: float) -> Iterator[tuple[str, Document]]:
    """About so many messages of one moment, with all that LibreChat writes for them."""
    for _ in range(max(1, round(count / 2))):
        user = simulator.random.choice(simulator.users)
        question = simulator.question(user, simulator.uuid(), "", moment)
        answer = simulator.answer(question, moment)
        for message in (question, answer):
            yield "messages", {"_id": simulator.object_id(message["createdAt"])} | message
        for transaction in simulator.transactions(question, answer):
            yield "transactions", transaction
        if simulator.random.random() < 0.2:
            conversation = simulator.conversation(user, question["conversationId"], moment)
            yield "conversations", {"_id": simulator.object_id(moment)} | conversation


def insert(simulator: Simulator, documents: Iterator[tuple[str, Document]]) -> None:
    batches: dict[str, list[Document]] = {}
    for collection, document in documents:
        batches.setdefault(collection, []).append(document)
        if len(batches[collection]) == _BATCH:
            simulator.database[collection].insert_many(batches.pop(collection), ordered=False)
    for collection, batch in batches.items():
        simulator.database[collection].insert_many(batch, ordered=False)


def before_now(simulator: Simulator, rate: float) -> Iterator[tuple[str, Document]]:
    now, step = datetime.now(UTC), timedelta(seconds=max(2 / rate, 0.1))
    for number in range(int(BEFORE / step), 0, -1):
        yield from messages(simulator, now - number * step, rate * step.total_seconds())


def send(uri: str, name: str, rate: float, seconds: float) -> int:
    """Sends messages at this rate, for so long."""
    with pymongo.MongoClient[Document](uri) as client:
        simulator = Simulator(client[name], seed=2, users=0)
        simulator.users = [str(user["_id"]) for user in client[name]["users"].find({}, {"_id": 1})]
        simulator.agents = {agent["id"]: agent["model"] for agent in client[name]["agents"].find()}
        step = max(2 / rate, _STEP_SECONDS)
        due, end = time.monotonic(), time.monotonic() + seconds
        while due < end:
            insert(simulator, messages(simulator, datetime.now(UTC), rate * step))
            due += step
            time.sleep(max(0.0, due - time.monotonic()))
    return 0


def used(pid: int) -> float:
    """Seconds of a processor that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_ready(one: Process, started: float) -> float:
    while one.get("/ready")[0] != 200:
        assert time.perf_counter() - started < 120, one.log
        time.sleep(0.1)
    return time.perf_counter() - started


def measure(server: Mongod, client: pymongo.MongoClient[Document], rate: float) -> dict[str, float]:
    """One rate. Durations in seconds, memory in MB, shares of one core."""
    database = client[f"rate_{rate:g}".replace(".", "_")]
    simulator = Simulator(database, users=2000)
    simulator.fill(HISTORY, 60, end=datetime.now(UTC) - BEFORE)
    insert(simulator, before_now(simulator, rate))
    with tempfile.TemporaryDirectory() as folder:
        one = Process(Path(folder), MONGODB_URI=server.uri, MONGODB_DATABASE=database.name).start()
        wait_until_ready(one, time.perf_counter())
        one.stop()
        started = time.perf_counter()
        one.start()
        result = {"ready": wait_until_ready(one, started)}
        command = [
            sys.executable,
            "-m",
            "benchmarks.rates",
            "--send",
            json.dumps([server.uri, database.name, rate, 600]),
        ]
        with subprocess.Popen(command, preexec_fn=die_with_parent) as traffic:
            try:
                result |= scrape(server, one)
            finally:
                traffic.terminate()
        one.stop()
    client.drop_database(database.name)
    return result


def scrape(server: Mongod, one: Process) -> dict[str, float]:
    assert one.process is not None
    assert server.process is not None
    pids = {"exporter": one.process.pid, "mongod": server.process.pid}
    time.sleep(2 * EVERY_SECONDS)
    one.get("/metrics")
    before, began = {name: used(pid) for name, pid in pids.items()}, time.perf_counter()
    durations = []
    for number in range(1, SCRAPES + 1):
        time.sleep(max(0.0, began + number * EVERY_SECONDS - time.perf_counter()))
        started = time.perf_counter()
        status, _, body = one.get("/metrics")
        durations.append(time.perf_counter() - started)
        assert status == 200
        assert b'collector_success{collector="messages"} 1.0' in body
    took = time.perf_counter() - began
    return {
        "scrape": statistics.median(durations),
        "scrape_worst": max(durations),
        "memory": memory_of(one),
        **{name: (used(pid) - before[name]) / took for name, pid in pids.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="messages a second")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        return send(*json.loads(arguments.send))
    load = os.getloadavg()[0]
    with Mongod() as server, pymongo.MongoClient[Document](server.uri) as client:
        results = {rate: measure(server, client, rate) for rate in arguments.rates}
    print("| messages a second | scrape, median | slowest | peak memory | exporter | mongod | ready after a restart |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rate, r in results.items():
        print(
            f"| {rate:g} | {r['scrape'] * 1000:.1f} ms | {r['scrape_worst'] * 1000:.1f} ms | {r['memory']:.0f} MB "
            f"| {r['exporter']:.1%} of a core | {r['mongod']:.1%} | {r['ready']:.1f} s |"
        )
    print(f"\nThe machine's load before was {load:.2f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
