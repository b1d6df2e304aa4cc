"""A process's end, which SIGTERM, SIGINT or SIGHUP tells: none gets lost."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 0.01
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class EndedError(BaseException):
    """The process is to end. exit_code: as a shell tells it of one that a signal has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


def hold() -> None:
    """Keeps signals until they are waited for, in this thread and those that it starts.

    A handler would not do: a signal that comes between Python's last check and the wait wakes nobody. And to the first
    process of a container, a signal does nothing before there is a handler.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release() -> None:
    """Signals end the process at once, as usual."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def wait() -> None:
    """Returns when the process is told to end, be it before this was called."""
    signal.sigwait(_SIGNALS)


@contextmanager
def raising() -> Iterator[None]:
    """The first signal raises EndedError in the main thread, those after it nothing, so that what must be done before
    the end is done. One that is ignored, as `nohup` does, stays so. Signals that were held come now.

    Python drops what is raised where nobody can catch it, as in an object's finalizer; it is raised again after that.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for one in handled:
            signal.signal(one, signal.SIG_IGN)
        raise EndedError(number)

    def again(dropped: "sys.UnraisableHookArgs") -> None:
        ended = dropped.exc_value
        if not isinstance(ended, EndedError):
            report(dropped)
            return
        signal.signal(signal.SIGALRM, lambda _number, frame: end(ended.number, frame))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

    handled = {one: signal.getsignal(one) for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}
    for one in handled:
        signal.signal(one, end)
    report, sys.unraisablehook = sys.unraisablehook, again
    try:
        release()
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for one, before in handled.items():
            signal.signal(one, before)
