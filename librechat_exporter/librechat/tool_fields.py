"""The meaning of a message's tool calls: fields.py has that of everything else."""

from librechat_exporter.librechat.expressions import Expression, begins, ends, filled, has_type, is_filled, text, when
from librechat_exporter.librechat.fields import IS_BEING_WRITTEN

# Of one message, so many tool calls are told apart.
MOST_CALLS = 1000
# Asks how a background call goes on, and is no call of its own.
_POLL = "check_background_task"
# How a tool call ends that goes on after its message.
_FAILED = ["error", "failed", "timeout"]
_ENDED = ["completed", "cancelled", "canceled", *_FAILED]

# A tool's name stands in one of three places, its output in one of two: the assistants endpoint has OpenAI's form.
_TOOL_NAME = when(
    is_filled("$$part.tool_call.name"),
    text("$$part.tool_call.name"),
    when(
        is_filled("$$part.tool_call.function.name"),
        text("$$part.tool_call.function.name"),
        filled("$$part.tool_call.type"),
    ),
)


# What LibreChat's agents and MCP servers report; an output that merely speaks of errors does not begin like this. It is
# not told by regular expressions: the server gives up on them if the text is megabytes, or not valid UTF-8.
def _tells_error(output: str, otherwise: Expression) -> Expression:
    lowered = {"$toLower": output}
    of_a_tool = {
        "$or": [
            {"$gte": [{"$indexOfBytes": [lowered, "tool call failed:"]}, 0]},
            ends(lowered, "please fix your mistakes."),
        ]
    }
    is_error = {
        "$and": [
            begins(lowered, "error"),
            {
                "$or": [
                    begins(lowered, "error processing tool"),
                    begins(lowered, "error calling tool"),
                    {"$and": [begins(lowered, "error:"), of_a_tool]},
                ]
            },
        ]
    }
    # A policy denied the call.
    return when(has_type(output, "string"), {"$or": [begins(output, "Blocked:"), is_error]}, otherwise)


_TOOL_FAILED = {
    "$or": [
        _tells_error("$$part.tool_call.output", _tells_error("$$part.tool_call.function.output", False)),
        {"$in": ["$$part.tool_call.backgroundTask.status", _FAILED]},
    ]
}
_HAS_CALLS = when({"$isArray": "$content"}, {"$in": ["tool_call", "$content.type"]}, False)
_IS_CALL = {"$and": [{"$eq": ["$$part.type", "tool_call"]}, {"$ne": ["$$part.tool_call.name", _POLL]}]}
_CALLS = {"$filter": {"input": "$content", "as": "part", "cond": _IS_CALL}}
# The first MOST_CALLS tool calls of a message, their number, and its endpoint; null if it has none.
TOOLS = when(
    _HAS_CALLS,
    {
        "endpoint": filled("$endpoint"),
        "count": {"$size": _CALLS},
        "calls": {
            "$map": {
                "input": {"$slice": [_CALLS, MOST_CALLS]},
                "as": "part",
                "in": {"name": _TOOL_NAME, "failed": _TOOL_FAILED},
            }
        },
    },
    None,
)
_BACKGROUND = "$content.tool_call.backgroundTask"
# More is to come: the answer is being written, or a tool call of it goes on.
IS_UNSETTLED = {
    "$or": [
        IS_BEING_WRITTEN,
        when(
            _HAS_CALLS,
            {
                "$gt": [
                    {"$size": _BACKGROUND},
                    {
                        "$size": {
                            "$filter": {
                                "input": f"{_BACKGROUND}.status",
                                "as": "status",
                                "cond": {"$in": ["$$status", _ENDED]},
                            }
                        }
                    },
                ]
            },
            False,
        ),
    ]
}
