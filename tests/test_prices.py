"""Price lists: which model has which price, what is wrong with a file, and what is counted."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo.database import Database

from librechat_exporter import prices
from librechat_exporter.prices import GENAI_PRICES, Price
from tests.chats import NOW
from tests.conftest import METRICS_PY, Document, MakeExporter, MakeProcess
from tests.test_chargeback import ANN, of, transaction

ROOT = METRICS_PY.parent
DAY = date(2026, 3, 4)


def of_file(tmp_path: Path, text: str, name: str = "prices.yml") -> prices.PriceList:
    (tmp_path / name).write_text(text)
    return prices.load(str(tmp_path / name))


def per_million(price: Price | None) -> tuple[float, ...] | None:
    kinds = ("input", "output", "cache_read", "cache_write")
    return tuple(float(price.per_million(kind)) for kind in kinds) if price is not None else None


def test_the_name_counts_before_patterns_and_patterns_in_their_order(tmp_path: Path) -> None:
    found = of_file(
        tmp_path,
        "gpt-*: {input: 1, output: 2}\ngpt-4o*: {input: 3, output: 4}\n"
        "GPT-4o: {input: 5, output: 6, cache_read: 0.5}\n",
    )
    assert per_million(found.price("gpt-4o", DAY)) == (5, 6, 0.5, 5)
    assert per_million(found.price("Gpt-4o-mini", DAY)) == (1, 2, 1, 1)
    assert found.price("claude", DAY) is None
    price = found.price("gpt-4o-mini", DAY)
    assert price is not None
    assert price.source == "prices.yml: gpt-*"


def test_a_name_that_looks_like_a_pattern_is_its_own(tmp_path: Path) -> None:
    found = of_file(tmp_path, '"llama[70b]": {input: 1, output: 2}\n')
    assert per_million(found.price("Llama[70b]", DAY)) == (1, 2, 1, 1)
    assert per_million(found.price("llama7", DAY)) == (1, 2, 1, 1)


def test_a_price_is_looked_up_once_for_a_model_and_a_day() -> None:
    """Millions of transactions ask for it."""
    asked: list[tuple[str, date | None]] = []

    class Counted(prices.PriceList):
        def look_up(self, model: str, day: date | None) -> Price | None:
            asked.append((model, day))
            return None

    one = Counted()
    for _ in range(3):
        assert [one.price("a", DAY), one.price("a", None), one.price("b", DAY)] == [None] * 3
    assert asked == [("a", DAY), ("a", None), ("b", DAY)]


def test_a_price_is_valid_from_its_day(tmp_path: Path) -> None:
    found = of_file(
        tmp_path, "m:\n- {from: 2026-03-04, input: 2, output: 2}\n- {from: 2026-01-01, input: 1, output: 1}\n"
    )
    days = {date(2025, 12, 31): None, date(2026, 3, 3): 1, DAY: 2, None: 2}
    for day, wanted in days.items():
        price = found.price("m", day)
        assert (price and float(price.per_million("input"))) == wanted


def test_litellms_price_list_is_read(tmp_path: Path) -> None:
    listed = {
        "sample_spec": {"input_cost_per_token": "a number", "litellm_provider": "…"},
        "gpt-4o": {
            "input_cost_per_token": 2.5e-06,
            "output_cost_per_token": 1e-05,
            "cache_read_input_token_cost": 1.25e-06,
            "mode": "chat",
        },
        "dall-e": {"output_cost_per_image": 0.04},
    }
    found = of_file(tmp_path, json.dumps(listed), "model_prices.json")
    assert per_million(found.price("gpt-4o", DAY)) == (2.5, 10, 1.25, 2.5)
    assert found.price("dall-e", DAY) is None
    assert found.price("sample_spec", DAY) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have prices by models, such as gpt-4o"),
        ("- gpt-4o", "must have prices by models"),
        ("a: {input: 1, output: [", "line 1: is not YAML"),
        ("a: {input: 1, output: 2}\na: {input: 3, output: 4}", "'a' is there twice"),
        ("a: {input: 1, output: 2}\nA: {input: 3, output: 4}", "'A' is there twice; case does not count"),
        ("a: 3", "'a': Input should be a valid dictionary"),
        ("a: []", "'a': List should have at least 1 item"),
        ("a: {input: 1}", "'a': output: Field required"),
        ("a: {input: 1, output: 2, cached: 3}", "'a': cached: Extra inputs are not permitted"),
        ("a: {input: -1, output: 2}", "'a': input: Input should be greater than or equal to 0"),
        ("a: {input: .nan, output: 2}", "'a': input: Input should be a finite number"),
        ("a: {input: cheap, output: 2}", "'a': input: Input should be a valid decimal"),
        ("a: {from: soon, input: 1, output: 2}", "'a': from: Input should be a valid date"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prices\.yml") as error:
        of_file(tmp_path, text)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.yml", "."])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read .* it is `genai-prices` or a file"):
        prices.load(str(tmp_path / name))


def test_the_documentations_example_is_read(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "chargeback.md").read_text(), re.DOTALL)
    found = of_file(tmp_path, example)
    assert per_million(found.price("claude-sonnet-4", date(2026, 6, 30))) == (3, 15, 0.3, 3.75)
    assert per_million(found.price("claude-sonnet-4", date(2026, 7, 1))) == (2, 10, 0.2, 2.5)


def test_the_providers_prices_are_found_by_the_models_name() -> None:
    found = prices.load(GENAI_PRICES)
    price = found.price("gpt-4o-2024-08-06", DAY)
    assert per_million(price) == (2.5, 10, 1.25, 2.5)
    assert price is not None
    assert price.source == "genai-prices: openai, gpt-4o"
    by_others = {
        name: found.price(name, DAY)
        for name in ("anthropic/claude-sonnet-4", "us.anthropic.claude-sonnet-4-20250514-v1:0")
    }
    assert {name: price.source.split(",")[0] if price else None for name, price in by_others.items()} == {
        "anthropic/claude-sonnet-4": "genai-prices: openrouter",
        "us.anthropic.claude-sonnet-4-20250514-v1:0": "genai-prices: aws",
    }
    for unknown in ("unknown", "our-own-model", "", "x" * 200, 'quo"te\n', "a/b", "llama3.3:70b"):
        assert found.price(unknown, DAY) is None


def test_a_price_is_that_of_the_day_of_the_request() -> None:
    """Of requests that are as long as any, the first of the prices that rise with the length. One that depends on the
    hour is the usual one, at whatever hour it is looked up."""
    found = prices.load(GENAI_PRICES)
    assert per_million(found.price("claude-opus-4-6", date(2026, 3, 1))) == (5, 25, 0.5, 6.25)
    assert per_million(found.price("deepseek-chat", None)) == per_million(found.price("deepseek-chat", DAY))


LISTED = "librechat_llm_list_cost_usd_total"


def test_what_was_counted_is_never_priced_anew(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    """100 tokens in, 10 out; of history, and while it is open, also across restarts."""

    def listed(text: str) -> float:
        of_file(tmp_path, text)
        one = exporter(NOW, model_prices=str(tmp_path / "prices.yml"))
        one.daemon.ledger.tick()
        value = sum(of(one.folded().scrape(), LISTED, "model").values())
        one.close()
        return value

    database["messages"].insert_one({"messageId": "m1"})
    database["transactions"].insert_many(transaction(1, ANN))
    database["transactions"].insert_many(
        [one | {"_id": type(one["_id"]).from_datetime(NOW - timedelta(days=9))} for one in transaction(2, ANN)[:1]]
    )
    assert listed("gpt-4o: {input: 1, output: 10}") == pytest.approx(300e-6)
    assert listed("gpt-4o: {input: 1, output: 10}") == pytest.approx(300e-6)
    assert listed("gpt-4o: {input: 100, output: 1000}") == pytest.approx(300e-6)
    database["transactions"].insert_many(transaction(3, ANN))
    assert listed("gpt-4o: {input: 100, output: 1000}") == pytest.approx(300e-6 + 20_000e-6)


def test_a_model_without_a_price_is_told(database: Database[Document], process: MakeProcess, tmp_path: Path) -> None:
    of_file(tmp_path, "other: {input: 1, output: 2}\nlocal*: {input: 0, output: 0}\n")
    billed = [*transaction(1, ANN), *transaction(2, ANN, model="local one")]
    database["transactions"].insert_many([one | {"_id": ObjectId()} for one in billed])  # so they were billed lately
    one = process(MODEL_PRICES=str(tmp_path / "prices.yml"))
    assert re.search(r"^gpt-4o +110 +- +- +- +-  no price$", said := one.run(0, "--print-prices"), re.MULTILINE), said
    assert re.search(r"^local one +110 +0 +0 +0 +0  prices\.yml: local\*$", said, re.MULTILINE), said
    assert "warning     MODEL_PRICES    has no price for 'gpt-4o'" in one.run(0, "--check")
    one.start()
    values = one.scrape()
    assert of(values, "librechat_exporter_unpriced_tokens_total", "model") == {"gpt-4o": 110}
    assert of(values, LISTED, "model") == {"local one": 0}
