"""A price, and where it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

# Prices and what they add up to are whole parts of a dollar, of which it has so many: sums of fractions depend on their
# order.
PARTS = 10**12
_TOKENS = 10**6  # that prices are told for
_REMEMBERED = 10_000


class Price(NamedTuple):
    """The price of a token, in parts of a dollar; cached tokens have their own. source: why it is this one."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    source: str

    @classmethod
    def of_million(
        cls,
        source: str,
        input: Decimal,  # noqa: A002
        output: Decimal,
        cache_read: Decimal | None,
        cache_write: Decimal | None,
    ) -> "Price":
        """Of US dollars for a million tokens; cached tokens without a price cost what others do."""
        read, written = (input if one is None else one for one in (cache_read, cache_write))
        return cls(_parts(input), _parts(output), _parts(read), _parts(written), source)

    def cost(self, tokens: Mapping[str, int]) -> int:
        """Parts of a dollar, for tokens by their types, which are fields' names."""
        return sum(count * int(getattr(self, token_type)) for token_type, count in tokens.items())

    def per_million(self, kind: str) -> Decimal:
        """US dollars for a million tokens of this kind, a field's name."""
        parts: int = getattr(self, kind)
        return Decimal(parts) * _TOKENS / PARTS


class PriceList(ABC):
    """Prices by the names of models. Safe for use from several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, date | None], Price | None] = {}

    def price(self, model: str, day: date | None) -> Price | None:
        """The model's price on that day (UTC), or the newest; None if the list has none."""
        if (model, day) not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            self._known[model, day] = self.look_up(model, day)
        return self._known[model, day]

    @abstractmethod
    def look_up(self, model: str, day: date | None) -> Price | None:
        """Finds what price() gives, which asks once for each model and day."""


def _parts(dollars: Decimal) -> int:
    return int((dollars * PARTS / _TOKENS).to_integral_value(ROUND_HALF_EVEN))
