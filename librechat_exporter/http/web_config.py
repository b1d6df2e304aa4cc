"""WEB_CONFIG_FILE, in the format of Prometheus' exporter-toolkit.

The format is described in docs/web-configuration.md of github.com/prometheus/exporter-toolkit. A key that it does not
know, or that is not implemented here, is an error and not ignored.
"""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from librechat_exporter import strict_yaml
from librechat_exporter.faults import why

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
        if self.min_version > self.max_version:
            raise ValueError("min_version must not be above max_version")
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
            context.load_cert_chain(folder / str(self.cert_file), folder / str(self.key_file), _refuse_encrypted)
        except (OSError, ssl.SSLError) as error:
            raise AccessError(f"tls_server_config: cert_file and key_file cannot be used: {why(error)}") from None
        if self.client_ca_file is not None:
            try:
                context.load_verify_locations(folder / self.client_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise AccessError(f"tls_server_config: client_ca_file cannot be used: {why(error)}") from None
        return context


def _refuse_encrypted() -> str:
    """Called for the key's pass phrase, which would otherwise be asked for on the terminal."""
    raise AccessError("tls_server_config: key_file is encrypted; write it without a pass phrase (openssl pkey)")


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
            if not (content.isascii() and content.isprintable()) or content != content.strip():
                raise ValueError(f"{name} must be one line of printable ASCII text, without blanks around it")
        return value


class RateLimit(_Strict):
    interval: float = 0.0
    burst: int = Field(default=0, ge=0, le=1_000_000)

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
            if not re.fullmatch(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", hashed):
                raise ValueError(f"the password of {user!r} must be a bcrypt hash, such as `htpasswd -nB {user}` makes")
        return value


@dataclass(frozen=True)
class Loaded:
    """A version of the file, with its TLS context."""

    config: WebConfig
    context: ssl.SSLContext | None


def load(path: Path) -> Loaded:
    """Raises AccessError."""
    try:
        told = strict_yaml.load(path.read_text(encoding="utf-8"))
        config = WebConfig.model_validate({} if told is None else told)
        tls = config.tls_server_config
        return Loaded(config, tls.context(path.parent) if tls is not None else None)
    except OSError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path} cannot be read: {error.strerror}") from None
    except strict_yaml.TwiceError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path}: {error} is there twice") from None
    except ValidationError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path}: {'; '.join(_problems(error))}") from None
    except AccessError as error:
        raise AccessError(f"WEB_CONFIG_FILE {path}: {error}") from None
    except strict_yaml.YAML_ERRORS:
        raise AccessError(f"WEB_CONFIG_FILE {path} is not YAML, or holds a value that is none") from None


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not a key of the format"
        if not problem["loc"]:
            message = "must be keys with values, such as basic_auth_users"
        yield ": ".join(filter(None, (".".join(map(str, problem["loc"])), message)))


def named(path: Path, config: WebConfig) -> list[Path]:
    """The files that the file names."""
    tls = config.tls_server_config
    named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls is not None else ()
    return [path.parent / name for name in named if name is not None]
