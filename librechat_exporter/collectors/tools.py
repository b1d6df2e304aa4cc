"""Tool calls: how often, by which tool, model, endpoint and MCP server, and how many failed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from librechat_exporter.collectors.base import LedgerCollector, Scrape
from librechat_exporter.ledger.fold import Fold
from librechat_exporter.metric import Family, LabelValues, Metric, Samples
from librechat_exporter.rows import ToolCall


def _metric(name: str, text: str, *labels: str, gauge: bool = False) -> Metric:
    return Metric(name, text, "gauge" if gauge else "counter", "happened", labels, ("tool",))


CALLS = _metric("librechat_tool_calls_total", "Tool calls")
ERRORS = _metric("librechat_tool_call_errors_total", "Tool calls that failed")
ERRORS_PER_TOOL = _metric("librechat_tool_call_errors_per_tool_total", "Tool calls that failed", "tool_name")
MESSAGES_WITH_TOOLS = _metric("librechat_messages_with_tools_total", "Messages with at least one tool call")
PER_TOOL = _metric("librechat_tool_calls_per_tool", "Tool calls ever", "tool_name", gauge=True)
PER_MODEL = _metric("librechat_tool_calls_per_model", "Tool calls ever", "model", "tool_name", gauge=True)
PER_ENDPOINT = _metric("librechat_tool_calls_per_endpoint", "Tool calls ever", "api_endpoint", "tool_name", gauge=True)
SUCCESS_RATE = _metric(
    "librechat_tool_success_rate_per_tool", "Tool calls that did not fail, in percent", "tool_name", gauge=True
)
PER_SERVER = _metric("librechat_mcp_tool_calls_per_server", "Calls ever of an MCP server's tools", "server", gauge=True)
ERRORS_PER_SERVER = _metric(
    "librechat_mcp_tool_call_errors_per_server", "Those of them that failed", "server", gauge=True
)
COUNTED = (
    CALLS,
    ERRORS,
    ERRORS_PER_TOOL,
    MESSAGES_WITH_TOOLS,
    PER_TOOL,
    PER_MODEL,
    PER_ENDPOINT,
    PER_SERVER,
    ERRORS_PER_SERVER,
)
_MCP = "_mcp_"


def add(samples: Samples, model: str, messages: Iterable[tuple[ToolCall, ...]]) -> None:
    """Counts the tool calls of messages of a model."""
    with_tools = list(filter(None, messages))
    if with_tools:
        samples.add(MESSAGES_WITH_TOOLS, len(with_tools))
    for call, count in Counter(chain.from_iterable(with_tools)).items():
        failed = count if call.failed else 0
        samples.add(CALLS, count)
        samples.add(ERRORS, failed)
        samples.add(ERRORS_PER_TOOL, failed, call.name)
        samples.add(PER_TOOL, count, call.name)
        samples.add(PER_MODEL, count, model, call.name)
        samples.add(PER_ENDPOINT, count, call.endpoint, call.name)
        _, is_mcp, server = call.name.rpartition(_MCP)
        if is_mcp and server:
            samples.add(PER_SERVER, count, server)
            samples.add(ERRORS_PER_SERVER, failed, server)


class ToolsCollector(LedgerCollector):
    """The totals, and the rate that follows from them."""

    def __init__(self, fold: Fold) -> None:
        super().__init__("tools", fold, COUNTED)
        self.metrics = (*COUNTED, SUCCESS_RATE)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        yield from super().collect(scrape)
        if not scrape.ledger.is_folded(ERRORS_PER_TOOL, PER_TOOL):
            return
        errors = scrape.ledger.values(ERRORS_PER_TOOL)
        rates: dict[LabelValues, float] = {
            labels: 100 * (calls - errors.get(labels, 0)) / calls
            for labels, calls in scrape.ledger.values(PER_TOOL).items()
        }
        yield SUCCESS_RATE.family(rates)
