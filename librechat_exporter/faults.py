"""Faults of measuring: a fixed set of reasons, and a log that tells each fault once, when it changes."""

import logging
import re
import sqlite3
import threading
from types import TracebackType

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

log = logging.getLogger(__name__)

# What asking MongoDB raises; the latter two come from what asks a cloud for a token.
ASKING_ERRORS = (PyMongoError, OSError, ValueError)
REASONS = ("history", "internal", "query", "state", "timeout", "unavailable")


class HistoryPendingError(Exception):
    """A source's history is not folded yet, so its counters would be partial."""


def reason(error: BaseException) -> str:
    """One of REASONS."""
    match error:
        case HistoryPendingError():
            return "history"
        case ServerSelectionTimeoutError():
            return "unavailable"
        case TimeoutError():
            return "timeout"
        case PyMongoError() if error.timeout:
            return "timeout"
        case ConnectionFailure() | ConfigurationError():  # the latter once it runs: the DNS does not know the hosts
            return "unavailable"
        case PyMongoError():
            return "query"
        case sqlite3.Error():
            return "state"
        case OSError():
            return "unavailable"
    return "internal"


def describe(error: BaseException) -> str:
    """The error in a line that holds no document's content and no credentials."""
    match error:
        case OperationFailure():
            # The server's own message may quote documents.
            name = (error.details or {}).get("codeName", "no name")
            return f"MongoDB refused the command with error {error.code} ({name})"
        case PyMongoError():
            text = re.split(r", Timeout:| \(configured timeouts|, full error:", str(error))[0]
            return f"{type(error).__name__}: {text}"
        case HistoryPendingError() | TimeoutError() | sqlite3.Error():
            return str(error) or type(error).__name__
        case OSError():
            return str(why(error))
    return type(error).__name__


def why(error: OSError) -> str:
    """The system's or OpenSSL's reason, without the file's name."""
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


class FaultLog:
    """Logs a fault when it begins or changes and when it ends, not each time that it is met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[str, str] = {}

    def failed(self, what: str, error: BaseException) -> None:
        fault = reason(error)
        with self._lock:
            known = self._current.get(what) == fault
            self._current[what] = fault
        if known:
            level = logging.DEBUG
        elif fault == "history":
            level = logging.INFO
        else:
            level = logging.WARNING
        # An internal error is a defect.
        trace = error.__traceback__ if fault == "internal" and not known else None
        met = "waits" if fault == "history" else "failed"
        log.log(level, "%s %s (%s): %s%s", what, met, fault, describe(error), places(trace))

    def succeeded(self, what: str) -> None:
        with self._lock:
            failed = self._current.pop(what, None)
        if failed is not None:
            log.info("%s works again", what)


def places(trace: TracebackType | None) -> str:
    """The places in the code, a line each: what is told of a defect, as its message may quote a document."""
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return "".join(f"\n  at {place}" for place in found)
