"""The cost of billed tokens by a price list, beside what LibreChat billed: off unless MODEL_PRICES names one."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.transactions import TRANSACTIONS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.transactions import BY_DAY, Billed
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.prices import PARTS, PriceList
from librechat_exporter.settings import Settings

_COST = Metric(
    name="librechat_llm_list_cost_usd_total",
    help="US dollars that billed tokens cost by the price list of MODEL_PRICES, as it was when they were counted: "
    "input, cached tokens included, and output",
    type="counter",
    kind="happened",
    labels=("model", "token_type", "context"),
    toggles=("cost",),
    chosen=("token_type",),
    parts=PARTS,
)
_UNPRICED = Metric(
    name="librechat_exporter_unpriced_tokens_total",
    help="Tokens billed for a model to which MODEL_PRICES gave no price: they are missing in the list cost",
    type="counter",
    kind="self",
    labels=("model",),
    toggles=("cost",),
)


def collectors(settings: Settings) -> list[Collector]:
    prices = settings.price_list
    if prices is None:
        return []

    def add(samples: Samples, billed: Billed) -> None:
        if billed.is_spent:
            _add(samples, billed, prices)

    return [CountingCollector("list_cost", Counting(TRANSACTIONS, (_COST, _UNPRICED), add, by=(BY_DAY,)))]


def _add(samples: Samples, billed: Billed, prices: PriceList) -> None:
    if _COST.name in billed.counted or _UNPRICED.name in billed.counted:
        return  # it keeps the price that it had
    tokens = billed.by_token_type()
    price = prices.price(billed.model, billed.day)
    if price is None:
        samples.add(_UNPRICED, sum(tokens.values()), billed.model)
        return
    samples.add(_COST, price.cost(tokens), billed.model, billed.token_type, billed.context)
