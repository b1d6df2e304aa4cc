"""The cost of telling who uses it and who pays: `make bench`.

Two exporters of one large place, one with all of it on and one as usual, are scraped in turn, in one run.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymongo
from bson import ObjectId

from benchmarks.scrape import median, memory_of, send_steadily
from tests.conftest import Process
from tools.mongod import Mongod
from tools.shapes import Document
from tools.simulator import Simulator

USERS, GROUPS, AGENTS = 50_000, 200, 1000
HISTORY = 200_000
SCRAPES = 40
ALL = {
    "GROUP_METRICS": "true",
    "DOMAIN_METRICS": "true",
    "PER_USER_METRICS": "hash",
    "USER_ID_SALT": "0123456789abcdef",
    "MODEL_PRICES": "genai-prices",
}


def fill(simulator: Simulator) -> None:
    """A university: everybody is in a group and some are in two, and an answer in ten is an agent's."""
    database, now = simulator.database, datetime.now(UTC)
    users = [ObjectId() for _ in range(USERS)]
    database["users"].insert_many(
        {"_id": user, "email": f"u@faculty{number % 20}.example", "createdAt": now - timedelta(days=number % 400)}
        for number, user in enumerate(users)
    )
    database["groups"].insert_many(
        {"name": f"Group {group}", "memberIds": [str(one) for one in users[group::GROUPS] + users[group :: 7 * GROUPS]]}
        for group in range(GROUPS)
    )
    simulator.users = [str(user) for user in users]
    simulator.fill(HISTORY, days=60, end=now)


def main() -> int:
    load = os.getloadavg()[0]
    with Mongod() as server, pymongo.MongoClient[Document](server.uri) as client:
        simulator = Simulator(client["payers"], users=0, agents=AGENTS)
        fill(simulator)
        stop = threading.Event()
        traffic = threading.Thread(target=send_steadily, args=(simulator, stop))
        with tempfile.TemporaryDirectory() as usual, tempfile.TemporaryDirectory() as everything:
            shared = {"MONGODB_URI": server.uri, "MONGODB_DATABASE": "payers"}
            pair = [
                Process(Path(usual), **shared).start(),
                Process(Path(everything), **shared, **ALL).start(),
            ]
            series = [len(one.scrape(250)) for one in pair]
            traffic.start()
            time.sleep(90)  # so that what is refreshed in the background is
            durations: list[list[float]] = [[], []]
            for _ in range(SCRAPES):
                for one, of_it in zip(pair, durations, strict=True):
                    of_it.append(median(lambda one=one: one.get("/metrics"), 1))  # type: ignore[misc]
                time.sleep(1)
            memory = [memory_of(one) for one in pair]
            stop.set()
            traffic.join()
            for one in pair:
                one.stop()
    scrapes = [statistics.median(of_it) for of_it in durations]
    print(f"{USERS:,} users, {GROUPS} groups, {AGENTS:,} agents, {HISTORY:,} messages, one a second being sent:\n")
    print("| | as usual | with groups, domains, users, prices |")
    print("| --- | ---: | ---: |")
    print(f"| series | {series[0]:,} | {series[1]:,} |")
    print(f"| scrape, median | {scrapes[0] * 1000:.1f} ms | {scrapes[1] * 1000:.1f} ms |")
    print(f"| scrape, slowest | {max(durations[0]) * 1000:.1f} ms | {max(durations[1]) * 1000:.1f} ms |")
    print(f"| peak memory | {memory[0]:.0f} MB | {memory[1]:.0f} MB |")
    print(f"\nWith all of it on, a scrape takes {scrapes[1] / scrapes[0]:.2f} × as long.")
    print(f"The machine's load before was {load:.2f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
