"""The duration of the historic export, beside one plain read of the same documents in the same run: `make bench`."""

import argparse
import statistics
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pymongo
from pymongo.database import Database

from benchmarks.scrape import peak_memory
from tools.mariadb import MariaDB
from tools.mongod import Mongod
from tools.private_server import die_with_parent
from tools.shapes import Document
from tools.simulator import Simulator

SCRIPT = Path(__file__).parent.parent / "historic-analysis" / "export_metrics.py"
DATABASE = "bench_export"
DAYS = 540
REPEATS = 3


def read(database: Database[Document], collection: str, match: Document | None = None) -> float:
    """Seconds for one find() of all matching documents."""
    started = time.perf_counter()
    for _ in database[collection].find(match or {}):
        pass
    return time.perf_counter() - started


def export(environment: dict[str, str], first: date, last: date) -> tuple[float, float]:
    """Seconds from start to end of the process, and its peak memory in MB."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, SCRIPT, str(first), str(last), "--force"],
        env=environment,
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    ) as process:
        peak = 0.0
        while process.poll() is None:
            peak = peak_memory(process.pid) or peak
            time.sleep(0.02)
    assert process.returncode == 0
    return time.perf_counter() - started, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    size = parser.parse_args().messages
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = (end - timedelta(days=DAYS)).date(), (end - timedelta(days=1)).date()
    with Mongod() as server, MariaDB() as mariadb, pymongo.MongoClient[Document](server.uri) as client:
        database = client[DATABASE]
        Simulator(database, users=2000).fill(size, DAYS, end=end)
        environment = {"MONGODB_URI": server.uri, "MONGODB_DATABASE": DATABASE, **mariadb.environment("metrics")}
        in_range = {"createdAt": {"$gte": end - timedelta(days=DAYS), "$lt": end}}
        messages, ranged, others, exports, memory = [], [], [], [], []
        for _ in range(REPEATS):
            messages.append(read(database, "messages"))
            ranged.append(read(database, "messages", in_range))
            others.append(sum(read(database, name) for name in ("transactions", "conversations", "users")))
            seconds, peak = export(environment, first, last)
            exports.append(seconds)
            memory.append(peak)
        transactions = database["transactions"].estimated_document_count()
        connection = mariadb.connect("metrics")
        cursor = connection.cursor()
        cursor.execute("SELECT SUM(total_messages) FROM daily_messages")
        assert [str(count) for (count,) in cursor.fetchall()] == [str(size)]
    one, by_range, other, taken = map(statistics.median, (messages, ranged, others, exports))
    print(f"| {size:,} messages and {transactions:,} transactions of {DAYS} days | |")
    print("| --- | ---: |")
    print(f"| `find()` of all messages, in the order of the collection | {one:.1f} s |")
    print(f"| `find()` of all messages, by the range of `createdAt` | {by_range:.1f} s |")
    print(f"| `find()` of all transactions, conversations and users | {other:.1f} s |")
    print(f"| the export | {taken:.1f} s |")
    print(f"| the export ÷ `find()` of all that it reads, messages in order | {taken / (one + other):.2f} |")
    print(f"| the export ÷ `find()` of all that it reads, messages by range | {taken / (by_range + other):.2f} |")
    print(f"| the export ÷ `find()` of messages alone, in order | {taken / one:.2f} |")
    print(f"| peak memory of the export | {max(memory):.0f} MB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
