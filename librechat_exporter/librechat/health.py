"""LibreChat's own health check: GET /health."""

import contextlib
import http.client
import socket
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from librechat_exporter.faults import why

TIMEOUT_SECONDS = 5.0


class Answer(NamedTuple):
    """status: None if there is no HTTP answer. problem: why it is not up."""

    status: int | None
    seconds: float
    problem: str | None


def ask(librechat_url: str) -> Answer:
    """Asks the LibreChat at this address, for TIMEOUT_SECONDS at most. A redirection is not followed: it leads to
    something else.
    """
    url = urlsplit(librechat_url)
    of_scheme = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = of_scheme(url.netloc, timeout=TIMEOUT_SECONDS)
    started = time.monotonic()
    end: threading.Timer | None = None
    status = None
    try:
        connection.connect()
        # The connection's own timeout is that of each read: an answer that drips would never end.
        end = threading.Timer(max(0.0, started + TIMEOUT_SECONDS - time.monotonic()), _cut, (connection,))
        end.daemon = True
        end.start()
        connection.request("GET", f"{url.path}/health")
        status = connection.getresponse().status
        problem = (
            None if http.client.OK <= status < http.client.MULTIPLE_CHOICES else f"it answers with status {status}"
        )
    except (OSError, http.client.HTTPException, ValueError) as error:  # refused, not found, too late, no HTTP
        reason = why(error) if isinstance(error, OSError) else type(error).__name__
        problem = f"it does not answer HTTP ({reason})"
    finally:
        if end is not None:
            end.cancel()
        connection.close()
    seconds = time.monotonic() - started
    if seconds >= TIMEOUT_SECONDS:  # what was cut off can look as if it were whole
        status = None
        problem = f"it does not answer within {TIMEOUT_SECONDS:g} s"
    return Answer(status, seconds, problem)


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):  # not connected yet, or not any more
        connection.sock.shutdown(socket.SHUT_RDWR)
