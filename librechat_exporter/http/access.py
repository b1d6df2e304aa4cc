"""Access: who may ask, by METRICS_SECRET and by WEB_CONFIG_FILE.

The file, certificates and keys are read anew when they change; only `rate_limit` needs a restart.
"""

import contextlib
import hashlib
import hmac
import ipaddress
import logging
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from librechat_exporter.http.exchange import Headers, Request, Response, plain_text
from librechat_exporter.http.passwords import Passwords
from librechat_exporter.http.web_config import AccessError, Loaded, WebConfig, load, named

log = logging.getLogger(__name__)

_BASIC = ("WWW-Authenticate", 'Basic realm="librechat-exporter", charset="UTF-8"')
_BEARER = ("WWW-Authenticate", 'Bearer realm="librechat-exporter"')
# They tell nothing of LibreChat, and who asks them has no secret: an orchestrator, a load balancer.
_OPEN = ("/health", "/ready")
_PATIENCE_SECONDS = 2.0
# What has changed is taken when it has not changed again for so long.
_SETTLED_SECONDS = 0.5


@dataclass(frozen=True)
class Allowed:
    """The request may be answered, with these headers added."""

    headers: Headers = field(default_factory=list)


class Access:
    """The demands of METRICS_SECRET and WEB_CONFIG_FILE; none without either. Safe for use from several threads.

    With users in the file, every path wants one of them or the secret. With the secret alone, /health and /ready are
    open. Raises AccessError if the file cannot be used at the start.
    """

    def __init__(self, path: Path | None, secret: str = "") -> None:
        self._path = path
        self._secret = _digest(secret.encode()) if secret else None
        self._lock = threading.Lock()
        self._passwords = Passwords()
        self._problem: tuple[tuple[object, ...], str, float] | None = None
        self._changed: tuple[tuple[object, ...], float] | None = None
        self._loaded, self._stamps = _load(path) if path is not None else (Loaded(WebConfig(), None), ())
        limit = self._loaded.config.rate_limit
        self._bucket = _Bucket(limit.interval, limit.burst) if limit.interval else None

    @property
    def demands(self) -> str:
        """The demands in a line, for people."""
        config = self._loaded.config
        demands = ["TLS" if config.tls_server_config is not None else "plain HTTP"]
        demands += ["a user's password"] if config.basic_auth_users else []
        demands += ["METRICS_SECRET"] if self._secret is not None else []
        return " with ".join((demands[0], " or ".join(demands[1:]))) if demands[1:] else f"{demands[0]} for everybody"

    @property
    def reads_files(self) -> bool:
        """Files may have to be read for what is asked."""
        return self._path is not None

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context of new connections, None for plain HTTP. Raises AccessError."""
        return self._current().context

    def check(
        self, request: Request, peer: Any, client: str = "", opened_with: ssl.SSLContext | None = None
    ) -> Allowed | Response | None:
        """Allows a request, or gives the response that refuses it. Raises AccessError.

        None if the connection must end: its TLS context, opened_with, is not that of today's demands, which may be for
        a client's certificate. peer: that, as ssl.SSLSocket.getpeercert gives it. client: its address.
        """
        loaded = self._current()
        if loaded.context is not opened_with:
            return None
        config = loaded.config
        added = list(config.http_server_config.headers.items())
        tls = config.tls_server_config
        if tls is not None and tls.client_allowed_sans and peer:
            names = {_plain(value) for _, value in peer.get("subjectAltName", ())}
            if names.isdisjoint(map(_plain, tls.client_allowed_sans)):
                return plain_text(HTTPStatus.FORBIDDEN, "The certificate's names are not allowed.", *added)
        if self._bucket is not None and not self._bucket.take():
            return plain_text(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests.", *added)
        users = config.basic_auth_users
        if not users and (self._secret is None or request.path in _OPEN):
            return Allowed(added)
        known = self._knows(users, request.headers.get("authorization", ""), client)
        if known is None:
            return plain_text(HTTPStatus.TOO_MANY_REQUESTS, "Too many passwords are being checked.", *added)
        if known:
            return Allowed(added)
        schemes = ([_BASIC] if users else []) + ([_BEARER] if self._secret is not None else [])
        return plain_text(HTTPStatus.UNAUTHORIZED, "Unauthorized", *schemes, *added)

    def _knows(self, users: Mapping[str, str], authorization: str, client: str) -> bool | None:
        """None if too many passwords are being checked."""
        scheme, _, told = authorization.partition(" ")
        if scheme.lower() == "bearer" and self._secret is not None:
            return hmac.compare_digest(self._secret, _digest(told.strip().encode("latin-1")))
        if scheme.lower() != "basic" or not users:
            return False
        try:
            user, colon, password = b64decode(told, validate=True).partition(b":")
        except ValueError:
            return False
        return self._passwords.check(users, user.decode("utf-8", "replace"), password, client) if colon else False

    def _current(self) -> Loaded:
        if self._path is None:
            return self._loaded
        with self._lock:
            stamps = _stamps(self._path, self._loaded)
            if stamps != self._stamps and self._is_settled(stamps):
                self._reload(self._path, stamps)
            return self._loaded

    def _is_settled(self, stamps: tuple[object, ...]) -> bool:
        """They have been so for a moment: a file that is being written may say less than is meant."""
        now = time.monotonic()
        if self._changed is None or self._changed[0] != stamps:
            self._changed = stamps, now
        written = max((one.modified for one in stamps if isinstance(one, _Stamp)), default=0)
        return now - self._changed[1] >= _SETTLED_SECONDS or time.time() - written / 1e9 >= _SETTLED_SECONDS

    def _reload(self, path: Path, stamps: tuple[object, ...]) -> None:
        """A fault is told once, and looked at again after a while: the files that it is about may have been mended."""
        known = self._problem if self._problem is not None and self._problem[0] == stamps else None
        if known is not None and time.monotonic() < known[2] + _PATIENCE_SECONDS:
            raise AccessError(known[1])
        try:
            loaded, read = _load(path)
            if loaded.config == WebConfig() != self._loaded.config:
                raise AccessError(f"WEB_CONFIG_FILE {path} asks for nothing any more; if that is meant, restart")
            self._loaded, self._stamps = loaded, read
        except AccessError as error:
            if known is None or known[1] != str(error):
                log.error("%s: nothing is answered until that is mended", error)  # noqa: TRY400
            self._problem = (stamps, str(error), time.monotonic())
            raise
        self._problem = None
        log.info("WEB_CONFIG_FILE has changed, and is in use")


def _plain(name: str) -> str:
    """OpenSSL writes IPv6 addresses in full."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name


def _digest(text: bytes) -> bytes:
    """Of the same length for each text, so that comparing tells nothing of it."""
    return hashlib.sha256(text).digest()


def _load(path: Path) -> tuple[Loaded, tuple[object, ...]]:
    """The stamps are older than what they stamp: what is replaced meanwhile will be read again. Raises AccessError."""
    stamps = _stamps(path, load(path))
    return load(path), stamps


def _stamps(path: Path, loaded: Loaded) -> tuple[object, ...]:
    """Of the file and of those that it names."""
    return tuple(map(_stamp, (path, *named(path, loaded.config))))


class _Stamp(NamedTuple):
    """modified: in nanoseconds of Unix time."""

    modified: int
    size: int
    inode: int


def _stamp(path: Path) -> object:
    """A stamp that tells a file from a later version of it."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


class _Bucket:
    """Lets `burst` requests through at once, and then one in each interval."""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval, self._burst = interval, burst
        self._tokens = float(burst)
        self._counted = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._counted) / self._interval)
            self._counted = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
