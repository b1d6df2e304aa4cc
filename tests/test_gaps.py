"""Documents that come during a stop or an outage count once; nothing is sealed that was not read."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo.errors import AutoReconnect

from librechat_exporter.librechat.expressions import Document
from tests.life import MINUTE, ONE, SECOND, START, Counts, Life, finish_all, lived, nothing, pass_minutes, restart


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    yield from lived(tmp_path, monkeypatch)


def stop_one_answer(life: Life) -> None:
    """It stays unfinished, and open, for good."""
    life.stored.put(START - 151 * SECOND, unsettled=True)
    life.scrape()


def test_a_gap_is_missed_once_though_what_follows_cannot_be_read_at_first(life: Life) -> None:
    stop_one_answer(life)
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    restart(life)

    def fail_once(what: str) -> None:
        if what == "ids" and life.messages.counted[ONE.name].missing:
            life.stored.before = nothing
            raise AutoReconnect("reset")

    life.stored.before = fail_once
    with pytest.raises(AutoReconnect):
        life.scrape()
    life.stored.now_is += 15 * SECOND
    life.ledger.tick()
    assert life.counted() == 3061


def test_a_gap_is_missed_once_though_nothing_has_come_for_an_hour(life: Life) -> None:
    stop_one_answer(life)
    life.stored.put_each(3, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=6)
    restart(life)
    life.scrape()
    life.stored.now_is += 60 * SECOND
    life.ledger.tick()
    assert life.counted() == 3061


def test_what_is_polled_while_a_gap_is_made_counts_once(life: Life) -> None:
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    rows = 0

    def end_after_some(what: str) -> None:
        nonlocal rows
        rows += what == "row"
        if rows > 1600:
            raise AutoReconnect("its time is up")

    def poll_first(what: str) -> None:
        if what == "id_after" and threading.current_thread() is threading.main_thread():
            life.stored.before = end_after_some
            poller = threading.Thread(target=life.ledger.poll)
            poller.start()
            poller.join()
            life.stored.before = nothing

    life.messages.is_read = True
    life.stored.before = poll_first
    life.ledger._try(life.messages)
    life.ledger.tick()
    assert rows > 1600
    assert life.counted() == 3060


def test_a_long_stop_after_a_quiet_hour_makes_a_gap(life: Life) -> None:
    life.stored.now_is += timedelta(hours=2)
    life.ledger.poll()
    life.ledger.tick()
    assert not life.messages.cells
    life.stop()
    life.stored.put_each(60, 3000, life.stored.now_is + 60 * SECOND)
    life.stored.now_is += timedelta(seconds=60 + 60 * 3000)
    life.start(Counts("messages", ONE))
    life.scrape()
    assert len(life.messages.cells) < 100
    assert life.counted() == 3060


def test_a_gap_is_charged_to_users_who_came_in_it(life: Life) -> None:
    assert not life.ledger.membership.members()
    life.stored.users = ["ann"]
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    life.ledger.tick()
    assert life.counted() == 3060
    assert life.messages.fold.members_of_history == ["ann"]


def test_a_gap_waits_for_users_who_cannot_be_read_at_first(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.membership._PATIENCE_SECONDS", 0.1)
    assert not life.ledger.membership.members()
    life.stored.users = ["ann"]

    go = threading.Event()

    def slow(*_arguments: object) -> Iterator[Document]:
        go.wait(20)
        yield from ()

    with monkeypatch.context() as patch:
        patch.setattr(life.stored, "stream", slow)
        life.stored.put_each(6, 3000, START + 60 * SECOND)
        life.stored.now_is += timedelta(hours=5, minutes=1)
        life.ledger.tick()
        with pytest.raises(TimeoutError, match="users have not been read since the gap"):
            life.fold_history()
        assert not life.ledger.membership.members(), "others go on with those of before"
        go.set()
    life.ledger.membership.renew()
    assert life.counted() == 3060
    assert life.messages.fold.members_of_history == ["ann"]


def test_users_who_cannot_be_read_after_a_gap_are_not_waited_for_without_end(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AutoReconnect("reset")

    assert not life.ledger.membership.members()
    monkeypatch.setattr(life.stored, "stream", refuse)
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    life.ledger.tick()
    with pytest.raises(TimeoutError):
        life.fold_history()
    monkeypatch.setattr("librechat_exporter.ledger.membership.WAITED_FOR", timedelta(0))
    assert life.counted() == 3060


@pytest.fixture
def answered(life: Life) -> Life:
    """An answer that began twenty minutes ago is kept open; finished, it counts 10."""
    life.messages.fold.finished = 10
    life.stored.put(START, unsettled=True)
    life.ledger.tick()
    pass_minutes(life, 1, 21)
    assert life.messages.order[0] < life.messages.open_from
    return life


@pytest.mark.parametrize("gap", [0, 3000])
def test_an_answer_that_is_kept_open_is_read_after_a_restart_before_it_is_sealed(answered: Life, gap: int) -> None:
    before = answered.counted()
    finish_all(answered)
    answered.stored.put_each(6, gap, answered.stored.now_is + SECOND)
    answered.stored.now_is += 301 * MINUTE if gap else SECOND
    restart(answered, finished=10)
    failing = ["row"]

    def fail_once(what: str) -> None:
        if what in failing:
            failing.remove(what)
            raise AutoReconnect("reset")

    answered.stored.before = fail_once
    answered.ledger.tick()
    assert not failing
    answered.stored.now_is += MINUTE
    answered.ledger.tick()
    still_open = len(answered.messages.order) if gap else 0
    assert answered.counted() == before + 9 + gap + 9 * still_open


def test_an_answer_that_is_kept_open_is_not_sealed_by_a_tick_that_reads_nothing(answered: Life) -> None:
    def fail(what: str) -> None:
        if what == "row":
            raise AutoReconnect("recovering")

    before = answered.counted()
    finish_all(answered)
    answered.stored.now_is += 45 * MINUTE
    answered.stored.before = fail
    answered.ledger.tick()
    answered.stored.before = nothing
    answered.ledger.tick()
    assert answered.counted() == before + 9


def test_a_tick_that_is_too_slow_seals_what_it_has_read(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.open_documents.READ_AT_ONCE", 50)
    asked = 0

    def fail_the_second_time(what: str) -> None:
        nonlocal asked
        asked += what == "ids" and threading.current_thread() is threading.main_thread()
        if asked > 1:
            raise AutoReconnect("timed out")

    for minute in range(1, 31):
        life.stored.now_is = START + timedelta(minutes=minute)
        life.stored.put_each(2, 30, life.stored.now_is - 60 * SECOND)
        life.ledger.poll()
        asked, life.stored.before = 0, fail_the_second_time
        life.ledger.tick()
        assert asked > 1
        life.stored.before = nothing
    assert len(life.messages.cells) < 500
    assert life.counted() == 60 + 30 * 30
