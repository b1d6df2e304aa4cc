"""The providers' prices, which the library genai-prices brings with it: nothing is fetched."""

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from librechat_exporter.prices.price import Price, PriceList

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

# The hour in which prices that depend on it are the usual ones.
_USUAL = time(12, tzinfo=UTC)
_MILLION = 1_000_000


class GenaiPrices(PriceList):
    """A model is looked up by its name alone, as a transaction tells no provider. Of prices that rise with the length
    of a request it is the first one."""

    def look_up(self, model: str, day: date | None) -> Price | None:
        moment = datetime.combine(day if day is not None else datetime.now(UTC).date(), _USUAL)
        # A name such as anthropic/claude is OpenRouter's, one such as us.anthropic.claude of Amazon's Bedrock.
        for provider in (None, "openrouter" if "/" in model else "aws"):
            try:
                found = _calculated(model, provider, moment, input_tokens=1)
                read, written = (
                    _calculated(model, provider, moment, input_tokens=1, **{kind: 1}).input_price * _MILLION
                    for kind in ("cache_read_tokens", "cache_write_tokens")
                )
                output = _calculated(model, provider, moment, output_tokens=1).output_price * _MILLION
            except LookupError:
                continue
            source = f"genai-prices: {found.provider.id}, {found.model.id}"
            return Price.of_million(source, found.input_price * _MILLION, output, read, written)
        return None


def _calculated(model: str, provider: str | None, moment: datetime, **tokens: int) -> "PriceCalculation":
    """Raises LookupError if there is no such model."""
    from genai_prices import Usage, calc_price

    return calc_price(Usage(**tokens), model, provider_id=provider, genai_request_timestamp=moment)
