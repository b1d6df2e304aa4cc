"""The runner: shared runs, deadlines, isolation, what it tells of itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure

from librechat_exporter.scrape import StoppingError
from tests.conftest import Document, MakeExporter

UP = ("librechat_up", ())
ACTIVE = ("librechat_active_users", ())


def collector_of(exporter: Any, name: str) -> Any:
    return next(collector for collector in exporter.daemon.runner._collectors if collector.name == name)


def runs_of(exporter: Any, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """A list that grows with each run, which takes so many seconds from now on."""
    runs: list[int] = []

    def collect(_scrape: Any) -> Any:
        runs.append(1)
        time.sleep(seconds)
        yield from ()

    monkeypatch.setattr(collector_of(exporter, "recent"), "collect", collect)
    return runs


def test_overlapping_scrapes_share_one_run(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    one.scrape()
    runs = runs_of(one, monkeypatch, 0.3)
    found = side_by_side(one, [10] * 10)
    assert len(runs) == 1
    assert len({id(scraped) for scraped, _ in found}) == 1
    assert one.daemon.runner.scrape(time.monotonic() + 10) is not found[0][0]


def side_by_side(exporter: Any, timeouts: list[float], apart: float = 0.0) -> list[tuple[Any, float]]:
    """The findings of scrapes that begin so many seconds apart, and how long each took."""

    def scrape(number: int) -> tuple[Any, float]:
        time.sleep(number * apart)
        started = time.monotonic()
        found = exporter.daemon.runner.scrape(started + timeouts[number])
        return found, time.monotonic() - started

    with ThreadPoolExecutor(len(timeouts)) as pool:
        return list(pool.map(scrape, range(len(timeouts))))


def names(scraped: Any) -> set[str]:
    return {sample.name for family in scraped.families for sample in family.samples}


def test_a_failure_is_shared_too(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    one.scrape()
    runs = []

    def collect(_scrape: Any) -> Any:
        runs.append(1)
        time.sleep(0.2)
        raise OperationFailure("not allowed", 13)

    monkeypatch.setattr(collector_of(one, "recent"), "collect", collect)
    found = side_by_side(one, [5] * 10)
    assert len(runs) == 1
    assert len({id(scraped) for scraped, _ in found}) == 1


def test_a_failure_holds_no_scrape(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback holds the frames of the run, which holds it, and all families."""
    one = exporter()
    error = OperationFailure("not allowed", 13)

    def collect(_scrape: Any) -> Any:
        raise error

    monkeypatch.setattr(collector_of(one, "recent"), "collect", collect)
    one.scrape()
    last = one.daemon.runner.last
    assert last is not None
    assert last.outcomes["recent"].error is error
    assert error.__traceback__ is None


def test_who_joins_a_late_run_takes_what_it_found(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    one.scrape()
    go = threading.Event()
    monkeypatch.setattr(collector_of(one, "recent"), "collect", lambda _scrape: go.wait(5) or ())
    found = side_by_side(one, [1.2] * 3, apart=0.02)
    go.set()
    one.scrape()
    for scraped, seconds in found:
        assert "librechat_messages_total" in names(scraped)
        assert "librechat_active_users" not in names(scraped)
        assert seconds < 1.3


def test_who_has_more_time_tries_again(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    one.scrape()
    recent, pauses = collector_of(one, "recent"), [1.5, 0]
    collect = recent.collect

    def slow(given: Any) -> Any:
        time.sleep(pauses.pop(0))
        return collect(given)

    monkeypatch.setattr(recent, "collect", slow)
    (first, _), (second, _) = side_by_side(one, [1.0, 10], apart=0.05)
    assert "librechat_active_users" not in names(first)
    assert "librechat_active_users" in names(second)


def test_a_run_that_began_long_ago_tells_nothing_of_now(
    exporter: MakeExporter, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has much time, as for another scraper, and a collector that hangs."""
    one = exporter()
    one.scrape()
    go = threading.Event()
    monkeypatch.setattr(collector_of(one, "recent"), "collect", lambda _scrape: go.wait(20) or ())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(one.scrape, 20)
        time.sleep(1.2)
        database["messages"].insert_one({"messageId": "m1"})
        values = one.scrape(1)
        go.set()
    assert values["librechat_messages_total", ()] == 1


def test_a_token_that_cannot_be_fetched_is_a_mongodb_that_does_not_answer(
    exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by MONGODB-OIDC, of which PyMongo passes on what reading a file raises."""

    def refuse(*_arguments: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/var/run/secrets/token")

    one = exporter()
    one.scrape()
    monkeypatch.setattr(one.daemon.librechat, "now", refuse)
    monkeypatch.setattr(one.daemon.librechat, "now_and_ids", refuse)
    assert one.daemon.fault() == "MongoDB does not answer: No such file or directory"
    before = ("librechat_exporter_collector_errors_total", (("collector", "messages"), ("reason", "unavailable")))
    values = one.scrape()
    assert (values[UP], values[before]) == (0, 1)


def test_after_a_stop_no_scrape_begins(exporter: MakeExporter) -> None:
    one = exporter()
    one.scrape()
    one.daemon.runner.stop()
    with pytest.raises(StoppingError):
        one.scrape()


def test_scrapes_without_time_share_a_run_as_well(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    one.scrape()
    runs = runs_of(one, monkeypatch, 0.8)
    found = side_by_side(one, [0.01] * 20, apart=0.01)
    one.scrape()
    assert len(runs) == 1
    assert max(seconds for _, seconds in found) < 0.7


def test_a_defect_is_isolated_and_its_message_is_not_logged(
    exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = exporter()

    def collect(_scrape: Any) -> Any:
        yield from ()
        raise KeyError("secret of a user")

    monkeypatch.setattr(collector_of(one, "recent"), "collect", collect)
    for _ in range(3):
        values = one.scrape()
        assert values[UP] == 1
        assert ACTIVE not in values
        assert values["librechat_messages_total", ()] == 0
    labels = (("collector", "recent"), ("reason", "internal"))
    assert values["librechat_exporter_collector_errors_total", labels] == 3
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "Collector recent failed (internal): KeyError\n  at " in record.getMessage()
    assert "secret" not in caplog.text


def test_a_late_collector_is_absent_and_the_next_scrape_does_not_wait_for_it(
    exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = exporter()
    one.scrape()
    recent, collect, go = collector_of(one, "recent"), collector_of(one, "recent").collect, threading.Event()

    def slow(given: Any) -> Any:
        go.wait(10)
        return collect(given)

    monkeypatch.setattr(recent, "collect", slow)
    started = time.monotonic()
    values = one.scrape(timeout=0.5)
    assert time.monotonic() - started < 0.7
    assert ACTIVE not in values
    assert values["librechat_exporter_collector_success", (("collector", "recent"),)] == 0
    monkeypatch.setattr(recent, "collect", collect)
    assert one.scrape()[ACTIVE] == 0
    go.set()


def test_a_thread_that_does_not_start_spoils_one_scrape_only(
    exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = exporter()
    submit = one.daemon.runner._threads.submit

    def fail(*_arguments: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(one.daemon.runner._threads, "submit", fail)
    with pytest.raises(RuntimeError):
        one.scrape()
    monkeypatch.setattr(one.daemon.runner._threads, "submit", submit)
    assert one.scrape()[UP] == 1


def test_a_scrape_starts_no_thread_and_reads_no_document_twice(
    exporter: MakeExporter, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = exporter()
    for _ in range(20):
        one.scrape()
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    read: list[bytes] = []
    rows = one.daemon.librechat.rows
    monkeypatch.setattr(
        one.daemon.librechat,
        "rows",
        lambda *given: (read.append(document) or (document, row) for document, row in rows(*given)),  # type: ignore[func-returns-value]
    )
    database["messages"].insert_many([{"messageId": f"m{n}"} for n in range(30)])
    assert one.scrape()["librechat_messages_total", ()] == 30
    assert len(read) == len(set(read)) == 30
    one.scrape()
    assert len(read) == 30
    assert started == []


def test_stopping_lets_a_usual_scrape_end(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    recent = collector_of(one, "recent")
    collect, has_begun = recent.collect, threading.Event()

    def slow(given: Any) -> Any:
        has_begun.set()
        time.sleep(0.2)
        return collect(given)

    monkeypatch.setattr(recent, "collect", slow)

    def stop() -> None:
        has_begun.wait(20)
        one.daemon.runner.stop()

    threading.Thread(target=stop).start()
    values = one.scrape()
    assert (values[UP], values[ACTIVE]) == (1, 0)


def test_stopping_ends_the_waiting(exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = exporter()
    go = threading.Event()
    monkeypatch.setattr(collector_of(one, "recent"), "collect", lambda _scrape: go.wait(5) or ())
    threading.Timer(0.3, one.daemon.runner.stop).start()
    started = time.monotonic()
    one.scrape(timeout=5)
    assert time.monotonic() - started < 2
    go.set()
