"""Settings that the daemon and the historic export share, and how settings are read."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from librechat_exporter import prices
from librechat_exporter.log_lines import JSON
from librechat_exporter.prices import PriceList
from librechat_exporter.settings import connection_string, environment
from librechat_exporter.settings.connection_string import ConnectionString

READ_PREFERENCES = ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")
# Options of a connection string that choose among secondaries.
_OF_SECONDARIES = ("readPreferenceTags", "maxStalenessSeconds")
MIN_SALT = 16
DATABASE = "LibreChat"
LEVELS = ("debug", "info", "warning", "error", "critical")


class SettingsError(Exception):
    """Some settings are wrong. Its text has a line for each, which names it and says what would be right."""


class LibreChatSettings(BaseModel):
    """Settings that the daemon and the historic export share; immutable."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    mongodb_uri: SecretStr = Field(
        default=SecretStr("mongodb://mongodb:27017/"),
        description="Connection string of LibreChat's MongoDB; a user that may only read suffices",
    )
    mongo_uri: SecretStr | None = Field(
        default=None, description="LibreChat's own name for MONGODB_URI, read where that is not set"
    )
    mongodb_uri_file: Path | None = Field(
        default=None,
        description="A file that holds the connection string, such as a Docker secret; wins over MONGODB_URI",
    )
    mongodb_database: str | None = Field(
        default=None,
        description="LibreChat's database; unset, the one that the connection string names after the host, else "
        f"`{DATABASE}`",
    )
    mongo_read_preference: str | None = Field(
        default=None,
        description="Which members of a replica set are read: "
        + ", ".join(f"`{mode}`" for mode in READ_PREFERENCES)
        + "; unset, what the connection string says, else `primary`",
    )
    metrics_timezone: ZoneInfo = Field(
        default=ZoneInfo("UTC"), description="Where the day, the week and the month begin, such as `Europe/Berlin`"
    )
    tenant_id: str | None = Field(default=None, description="Count this tenant's documents alone; unset, all")
    user_id_salt: SecretStr = Field(
        default=SecretStr(""),
        description="The key of user ids' hashes, at least 16 characters, which stays the same: with another one "
        "users are counted anew from what is stored",
    )
    user_id_salt_file: Path | None = Field(
        default=None, description="A file that holds the key; wins over USER_ID_SALT"
    )
    group_metrics: bool = Field(
        default=False,
        description="Serve messages, tokens, cost and active users by LibreChat's groups; a small one can tell of a "
        "person",
    )
    model_prices: str | None = Field(
        default=None,
        description="What the billed tokens cost by a price list: `genai-prices`, the providers' prices in a library, "
        "or a file, YAML or LiteLLM's JSON; unset, only what LibreChat billed is told",
    )
    logging_level: str = Field(default="info", description=", ".join(f"`{level}`" for level in LEVELS))
    logging_format: str = Field(
        default="%(asctime)s %(levelname)s %(name)s: %(message)s",
        description="Format of a log line, in the syntax of Python's logging module, or `json`",
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def load(cls) -> Self:
        """From the environment and `.env`. Raises SettingsError."""
        given = environment.read(cls.model_fields.keys(), _names(LibreChatSettings), _passwords(cls))
        if "mongo_uri" in given.values and "mongodb_uri" not in given.values:
            given.values["mongodb_uri"] = given.values["mongo_uri"]
            given.origins["mongodb_uri"] = "MONGO_URI"
        problems = given.problems
        try:
            settings = cls.model_validate(given.values)
        except ValidationError as error:
            for problem in error.errors():
                field = "_".join(map(str, problem["loc"]))
                message = problem["msg"].removeprefix("Value error, ")
                origin = given.origins.get(field, field.upper())
                problems.append(f"{origin}: {message}" if origin else message)
        if problems:
            raise SettingsError("\n".join(problems))
        origin = given.origins.get("mongodb_uri", "MONGODB_URI")
        told = (f"{origin}: {warning}" for warning in settings.connection.warnings)
        settings._warnings = (*given.warnings, *told)
        return settings

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each thing that counts otherwise than it is written."""
        return self._warnings

    @cached_property
    def connection(self) -> ConnectionString:
        """MONGODB_URI, read once: files with certificates are opened for it."""
        return connection_string.parse(self.mongodb_uri.get_secret_value())

    @property
    def database(self) -> str:
        """The name of LibreChat's database."""
        return self.mongodb_database or self.connection.database or DATABASE

    @cached_property
    def price_list(self) -> PriceList | None:
        """That of MODEL_PRICES."""
        return prices.load(self.model_prices) if self.model_prices is not None else None

    @field_validator("mongodb_uri")
    @classmethod
    def _check_uri(cls, value: SecretStr) -> SecretStr:
        connection_string.parse(value.get_secret_value())
        return value

    @field_validator("mongodb_database")
    @classmethod
    def _check_database(cls, value: str | None) -> str | None:
        if value is not None:
            connection_string.check_database(value)
        return value

    @field_validator("mongo_read_preference")
    @classmethod
    def _check_read_preference(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value not in READ_PREFERENCES:
            raise ValueError(f"must be one of {', '.join(READ_PREFERENCES)}")
        uri = info.data.get("mongodb_uri")
        if value == "primary" and uri is not None:
            named = [one for one in _OF_SECONDARIES if f"{one}=".lower() in uri.get_secret_value().lower()]
            if named:
                raise ValueError(f"primary contradicts {named[0]} of the connection string; leave out one of them")
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

    @field_validator("model_prices")
    @classmethod
    def _check_model_prices(cls, value: str | None) -> str | None:
        if value is not None:
            prices.load(value)
        return value

    @field_validator("logging_level")
    @classmethod
    def _check_level(cls, value: str) -> str:
        if value.lower() not in LEVELS:
            raise ValueError(f"must be one of {', '.join(LEVELS)}")
        return value.lower()

    @field_validator("logging_format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        if value == JSON:
            return value
        try:
            logging.Formatter(value).format(logging.LogRecord("name", logging.INFO, "path", 1, "message", None, None))
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                "is neither `json` nor a format of Python's logging, such as %(asctime)s %(levelname)s %(message)s"
            ) from None
        return value


def check_salt(value: str, info: ValidationInfo) -> None:
    """Raises ValueError if the setting's value needs a salt, and there is none."""
    salt = info.data.get("user_id_salt")  # None if it is wrong itself
    if value == "hash" and salt is not None and len(salt.get_secret_value()) < MIN_SALT:
        raise ValueError(
            f"hash needs USER_ID_SALT, a key of at least {MIN_SALT} characters, such as that of `openssl rand -hex 16`"
        )


def _names(settings: type[LibreChatSettings]) -> set[str]:
    """Of all settings of these and of those that are derived from them."""
    return set(settings.model_fields).union(*map(_names, settings.__subclasses__()))


def _passwords(settings: type[LibreChatSettings]) -> set[str]:
    fields = settings.model_fields.items()
    return {name for name, field in fields if field.annotation is SecretStr and not name.endswith("_uri")}


def documented(settings: type[LibreChatSettings]) -> dict[str, FieldInfo]:
    """Every setting's definition by the name of its environment variable."""
    return {name.upper(): field for name, field in settings.model_fields.items()}


def check_host(host: str) -> None:
    """Raises ValueError if the DNS could never know such a name."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("is not a host's name: each part of it has 1 to 63 characters") from None
