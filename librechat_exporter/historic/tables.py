"""The tables in MariaDB, defined once: the schema, its upgrade and every statement are made of these."""

from dataclasses import dataclass
from decimal import Decimal

DATE = "DATE NOT NULL"
# Binary, because models whose names differ in case are different models.
NAME_CHARACTERS = 255
NAME = f"VARCHAR({NAME_CHARACTERS}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
COUNT = "BIGINT NOT NULL"
MONEY = "DECIMAL(20,9) NOT NULL"
MONEY_IF_KNOWN = "DECIMAL(20,9) NULL"
_MONEY_DIGITS = 9
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
FORMAT = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"


@dataclass(frozen=True, eq=False)
class Table:
    """A table's name and its columns' types. The key's first column is the day, or the first day of the period."""

    name: str
    key: dict[str, str]
    values: dict[str, str]

    @property
    def columns(self) -> dict[str, str]:
        return self.key | self.values

    @property
    def day(self) -> str:
        return next(iter(self.key))

    @property
    def create(self) -> str:
        """The statement that makes the table where it is missing."""
        lines = [f"    `{name}` {kind}" for name, kind in self.columns.items()]
        lines.append("    PRIMARY KEY ({})".format(", ".join(f"`{name}`" for name in self.key)))
        return f"CREATE TABLE IF NOT EXISTS `{self.name}` (\n" + ",\n".join(lines) + f"\n) {FORMAT}"


def _daily(name: str, keys: tuple[str, ...], counts: tuple[str, ...], more: dict[str, str] | None = None) -> Table:
    """more: columns that are no counts, with their types."""
    return Table(name, {"date": DATE} | dict.fromkeys(keys, NAME), dict.fromkeys(counts, COUNT) | (more or {}))


DAILY_USERS = _daily("daily_users", (), ("unique_users",))
DAILY_MESSAGES = _daily("daily_messages", (), ("total_messages", "total_conversations"))
DAILY_MESSAGES_BY_MODEL = _daily("daily_messages_by_model", ("model",), ("message_count",))
DAILY_TOKENS_BY_MODEL = _daily("daily_tokens_by_model", ("model",), ("input_tokens", "output_tokens"))
DAILY_TOKENS_BY_USER = _daily("daily_tokens_by_user", ("user",), ("input_tokens", "output_tokens"))
DAILY_ERRORS_BY_MODEL = _daily("daily_errors_by_model", ("model",), ("error_count",))
DAILY_COST_BY_MODEL = _daily(
    "daily_cost_by_model",
    ("model", "context"),
    _TOKENS,
    {"cost_usd": MONEY, "list_cost_usd": MONEY_IF_KNOWN},
)
DAILY_USAGE_BY_GROUP = _daily(
    "daily_usage_by_group", ("group_name",), ("messages", "active_users", *_TOKENS), {"cost_usd": MONEY}
)
DAILY_USAGE_BY_AGENT = _daily(
    "daily_usage_by_agent", ("agent",), ("answers", "failed_answers", "users", *_TOKENS), {"cost_usd": MONEY}
)
DAILY_RATINGS_BY_MODEL = _daily("daily_ratings_by_model", ("model", "tag"), ("thumbs_up", "thumbs_down"))
DAILY_TOOL_CALLS = _daily("daily_tool_calls", ("tool_name",), ("calls", "errors"))
DAILY_NEW_USERS = _daily("daily_new_users", ("provider",), ("users",))
WEEKLY_USERS = Table("weekly_users", {"week_start": DATE}, {"unique_users": COUNT})
MONTHLY_USERS = Table("monthly_users", {"month_start": DATE}, {"unique_users": COUNT})

EXPORT_RUNS = Table(
    "export_runs",
    {"id": "BIGINT NOT NULL AUTO_INCREMENT"},
    {
        "started_at": "DATETIME NOT NULL",
        "range_start": DATE,
        "range_end": DATE,
        "days_written": COUNT,
        "rows_written": COUNT,
        "seconds": "DOUBLE NOT NULL",
        "outcome": "VARCHAR(20) NOT NULL",
    },
)

# Where the server refuses named locks, its one row is locked instead; else it is never made.
EXPORT_LOCK = Table("export_lock", {"id": "TINYINT NOT NULL"}, {})

DAILY = (
    DAILY_USERS,
    DAILY_MESSAGES,
    DAILY_MESSAGES_BY_MODEL,
    DAILY_TOKENS_BY_MODEL,
    DAILY_TOKENS_BY_USER,
    DAILY_ERRORS_BY_MODEL,
    DAILY_COST_BY_MODEL,
    DAILY_USAGE_BY_GROUP,
    DAILY_USAGE_BY_AGENT,
    DAILY_RATINGS_BY_MODEL,
    DAILY_TOOL_CALLS,
    DAILY_NEW_USERS,
)
PERIODIC = (WEEKLY_USERS, MONTHLY_USERS)
ALL = (*DAILY, *PERIODIC, EXPORT_RUNS)


def money(amount: int, parts: int) -> Decimal:
    """US dollars, of which one has so many parts, as a column holds them."""
    return round(Decimal(amount) / parts, _MONEY_DIGITS)


def schema() -> str:
    """The statements that make every table that is missing. They drop and change nothing."""
    return "\n\n".join(f"{table.create};" for table in ALL) + "\n"
