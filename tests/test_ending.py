"""Signals that end the process."""

import signal
import sys
import time

import pytest

from librechat_exporter import ending


class _Dropping:
    """Something whose finalizer gets a signal, or fails by itself: Python drops what it raises."""

    def __init__(self, *, signalled: bool) -> None:
        self._signalled = signalled

    def __del__(self) -> None:
        if self._signalled:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)
        raise ValueError("a finalizer failed")


def test_a_signal_that_a_finalizer_drops_is_raised_again() -> None:
    reached = []

    def work() -> None:
        _Dropping(signalled=True)
        reached.append("what follows the finalizer")
        time.sleep(10)

    with pytest.raises(ending.EndedError, match="SIGTERM") as ended, ending.raising():
        work()
    assert reached
    assert ended.value.exit_code == 143


def test_what_else_a_finalizer_drops_is_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: reported.append(dropped.exc_type))
    hook = sys.unraisablehook
    with ending.raising():
        _Dropping(signalled=False)
    assert reported == [ValueError]
    assert sys.unraisablehook is hook


def test_no_signal_is_raised_after_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ending.raising():
        _Dropping(signalled=True)
    time.sleep(0.05)
    assert signal.getsignal(signal.SIGTERM) is before
