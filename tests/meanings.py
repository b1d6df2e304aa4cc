"""The meaning of the fields of LibreChat's documents, in plain Python: what the oracles have in common."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, ObjectId

Document = Mapping[str, Any]
Labels = tuple[tuple[str, str], ...]
Values = dict[tuple[str, Labels], float]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_users(message: Document) -> bool:
    created = message.get("isCreatedByUser")
    if created is None:
        return message.get("sender") in ("User", "user") and isinstance(message.get("sender"), str)
    return created is True


def failed(message: Document) -> bool:
    if message.get("error") is True:
        return True
    content = message.get("content")
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") == "error" for part in content)


def whole(value: float | None, of_one: int = 1) -> int:
    """In parts, of which 1 has so many, rounded half up and without the sign."""
    return int(abs(value or 0) * of_one + 0.5)


def usable_tokens(message: Document) -> bool:
    tokens = message.get("tokenCount")
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or math.isnan(tokens):
        return False
    return 0 <= tokens <= 2147483647


def tokens(message: Document) -> float:
    return whole(message["tokenCount"]) if usable_tokens(message) else 0


def text(value: Any) -> str | None:
    """A text of more than 800 bytes can only be absurd."""
    return value[:200] if isinstance(value, str) and value and len(value.encode()) <= 800 else None


def identifier(value: Any) -> str | None:
    """Of LibreChat's ids, none is longer than a UUID."""
    return value if isinstance(value, str) and 0 < len(value.encode()) <= 200 else None


def user(message: Document) -> str | None:
    value = message.get("user")
    return str(value) if isinstance(value, ObjectId) else identifier(value)


def model(message: Document, agents: Iterable[Document]) -> str:
    name = text(message.get("model"))
    if name is None:
        return "unknown"
    if name.startswith("agent_") and message.get("endpoint") in ("agents", None):
        for agent in agents:
            if agent.get("id") == name:
                return text(agent.get("model")) or "unknown"
        return "unknown"
    return name


def created_within(message: Document, start: datetime, end: datetime, field: str = "createdAt") -> bool:
    value = message.get(field)
    return isinstance(value, datetime) and start < value <= end


def prompt(answer: Document, messages: Iterable[Document]) -> float:
    parent = identifier(answer.get("parentMessageId"))
    if parent is None:
        return 0
    found = [
        tokens(message)
        for message in messages
        if is_users(message) and message.get("messageId") == parent and user(message) == user(answer)
    ]
    return max(found, default=0)


def tool_calls(message: Document) -> Iterable[tuple[str, bool]]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "tool_call":
            call = part.get("tool_call")
            call = call if isinstance(call, dict) else {}
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            if call.get("name") == "check_background_task":
                continue
            names = (call.get("name"), function.get("name"), call.get("type"))
            name = text(next((name for name in names if isinstance(name, str) and name), None)) or "unknown"
            output = call.get("output") if isinstance(call.get("output"), str) else function.get("output")
            background = call.get("backgroundTask")
            status = background.get("status") if isinstance(background, dict) else None
            yield (
                "lc_transfer_to" if name.startswith("lc_transfer_to_") else name,
                tool_failed(output) or (isinstance(status, str) and status in ("error", "failed", "timeout")),
            )


def server_of(tool: str, known: Iterable[str]) -> str:
    """The MCP server of a tool, or nothing."""
    mcp, action = tool.find("_mcp_"), tool.find("_action_")
    if mcp < 0 or (action >= 0 and mcp < action):
        return ""
    fitting = [server for server in known if tool.endswith(f"_mcp_{server}")]
    return max(fitting, key=len) if fitting else tool[tool.rfind("_mcp_") + len("_mcp_") :]


def tool_failed(output: Any) -> bool:
    if not isinstance(output, str):
        return False
    output = output.strip(" \t\r\n\v\f")
    if output.startswith("Blocked:"):
        return True
    output = output.lower()
    if output.startswith(("error processing tool", "error calling tool")):
        return True
    return output.startswith("error:") and (
        "tool call failed:" in output or output.endswith("please fix your mistakes.")
    )


def amount(value: Any) -> float | None:
    if isinstance(value, Decimal128):
        value = float(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or abs(value) > 1e12:
        return None
    return value


def domain_of(document: Document) -> str:
    email = document.get("email")
    domain = email.rpartition("@")[2] if isinstance(email, str) and "@" in email else None
    return text(domain and domain.lower()) or "unknown"


def reason(message: Document) -> str:
    """Why LibreChat rejected a request, in its own words."""
    known = ("token_balance", "illegal_model_request", "refusal", "missing_model", "INPUT_LENGTH")
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    errors = [part.get("error") for part in parts if part.get("type") == "error"]
    for said in (message.get("text"), *errors[:1]):
        if isinstance(said, str) and '"type"' in said and len(said.encode()) <= 65_536:
            rest = said.partition('"type"')[2]
            found = re.match(r'[ \t\n\r\v\f]*:[ \t\n\r\v\f]*"([^"]*)', rest)
            if found:
                return found[1] if found[1] in known else "other"
    return "other"
