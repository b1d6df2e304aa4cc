"""The historic export's settings."""

import re
import ssl
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from librechat_exporter.faults import why
from librechat_exporter.settings.shared import LibreChatSettings, check_host, check_salt

USER_IDS = ("raw", "hash", "none")


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
        description="How `daily_tokens_by_user` holds users: `raw`, LibreChat's user ids; `hash`, their keyed hashes, "
        "which needs USER_ID_SALT; `none`, the table stays empty",
    )

    @field_validator("mysql_port", mode="before")
    @classmethod
    def _check_port(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "is the address that Kubernetes sets for a service called `mysql`; set it to the port, such as 3306, "
                "or enableServiceLinks of the pod to false"
            )
        return value

    @field_validator("user_ids")
    @classmethod
    def _check_user_ids(cls, value: str, info: ValidationInfo) -> str:
        if value not in USER_IDS:
            raise ValueError(f"must be one of {', '.join(USER_IDS)}")
        check_salt(value, info)
        return value

    @field_validator("mysql_ssl_ca")
    @classmethod
    def _check_ssl_ca(cls, value: Path | None) -> Path | None:
        try:
            if value is not None and not value.is_file():
                raise ValueError(f"{value} is not a file; name the certificate authority's PEM file")
            ssl.create_default_context(cafile=value)
        except OSError as error:
            raise ValueError(
                f"{value} cannot be used ({why(error)}); name the certificate authority's PEM file"
            ) from None
        return value

    @field_validator("mysql_host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        if re.search(r"[/@]|^[^:]*:[^:]*$", value):  # several colons are an IPv6 address
            raise ValueError(
                "must be a host's name or address alone; the port, user and password have their own settings"
            )
        check_host(value)
        return value
