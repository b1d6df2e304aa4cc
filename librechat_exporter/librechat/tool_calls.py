"""Tool calls: their names, and the MCP servers that offer the tools."""

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from librechat_exporter.librechat.database import LibreChat, allowed
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import SERVER_NAME, UNKNOWN
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

# LibreChat names an MCP server's tool so: the tool, this, the server.
_MCP = "_mcp_"
# A tool that an operator describes by OpenAPI; its name may look like an MCP server's.
_ACTION = "_action_"
# Hands the conversation over to the agent that follows.
_HANDOFF = "lc_transfer_to"


class ToolCall(NamedTuple):
    """A tool's name, whether the call failed, the endpoint of its message, and the tool's MCP server, if it has one.

    "unknown" stands for no name.
    """

    name: str
    failed: bool
    endpoint: str
    server: str | None


class Calling(Protocol):
    """Messages: the tool calls of each."""

    tool_calls: list[tuple[ToolCall, ...]]


def tool_calls(tools: Document) -> tuple[ToolCall, ...]:
    """Of what TOOLS gives. Of those beyond MOST_CALLS, the number alone is known."""
    endpoint = (tools["endpoint"] or UNKNOWN)[:MAX_LABEL_LENGTH]
    calls = tuple(_call(call["name"] or UNKNOWN, call["failed"], endpoint) for call in tools["calls"])
    beyond: int = tools["count"] - len(calls)
    return calls + (ToolCall(UNKNOWN, False, endpoint, None),) * beyond


def _call(name: str, failed: bool, endpoint: str) -> ToolCall:
    if name.startswith(f"{_HANDOFF}_"):
        name = _HANDOFF
    name = name[:MAX_LABEL_LENGTH]
    return ToolCall(name, failed, endpoint, _server(name))


def _server(name: str, known: Collection[str] = ()) -> str | None:
    """The MCP server of a tool: the longest known one that fits, else what follows the last `_mcp_`.

    As LibreChat does, a name that has both is an action's if `_mcp_` comes first.
    """
    if _MCP not in name or name.find(_MCP) < name.find(_ACTION):
        return None
    fitting = [server for server in known if name.endswith(f"{_MCP}{server}")]
    return max(fitting, key=len, default=name.rpartition(_MCP)[2]) or None


def _is_doubtful(name: str) -> bool:
    return name.find(_MCP) != name.rfind(_MCP)  # they may overlap, as in `_mcp_mcp_`


def name_servers(librechat: LibreChat, messages: Iterable[Calling]) -> None:
    """Looks up the servers of tools whose names have more than one `_mcp_`, as the names of servers may."""
    doubtful = [one for one in messages if any(_is_doubtful(call.name) for calls in one.tool_calls for call in calls)]
    if not doubtful:
        return
    rows = allowed(lambda: librechat.aggregate("mcpservers", {}, {"$project": {"name": SERVER_NAME}}))
    known = {row["name"] for row in rows or () if row["name"] is not None}
    for one in doubtful:
        one.tool_calls = [
            tuple(call._replace(server=_server(call.name, known)) for call in calls) for calls in one.tool_calls
        ]
