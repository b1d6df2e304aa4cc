"""Hypothesis strategies for LibreChat's documents, and for what LibreChat would never write."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Decimal128, Int64, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

NOW = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)
MISSING = object()

_odd_text = st.sampled_from(
    ["", " ", 'quo"te', "new\nline", "back\\slash", "\0null", "LONG", "ü" * 300, "$field", "a.b", "{}", "😀" * 70]
).map(lambda text: text.replace("LONG", "x" * 10_000))
_wrong_type: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        [],
        ["x"],
        {},
        {"x": 1},
        ObjectId("6" * 24),
        b"bytes",
        Timestamp(1, 1),
        Regex("x"),
        MinKey(),
    ]
)


def _field(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly the usual; sometimes missing, of a wrong type, or odd text."""
    return st.one_of(usual, usual, usual, usual, st.just(MISSING), _wrong_type, _odd_text)


def moments() -> st.SearchStrategy[datetime]:
    """Around the edges of every window, and far away."""
    edges = [
        timedelta(0),
        timedelta(minutes=5),
        timedelta(hours=15, minutes=6, seconds=7),
        timedelta(days=2),
        timedelta(40),
    ]
    near = st.builds(
        lambda edge, seconds: NOW - edge + timedelta(seconds=seconds), st.sampled_from(edges), st.integers(-3, 3)
    )
    far = st.sampled_from(
        [datetime(3025, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC)]
    )
    return st.one_of(near, near, st.integers(0, 4000).map(lambda seconds: NOW - timedelta(seconds=seconds)), far)


def object_ids() -> st.SearchStrategy[ObjectId]:
    """Of history, of the open minutes, of the edge between, and of a clock that is ahead."""
    seconds = st.one_of(st.integers(-3600, 60), st.integers(-603, -597), st.integers(-100_000_000, 100_000_000))
    return st.builds(
        lambda second, rest: ObjectId((int(NOW.timestamp()) + second).to_bytes(4, "big") + rest),
        seconds,
        st.binary(min_size=8, max_size=8),
    )


_outputs = st.sampled_from(
    [
        "Error processing tool: no",
        " \n error calling TOOL",
        "Error: [MCP][wiki][search] tool call failed: MCP error -32603\n Please fix your mistakes.",
        "Error: bad arguments\n Please fix your mistakes. \n",
        "Error: in what it says",
        " Blocked: by a policy",
        "blocked: is said in another way",
        "exit code 1: no",
        "an answer about Error processing tool",
        "Error: please fix your mistakes. No?",
        "LONG",
        "Error: LONGtool call failed:",
        "LONG error processing tool",
        'quo"te',
    ]
).map(lambda output: output.replace("LONG", "tool call " * 2000))
_tools = st.sampled_from(
    [
        "search",
        "search ",
        "run_mcp_wiki",
        "a_mcp_b_mcp_",
        "_mcp_x",
        "get_action_mcp_wiki",
        "run_mcp_mcp_wiki",
        "get_mcp_big_mcp_wiki",
        "run_mcp_wiki_action_x",
        "lc_transfer_to_agent_1",
        "lc_transfer_to_",
        "check_background_task",
    ]
)
_call = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(_tools, _odd_text, _wrong_type),
        "function": st.one_of(
            st.fixed_dictionaries(
                {}, optional={"name": st.one_of(st.just("getWeather"), _odd_text), "output": _outputs}
            ),
            _wrong_type,
        ),
        "type": st.one_of(st.sampled_from(["tool_call", "function", "code_interpreter"]), _wrong_type),
        "output": st.one_of(_outputs, _wrong_type),
        "backgroundTask": st.one_of(
            st.fixed_dictionaries({}, optional={"status": st.sampled_from(["error", "completed", ["error"], 1])}),
            _wrong_type,
        ),
    },
)
_reasons = st.sampled_from(
    [
        '{"type":"token_balance","balance":0}',
        'said: {"type":"illegal_model_request"}',
        '{"type":"made up by someone"}',
        '"type":"refusal',
        '{ "type" :\n"missing_model", "info": "x" }',
        'An error occurred while processing the request: {"type":"INPUT_LENGTH"}',
        '"type", "type":"refusal"',
        '"type":"',
        "429",
    ]
)
_part = st.one_of(
    st.fixed_dictionaries({"type": st.just("tool_call")}, optional={"tool_call": st.one_of(_call, _call, _wrong_type)}),
    st.just({"type": "tool_call", "tool_call": [{"name": "in a list"}]}),
    st.just({"type": "text", "text": "hello"}),
    st.just({"type": "error", "error": "An error occurred"}),
    st.builds(lambda error: {"type": "error", "error": error}, _reasons),
    st.just({"type": "tool_call", "tool_call": {"name": "x", "output": "Error: no"}}),
    st.just({"type": ["error"]}),
    st.just([{"type": "error"}]),
    _wrong_type,
)
_token_counts = st.one_of(
    st.integers(0, 5000),
    st.sampled_from(
        [2**31 - 1, 2**31, -1, float("nan"), float("inf"), 12.5, Int64(7), Decimal128("5"), "12", 1e300, -0.0]
    ),
)
_ids = st.sampled_from(["m1", "m2", "m3", "m4", "00000000-0000-0000-0000-000000000000"])
_models = st.sampled_from(
    ["gpt-4o", "claude", "agent_known", "agent_gone", "agent_odd", "agentless", "agent", "agent`", "\0x"]
)
_feedback = st.fixed_dictionaries(
    {"rating": _field(st.sampled_from(["thumbsUp", "thumbsDown", ["thumbsUp"]]))},
    optional={"tag": _field(st.sampled_from(["inaccurate", "bad_style"])), "text": st.just("private")},
)


_usage = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("input", "output", "cacheRead", "cacheWrite", "cost"), _token_counts)
)


def _documents(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields).map(_without_missing)


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(inner) for key, inner in value.items() if inner is not MISSING}
    return [_without_missing(inner) for inner in value] if isinstance(value, list) else value


def messages(created: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    if created is None:
        created = st.one_of(moments(), moments(), st.lists(moments(), max_size=2))
    return _documents(
        {
            "_id": object_ids(),
            "messageId": _field(_ids),
            "parentMessageId": _field(_ids),
            "conversationId": _field(st.sampled_from(["c1", "c2"])),
            "user": _field(st.sampled_from(["u1", "u2", ObjectId("5" * 24), "5" * 24])),
            "isCreatedByUser": _field(st.booleans()),
            "sender": _field(st.sampled_from(["User", "user", "GPT"])),
            "error": _field(st.booleans()),
            "content": st.one_of(st.lists(_part, max_size=4), _field(st.just([]))),
            "model": _field(_models),
            "endpoint": _field(st.sampled_from(["agents", "openAI"])),
            "tokenCount": _field(_token_counts),
            "createdAt": st.one_of(created, _field(created)),
            "updatedAt": _field(moments()),
            "feedback": st.one_of(_field(_feedback), _feedback, st.lists(_feedback, max_size=2)),
            "unfinished": _field(st.booleans()),
            "finish_reason": _field(st.sampled_from(["incomplete", "stop", "tool_call_limit"])),
            "text": _field(_reasons),
            "subagentTask": st.one_of(st.just(MISSING), st.just(MISSING), _field(st.just({"id": "t1"}))),
            "metadata": st.one_of(st.just(MISSING), _field(st.fixed_dictionaries({"usage": _field(_usage)}))),
        }
    )


def message_lists(
    created: st.SearchStrategy[Any] | None = None, min_size: int = 0
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A user has one message of each messageId: LibreChat has a unique index on it."""

    def key(message: dict[str, Any]) -> tuple[object, ...]:
        if not isinstance(message.get("messageId"), str):
            return (message["_id"],)
        return message["messageId"], str(message.get("user") or None)

    return st.lists(
        messages(created), min_size=min_size, max_size=12 + min_size, unique_by=(lambda message: message["_id"], key)
    ).map(_as_answered)


def _as_answered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A question that was answered twice stands before its answers and in one conversation with them, which is what
    tells that the second was made again."""
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for message in found:
        parent = message.get("parentMessageId")
        if isinstance(parent, str):
            answers.setdefault((parent, str(message.get("user") or None)), []).append(message)
    for message in found:
        link = message.get("messageId"), str(message.get("user") or None)
        of_it = answers.get(link, []) if isinstance(link[0], str) else []  # type: ignore[arg-type]
        if len(of_it) > 1:
            for one in (message, *of_it):
                one["conversationId"] = f"of {link[0]}"
            for one in of_it:
                if one["_id"] < message["_id"]:
                    del one["parentMessageId"]
    return found


def others() -> st.SearchStrategy[dict[str, Any]]:
    """Conversations, files, users, sessions, memories: a document of it all."""
    return _documents(
        {
            "_id": st.one_of(object_ids(), object_ids(), st.sampled_from([ObjectId("5" * 24), ObjectId("6" * 24)])),
            "name": _field(st.sampled_from(["Physics", "Law"])),
            "memberIds": _field(st.lists(st.sampled_from(["of entra", "5" * 24, "6" * 24, "", 7, None]), max_size=4)),
            "idOnTheSource": _field(st.just("of entra")),
            "user": _field(st.sampled_from(["u1", "u2", ObjectId("5" * 24)])),
            "userId": _field(st.sampled_from(["u1", ObjectId("5" * 24), ObjectId("6" * 24)])),
            "createdAt": _field(moments()),
            "expiration": _field(moments()),
            "isTemporary": _field(st.booleans()),
            "provider": _field(st.sampled_from(["local", "openid"])),
            "role": _field(st.sampled_from(["USER", "ADMIN"])),
            "email": _field(st.sampled_from(["ann@Example.org", "bob@example.org", "a@b@c.de", "nobody", "x@"])),
            "source": _field(st.sampled_from(["local", "s3"])),
            "type": _field(st.sampled_from(["image/png", "image/jpeg", "text/plain", "/"])),
            "bytes": _field(_token_counts),
            "status": _field(st.sampled_from(["success", "error"])),
            "context": _field(st.sampled_from(["message_attachment", "unknown"])),
            "conversationId": _field(st.sampled_from(["c1", "c2"])),
            "agent_id": _field(st.sampled_from(["agent_known", "agent_gone"])),
            "subagentThread": st.one_of(st.just(MISSING), _field(st.just({"parentConversationId": "c1"}))),
            "serverName": _field(st.sampled_from(["wiki", "big_mcp_wiki", "x"])),
            "category": _field(st.sampled_from(["auth", "admin"])),
            "outcome": _field(st.sampled_from(["success", "failure"])),
            "lastUsedAt": _field(moments()),
            "messages": _field(st.lists(st.just(ObjectId("7" * 24)), max_size=12)),
            "key": _field(st.sampled_from(["BANS:u1", "ban:u1", "BANS:10.0.0.1", "ENCODED_DOMAINS:x"])),
            "expiresAt": _field(moments()),
            "tokenCredits": _field(st.one_of(st.integers(-5, 5000), st.sampled_from([0, 1e300, Decimal128("7.5")]))),
            "refillAmount": _field(st.integers(0, 10_000)),
        }
    )


AGENTS = [
    {"_id": 1, "id": "agent_known", "model": "gpt-4o-mini", "name": "Known"},
    {"_id": 2, "id": "agent_odd", "model": {"not": "a string"}, "name": "Known"},
    {"_id": 3, "id": ["agent_gone"], "model": "x"},
    {"_id": 4, "model": "without an id"},
]

GROUPS = [
    {"_id": 1, "name": "Physics", "memberIds": ["5" * 24, "of entra"]},
    {"_id": 2, "name": "Physics ", "memberIds": ["5" * 24, "6" * 24]},
    {"_id": 3, "memberIds": ["u1", None, 5]},
    {"_id": 4, "name": "Law", "memberIds": {"not": "a list"}},
]

_kinds = st.sampled_from(["prompt", "prompt", "completion", "credits"])
_amounts = st.one_of(
    st.integers(-5000, 0),
    st.floats(-5000, 5000).map(lambda value: round(value, 3)),
    st.sampled_from([-0.0, float("nan"), float("-inf"), 1e300, -(2**62), Decimal128("-12.5"), Int64(-7), "12"]),
)


def transactions(
    created: st.SearchStrategy[Any], ids: st.SearchStrategy[ObjectId] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    """Without ids, their `_id` is of about the time that createdAt tells, as LibreChat makes both at once."""

    def with_id(document: dict[str, Any], tail: bytes) -> dict[str, Any]:
        created = document.get("createdAt")
        moment = created if isinstance(created, datetime) and 2000 < created.year < 2100 else NOW
        return {"_id": ObjectId(int(moment.timestamp()).to_bytes(4, "big") + tail)} | document

    fields = {
        "createdAt": st.one_of(created, _field(created)),
        "tokenType": st.one_of(_kinds, _field(_kinds)),
        "user": _field(st.sampled_from(["u1", ObjectId("5" * 24), ObjectId("6" * 24)])),
        "model": _field(st.sampled_from(["gpt-4o", "claude"])),
        "context": _field(st.sampled_from(["message", "abort", "title", "sequential"])),
        "messageId": _field(_ids),
        "rawAmount": _field(_amounts),
        "tokenValue": _field(_amounts),
        "inputTokens": st.one_of(st.just(MISSING), _field(_amounts)),
        "writeTokens": st.one_of(st.just(MISSING), _field(_amounts)),
        "readTokens": st.one_of(st.just(MISSING), _field(_amounts)),
    }
    if ids is not None:
        return _documents(fields | {"_id": ids})
    return st.builds(with_id, _documents(fields), st.binary(min_size=8, max_size=8))


def users(created: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    providers = st.sampled_from(["local", "openid", "openid  "])
    fields = {
        "_id": st.one_of(object_ids(), st.sampled_from([ObjectId("5" * 24), ObjectId("6" * 24)])),
        "createdAt": st.one_of(created, _field(created)),
        "provider": _field(providers),
        "idOnTheSource": _field(st.just("of entra")),
    }
    return _documents(fields)
