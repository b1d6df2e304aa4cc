"""Values that are read in the background."""

import threading
import time

import pytest

from librechat_exporter import refreshed
from librechat_exporter.refreshed import Refreshed


class Source:
    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.readings = 0
        self.error: Exception | None = None

    def read(self) -> int:
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.readings += 1
        return self.readings


def soon() -> float:
    return time.monotonic() + 5


def test_what_is_quick_is_read_each_time_and_its_failure_is_raised() -> None:
    source = Source()
    value: Refreshed[int] = Refreshed("numbers", at_once=1.0)
    assert [value.get(source.read, soon()) for _ in range(3)] == [1, 2, 3]
    source.error = ConnectionError("away")
    with pytest.raises(ConnectionError):
        value.get(source.read, soon())
    source.error = None
    assert value.get(source.read, soon()) == 4


def test_what_is_slow_keeps_nothing_that_is_quick_waiting() -> None:
    """Two readings at a time, and four that take long."""
    quick, elsewhere = Refreshed[int]("quick", at_once=1.0), Refreshed[int]("elsewhere", in_turn=False)
    source = Source()
    assert quick.get(source.read, soon()) == 1
    slow = Source(seconds=1)
    for number in range(4):
        with pytest.raises(TimeoutError, match="first reading"):
            Refreshed[int](f"slow {number}").get(slow.read, time.monotonic() + 0.01)
    assert quick.get(source.read, time.monotonic() + 0.5) == 2
    assert elsewhere.get(source.read, time.monotonic() + 0.5) == 3


def test_what_failed_after_long_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As three readings of a collection that does not answer."""
    monkeypatch.setattr(refreshed, "_READ_DEADLINE", 1.0)
    hanging, values = Source(seconds=0.2), [Refreshed[int](f"numbers {number}", at_once=10) for number in range(3)]
    hanging.error = ConnectionError("away")
    for value in values:
        with pytest.raises(ConnectionError):
            value.get(hanging.read, soon())
    hanging.seconds = 2
    for value in values:
        with pytest.raises((ConnectionError, TimeoutError)):
            value.get(hanging.read, time.monotonic() + 0.01)
    time.sleep(0.1)
    assert Refreshed[int]("others").get(Source().read, time.monotonic() + 0.5) == 1


def test_an_error_that_is_raised_often_does_not_grow() -> None:
    """Its traceback would hold the frames of each that asked."""
    source = Source()
    source.error = ConnectionError("away")
    value: Refreshed[int] = Refreshed("numbers", at_once=1.0)

    def frames() -> int:
        with pytest.raises(ConnectionError) as raised:
            value.get(source.read, soon())
        return len(raised.traceback)

    source.seconds = 0.1
    first = frames()
    assert [frames() for _ in range(5)] == [first] * 5


def test_what_is_slow_is_read_in_the_background_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshed, "INTERVAL_SECONDS", 0.3)
    source = Source(seconds=0.05)
    value: Refreshed[int] = Refreshed("numbers")
    with pytest.raises(TimeoutError, match="first reading"):
        value.get(source.read, time.monotonic() + 0.01)
    assert value.get(source.read, soon()) == 1
    assert value.interval == pytest.approx(source.seconds * 20, rel=0.5)
    started = time.monotonic()
    assert {value.get(source.read, soon()) for _ in range(100)} == {1}
    assert time.monotonic() - started < 0.5
    time.sleep(value.interval)
    assert value.get(source.read, soon()) == 1, "the old one, while the new one is read"
    time.sleep(0.2)
    assert value.get(source.read, soon()) == 2
    assert value.age < 0.5


def test_a_slow_value_that_fails_is_served_until_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshed, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(refreshed, "SHARE", 1)
    source = Source(seconds=0.05)
    value: Refreshed[int] = Refreshed("numbers")
    assert value.get(source.read, soon()) == 1
    source.error = ConnectionError("away")
    time.sleep(0.15)
    assert value.get(source.read, soon()) == 1
    time.sleep(0.3)
    with pytest.raises(ConnectionError):
        value.get(source.read, soon())
    source.error = None
    time.sleep(0.1)
    assert value.get(source.read, soon()) == 2


def test_a_reading_that_failed_after_long_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshed, "_READ_DEADLINE", 0.1)
    monkeypatch.setattr(refreshed, "_LONGEST_PAUSE", 0.0)
    end = threading.Event()
    began = threading.Semaphore(0)
    ended: list[bool] = []

    def read() -> int:
        began.release()
        end.wait(10)
        ended.append(True)
        raise ConnectionError("away")

    value: Refreshed[int] = Refreshed("numbers")
    threading.Timer(0.05, end.set).start()
    with pytest.raises(ConnectionError):
        value.get(read, soon())
    end.clear()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            value.get(read, soon())
    assert began.acquire(timeout=5)
    assert began.acquire(timeout=5)
    assert len(ended) == 1
    end.set()


def test_what_a_former_process_read_serves_until_it_is_read_anew() -> None:
    source = Source(seconds=0.2)
    value: Refreshed[int] = Refreshed("numbers", at_once=1.0)
    value.restore(100, age=50, took=2)
    assert value.get(source.read, soon()) == 100
    assert value.age == pytest.approx(50, abs=1)
    value.restore(100, age=61, took=2)
    assert value.get(source.read, soon()) == 100
    time.sleep(0.5)
    assert value.get(source.read, soon()) == 2, "the first was read meanwhile, and was quick"
    old: Refreshed[int] = Refreshed("numbers")
    old.restore(100, age=1000, took=1)
    assert old.get(source.read, soon()) == 3
