"""What LibreChat's documents mean. Nothing else in the exporter knows a field of theirs.

The expressions are MongoDB aggregation expressions that hold for documents of any shape: a field that is missing, null
or of another type than LibreChat writes never raises an error on the server. They use only operators that
MongoDB 4.4 and Amazon DocumentDB 5 both have.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pymongo.errors
from bson import CodecOptions, ObjectId
from bson.codec_options import DatetimeConversion
from pymongo.database import Database

from librechat_exporter.metric import MAX_LABEL_LENGTH

Document = dict[str, Any]
Expression = Any

UNKNOWN = "unknown"
RATINGS = ("thumbsUp", "thumbsDown")
MAX_TOKENS = 2**31 - 1  # LibreChat keeps tokenCount as an int32
_AGENT_MARK = "\0"
_LOOK_UP_AT_ONCE = 500

# The indexes of LibreChat's schema that the queries here lean on: collection, leading field.
NEEDED_INDEXES = (("messages", "createdAt"), ("messages", "messageId"))


def when(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def has_type(field: str, *types: str) -> Expression:
    return {"$in": [{"$type": field}, list(types)]}


def _is_null(field: str) -> Expression:
    return {"$eq": [{"$ifNull": [field, None]}, None]}


def _text(field: str) -> Expression:
    """The field if it is a string with something in it, cut to what a label may hold, else null."""
    short = when({"$lte": [{"$strLenBytes": field}, MAX_LABEL_LENGTH]}, field, {"$substrCP": [field, 0, MAX_LABEL_LENGTH]})
    return when({"$and": [has_type(field, "string"), {"$ne": [field, ""]}]}, short, None)


# A user's message, or else an answer.
IS_USERS = when(
    _is_null("$isCreatedByUser"), {"$in": ["$sender", ["User", "user"]]}, {"$eq": ["$isCreatedByUser", True]}
)

# Today's agents client leaves `error: false` and puts the error into the content.
FAILED = {
    "$or": [
        {"$eq": ["$error", True]},
        when({"$isArray": "$content"}, {"$in": ["error", "$content.type"]}, False),
    ]
}

_TOKENS_USABLE = {
    "$and": [
        has_type("$tokenCount", "int", "long", "double"),
        {"$gte": ["$tokenCount", 0]},  # false for NaN
        {"$lte": ["$tokenCount", MAX_TOKENS]},
    ]
}
TOKENS = when(_TOKENS_USABLE, "$tokenCount", 0)
TOKENS_UNUSABLE = when(when(_TOKENS_USABLE, False, {"$not": [_is_null("$tokenCount")]}), 1, 0)

# The user's id as a string, null where there is none. LibreChat writes a string here, an ObjectId in other collections.
USER = when(
    has_type("$user", "string"),
    when({"$eq": ["$user", ""]}, None, "$user"),
    when(has_type("$user", "objectId"), {"$toString": "$user"}, None),
)
CONVERSATION = _text("$conversationId")

# The message's model, marked where it is an agent's id; null where there is none. "`" follows "_" in ASCII, so the two
# comparisons are a test for the prefix "agent_" that no type of value can break.
_IS_AGENT = {
    "$and": [
        {"$gte": ["$model", "agent_"]},
        {"$lt": ["$model", "agent`"]},
        {"$in": [{"$ifNull": ["$endpoint", None]}, ["agents", None]]},
    ]
}
MODEL = when(_IS_AGENT, {"$concat": [_AGENT_MARK, _text("$model")]}, _text("$model"))

# What links an answer to its question: a user's message by its own id, an answer by its parent's.
_LINK_FIELD = when(IS_USERS, "$messageId", "$parentMessageId")
LINK = [USER, when({"$eq": [{"$type": _LINK_FIELD}, "string"]}, _LINK_FIELD, None)]

RATING = "$feedback.rating"
TAG = when(has_type("$feedback.tag", "string"), _text("$feedback.tag"), when(_is_null("$feedback.tag"), None, UNKNOWN))
IS_RATED = {"feedback.rating": {"$in": list(RATINGS)}}


def is_between(field: str, start: datetime, end: datetime) -> Expression:
    """Whether the field is a date after start and not after end."""
    return {"$and": [has_type(field, "date"), {"$gt": [field, start]}, {"$lte": [field, end]}]}


class LibreChat:
    """LibreChat's database, read only and, with a tenant, only that tenant's documents.

    Every method raises pymongo.errors.PyMongoError when the server does not answer or refuses.
    """

    def __init__(self, client: pymongo.MongoClient[Document], database: str, tenant: str | None) -> None:
        # A date or a string that Python cannot hold is clamped or repaired: it must not break a whole query.
        codec: CodecOptions[Document] = CodecOptions(
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
            unicode_decode_error_handler="replace",
        )
        self._database: Database[Document] = client.get_database(database, codec)
        self._client = client
        self.name = database
        self.tenant = tenant

    def now(self) -> datetime:
        """The server's own clock, which also makes most of LibreChat's `_id`s."""
        hello = self._database.command("hello", read_preference=self._database.read_preference)
        now: datetime = hello["localTime"]
        return now

    def aggregate(self, collection: str, match: Document, *stages: Document) -> list[Document]:
        """The result of the pipeline over the matching documents of this tenant."""
        if self.tenant is not None:
            match = {"$and": [{"tenantId": self.tenant}, match]} if match else {"tenantId": self.tenant}
        pipeline = [{"$match": match}, *stages]
        with self._database[collection].aggregate(pipeline, allowDiskUse=True) as cursor:
            return list(cursor)

    def id_after(self, collection: str, start: ObjectId, end: ObjectId, skip: int) -> ObjectId | None:
        """The `_id` that follows the first `skip` ones from start, or None if there are no more before end."""
        ids = self._database[collection].find({"_id": {"$gte": start, "$lt": end}}, {"_id": 1})
        with ids.sort("_id", 1).skip(skip).limit(1) as cursor:
            return next((document["_id"] for document in cursor), None)

    def has_foreign_ids(self, collection: str) -> bool:
        """Whether the collection holds documents whose `_id` is not an ObjectId. They sort at the ends of the index."""
        for direction in (1, -1):
            first = self._database[collection].find_one({}, {"_id": 1}, sort=[("_id", direction)])
            if first is not None and not isinstance(first["_id"], ObjectId):
                return True
        return False

    def identity(self) -> str | None:
        """The UUID of the messages collection: it tells one database from another of the same name."""
        for collection in self._database.list_collections(filter={"name": "messages"}):
            uuid = collection.get("info", {}).get("uuid")
            return str(uuid) if uuid is not None else "without UUID"
        return None

    def databases_with_messages(self) -> list[str]:
        """Other databases on this server that have a messages collection, as far as the user may look."""
        found = []
        for name in self._client.list_database_names():
            if name in ("admin", "config", "local", self.name):
                continue
            if self._client[name].list_collection_names(filter={"name": "messages"}):
                found.append(name)
        return found

    def missing_indexes(self) -> list[str]:
        """The indexes of LibreChat's schema that the exporter's queries need and this database lacks."""
        missing = []
        for collection, field in NEEDED_INDEXES:
            indexes = self._database[collection].index_information()
            if indexes and not any(index["key"][0][0] == field for index in indexes.values()):
                missing.append(f"{collection}.{field}")
        return missing

    def prompt_tokens(self, links: Iterable[tuple[str | None, str]]) -> dict[tuple[str | None, str], float]:
        """The tokens of the users' messages with these (user, messageId) links; of several, the most. None: left out."""
        wanted = list(links)
        found: dict[tuple[str | None, str], float] = {}
        for start in range(0, len(wanted), _LOOK_UP_AT_ONCE):
            batch = wanted[start : start + _LOOK_UP_AT_ONCE]
            rows = self.aggregate(
                "messages",
                {"messageId": {"$in": sorted({message_id for _, message_id in batch})}},
                {"$group": {"_id": LINK, "tokens": {"$max": when(IS_USERS, TOKENS, None)}}},
            )
            found |= {(row["_id"][0], row["_id"][1]): row["tokens"] for row in rows if row["tokens"] is not None}
        return {link: found[link] for link in wanted if link in found}

    def model_labels(self, models: Iterable[str | None]) -> dict[str | None, str]:
        """The label `model` for each value of MODEL; an agent's is the model that its document names now."""
        labels: dict[str | None, str] = {}
        agents = []
        for model in set(models):
            if model is not None and model.startswith(_AGENT_MARK):
                agents.append(model.removeprefix(_AGENT_MARK))
            else:
                labels[model] = model or UNKNOWN
        if agents:
            rows = self.aggregate("agents", {"id": {"$in": agents}}, {"$project": {"id": 1, "model": _text("$model")}})
            named = {row["id"]: row["model"] for row in rows if row.get("model")}
            labels |= {_AGENT_MARK + agent: named.get(agent, UNKNOWN) for agent in agents}
        return labels


def window(end: datetime, length: timedelta) -> Document:
    """Matches documents created within the window that ends at `end`; those without a date or of the future are out."""
    return {"createdAt": {"$gt": end - length, "$lte": end}}
