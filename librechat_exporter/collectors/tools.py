"""Tool calls: how often, by which tool, model, endpoint and MCP server, and how many failed."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain

from librechat_exporter.collector import Collector, CountingCollector, Scrape
from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.metrics.metric import Family, LabelValues, Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_SINCE = (
    WITHOUT_SUBAGENTS,
    "0.2.0: polls of background calls are no calls; background calls that failed and denied ones count as failed",
)
_SERVERS_SINCE = (*_SINCE, "0.2.0: a tool's own name may hold `_action`")
_counter = partial(Metric, type="counter", kind="happened", toggles=("tool",), since=_SINCE)
# They never fall either, but have been gauges under these names.
_gauge = partial(Metric, type="gauge", kind="happened", toggles=("tool",), since=_SINCE)

_CALLS = _counter(name="librechat_tool_calls_total", help="Tool calls")
_ERRORS = _counter(name="librechat_tool_call_errors_total", help="Tool calls that failed")
_ERRORS_PER_TOOL = _counter(
    name="librechat_tool_call_errors_per_tool_total", help="Tool calls that failed, per tool", labels=("tool_name",)
)
_MESSAGES_WITH_TOOLS = _counter(name="librechat_messages_with_tools_total", help="Messages with at least one tool call")
_PER_TOOL = _gauge(name="librechat_tool_calls_per_tool", help="Tool calls ever, per tool", labels=("tool_name",))
_PER_MODEL = _gauge(
    name="librechat_tool_calls_per_model", help="Tool calls ever, per model and tool", labels=("model", "tool_name")
)
_PER_ENDPOINT = _gauge(
    name="librechat_tool_calls_per_endpoint",
    help="Tool calls ever, per endpoint and tool",
    labels=("api_endpoint", "tool_name"),
)
_SUCCESS_RATE = _gauge(
    name="librechat_tool_success_rate_per_tool",
    help="Tool calls that did not fail, in percent, per tool",
    labels=("tool_name",),
)
_PER_SERVER = _gauge(
    name="librechat_mcp_tool_calls_per_server",
    help="Calls ever of an MCP server's tools",
    labels=("server",),
    since=_SERVERS_SINCE,
)
_ERRORS_PER_SERVER = _gauge(
    name="librechat_mcp_tool_call_errors_per_server",
    help="Calls ever of an MCP server's tools that failed",
    labels=("server",),
    since=_SERVERS_SINCE,
)
_COUNTED = (
    _CALLS,
    _ERRORS,
    _ERRORS_PER_TOOL,
    _MESSAGES_WITH_TOOLS,
    _PER_TOOL,
    _PER_MODEL,
    _PER_ENDPOINT,
    _PER_SERVER,
    _ERRORS_PER_SERVER,
)


def _add(samples: Samples, group: MessageGroup) -> None:
    with_tools = list(filter(None, group.calls))
    if not with_tools:
        return
    samples.add(_MESSAGES_WITH_TOOLS, len(with_tools))
    for call, count in Counter(chain.from_iterable(with_tools)).items():
        failed = count if call.failed else 0
        samples.add(_CALLS, count)
        samples.add(_ERRORS, failed)
        samples.add(_ERRORS_PER_TOOL, failed, call.name)
        samples.add(_PER_TOOL, count, call.name)
        samples.add(_PER_MODEL, count, group.model, call.name)
        samples.add(_PER_ENDPOINT, count, call.endpoint, call.name)
        samples.add(_PER_SERVER, count, call.server)
        samples.add(_ERRORS_PER_SERVER, failed, call.server)


class _ToolsCollector(CountingCollector):
    """The totals, and the rate that follows from them."""

    def __init__(self) -> None:
        super().__init__("tools", Counting(MESSAGES, _COUNTED, _add))
        self.metrics = (*_COUNTED, _SUCCESS_RATE)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        yield from super().collect(scrape)
        if not scrape.totals.is_folded(_ERRORS_PER_TOOL, _PER_TOOL):
            return
        errors = scrape.totals.values(_ERRORS_PER_TOOL)
        rates: dict[LabelValues, float] = {
            labels: 100 * (calls - errors.get(labels, 0)) / calls
            for labels, calls in scrape.totals.values(_PER_TOOL).items()
        }
        yield _SUCCESS_RATE.family(rates)


def collectors(_settings: Settings) -> list[Collector]:
    return [_ToolsCollector()]
