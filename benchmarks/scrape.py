"""The cost of a scrape, a restart and the history, at several sizes of history, in one run: `make bench`."""

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
from pymongo.database import Database

from librechat_exporter.librechat.fields import RATINGS_INDEX, RATINGS_INDEX_OPTIONS
from tests.conftest import Process
from tools.mongod import Mongod
from tools.shapes import Document
from tools.simulator import Simulator

SIZES = (10_000, 100_000, 1_000_000)
DAYS = 60
SCRAPES = 40
REPEATS = 3
MESSAGES = ("librechat_messages_total", ())


def median(work: Callable[[], Any], times: int) -> float:
    """The median of so many durations, in seconds."""
    durations = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def median_after_pauses(work: Callable[[], Any], times: int) -> float:
    """The same, each after a second in which nothing happened: then a machine takes longer for all that it does."""
    durations = []
    for _ in range(times):
        time.sleep(1)
        durations.append(median(work, 1))
    return statistics.median(durations)


def scraper(one: Process, **headers: str) -> Callable[[], None]:
    """Scrapes over one connection, as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=60)

    def scrape() -> None:
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200

    return scrape


def send_steadily(simulator: Simulator, stop: threading.Event) -> None:
    """One message a second: a question, then its answer."""
    while not stop.wait(2):
        simulator.chat()


def open_minutes(simulator: Simulator) -> None:
    """Inserts one message a second of the ten minutes before now."""
    now = datetime.now(UTC)
    for seconds in range(600, 0, -2):
        moment = now - timedelta(seconds=seconds)
        question = simulator.question(simulator.random.choice(simulator.users), "c", "", moment)
        answer = simulator.answer(question, moment + timedelta(seconds=1))
        for message in (question, answer):
            simulator.database["messages"].insert_one({"_id": simulator.object_id(message["createdAt"])} | message)


def examined(database: Database[Document]) -> int:
    """Documents that the server has read for queries since it started."""
    status = database.client.admin.command("serverStatus")
    scanned: int = status["metrics"]["queryExecutor"]["scannedObjects"]
    return scanned


def peak_memory(pid: int) -> float | None:
    """Of the running process, in MB, as Linux saw it; None if it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return None


def memory_of(process: Process) -> float:
    assert process.process is not None
    peak = peak_memory(process.process.pid)
    assert peak is not None
    return peak


def measure(uri: str, client: pymongo.MongoClient[Document], size: int) -> dict[str, float]:
    """One size. Durations in seconds, memory in MB."""
    database = client[f"bench_{size}"]
    simulator = Simulator(database, users=2000)
    simulator.fill(size, DAYS, end=datetime.now(UTC) - timedelta(minutes=10))
    open_minutes(simulator)
    total = database["messages"].count_documents({})
    group: list[Document] = [{"$group": {"_id": "$model", "count": {"$sum": 1}, "tokens": {"$sum": "$tokenCount"}}}]
    result = {
        "ping": median(lambda: client.admin.command("ping"), 200),
        "ping_idle": median_after_pauses(lambda: client.admin.command("ping"), 10),
        "group": median(lambda: list(database["messages"].aggregate(group)), REPEATS),
    }
    folds = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            # The ratings' reading of the whole collection is a cost of its own, and would compete with the fold.
            one = Process(Path(folder), MONGODB_URI=uri, MONGODB_DATABASE=database.name, ENABLE_RATING_METRICS="false")
            started = time.perf_counter()
            one.start()
            began = time.perf_counter()
            assert one.scrape(250)[MESSAGES] == total
            folds.append(time.perf_counter() - began)
            result["cold"] = began - started
            result["fold_memory"] = memory_of(one)
            one.stop()
    result["fold"] = statistics.median(folds)
    stop = threading.Event()
    traffic = threading.Thread(target=send_steadily, args=(simulator, stop))
    with tempfile.TemporaryDirectory() as folder:
        one = Process(Path(folder), MONGODB_URI=uri, MONGODB_DATABASE=database.name).start()
        one.scrape(250)
        traffic.start()
        time.sleep(3)
        durations, scrape = [], scraper(one)
        before = examined(database)
        for _ in range(SCRAPES):
            time.sleep(simulator.random.uniform(0.5, 1.5))  # as the exporter polls once a second, at any moment of that
            durations.append(median(scrape, 1))
        result["examined"] = (examined(database) - before) / SCRAPES
        result["scrape"] = statistics.median(durations)
        result["scrape_worst"] = max(durations)
        result["scrape_again"] = median(scrape, 200)
        result["scrape_gzip"] = median(scraper(one, **{"Accept-Encoding": "gzip"}), 200)
        result["memory"] = memory_of(one)
        one.stop()
        warm = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            one.start()
            assert one.scrape()[MESSAGES] >= total
            warm.append(time.perf_counter() - started)
            one.stop()
        result["warm"] = statistics.median(warm)
        database["messages"].create_index(RATINGS_INDEX, **RATINGS_INDEX_OPTIONS)
        one.start()
        one.scrape()
        result["scrape_rated"] = median(scraper(one), 200)
        one.stop()
    stop.set()
    traffic.join()
    client.drop_database(database.name)
    return result


ROWS: dict[str, Callable[[dict[str, float]], str]] = {
    "scrape, median": lambda r: f"{r['scrape'] * 1000:.1f} ms",
    "scrape, slowest": lambda r: f"{r['scrape_worst'] * 1000:.1f} ms",
    "scrape, median, one at once after the other": lambda r: f"{r['scrape_again'] * 1000:.1f} ms",
    "the same, with an index for ratings": lambda r: f"{r['scrape_rated'] * 1000:.1f} ms",
    "the same, compressed": lambda r: f"{r['scrape_gzip'] * 1000:.1f} ms",
    "documents examined per scrape": lambda r: f"{r['examined']:.0f}",
    "`ping` round trip": lambda r: f"{r['ping'] * 1000:.2f} ms",
    "`ping` round trip after a second's pause": lambda r: f"{r['ping_idle'] * 1000:.2f} ms",
    "one plain `$group` over the collection": lambda r: f"{r['group'] * 1000:.0f} ms",
    "history fold": lambda r: f"{r['fold'] * 1000:.0f} ms",
    "history fold ÷ plain `$group`": lambda r: f"{r['fold'] / r['group']:.1f}",
    "warm restart to a complete scrape": lambda r: f"{r['warm'] * 1000:.0f} ms",
    "peak memory, history fold": lambda r: f"{r['fold_memory']:.0f} MB",
    "peak memory, all": lambda r: f"{max(r['memory'], r['fold_memory']):.0f} MB",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="messages of history")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with Mongod() as server, pymongo.MongoClient[Document](server.uri) as client:
        results = {size: measure(server.uri, client, size) for size in arguments.sizes}
    print("| stored messages |", " | ".join(f"{size:,}" for size in results), "|")
    print("| --- |", " | ".join("---:" for _ in results), "|")
    for name, cell in ROWS.items():
        print(f"| {name} |", " | ".join(cell(result) for result in results.values()), "|")
    least, most = results[min(results)], results[max(results)]
    print(f"\nA scrape at {max(results):,} takes {most['scrape'] / least['scrape']:.2f} × that at {min(results):,}.")
    print(f"The machine's load before was {load:.2f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
