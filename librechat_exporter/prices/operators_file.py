"""Prices of an operator's file: YAML of its own form, or the JSON that LiteLLM's price list is.

    gpt-4o: {input: 2.5, output: 10, cache_read: 1.25}
    claude-*:
      - {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}
      - {from: 2026-07-01, input: 2, output: 10}

US dollars for a million tokens, by model or pattern; of several prices of a model the one that is valid last by then.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from librechat_exporter import strict_yaml
from librechat_exporter.faults import why
from librechat_exporter.prices.price import Price, PriceList

_MOST_BYTES = 20_000_000
_MILLION = 1_000_000
_LITELLM = "input_cost_per_token"

_Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class _Entry(BaseModel):
    """US dollars for a million tokens."""

    model_config = ConfigDict(extra="forbid")

    valid_from: date = Field(default=date.min, alias="from")
    input: _Dollars
    output: _Dollars
    cache_read: _Dollars | None = None
    cache_write: _Dollars | None = None


class _LiteLlmEntry(BaseModel):
    """US dollars for a token; what else the list tells is not read."""

    input_cost_per_token: _Dollars | None = None
    output_cost_per_token: _Dollars | None = None
    cache_read_input_token_cost: _Dollars | None = None
    cache_creation_input_token_cost: _Dollars | None = None

    def entry(self) -> _Entry:
        read, written = self.cache_read_input_token_cost, self.cache_creation_input_token_cost
        return _Entry(
            input=(self.input_cost_per_token or Decimal()) * _MILLION,
            output=(self.output_cost_per_token or Decimal()) * _MILLION,
            cache_read=read * _MILLION if read is not None else None,
            cache_write=written * _MILLION if written is not None else None,
        )


_ENTRIES = TypeAdapter(Annotated[list[_Entry], Field(min_length=1)])


class FilePrices(PriceList):
    """Names count before patterns, and patterns in the order of the file; case does not count."""

    def __init__(self, name: str, entries: Mapping[str, Sequence[_Entry]]) -> None:
        super().__init__()
        self._name = name
        self._entries = {model.lower(): sorted(some, key=lambda one: one.valid_from) for model, some in entries.items()}
        self._patterns = [model for model in self._entries if any(one in model for one in "*?[")]

    def look_up(self, model: str, day: date | None) -> Price | None:
        name = model.lower()
        matched = (
            name if name in self._entries else next((one for one in self._patterns if fnmatchcase(name, one)), None)
        )
        if matched is None:
            return None
        valid = [one for one in self._entries[matched] if day is None or one.valid_from <= day]
        if not valid:
            return None
        one = valid[-1]
        since = f" from {one.valid_from}" if one.valid_from != date.min else ""
        source = f"{self._name}: {matched}{since}"
        return Price.of_million(source, one.input, one.output, one.cache_read, one.cache_write)


def read_file(path: Path) -> FilePrices:
    """Raises ValueError, whose text says what is wrong."""
    content = _content(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must have prices by models, such as gpt-4o: {{input: 2.5, output: 10}}")
    if any(isinstance(one, dict) and _LITELLM in one for one in content.values()):
        return FilePrices(path.name, _of_litellm(content))
    entries: dict[str, Sequence[_Entry]] = {}
    for model, told in content.items():
        if str(model).lower() in map(str.lower, entries):
            raise ValueError(f"{path}: {model!r} is there twice; case does not count")
        try:
            entries[str(model)] = _ENTRIES.validate_python(told if isinstance(told, list) else [told])
        except ValidationError as error:
            raise ValueError(f"{path}, {model!r}: {_first(error)}") from None
    return FilePrices(path.name, entries)


def _content(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path} is larger than any price list")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({why(error)}); it is `genai-prices` or a file") from None
    except UnicodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    try:
        return json.loads(text, parse_float=Decimal) if path.suffix == ".json" else strict_yaml.load(text)
    except strict_yaml.TwiceError as error:
        raise ValueError(f"{path}: {str(error)!r} is there twice") from None
    except strict_yaml.YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        line = getattr(error, "lineno", mark.line + 1 if mark is not None else None)
        where = f", line {line}" if line is not None else ""
        raise ValueError(f"{path}{where}: is not {'JSON' if path.suffix == '.json' else 'YAML'}") from None


def _of_litellm(content: Mapping[str, Any]) -> dict[str, list[_Entry]]:
    """Those of its models that are paid by the token."""
    entries = {}
    for model, told in content.items():
        if not isinstance(told, dict) or _LITELLM not in told or model == "sample_spec":
            continue
        try:
            entries[model] = [_LiteLlmEntry.model_validate(told).entry()]
        except ValidationError as error:
            raise ValueError(f"LiteLLM's price list, {model!r}: {_first(error)}") from None
    return entries


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(one) for one in problem["loc"] if isinstance(one, str))
    named = f"{where}: " if where else ""
    prices = "prices are US dollars for a million tokens: input, output, cache_read, cache_write"
    return f"{named}{problem['msg']}; {prices}"
