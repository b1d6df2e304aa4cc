"""The daemon's settings."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from librechat_exporter.prices import GENAI_PRICES
from librechat_exporter.settings.shared import LibreChatSettings, check_host, check_salt
from librechat_exporter.user_ids import UserKey, keyed_hash, raw

LONGEST_WINDOW = timedelta(days=366)
MONTH = "month"
PER_USER = ("off", "hash", "id")
# Of a hash in the label `user`: no two of a million users share so much.
_HASH_LENGTH = 16
# Values of these labels that are told apart whatever MAX_LABEL_VALUES says; of `user`, MAX_USERS.
_NAMES = {"group": 1000, "agent": 1000}
_TOKEN_TYPES = 4


def _length(window: str) -> timedelta:
    """At most."""
    if window == MONTH:
        return timedelta(days=31)
    return timedelta(**{"hours" if window.endswith("h") else "days": int(window[:-1])})


def _toggle(text: str) -> Any:
    return Field(default=True, description=f"Serve {text}; `false` runs no query for them")


class Settings(LibreChatSettings):
    """The daemon's."""

    listen_address: str = Field(
        default="0.0.0.0:8000", description="Where HTTP is served; `[::]:8000` for IPv6 and IPv4"
    )
    web_config_file: Path | None = Field(
        default=None,
        description="TLS, client certificates, basic authentication: a file in the format of Prometheus' "
        "exporter-toolkit; unset, plain HTTP for everybody who reaches the port",
    )
    metrics_secret: SecretStr = Field(
        default=SecretStr(""),
        description="A bearer token that `/` and `/metrics` want, by the name that LibreChat has for its own metrics",
    )
    metrics_secret_file: Path | None = Field(
        default=None, description="A file that holds the token; wins over METRICS_SECRET"
    )
    healthcheck_user: str = Field(
        default="healthcheck", description="User name of the image's health check, if WEB_CONFIG_FILE has users"
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
        description="How long changes of a new message are still counted, because its answer is being written, "
        "2 to 1440; less than 6 counts as 6; it is up to an hour where LibreChat says that more will come",
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
        default=200,
        ge=1,
        le=100_000,
        description="Values a label may have, but for groups and agents (1,000 each) and users (MAX_USERS); later ones "
        "are counted under `other`",
    )
    max_series: int = Field(
        default=5000,
        ge=1,
        le=1_000_000,
        description="Label combinations a metric may have, buckets and windows not counted; later ones are counted "
        "under `other`",
    )
    enable_basic_metrics: bool = _toggle("messages, failed messages, conversations and their lengths")
    enable_token_metrics: bool = _toggle("tokens")
    enable_user_metrics: bool = _toggle(
        "users: registered, active, unique, logged in, how many come back, and active conversations"
    )
    enable_model_metrics: bool = _toggle("what is counted per model over all time, and answers and errors per model")
    enable_time_window_metrics: bool = _toggle("the last 5 minutes")
    enable_rating_metrics: bool = _toggle("ratings")
    enable_file_metrics: bool = _toggle("uploaded and stored files")
    enable_tool_metrics: bool = _toggle("tool calls")
    enable_answer_metrics: bool = _toggle("how long users wait for answers, and how long answers are")
    enable_agent_metrics: bool = _toggle("agents: answers, failures, tokens, cost, users, ratings, sub-agents")
    enable_balance_metrics: bool = _toggle("what users have left to spend")
    enable_feature_metrics: bool = _toggle(
        "memories, shared links, agents and the like, bans, audit events, scheduled runs, and stored documents"
    )
    enable_cost_metrics: bool = _toggle(
        "tokens, cost and credits as LibreChat bills them, cost as answers tell it, and by MODEL_PRICES"
    )
    enable_page: bool = Field(
        default=True,
        description="Serve figures and charts on the page at `/`; `false` leaves only the line that tells whether all "
        "is well",
    )
    enable_usage_window_metrics: bool = _toggle("usage in the windows of USAGE_WINDOWS")
    usage_windows: str = Field(
        default="1d,7d,30d",
        description="The values of the label `window`, in hours (`h`) or days (`d`); `month` begins with the month "
        "in METRICS_TIMEZONE",
    )
    external_model_regex: str | None = Field(
        default=None,
        description="A regular expression of models that others run, such as `gpt|claude|gemini`; case does not count. "
        "Models get the class `external` or `local`; without it, and for the model `other`, `unclassified`",
    )
    domain_metrics: bool = Field(
        default=False,
        description="Serve users, and messages, tokens and cost, by the domain of the e-mail address; a domain can "
        "tell of a person",
    )
    per_user_metrics: str = Field(
        default="off",
        description="Serve messages, tokens and cost of each user: `off`; `hash`, by a keyed hash, which needs "
        "USER_ID_SALT; `id`, by LibreChat's user id, which does not go with STATE_USER_IDS=hash",
    )
    max_users: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        validate_default=True,
        description="Users that PER_USER_METRICS tells apart; later ones are counted under `other`. MAX_SERIES "
        "must be four times as many",
    )
    metrics_cache_enabled: str | None = Field(default=None, description="Of other exporters; nothing is cached here")
    metrics_cache_ttl: str | None = Field(default=None, description="Of other exporters; nothing is cached here")

    @field_validator("state_user_ids")
    @classmethod
    def _check_state_user_ids(cls, value: str, info: ValidationInfo) -> str:
        if value not in ("raw", "hash"):
            raise ValueError("must be one of raw, hash")
        check_salt(value, info)
        return value

    @field_validator("per_user_metrics")
    @classmethod
    def _check_per_user_metrics(cls, value: str, info: ValidationInfo) -> str:
        if value not in PER_USER:
            raise ValueError(f"must be one of {', '.join(PER_USER)}")
        if value == "id" and info.data.get("state_user_ids") == "hash":
            raise ValueError("id would show the ids that STATE_USER_IDS=hash keeps out of the state file; use hash")
        check_salt(value, info)
        return value

    @field_validator("max_users")
    @classmethod
    def _check_max_users(cls, value: int, info: ValidationInfo) -> int:
        most = info.data.get("max_series")
        if info.data.get("per_user_metrics") in ("hash", "id") and most is not None and value * _TOKEN_TYPES > most:
            raise ValueError(
                f"{value} users have {value * _TOKEN_TYPES} label combinations: MAX_SERIES must be as many"
            )
        return value

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
        if value is None:
            return None
        try:
            url = urlsplit(value)
            is_usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
            check_host(url.hostname or "")
        except ValueError:
            is_usable = False
        if not is_usable or url.username is not None or url.query or url.fragment or re.search(r"\s", value):
            raise ValueError(
                "must be an address such as http://api:3080: a scheme, a host, perhaps a port and a path, nothing else"
            )
        return value.rstrip("/")

    @field_validator("listen_address")
    @classmethod
    def _check_listen_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not host.strip("[]") or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
            raise ValueError("must be an address and a port, such as 0.0.0.0:8000 or [::]:8000")
        check_host(host)
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
    def name_user(self) -> UserKey:
        """Makes the label `user`, by PER_USER_METRICS."""
        if self.per_user_metrics == "hash":
            hashed = keyed_hash(self.user_id_salt.get_secret_value())
            return lambda user: hashed(user)[:_HASH_LENGTH]
        return raw

    @property
    def hold_user(self) -> UserKey:
        """Makes what the state file holds users by, by STATE_USER_IDS."""
        return keyed_hash(self.user_id_salt.get_secret_value()) if self.state_user_ids == "hash" else raw

    @property
    def label_limits(self) -> Mapping[str, int]:
        """The bounds of labels that MAX_LABEL_VALUES does not bound."""
        return _NAMES | {"user": self.max_users}

    @property
    def bind_address(self) -> tuple[str, int]:
        """Host and port of LISTEN_ADDRESS."""
        host, _, port = self.listen_address.rpartition(":")
        return host.strip("[]"), int(port)

    def with_all(self) -> Self:
        """With all on that must be asked for, so that collectors have every metric."""
        switches = {"group_metrics": True, "domain_metrics": True, "per_user_metrics": "id"}
        names = {"model_prices": GENAI_PRICES, "librechat_url": "http://api:3080"}
        return self.model_copy(update=switches | names)

    @property
    def toggles(self) -> frozenset[str]:
        """The toggles that are on."""
        names = {name: re.fullmatch("enable_(.*)_metrics", name) for name in type(self).model_fields}
        return frozenset(toggle[1] for name, toggle in names.items() if toggle and getattr(self, name))
