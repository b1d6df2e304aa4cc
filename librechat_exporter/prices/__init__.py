"""Price lists: what models' tokens cost, beside what LibreChat bills."""

from pathlib import Path

from librechat_exporter.prices.genai import GenaiPrices
from librechat_exporter.prices.operators_file import read_file
from librechat_exporter.prices.price import PARTS, Price, PriceList

__all__ = ["PARTS", "Price", "PriceList", "load"]

GENAI_PRICES = "genai-prices"


def load(name: str) -> PriceList:
    """The list that MODEL_PRICES names. Raises ValueError, whose text says what is wrong with the file."""
    return GenaiPrices() if name == GENAI_PRICES else read_file(Path(name))
