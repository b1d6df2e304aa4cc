"""The meaning of the fields of LibreChat's documents: nothing else in the exporter knows a field of theirs.

Most are aggregation expressions that hold for documents of any shape; expressions.py says how.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bson import ObjectId

from librechat_exporter.librechat.expressions import (
    Document,
    Expression,
    amount,
    filled,
    has_type,
    is_amount,
    is_between,
    is_nothing,
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
# Of a dollar, which is a million credits.
USD_PARTS = 1_000_000 * CREDIT_PARTS
LONGEST_ID = 200  # LibreChat's ids are UUIDs and ObjectIds


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
# Matches messages that can be agents'.
MAY_BE_AGENTS: Document = {"model": {"$gte": "agent_", "$lt": "agent`"}}
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
CONVERSATION_FIELD = "conversationId"
CONVERSATION = when({"$ne": [f"${CONVERSATION_FIELD}", ""]}, text(f"${CONVERSATION_FIELD}", LONGEST_ID), None)
MESSAGE_ID_FIELD = "messageId"
PARENT_FIELD = "parentMessageId"
# All that is read, if the user may read it; without one, the metrics that come of it alone are absent.
COLLECTIONS = (
    "messages",
    "conversations",
    "users",
    "groups",
    "files",
    "agents",
    "transactions",
    "balances",
    "sessions",
    "memoryentries",
    "skills",
    "chatprojects",
    "sharedlinks",
    "mcpservers",
    "agentapikeys",
    "scheduleruns",
    "agenttriggerdeliveries",
    "agentqueuedturns",
    "skillsyncstatuses",
    "auditlogs",
    "bans",
    "logs",
)
# The indexes of LibreChat's schema that queries lean on: collection, leading field.
NEEDED_INDEXES = (("messages", "createdAt"), ("messages", MESSAGE_ID_FIELD))
# Of a user's message its own id, of an answer its question's.
LINK = when(IS_USERS, text(f"${MESSAGE_ID_FIELD}", LONGEST_ID), text(f"${PARENT_FIELD}", LONGEST_ID))

# A sub-agent's thread is written by machines: its messages name their task, its conversation the thread.
IS_SUBAGENTS = {"$ne": [{"$ifNull": ["$subagentTask", None]}, None]}
NOT_SUBAGENTS: Document = {"subagentTask": is_nothing()}
# The conversationId of such a thread; null for people's chats.
THREAD = when(IS_SUBAGENTS, CONVERSATION, None)


class Without(NamedTuple):
    """Documents that are left out: an expression that is true for them, and a match of all others."""

    expression: Expression
    match: Document


SUBAGENT_THREADS = Without({"$ne": [{"$ifNull": ["$subagentThread", None]}, None]}, {"subagentThread": is_nothing()})
# The sub-agent of a thread is named by its conversation.
THREADS_AGENT = {CONVERSATION_FIELD: 1, "agent": filled("$agent_id")}

# What LibreChat tells of the model calls of an answer, in tokens and parts of US dollars; 1 where it tells any.
USAGE = {
    "told": when(has_type("$metadata.usage", "object"), 1, 0),
    "input": parts("$metadata.usage.input"),
    "output": parts("$metadata.usage.output"),
    "cache_read": parts("$metadata.usage.cacheRead"),
    "cache_write": parts("$metadata.usage.cacheWrite"),
    "cost": parts("$metadata.usage.cost", USD_PARTS),
}

RATING_FIELD = "feedback.rating"
RATING = f"${RATING_FIELD}"
# Holds rated messages alone, and all that is read of them, so that the messages themselves are not read.
RATINGS_INDEX = dict.fromkeys((RATING_FIELD, "feedback.tag", "model", "endpoint", "updatedAt", "subagentTask"), 1)
RATINGS_INDEX_OPTIONS: Document = {
    "name": "librechat_exporter_ratings",
    "partialFilterExpression": {RATING_FIELD: {"$exists": True}},
}
RATED_AT = "$updatedAt"
TAG = {"$ifNull": [text("$feedback.tag"), when(is_null("$feedback.tag"), None, UNKNOWN)]}
IS_RATED = {RATING_FIELD: {"$in": list(RATINGS)}} | NOT_SUBAGENTS


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
# A group lists a user by its idOnTheSource, or by its `_id` as text.
GROUP = {"_id": 0, "name": filled("$name"), "members": when({"$isArray": "$memberIds"}, "$memberIds", [])}
SESSION_USER = "$user"
MEMORY_USER = "$userId"
# Of several balances the oldest is the user's.
BALANCE_USER = "$user"
CREDITS_LEFT = when(is_amount("$tokenCredits"), "$tokenCredits", None)
REFILL = amount("$refillAmount")
FILE_SOURCE = filled("$source")
FILE_CONTEXT = filled("$context")
FILE_TYPE = filled("$type")
FILE_BYTES = amount("$bytes")
CATEGORY = filled("$category")
OUTCOME = filled("$outcome")
STATUS = filled("$status")

IS_BEING_WRITTEN = {"$eq": ["$unfinished", True]}
# Stopped by the user, or broken off; not by its own many tool calls.
UNFINISHED = {
    "$or": [
        {"$and": [IS_BEING_WRITTEN, {"$ne": ["$finish_reason", "tool_call_limit"]}]},
        {"$eq": ["$finish_reason", "incomplete"]},
    ]
}


SERVER_NAME = filled("$serverName")
# A ban's key is a user's id or an address. LibreChat once kept bans among its logs; keys `ban:` are its cache of them.
BAN_COLLECTIONS = ("bans", "logs")


def is_ban(now: datetime) -> Document:
    """Matches bans that are in force."""
    return {"key": {"$regex": "^BANS:"}, "expiresAt": {"$not": {"$lte": now}}}


def is_unexpired(now: datetime) -> Document:
    """Matches sessions that have not expired."""
    return {"expiration": {"$gt": now}}


IS_TEMPORARY: Document = {"isTemporary": True} | SUBAGENT_THREADS.match


# Of any date that can be meant.
_EPOCH, _FAR = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
# createdAt in milliseconds since 1970; 0 if it is no date that can be meant, negative if it is more than a day before
# the time of the `_id`, as of an imported chat.
CREATED = when(
    is_between("$createdAt", _EPOCH, _FAR),
    when(IS_IMPORTED, {"$multiply": [-1, MILLISECONDS]}, MILLISECONDS),
    0,
)


# Days since 1970; -1 if createdAt is no date that can be meant.
DAY_OF_CREATION = when(
    is_between("$createdAt", _EPOCH, _FAR),
    {"$divide": [{"$subtract": [MILLISECONDS, {"$mod": [MILLISECONDS, 86_400_000]}]}, 86_400_000]},
    -1,
)
# A user as whom others know it, and when it registered, in milliseconds since 1970; null if that is no date.
USER_RECORD = {
    "external": filled("$idOnTheSource"),
    "domain": EMAIL_DOMAIN,
    "created": when(is_between("$createdAt", _EPOCH, _FAR), MILLISECONDS, None),
}


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
# An answer, by whose it is and its messageId, or that it is billed for.
ANSWER_FIELD = MESSAGE_ID_FIELD
ANSWER = text(f"${ANSWER_FIELD}", LONGEST_ID)


def billed_for(answers: list[str]) -> Document:
    """Matches transactions of answers with these messageIds."""
    return {ANSWER_FIELD: {"$in": answers}}


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


def not_created_within(end: datetime, length: timedelta) -> Document:
    """Matches the documents that created_within does not."""
    return {"$nor": [created_within(end, length)]}


def created_within(end: datetime, length: timedelta) -> Document:
    """Matches documents created within the window that ends at `end`; those without a date or of the future are out."""
    return {"createdAt": {"$gt": end - length, "$lte": end, "$not": {"$type": "array"}}}
