"""The meaning of the fields of LibreChat's documents: nothing else in the exporter knows a field of theirs.

Most are aggregation expressions that hold for documents of any shape; expressions.py says how.
"""

from datetime import UTC, datetime, timedelta

from bson import ObjectId

from librechat_exporter.librechat.expressions import (
    Document,
    Expression,
    amount,
    begins,
    ends,
    filled,
    has_type,
    is_amount,
    is_between,
    is_filled,
    is_null,
    parts,
    text,
    when,
)

UNKNOWN = "unknown"
RATINGS = THUMBS_UP, THUMBS_DOWN = ("thumbsUp", "thumbsDown")
TENANT_FIELD = "tenantId"
MAX_TOKENS = 2**31 - 1  # LibreChat keeps tokenCount as an int32
# Credits are counted in whole parts: a sum of fractions depends on their order in its last digit, and a counter that
# falls by that has been reset, for Prometheus.
CREDIT_PARTS = 10_000
_LONGEST_ERROR = 65_536
LONGEST_ID = 200  # LibreChat's ids are UUIDs and ObjectIds
# Of one message, so many tool calls are told apart.
MOST_CALLS = 1000


# A user's message, or else an answer. Nothing but a missing, null or undefined value sorts between these two bounds.
IS_USERS = {
    "$or": [
        {"$eq": ["$isCreatedByUser", True]},
        {
            "$and": [
                {"$lte": ["$isCreatedByUser", None]},
                {"$ne": [{"$type": "$isCreatedByUser"}, "minKey"]},
                {"$in": ["$sender", ["User", "user"]]},
            ]
        },
    ]
}

# Today's agents client leaves `error: false` and puts the error into the content.
FAILED = {
    "$or": [
        {"$eq": ["$error", True]},
        when({"$isArray": "$content"}, {"$in": ["error", "$content.type"]}, False),
    ]
}

# The message's model, in an array if it is an agent's id; null where there is none. "`" follows "_" in ASCII, so the
# two comparisons are a test for the prefix "agent_".
_IS_AGENT = {
    "$and": [
        has_type("$model", "string"),
        {"$gte": ["$model", "agent_"]},
        {"$lt": ["$model", "agent`"]},
        {"$in": [{"$ifNull": ["$endpoint", None]}, ["agents", None]]},
    ]
}
MODEL = when(_IS_AGENT, [text("$model")], text("$model"))

# A usable tokenCount; -1 for anything else, null for nothing. In BSON's order only numbers sort between two numbers.
TOKENS = when(
    {"$and": [{"$gte": ["$tokenCount", 0]}, {"$lte": ["$tokenCount", MAX_TOKENS]}]},
    "$tokenCount",
    when(is_null("$tokenCount"), None, -1),
)
USER = text("$user", LONGEST_ID, when(has_type("$user", "objectId"), "$user", None))
MILLISECONDS = {"$toLong": "$createdAt"}
IS_IMPORTED = when(
    has_type("$_id", "objectId"), {"$gt": [{"$subtract": [{"$toDate": "$_id"}, "$createdAt"]}, 86_400_000]}, False
)
CONVERSATION = text("$conversationId", LONGEST_ID)
MESSAGE_ID_FIELD = "messageId"
# The indexes of LibreChat's schema that queries lean on: collection, leading field.
NEEDED_INDEXES = (("messages", "createdAt"), ("messages", MESSAGE_ID_FIELD))
# Of a user's message its own id, of an answer its question's.
LINK = when(IS_USERS, text(f"${MESSAGE_ID_FIELD}", LONGEST_ID), text("$parentMessageId", LONGEST_ID))

RATING_FIELD = "feedback.rating"
RATING = f"${RATING_FIELD}"
# Holds rated messages alone, and all that is read of them, so that the messages themselves are not read.
RATINGS_INDEX = (
    "db.messages.createIndex("
    '{"feedback.rating": 1, "feedback.tag": 1, model: 1, endpoint: 1, updatedAt: 1}, '
    '{name: "librechat_exporter_ratings", partialFilterExpression: {"feedback.rating": {$exists: true}}})'
)
RATED_AT = "$updatedAt"
TAG = {"$ifNull": [text("$feedback.tag"), when(is_null("$feedback.tag"), None, UNKNOWN)]}
IS_RATED = {RATING_FIELD: {"$in": list(RATINGS)}}


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
    return when(has_type(output, "string"), is_error, otherwise)


_TOOL_FAILED = _tells_error("$$part.tool_call.output", _tells_error("$$part.tool_call.function.output", False))
_HAS_CALLS = when({"$isArray": "$content"}, {"$in": ["tool_call", "$content.type"]}, False)
_CALLS = {"$filter": {"input": "$content", "as": "part", "cond": {"$eq": ["$$part.type", "tool_call"]}}}
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
# How a tool call ends that goes on after its message.
_ENDED = ["completed", "error", "failed", "cancelled", "canceled", "timeout"]
_BACKGROUND = "$content.tool_call.backgroundTask"
# Whether more is to come: the answer is being written, or a tool call of it goes on.
IS_UNSETTLED = {
    "$or": [
        {"$eq": ["$unfinished", True]},
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

# An agent's id in messages, and what its document says of it.
AGENT_ID_FIELD = "id"
AGENT = {AGENT_ID_FIELD: 1, "model": filled("$model"), "name": filled("$name")}

PROVIDER = filled("$provider")
ROLE = filled("$role")
REGISTRATION = {"_id": 0, "created": "$createdAt", "provider": PROVIDER}
# What follows the last @ of the e-mail address. What has none could be anything, a name among others.
EMAIL_DOMAIN = when(
    when(has_type("$email", "string"), {"$gte": [{"$indexOfBytes": ["$email", "@"]}, 0]}, False),
    {"$toLower": {"$arrayElemAt": [{"$split": ["$email", "@"]}, -1]}},
    None,
)
SESSION_USER = "$user"
MEMORY_USER = "$userId"
# Of several balances the oldest is the user's.
BALANCE_USER = "$user"
CREDITS_LEFT = when(is_amount("$tokenCredits"), "$tokenCredits", None)
REFILL = amount("$refillAmount")
FILE_SOURCE = filled("$source")
FILE_TYPE = filled("$type")
FILE_BYTES = amount("$bytes")
CATEGORY = filled("$category")
OUTCOME = filled("$outcome")
STATUS = filled("$status")

# Stopped by the user, or broken off.
UNFINISHED = {"$or": [{"$eq": ["$unfinished", True]}, {"$eq": ["$finish_reason", "incomplete"]}]}


# The types of LibreChat's errors and violations. A text could quote anything else, so nothing else becomes a label.
REASONS = (
    *("token_balance", "illegal_model_request", "concurrent", "message_limit", "moderation", "ban", "refusal"),
    *("no_user_key", "expired_user_key", "invalid_user_key", "auth_failed", "no_base_url", "invalid_base_url"),
    *("missing_model", "models_not_loaded", "endpoint_models_not_loaded", "invalid_agent_provider"),
    *("input_length", "invalid_request", "invalid_action", "no_system_messages", "tool_call_limit"),
    *("google_error", "google_tool_conflict", "file_upload_limit"),
)


def _error_type(error: Expression) -> Expression:
    """What follows `"type":` in a text that quotes LibreChat's own JSON; null if nothing does."""
    return {"$arrayElemAt": [{"$split": [{"$arrayElemAt": [{"$split": [error, '"type":"']}, 1]}, '"']}, 0]}


_ERROR_PARTS = {
    "$filter": {
        "input": when({"$isArray": "$content"}, "$content", []),
        "as": "part",
        "cond": {"$eq": ["$$part.type", "error"]},
    }
}
# Why LibreChat rejected a request, as it writes it into the failed message: its place in REASONS, -1 for anything else.
REASON = {
    "$indexOfArray": [
        list(REASONS),
        {
            "$ifNull": [
                _error_type(text("$text", _LONGEST_ERROR)),
                {
                    "$arrayElemAt": [
                        {
                            "$map": {
                                "input": _ERROR_PARTS,
                                "as": "part",
                                "in": _error_type(text("$$part.error", _LONGEST_ERROR)),
                            }
                        },
                        0,
                    ]
                },
            ]
        },
    ]
}

# A conversation lists its messages; one that was imported does not.
MESSAGES_LISTED = when({"$isArray": "$messages"}, {"$size": "$messages"}, 0)
# A ban's key is a user's id or an address. LibreChat once kept bans among its logs; keys `ban:` are its cache of them.
BAN_COLLECTIONS = ("bans", "logs")


def is_ban(now: datetime) -> Document:
    """Matches bans that are in force."""
    return {"key": {"$regex": "^BANS:"}, "expiresAt": {"$not": {"$lte": now}}}


def is_unexpired(now: datetime) -> Document:
    """Matches sessions that have not expired."""
    return {"expiration": {"$gt": now}}


IS_TEMPORARY: Document = {"isTemporary": True}


# Of any date that can be meant.
_EPOCH, _FAR = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
# createdAt in milliseconds since 1970; 0 if it is no date that can be meant, negative if it is more than a day before
# the time of the `_id`, as of an imported chat.
CREATED = when(
    is_between("$createdAt", _EPOCH, _FAR),
    when(IS_IMPORTED, {"$multiply": [-1, MILLISECONDS]}, MILLISECONDS),
    0,
)


def hour_of_creation(start: datetime, end: datetime) -> Expression:
    """Hours since 1970; null if createdAt is no date after start and not after end."""
    hours = {"$divide": [{"$subtract": [MILLISECONDS, {"$mod": [MILLISECONDS, 3_600_000]}]}, 3_600_000]}
    return when(is_between("$createdAt", start, end), hours, None)


# A prompt's transaction in the structured form tells cached tokens apart; the plain one has only rawAmount.
_IS_PROMPT = {"$eq": ["$tokenType", "prompt"]}
_IS_CREDITS = {"$eq": ["$tokenType", "credits"]}
BILLED = {
    "model": text("$model"),
    "context": text("$context"),
    "kind": when(
        _IS_PROMPT,
        "prompt",
        when({"$eq": ["$tokenType", "completion"]}, "completion", when(_IS_CREDITS, "credits", None)),
    ),
    "structured": when(
        _IS_PROMPT,
        {"$or": [is_amount("$inputTokens"), is_amount("$writeTokens"), is_amount("$readTokens")]},
        False,
    ),
}
AMOUNTS = {name: parts(f"${name}") for name in ("rawAmount", "inputTokens", "writeTokens", "readTokens")}
AMOUNTS["tokenValue"] = parts("$tokenValue", CREDIT_PARTS)
HAS_AMOUNTS = {"$and": [is_amount("$rawAmount"), is_amount("$tokenValue")]}
# An administrator may take credits away, which is no grant.
GRANTED = when({"$and": [_IS_CREDITS, {"$gt": ["$tokenValue", 0]}]}, AMOUNTS["tokenValue"], 0)


def created_between(start: datetime, end: datetime) -> Document:
    """Matches documents created from start on and before end; those without a date are out."""
    return {"createdAt": {"$gte": start, "$lt": end, "$not": {"$type": "array"}}}


def indexed_between(start: datetime, end: datetime) -> Document:
    """Matches nearly the same: how many match is told by the index of createdAt alone."""
    return {"createdAt": {"$gte": start, "$lt": end}}


def created_after(moment: datetime) -> Document:
    return {"createdAt": {"$gt": moment}}


def not_created_after(moment: datetime) -> Document:
    """Matches documents created until then, and those without a date."""
    return {"createdAt": {"$not": {"$gt": moment}}}


def used_between(start: datetime, end: datetime) -> Document:
    """Matches API keys last used from start on and before end."""
    return {"lastUsedAt": {"$gte": start, "$lt": end, "$not": {"$type": "array"}}}


def inserted_between(start: datetime, end: datetime) -> Document:
    """Matches documents by the time in their `_id`, from start on and before end, to the second."""
    return {"_id": {"$gte": ObjectId.from_datetime(start), "$lt": ObjectId.from_datetime(end)}}


def created_within(end: datetime, length: timedelta) -> Document:
    """Matches documents created within the window that ends at `end`; those without a date or of the future are out."""
    return {"createdAt": {"$gt": end - length, "$lte": end, "$not": {"$type": "array"}}}
