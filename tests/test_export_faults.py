"""The historic export when it is killed, and when MariaDB or MongoDB is: each day is old or new, never half."""

import functools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
import trustme
from pymongo.database import Database

from librechat_exporter.historic import command, lock, store
from librechat_exporter.historic.day import Day
from librechat_exporter.historic.lock import LockedError
from librechat_exporter.historic.store import Store, StoreError
from librechat_exporter.historic.tables import DAILY, DAILY_USERS
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.transactions import Billed, read_charged
from librechat_exporter.settings import ExportSettings
from tests.conftest import Document, Metrics
from tests.test_export import SCRIPT
from tools.mariadb import MariaDB
from tools.mongod import Mongod
from tools.private_server import die_with_parent
from tools.simulator import Simulator

FIRST, LAST = "2026-02-01", "2026-03-31"
END = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def history(database: Database[Document]) -> Database[Document]:
    """Two months of it."""
    Simulator(database, users=15).fill(1500, days=60, end=END)
    return database


@pytest.fixture
def start(mongodb_uri: str, history: Database[Document]) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts exports as processes of their own, with these settings."""
    running = []

    def begin(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
        given = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": history.name, **environment}
        process = subprocess.Popen(
            [sys.executable, SCRIPT, FIRST, LAST, *arguments],
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return output + errors


def days_are_whole(metrics: Metrics) -> None:
    """Every day that is there is in all tables that an export of its fills, and no other day is in any."""
    if metrics.rows("SHOW TABLES LIKE 'export_runs'") == []:
        return
    metrics.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT")  # who was killed may have a commit under way
    users = {day for (day,) in metrics.rows("SELECT date FROM daily_users")}
    for table in DAILY:
        days = {day for (day,) in metrics.rows(f"SELECT DISTINCT date FROM {table.name}")}  # noqa: S608
        assert days <= users, table.name
        if table.name in ("daily_messages", "daily_messages_by_model", "daily_tokens_by_user", "daily_cost_by_model"):
            assert days == users, table.name
    metrics.rows("COMMIT")


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_any_moment(
    start: Callable[..., "subprocess.Popen[str]"],
    mariadb: MariaDB,
    metrics: Metrics,
    history: Database[Document],
    kills: int,
) -> None:
    """Killed again and again, each time followed by a rerun, it leaves the tables of an undisturbed export."""
    undisturbed = Metrics(mariadb, f"{metrics.name}_undisturbed")
    started = time.monotonic()
    finish(start(undisturbed.environment))
    length = time.monotonic() - started
    chance = random.Random(5)
    killed = 0
    while killed < kills:
        process = start(metrics.environment, *(["--force"] if killed % 3 == 2 else []))
        # Starting takes most of the time; the rest of it is what is of interest.
        time.sleep(length * chance.uniform(0.5, 1.0))
        process.kill()
        days_are_whole(metrics)
        if process.wait() != -9:
            length *= 0.9  # it was done before
            assert length > 0.1
            continue
        killed += 1
        if killed % 3 == 0:
            finish(start(metrics.environment))
            assert metrics.tables() == undisturbed.tables()
            for table in DAILY:
                metrics.rows(f"DELETE FROM {table.name} WHERE DAY(date) % 3 = {killed // 3 % 3}")  # noqa: S608
            metrics.rows("DELETE FROM weekly_users")
    finish(start(metrics.environment))
    assert metrics.tables() == undisturbed.tables()
    assert len(metrics.tables()["daily_users"]) == 59
    assert {outcome for (outcome,) in metrics.rows("SELECT outcome FROM export_runs")} == {"failed", "success"}
    undisturbed.drop()


@pytest.fixture
def lone(private_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """A database of a MariaDB that may be killed."""
    metrics = Metrics(private_mariadb, "lone")
    for name, value in metrics.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MYSQL_RETRY_DELAY", "0.5")
    return metrics


def a_day(day: date, users: int) -> Day:
    rows: dict[Any, Any] = {table: [] for table in DAILY}
    return Day(day, rows=rows | {DAILY_USERS: [(users,)]})


def test_mariadb_killed_within_a_transaction(
    private_mariadb: MariaDB, lone: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = Store(ExportSettings.load())
    one.lock()
    one.upgrade()
    one.write(a_day(date(2026, 3, 1), 5), {}, force=False)
    replace = store._replace
    kills = [2]

    def killing(cursor: Any, day: Day) -> int:
        rows = replace(cursor, day)
        if kills[0]:
            kills[0] -= 1
            private_mariadb.kill()
        return rows

    def wait(_seconds: float) -> None:
        if private_mariadb.process is None:
            private_mariadb.start()

    monkeypatch.setattr(store, "_replace", killing)
    monkeypatch.setattr(store, "time", SimpleNamespace(sleep=wait))  # of this module alone: other threads sleep, too
    one.write(a_day(date(2026, 3, 1), 6), {}, force=False)
    one.close()
    assert kills == [0]
    assert "try 1 of 5" in caplog.text
    after = Metrics(private_mariadb, "lone")
    assert after.rows("SELECT unique_users FROM daily_users") == [(6,)]


def test_mariadb_that_stays_away_ends_the_run(
    private_mariadb: MariaDB,
    lone: Metrics,
    history: Database[Document],
    mongodb_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It names the days that are missing; a rerun writes them."""
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("MONGODB_DATABASE", history.name)
    monkeypatch.setenv("MYSQL_MAX_RETRIES", "1")
    replace = store._replace

    def killing(cursor: Any, day: Day) -> int:
        if day.date == date(2026, 2, 20):
            private_mariadb.kill()
        return replace(cursor, day)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_replace", killing)
        assert command.main([FIRST, LAST]) == 1
    said = capsys.readouterr().err
    assert "40 days failed: 2026-02-20 to 2026-03-31" in said
    assert "MariaDB error 2003 (CR_CONN_HOST_ERROR)" in said
    private_mariadb.start()
    assert command.main([FIRST, LAST]) == 0
    after = Metrics(private_mariadb, "lone")
    assert len(after.tables()["daily_users"]) == 59
    outcomes = after.rows("SELECT outcome FROM export_runs ORDER BY id")
    assert outcomes == [("failed",), ("success",)], "the first could not even note that it failed; the second did"


def test_a_deadlock_is_tried_again(lone: Metrics, private_mariadb: MariaDB, caplog: pytest.LogCaptureFixture) -> None:
    """A real one, with a reader who locks rows in another order."""
    one = Store(ExportSettings.load())
    one.upgrade()
    one.write(a_day(date(2026, 3, 1), 5), {}, force=False)
    lone.rows("INSERT INTO daily_new_users VALUES ('2026-03-01', 'x', 1)")
    lone.rows("CREATE TABLE big (id INT PRIMARY KEY) ENGINE=InnoDB")
    other = private_mariadb.connect("lone")
    cursor = other.cursor()
    cursor.execute("BEGIN")
    cursor.execute("INSERT INTO big SELECT seq FROM seq_1_to_5000")  # the heavier one survives a deadlock
    cursor.execute("SELECT * FROM daily_new_users WHERE date = '2026-03-01' FOR UPDATE")
    cursor.fetchall()
    writing = threading.Thread(target=one.write, args=(a_day(date(2026, 3, 1), 6), {}), kwargs={"force": False})
    writing.start()
    waits = "SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"
    end = time.monotonic() + 20
    while not lone.rows(waits):
        assert time.monotonic() < end
        time.sleep(0.2)  # asked more often, InnoDB tells what it told before
    cursor.execute("SELECT * FROM daily_users WHERE date = '2026-03-01' FOR UPDATE")
    cursor.fetchall()
    cursor.execute("ROLLBACK")
    writing.join(20)
    assert not writing.is_alive()
    assert "ER_LOCK_DEADLOCK" in caplog.text
    assert lone.rows("SELECT unique_users FROM daily_users") == [(6,)]
    one.close()
    other.close()


@pytest.fixture
def lonely(private_mongod: Mongod, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Mongod:
    """A MongoDB that may be killed, with two months of history."""
    with pymongo.MongoClient[Document](private_mongod.uri, journal=True) as client:
        Simulator(client["lone"], users=15).fill(1500, days=60, end=END)
    for name, value in metrics.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MONGODB_URI", f"{private_mongod.uri}?serverSelectionTimeoutMS=1000")
    monkeypatch.setenv("MONGODB_DATABASE", "lone")
    return private_mongod


def test_mongodb_killed_within_a_day(
    lonely: Mongod, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The days before it are there, those after it are named, and a rerun writes them."""

    def killing(librechat: LibreChat, match: Document, *rest: Any) -> tuple[list[Billed], list[Billed]]:
        if lonely.process is not None and match["createdAt"]["$gte"] == datetime(2026, 2, 20, tzinfo=UTC):
            lonely.kill()
        return read_charged(librechat, match, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("librechat_exporter.historic.day.read_charged", killing)
        patch.setattr("librechat_exporter.historic.export._DAY_SECONDS", 3)
        patch.setattr("librechat_exporter.historic.export._PING_SECONDS", 3)
        assert command.main([FIRST, LAST]) == 1
    said = capsys.readouterr().err
    failed = [day for (day,) in metrics.rows("SELECT date FROM daily_users ORDER BY date")]
    assert failed[-1] < date(2026, 2, 20)
    assert f"days failed: {failed[-1] + timedelta(days=1)} to 2026-03-31" in said
    days_are_whole(metrics)
    assert metrics.rows("SELECT outcome FROM export_runs") == [("failed",)]
    lonely.start()
    assert command.main([FIRST, LAST]) == 0
    assert len(metrics.tables()["daily_users"]) == 59


def test_a_day_that_mongodb_refuses_is_named(
    lonely: Mongod, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other days are written. (The refusal is a real one, of an expression that fails.)"""
    broken = date(2026, 2, 10)

    def refused(librechat: LibreChat, match: Document, *rest: Any) -> tuple[list[Billed], list[Billed]]:
        if match["createdAt"]["$gte"].date() == broken:
            librechat.aggregate("transactions", {"$expr": {"$toInt": "no number"}})
        return read_charged(librechat, match, *rest)

    monkeypatch.setattr("librechat_exporter.historic.day.read_charged", refused)
    assert command.main([FIRST, LAST]) == 1
    said = capsys.readouterr()
    assert "2026-02-10: MongoDB refused the command with error 241 (ConversionFailure)" in said.err
    assert "1 day failed: 2026-02-10" in said.err
    assert said.out.startswith("58 days, ")
    assert (broken,) not in metrics.rows("SELECT date FROM daily_users")


def test_a_store_that_is_not_there_is_given_up(
    lone: Metrics, private_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQL_MAX_RETRIES", "2")
    monkeypatch.setenv("MYSQL_RETRY_DELAY", "0.1")
    private_mariadb.kill()
    started = time.monotonic()
    with pytest.raises(StoreError, match="CR_CONN_HOST_ERROR"):
        Store(ExportSettings.load()).days()
    assert time.monotonic() - started >= 0.3, "it waits 0.1 s and then 0.2 s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_a_run_closes_it(
    number: signal.Signals, start: Callable[..., "subprocess.Popen[str]"], metrics: Metrics, tmp_path: Path
) -> None:
    """It is noted as stopped, the days that it wrote are whole, and node_exporter is told."""
    textfile = tmp_path / "export.prom"
    process = start(metrics.environment, "--textfile", str(textfile))
    while not metrics.rows("SHOW TABLES LIKE 'export_runs'") or not metrics.rows("SELECT * FROM daily_users"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = finish(process, 128 + number)
    assert f"Ended by {number.name}; each day is as it was before or complete." in said
    assert "Traceback" not in said
    [(outcome, written)] = metrics.rows("SELECT outcome, days_written FROM export_runs")
    assert outcome == "stopped"
    [(days,)] = metrics.rows("SELECT COUNT(*) FROM daily_users")
    assert written in (days - 1, days), "the last one may not have been noted yet"
    assert 0 < days < 59
    days_are_whole(metrics)
    assert "librechat_export_success 0.0" in textfile.read_text()


def test_a_signal_ends_it_as_the_first_process_of_a_container(
    start: Callable[..., "subprocess.Popen[str]"], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To which the kernel gives no signal that it has no handler for."""
    monkeypatch.setattr(subprocess, "Popen", functools.partial(_as_first_process, subprocess.Popen))
    process = start(metrics.environment)
    while not metrics.rows("SHOW TABLES LIKE 'export_runs'") or not metrics.rows("SELECT * FROM export_runs"):
        assert process.poll() is None
        time.sleep(0.001)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    finish(process, 143)
    assert metrics.rows("SELECT outcome FROM export_runs") == [("stopped",)]


def _as_first_process(popen: Any, command: list[Any], **options: Any) -> Any:
    return popen(["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", *command], **options)


def test_what_is_ignored_stays_ignored(start: Callable[..., "subprocess.Popen[str]"], metrics: Metrics) -> None:
    """As `nohup` does with SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(metrics.environment)
    finally:
        signal.signal(signal.SIGHUP, before)
    while not metrics.rows("SHOW TABLES LIKE 'export_runs'"):
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    finish(process)
    assert metrics.rows("SELECT outcome FROM export_runs") == [("success",)]


def tried(said: str, caplog: pytest.LogCaptureFixture, **settings: Any) -> int:
    """The number of times that a store which fails so is tried again."""
    given = {"mysql_host": "127.0.0.1", "mysql_max_retries": 4, "mysql_retry_delay": 0, "mysql_user": "root"}
    one = Store(ExportSettings.model_validate(given | settings))
    with pytest.raises(StoreError, match=said):
        one.days()
    return caplog.text.count("; try ")


@pytest.mark.parametrize(("number", "times"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 4)])
def test_a_name_that_nobody_knows_is_tried_once_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int, times: int
) -> None:
    """Not one that the DNS cannot tell just now."""

    def unknown(*_arguments: object, **_named: object) -> None:
        raise socket.gaierror(number, "it is not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert tried("2003 .*it is not known", caplog, mysql_host="mariadb.invalid") == times


def test_a_server_that_stays_silent_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_CONNECT_SECONDS", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert tried("MariaDB does not answer in time", caplog, mysql_port=silent.getsockname()[1]) == 4


class EncryptedMariaDB(MariaDB):
    """With a certificate of this authority, for this name."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self._certificate = authority.issue_cert(name)
        super().__init__()

    def prepare(self) -> None:
        super().prepare()
        self._certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        self._certificate.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")

    def command(self) -> list[str]:
        folder = self.folder
        return [*super().command(), f"--ssl-cert={folder / 'cert.pem'}", f"--ssl-key={folder / 'key.pem'}"]


def test_a_certificate_that_cannot_be_trusted_is_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, other = trustme.CA(), trustme.CA()
    own.cert_pem.write_to_path(tmp_path / "own.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    with EncryptedMariaDB(own, "mariadb.example.org") as server:
        given = {"mysql_port": server.port, "mysql_database": "metrics", "mysql_ssl_ca": tmp_path / "other.pem"}
        distrust = "MariaDB's certificate cannot be trusted: "
        assert tried(distrust + "(self-signed|unable to get local issuer) certificate", caplog, **given) == 0
        given["mysql_ssl_ca"] = tmp_path / "own.pem"
        assert tried(distrust + "IP address mismatch, certificate is not valid for '127.0.0.1'", caplog, **given) == 0


def test_where_named_locks_are_refused_a_row_is_locked(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As clusters refuse them, with MariaDB's error without a name."""
    refused = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1105, MESSAGE_TEXT = 'prohibited' /* %s %s */"
    monkeypatch.setattr(lock, "_GET_LOCK", refused)
    for name, value in metrics.environment.items():
        monkeypatch.setenv(name, value)
    first, second = Store(ExportSettings.load()), Store(ExportSettings.load())
    with caplog.at_level("INFO"):
        first.lock()
    assert first._lock._row is not None
    cursor = first._lock._row.cursor()
    cursor.execute("SELECT @@wait_timeout")
    assert cursor.fetchall() == [(30 * 86_400,)], "the run may last longer than a connection may be idle"
    assert "Named locks are refused (MariaDB error 1105 (ER_UNKNOWN_ERROR)): a row of export_lock" in caplog.text
    with pytest.raises(LockedError):
        second.lock()
    first.upgrade()
    first._disconnect()  # as after a fault: it still has the lock
    assert first.days() == set()
    with pytest.raises(LockedError):
        second.lock()
    first.close()
    second.lock()
    second.close()
