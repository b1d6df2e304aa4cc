"""Every setting: an environment variable or a line of `.env`, typed, validated and documented in this one place."""

import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

READ_PREFERENCES = ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")
USER_IDS = ("raw", "hash", "none")
MIN_SALT = 16
LONGEST_WINDOW = timedelta(days=366)
MONTH = "month"
LEVELS = ("debug", "info", "warning", "error", "critical")


class SettingsError(Exception):
    """Some settings are wrong. Its text has a line for each, which names it and says what would be right."""


def _length(window: str) -> timedelta:
    """At most."""
    if window == MONTH:
        return timedelta(days=31)
    return timedelta(**{"hours" if window.endswith("h") else "days": int(window[:-1])})


def _toggle(text: str) -> Any:
    return Field(default=True, description=f"Serve {text}; `false` runs no query for them")


class LibreChatSettings(BaseSettings):
    """Settings that the daemon and the historic export share; immutable."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    mongodb_uri: SecretStr = Field(
        default=SecretStr("mongodb://mongodb:27017/"),
        description="Connection string of LibreChat's MongoDB; a user that may only read suffices",
    )
    mongodb_uri_file: Path | None = Field(
        default=None,
        description="A file that holds the connection string, such as a Docker secret; wins over MONGODB_URI",
    )
    mongodb_database: str = Field(default="LibreChat", description="LibreChat's database", min_length=1)
    mongo_read_preference: str | None = Field(
        default=None,
        description="Which members of a replica set are read: "
        + ", ".join(f"`{mode}`" for mode in READ_PREFERENCES)
        + "; unset, what the connection string says, else `primary`",
    )
    metrics_timezone: Annotated[ZoneInfo, NoDecode] = Field(
        default=ZoneInfo("UTC"), description="Where the day, the week and the month begin, such as `Europe/Berlin`"
    )
    tenant_id: str | None = Field(default=None, description="Count this tenant's documents alone; unset, all")
    user_id_salt: SecretStr = Field(
        default=SecretStr(""), description="The key of user ids' hashes, at least 16 characters, which stays the same"
    )
    user_id_salt_file: Path | None = Field(
        default=None, description="A file that holds the key; wins over USER_ID_SALT"
    )
    logging_level: str = Field(default="info", description=", ".join(f"`{level}`" for level in LEVELS))
    logging_format: str = Field(
        default="%(asctime)s %(levelname)s %(name)s: %(message)s",
        description="Format of a log line, in the syntax of Python's logging module",
    )

    @classmethod
    def load(cls) -> Self:
        """From the environment and `.env`. Raises SettingsError."""
        try:
            return cls()
        except ValidationError as error:
            lines = []
            for problem in error.errors():
                name = "_".join(map(str, problem["loc"])).upper()
                message = problem["msg"].removeprefix("Value error, ")
                lines.append(f"{name}: {message}" if name else message)
            raise SettingsError("\n".join(lines)) from None

    def check_salt(self, name: str, value: str) -> None:
        """Raises ValueError if the setting's value needs a salt, and there is none."""
        if value == "hash" and len(self.user_id_salt.get_secret_value()) < MIN_SALT:
            raise ValueError(
                f"USER_ID_SALT: {name}=hash needs a key of at least {MIN_SALT} characters, such as that of "
                "`openssl rand -hex 16`"
            )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        read = {}
        for name in cls.model_fields:
            is_secret = name.endswith("_file") and name.removesuffix("_file") in cls.model_fields
            path = values.get(name) if is_secret else None
            if path:
                try:
                    read[name.removesuffix("_file")] = Path(path).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                    raise ValueError(f"{name.upper()}: {path} cannot be read: {why}") from None
        return values | read

    @field_validator("mongodb_uri")
    @classmethod
    def _check_uri(cls, value: SecretStr) -> SecretStr:
        uri = value.get_secret_value()
        try:
            # The parser would look a mongodb+srv name up in the DNS.
            parse_uri(uri.replace("mongodb+srv://", "mongodb://", 1), warn=False)
        except (PyMongoError, ValueError):
            # The parser's own message may quote the password.
            raise ValueError(
                "is not a MongoDB connection string; write mongodb://user:password@host:27017/, with `%40` for `@` and "
                "the like in user and password"
            ) from None
        return value

    @field_validator("mongo_read_preference")
    @classmethod
    def _check_read_preference(cls, value: str | None) -> str | None:
        if value is not None and value not in READ_PREFERENCES:
            raise ValueError(f"must be one of {', '.join(READ_PREFERENCES)}")
        return value

    @field_validator("metrics_timezone", mode="before")
    @classmethod
    def _check_timezone(cls, value: Any) -> Any:
        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(value)
        except (OSError, ValueError, KeyError):
            raise ValueError("is not a time zone of the IANA database, such as UTC or Europe/Berlin") from None

    @field_validator("logging_level")
    @classmethod
    def _check_level(cls, value: str) -> str:
        if value.lower() not in LEVELS:
            raise ValueError(f"must be one of {', '.join(LEVELS)}")
        return value.lower()

    @field_validator("logging_format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        try:
            logging.Formatter(value).format(logging.LogRecord("name", logging.INFO, "path", 1, "message", None, None))
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                "is not a format of Python's logging, such as %(asctime)s %(levelname)s %(message)s"
            ) from None
        return value


class Settings(LibreChatSettings):
    """The daemon's."""

    listen_address: str = Field(default="0.0.0.0:8000", description="Where HTTP is served; `[::]:8000` for IPv6")
    web_config_file: Path | None = Field(
        default=None,
        description="TLS, client certificates, basic authentication: a file in the format of Prometheus' "
        "exporter-toolkit; unset, plain HTTP for everybody who reaches the port",
    )
    healthcheck_user: str = Field(
        default="healthcheck", description="As whom the image's health check asks, if WEB_CONFIG_FILE has users"
    )
    healthcheck_password: SecretStr = Field(default=SecretStr(""), description="That user's password")
    healthcheck_password_file: Path | None = Field(
        default=None, description="A file that holds the password; wins over HEALTHCHECK_PASSWORD"
    )
    healthcheck_cert_file: Path | None = Field(
        default=None, description="The health check's certificate (PEM), if WEB_CONFIG_FILE demands one"
    )
    healthcheck_key_file: Path | None = Field(default=None, description="That certificate's key (PEM)")
    state_path: str = Field(
        default="state/ledger.sqlite",
        description="The file that keeps the counters across restarts; its folder must be writable and kept",
    )
    state_user_ids: str = Field(
        default="raw",
        description="How the state file holds users, who are in nothing else: `raw`, LibreChat's user ids; `hash`, "
        "their keyed hashes, which needs USER_ID_SALT",
    )
    librechat_url: str | None = Field(
        default=None,
        description="LibreChat's own address, such as `http://api:3080`, whose `/health` is then asked every 15 s",
    )
    ledger_open_minutes: int = Field(
        default=10,
        ge=2,
        le=1440,
        description="How long changes of a new message are still counted, because its answer is being written; at "
        "least 6, and up to an hour where LibreChat says that more will come",
    )
    scrape_timeout: float = Field(
        default=10.0,
        gt=0.5,
        le=300,
        description="Seconds a scrape may take when the request has no `X-Prometheus-Scrape-Timeout-Seconds` header",
    )
    state_refresh: float = Field(
        default=60.0,
        ge=1,
        le=86_400,
        description="Seconds between readings of what is in the database now; more if a reading takes long",
    )
    max_label_values: int = Field(
        default=200, ge=1, le=100_000, description="Values a label may have; later ones are counted under `other`"
    )
    max_series: int = Field(
        default=5000,
        ge=1,
        le=1_000_000,
        description="Label combinations a metric may have, buckets not counted; later ones are counted under `other`",
    )
    enable_basic_metrics: bool = _toggle("messages, failed messages, conversations")
    enable_token_metrics: bool = _toggle("tokens")
    enable_user_metrics: bool = _toggle("active, unique and registered users")
    enable_model_metrics: bool = _toggle("what is counted per model over all time, and answers and errors per model")
    enable_time_window_metrics: bool = _toggle("the last 5 minutes")
    enable_rating_metrics: bool = _toggle("ratings")
    enable_file_metrics: bool = _toggle("uploaded and stored files")
    enable_tool_metrics: bool = _toggle("tool calls")
    enable_answer_metrics: bool = _toggle("how long users wait for answers, and how long answers are")
    enable_agent_metrics: bool = _toggle("answers per agent")
    enable_balance_metrics: bool = _toggle("what users have left to spend")
    enable_feature_metrics: bool = _toggle("memories, shared links, agents and the like, and stored documents")
    enable_cost_metrics: bool = _toggle("tokens, cost and credits as LibreChat bills them")
    enable_usage_window_metrics: bool = _toggle("usage in the windows of USAGE_WINDOWS")
    usage_windows: str = Field(
        default="1d,7d,30d",
        description="The windows of `librechat_window_…`, in hours (`h`) or days (`d`); `month` begins with the month "
        "in METRICS_TIMEZONE",
    )
    external_model_regex: str | None = Field(
        default=None,
        description="A regular expression of models that others run, such as `gpt|claude|gemini`; case does not count. "
        "Models get the class `external` or `local`; unset, `unclassified`",
    )
    domain_metrics: bool = Field(
        default=False, description="Serve users by the domain of their e-mail address; a domain can tell of a person"
    )
    metrics_cache_enabled: str | None = Field(default=None, description="Of other exporters; nothing is cached here")
    metrics_cache_ttl: str | None = Field(default=None, description="Of other exporters; nothing is cached here")

    @field_validator("state_user_ids")
    @classmethod
    def _check_state_user_ids(cls, value: str) -> str:
        if value not in ("raw", "hash"):
            raise ValueError("must be one of raw, hash")
        return value

    @model_validator(mode="after")
    def _check_salt(self) -> Self:
        self.check_salt("STATE_USER_IDS", self.state_user_ids)
        return self

    @field_validator("usage_windows")
    @classmethod
    def _check_usage_windows(cls, value: str) -> str:
        windows = [one.strip() for one in value.split(",")]
        for one in windows:
            is_length = re.fullmatch(r"[1-9]\d{0,4}[hd]", one, re.ASCII) is not None
            if one != MONTH and (not is_length or _length(one) > LONGEST_WINDOW):
                raise ValueError(
                    f"must be hours, days or `{MONTH}` with commas between them, such as 12h,7d,30d,{MONTH}, none "
                    f"longer than {LONGEST_WINDOW.days}d"
                )
        return ",".join(dict.fromkeys(windows))

    @field_validator("external_model_regex")
    @classmethod
    def _check_external_model_regex(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return value

    @field_validator("librechat_url")
    @classmethod
    def _check_librechat_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be an address such as http://api:3080")
        return value.rstrip("/") if value is not None else None

    @field_validator("listen_address")
    @classmethod
    def _check_listen_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not host or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
            raise ValueError("must be an address and a port, such as 0.0.0.0:8000 or [::]:8000")
        return value

    @property
    def windows(self) -> dict[str, timedelta]:
        """The lengths of USAGE_WINDOWS."""
        return {one: _length(one) for one in self.usage_windows.split(",")}

    @property
    def external_models(self) -> re.Pattern[str] | None:
        """EXTERNAL_MODEL_REGEX, to be searched in a model's name."""
        return re.compile(self.external_model_regex, re.IGNORECASE) if self.external_model_regex else None

    @property
    def bind_address(self) -> tuple[str, int]:
        """Host and port of LISTEN_ADDRESS."""
        host, _, port = self.listen_address.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def toggles(self) -> frozenset[str]:
        """The toggles that are on."""
        toggles = {name: name.removeprefix("enable_").removesuffix("_metrics") for name in type(self).model_fields}
        return frozenset(group for name, group in toggles.items() if name.startswith("enable_") and getattr(self, name))


class ExportSettings(LibreChatSettings):
    """The historic export's."""

    mysql_host: str = Field(default="mariadb", description="Host of the MariaDB or MySQL that is written", min_length=1)
    mysql_port: int = Field(default=3306, ge=1, le=65535, description="Its port")
    mysql_database: str = Field(default="metrics", description="The database in it", min_length=1, max_length=64)
    mysql_user: str = Field(
        default="metrics", description="A user that may create, alter, read and write tables there", min_length=1
    )
    mysql_password: SecretStr = Field(default=SecretStr(""), description="That user's password")
    mysql_password_file: Path | None = Field(
        default=None, description="A file that holds the password; wins over MYSQL_PASSWORD"
    )
    mysql_ssl_ca: Path | None = Field(
        default=None,
        description="The certificate authority's file (PEM): with it, the connection is encrypted and the server's "
        "certificate and name are checked; without it, it is encrypted if the server offers that",
    )
    mysql_max_retries: int = Field(
        default=5, ge=0, le=100, description="How often a lost connection or a deadlock is tried again"
    )
    mysql_retry_delay: float = Field(
        default=5.0, ge=0, le=3600, description="Seconds before the first of these tries; doubled for each further one"
    )
    user_ids: str = Field(
        default="raw",
        description="How `daily_tokens_by_user` holds users: `raw`, LibreChat's user ids; `hash`, their keyed hashes; "
        "`none`, the table stays empty",
    )

    @field_validator("user_ids")
    @classmethod
    def _check_user_ids(cls, value: str) -> str:
        if value not in USER_IDS:
            raise ValueError(f"must be one of {', '.join(USER_IDS)}")
        return value

    @field_validator("mysql_ssl_ca")
    @classmethod
    def _check_ssl_ca(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file; name the certificate authority's PEM file")
        return value

    @model_validator(mode="after")
    def _check_salt(self) -> Self:
        self.check_salt("USER_IDS", self.user_ids)
        return self


def documented(settings: type[BaseSettings]) -> dict[str, FieldInfo]:
    """Every setting's definition by the name of its environment variable."""
    return {name.upper(): field for name, field in settings.model_fields.items()}
