"""Access and encryption: WEB_CONFIG_FILE, in the format of Prometheus' exporter-toolkit.

The format is described in docs/web-configuration.md of github.com/prometheus/exporter-toolkit. A key that it does not
know, or that is not implemented here, is an error and not ignored. The file, certificates and keys are read anew when
they change; only `rate_limit` needs a restart.
"""

import hashlib
import hmac
import logging
import re
import ssl
import threading
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Self

import bcrypt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from librechat_exporter.faults import why
from librechat_exporter.http.exchange import Headers, Response, plain_text

log = logging.getLogger(__name__)

_REALM = ("WWW-Authenticate", 'Basic realm="librechat-exporter", charset="UTF-8"')
_MOST_CACHED = 100
# So many may wait for bcrypt; it takes a core as long as it works.
_CHECKS_AT_ONCE = 8
_LONGEST_PASSWORD = 72  # bytes; bcrypt knows no more
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
# Of Go's names for the suites of TLS 1.2 those that OpenSSL has in its default list, by OpenSSL's names.
_SUITES = {
    f"TLS_ECDHE_{key}_WITH_{suite}": f"ECDHE-{key}-{name}"
    for key in ("ECDSA", "RSA")
    for suite, name in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_HEADERS: dict[str, tuple[str, ...] | None] = {
    "Content-Security-Policy": None,
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": None,
    "Strict-Transport-Security": None,
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class AccessError(Exception):
    """WEB_CONFIG_FILE cannot be used. Its text names the key and says what would be right."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Tls(_Strict):
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    client_auth_type: str = ""
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, values: Any) -> Any:
        for key in ("cert", "key", "client_ca"):
            if isinstance(values, dict) and values.get(key):
                raise ValueError(f"{key} is not implemented: write it into a file, and name that in {key}_file")
        if isinstance(values, dict) and values.get("curve_preferences"):
            raise ValueError("curve_preferences is not implemented: leave it out")
        known = ("cert", "key", "client_ca", "curve_preferences")
        return {k: v for k, v in values.items() if k not in known} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cert_file is None or self.key_file is None:
            raise ValueError("cert_file and key_file are both needed")
        if self.client_auth_type in ("RequestClientCert", "RequireAnyClientCert"):
            raise ValueError(
                f"client_auth_type {self.client_auth_type} is not implemented: a certificate that is not verified "
                "proves nothing; use VerifyClientCertIfGiven or RequireAndVerifyClientCert"
            )
        if self.client_auth_type not in ("", *_CLIENT_AUTH):
            raise ValueError(f"client_auth_type must be one of {', '.join(_CLIENT_AUTH)}")
        verifies = self.client_auth_type not in ("", "NoClientCert")
        if verifies != (self.client_ca_file is not None):
            raise ValueError("client_ca_file and a client_auth_type that verifies belong together")
        if self.client_allowed_sans and not verifies:
            raise ValueError("client_allowed_sans needs a client_auth_type that verifies")
        for name in ("min_version", "max_version"):
            if getattr(self, name) not in _VERSIONS:
                raise ValueError(f"{name} must be one of {', '.join(_VERSIONS)}; older ones are not implemented")
        unknown = [suite for suite in self.cipher_suites if suite not in _SUITES]
        if unknown:
            raise ValueError(f"cipher_suites: {unknown[0]!r} is not implemented; there are {', '.join(_SUITES)}")
        return self

    def context(self, folder: Path) -> ssl.SSLContext:
        """Raises AccessError if a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.maximum_version = _VERSIONS[self.max_version]
        # A scraper keeps its connection: sessions that could be resumed would only take memory.
        context.num_tickets = 0
        if self.cipher_suites:
            context.set_ciphers(":".join(_SUITES[suite] for suite in self.cipher_suites))
        if not self.prefer_server_cipher_suites:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.verify_mode = _CLIENT_AUTH[self.client_auth_type or "NoClientCert"]
        try:
            context.load_cert_chain(folder / str(self.cert_file), folder / str(self.key_file))
        except (OSError, ssl.SSLError) as error:
            raise AccessError(f"tls_server_config: cert_file and key_file cannot be used: {why(error)}") from None
        if self.client_ca_file is not None:
            try:
                context.load_verify_locations(folder / self.client_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise AccessError(f"tls_server_config: client_ca_file cannot be used: {why(error)}") from None
        return context


class Http(_Strict):
    http2: Literal[False] = False
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("http2", mode="before")
    @classmethod
    def _check_http2(cls, value: Any) -> Any:
        if value is not False:
            raise ValueError("only false is implemented: this is HTTP/1.1")
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if name not in _HEADERS:
                raise ValueError(f"{name} may not be set; these may: {', '.join(_HEADERS)}")
            allowed = _HEADERS[name]
            if allowed is not None and content.lower() not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}")
            if not content.isprintable():
                raise ValueError(f"{name} must be one line of printable text")
        return value


class RateLimit(_Strict):
    interval: float = 0.0
    burst: int = Field(default=0, ge=0)

    @field_validator("interval", mode="before")
    @classmethod
    def _check_interval(cls, value: Any) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", str(value)) if value not in (0, "0") else None
        if match is None and value not in (0, "0"):
            raise ValueError("must be a duration such as 100ms or 1s")
        return float(match[1]) * _UNITS[match[2]] if match else 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.interval and not self.burst:
            raise ValueError("burst must be at least 1: with 0 nothing gets through")
        return self


class WebConfig(_Strict):
    """The file's content."""

    tls_server_config: Tls | None = None
    http_server_config: Http = Http()
    basic_auth_users: dict[str, str] = Field(default_factory=dict)
    rate_limit: RateLimit = RateLimit()

    @field_validator("basic_auth_users")
    @classmethod
    def _check_users(cls, value: dict[str, str]) -> dict[str, str]:
        for user, hashed in value.items():
            if not re.fullmatch(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", hashed):
                raise ValueError(f"the password of {user!r} must be a bcrypt hash, such as `htpasswd -nB {user}` makes")
        return value


@dataclass(frozen=True)
class _Loaded:
    """A version of the file with all that it names."""

    config: WebConfig
    context: ssl.SSLContext | None
    stamps: tuple[object, ...]


@dataclass(frozen=True)
class Allowed:
    """The request may be answered, with these headers added."""

    headers: Headers = field(default_factory=list)


class Access:
    """The demands of WEB_CONFIG_FILE; none without one. Safe for use from several threads.

    Raises AccessError if the file cannot be used at the start.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._bcrypt = threading.Lock()
        self._checks = threading.BoundedSemaphore(_CHECKS_AT_ONCE)
        # Apart, so that no number of wrong passwords pushes a right one out.
        self._checked: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._problem: tuple[tuple[object, ...], str] | None = None
        self._loaded = _load(path) if path is not None else _Loaded(WebConfig(), None, ())
        limit = self._loaded.config.rate_limit
        self._bucket = _Bucket(limit.interval, limit.burst) if limit.interval else None

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context of new connections, None for plain HTTP. Raises AccessError."""
        return self._current().context

    def check(self, headers: Mapping[str, str], peer: Any) -> Allowed | Response:
        """Allows a request, or gives the response that refuses it. Raises AccessError.

        headers: by their names in lower case. peer: the client's certificate, as ssl.SSLSocket.getpeercert gives it.
        """
        config = self._current().config
        added = list(config.http_server_config.headers.items())
        tls = config.tls_server_config
        if tls is not None and tls.client_allowed_sans and peer:
            names = {value for _, value in peer.get("subjectAltName", ())}
            if names.isdisjoint(tls.client_allowed_sans):
                return plain_text(HTTPStatus.FORBIDDEN, "The certificate's names are not allowed.", *added)
        if self._bucket is not None and not self._bucket.take():
            return plain_text(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests.", *added)
        users = config.basic_auth_users
        known = self._knows(users, headers.get("authorization", "")) if users else True
        if known is None:
            return plain_text(HTTPStatus.TOO_MANY_REQUESTS, "Too many passwords are being checked.", *added)
        return Allowed(added) if known else plain_text(HTTPStatus.UNAUTHORIZED, "Unauthorized", _REALM, *added)

    def _knows(self, users: Mapping[str, str], authorization: str) -> bool | None:
        """As slow for a user who is not there, and one password at a time: bcrypt is made to be slow. None if too many
        wait for it.
        """
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, colon, password = b64decode(encoded, validate=True).partition(b":")
        except ValueError:
            return False
        if scheme.lower() != "basic" or not colon:
            return False
        name = user.decode("utf-8", "replace")
        hashed = users.get(name) or next(iter(users.values()))
        key = hashlib.sha256(b"\0".join((user, hashed.encode(), password))).digest()
        matches = self._remembered(key)
        if matches is None:
            if not self._checks.acquire(blocking=False):
                return None
            try:
                matches = self._matches(key, password, hashed.encode())
            finally:
                self._checks.release()
        return matches and any(hmac.compare_digest(user, known.encode()) for known in users)

    def _matches(self, key: bytes, password: bytes, hashed: bytes) -> bool:
        with self._bcrypt:
            matches = self._remembered(key)
            if matches is None:
                matches = len(password) <= _LONGEST_PASSWORD and bcrypt.checkpw(password, hashed)
                keys = self._checked[matches]
                keys[key] = None
                if len(keys) > _MOST_CACHED:
                    keys.popitem(last=False)
            return matches

    def _remembered(self, key: bytes) -> bool | None:
        return next((matches for matches, keys in self._checked.items() if key in keys), None)

    def _current(self) -> _Loaded:
        if self._path is None:
            return self._loaded
        with self._lock:
            stamps = tuple(map(_stamp, (self._path, *_named(self._path, self._loaded.config))))
            if stamps != self._loaded.stamps:
                if self._problem is not None and self._problem[0] == stamps:
                    raise AccessError(self._problem[1])
                self._reload(self._path, stamps)
            return self._loaded

    def _reload(self, path: Path, stamps: tuple[object, ...]) -> None:
        try:
            self._loaded = _load(path)
        except AccessError as error:
            log.error("%s: nothing is answered until that is mended", error)  # noqa: TRY400
            self._problem = (stamps, str(error))
            raise
        self._problem = None
        log.info("WEB_CONFIG_FILE has changed, and is in use")


def _load(path: Path) -> _Loaded:
    """Raises AccessError."""
    try:
        # Before what they stamp is read: what is replaced meanwhile will then be read again.
        first = _stamp(path)
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = WebConfig.model_validate({} if told is None else told)
        stamps = (first, *map(_stamp, _named(path, config)))
        tls = config.tls_server_config
        return _Loaded(config, tls.context(path.parent) if tls is not None else None, stamps)
    except OSError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise AccessError(f"WEB_CONFIG_FILE {path} is not YAML") from None
    except ValidationError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path}: {'; '.join(_problems(error))}") from None
    except AccessError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path}: {error}") from None


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not a key of the format"
        yield f"{'.'.join(map(str, problem['loc']))}: {message}"


def _named(path: Path, config: WebConfig) -> list[Path]:
    """The files that the file names."""
    tls = config.tls_server_config
    named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls is not None else ()
    return [path.parent / name for name in named if name is not None]


def _stamp(path: Path) -> object:
    """A stamp that tells a file from a later version of it."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


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
