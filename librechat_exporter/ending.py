"""The daemon's end, which SIGTERM or SIGINT tells: neither gets lost."""

import signal

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


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
