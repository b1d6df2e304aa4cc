"""`metrics.py --print-prices`: which model that was billed lately got which price, and why."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from librechat_exporter.librechat.database import LibreChat, connect
from librechat_exporter.librechat.fields import inserted_between
from librechat_exporter.librechat.transactions import read_billed
from librechat_exporter.prices import PriceList
from librechat_exporter.settings import Settings

_LATELY = timedelta(days=30)
_KINDS = ("input", "cache_read", "cache_write", "output")


def tokens_by_model(librechat: LibreChat) -> Counter[str]:
    """Tokens billed for each model in the last 30 days. Raises PyMongoError."""
    now = librechat.now()
    found: Counter[str] = Counter()
    for billed in read_billed(librechat, inserted_between(now - _LATELY, now + timedelta(days=1))):
        if billed.is_spent:
            found[billed.model] += sum(billed.by_token_type().values())
    return found


def unpriced(librechat: LibreChat, prices: PriceList) -> list[str]:
    """Those of the models billed lately that have no price today. Raises PyMongoError."""
    today = datetime.now(UTC).date()
    return [model for model in sorted(tokens_by_model(librechat)) if prices.price(model, today) is None]


def print_prices(settings: Settings) -> int:
    """Prints a line for each model. Raises PyMongoError if MongoDB cannot be read."""
    prices = settings.price_list
    if prices is None:
        print("MODEL_PRICES is not set: there is no price list.")
        return 0
    today = datetime.now(UTC).date()
    rows: list[tuple[str, ...]] = [("model", "tokens", *_KINDS, "price list")]
    for model, tokens in tokens_by_model(connect(settings)).most_common():
        price = prices.price(model, today)
        told = [f"{price.per_million(kind).normalize():f}" for kind in _KINDS] if price is not None else ["-"] * 4
        rows.append((_printable(model), f"{tokens:,}", *told, price.source if price is not None else "no price"))
    print(f"US dollars for a million tokens on {today} (UTC), of the models billed in the last {_LATELY.days} days:\n")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        numbers = (text.rjust(width) for text, width in zip(row[1:-1], widths[1:-1], strict=True))
        print("  ".join((row[0].ljust(widths[0]), *numbers, row[-1])))
    return 0


def _printable(model: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in model)
