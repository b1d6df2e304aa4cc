"""What LibreChat's documents mean. Nothing else in the exporter knows a field of theirs.

The expressions are MongoDB aggregation expressions that hold for documents of any shape: a field that is missing, null
or of another type than LibreChat writes never raises an error on the server. They use only operators that
MongoDB 4.4 and Amazon DocumentDB 5 both have.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
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
_LOOK_UP_AT_ONCE = 500
_LONGEST_TEXT = 65_536  # bytes; what a label holds of it is less
_LONGEST_ID = 200  # bytes; LibreChat's ids are UUIDs and ObjectIds
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

# The indexes of LibreChat's schema that the queries here lean on: collection, leading field.
NEEDED_INDEXES = (("messages", "createdAt"), ("messages", "messageId"))


def when(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def has_type(field: str, kind: str) -> Expression:
    return {"$eq": [{"$type": field}, kind]}


def _is_null(field: str) -> Expression:
    return {"$eq": [{"$ifNull": [field, None]}, None]}


def _text(field: str, most_bytes: int = _LONGEST_TEXT) -> Expression:
    """The field if it is a string and not absurdly long, else null.

    It is not cut here: the server's operators that cut fail on a string that is not valid UTF-8.
    """
    return when(has_type(field, "string"), when({"$lte": [{"$strLenBytes": field}, most_bytes]}, field, None), None)


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
MODEL = when(_IS_AGENT, [_text("$model")], _text("$model"))

CONVERSATION = _text("$conversationId", _LONGEST_ID)

RATING = "$feedback.rating"
TAG = when(has_type("$feedback.tag", "string"), _text("$feedback.tag"), when(_is_null("$feedback.tag"), None, UNKNOWN))
IS_RATED = {"feedback.rating": {"$in": list(RATINGS)}}


def is_between(field: str, start: datetime, end: datetime) -> Expression:
    """Whether the field is a date after start and not after end. In BSON's order only dates sort between two dates."""
    return {"$and": [{"$gt": [field, start]}, {"$lte": [field, end]}]}


def _usable_tokens(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


# A model's name, an agent's id in a tuple, or None.
Model = str | tuple[str] | None


def model_of(value: str | list[str] | None) -> Model:
    """What the server made of MODEL, cut to what a label may hold."""
    if isinstance(value, list):
        return (value[0],)
    return value[:MAX_LABEL_LENGTH] if value is not None else None


# What links an answer to its question: the user's id and the question's messageId.
Link = tuple[str | None, str]


class Messages:
    """Messages that share who wrote them, whether they failed, and the model. Its lists have an entry for each.

    links: a user's message by its own id, an answer by its parent's; None where that is no id.
    tokens: 0 where tokenCount cannot be used; skipped counts those where there was something else than nothing.
    created: createdAt as a Unix time; 0 if it is not within the time asked for.
    """

    def __init__(self, row: Document) -> None:
        self.by_user: bool = row["_id"]["users"]
        self.failed: bool = row["_id"]["failed"]
        self.model = model_of(row["_id"]["model"])
        # LibreChat writes a string in messages, an ObjectId in other collections.
        self.users = [str(user) if user else None for user in row["user"]]
        self.links: list[Link | None] = [
            (user, link) if link else None for user, link in zip(self.users, row["link"], strict=True)
        ]
        usable = [_usable_tokens(tokens) for tokens in row["tokens"]]
        self.tokens: list[float] = [t if ok else 0 for t, ok in zip(row["tokens"], usable, strict=True)]
        self.skipped = [not ok and t is not None for t, ok in zip(row["tokens"], usable, strict=True)]
        self.created: list[float] = [milliseconds / 1000 for milliseconds in row["created"]]
        self.ids: list[ObjectId] = row.get("id", [])
        self.conversations = [conversation or None for conversation in row.get("conversation", [])]


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

    def close(self) -> None:
        self._client.close()

    def now(self) -> datetime:
        """The server's own clock, which also makes most of LibreChat's `_id`s."""
        hello = self._database.command(
            "hello",
            codec_options=self._database.codec_options,  # else the time is naive
            read_preference=self._database.read_preference,
        )
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

    def newest_id(self, collection: str) -> ObjectId | None:
        """The collection's greatest ObjectId, None if it has none."""
        newest = self._database[collection].find_one({"_id": {"$type": "objectId"}}, {"_id": 1}, sort=[("_id", -1)])
        return newest["_id"] if newest is not None else None

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

    def messages(
        self,
        match: Document,
        since: datetime,
        until: datetime,
        *,
        first: int | None = None,
        conversations: bool = False,
    ) -> list[Messages]:
        """The matching messages, by what they share.

        since and until bound `created`. first: only so many, by `_id`, and with their ids.
        """
        each = {
            "user": when(has_type("$user", "objectId"), "$user", _text("$user", _LONGEST_ID)),
            "link": when(IS_USERS, _text("$messageId", _LONGEST_ID), _text("$parentMessageId", _LONGEST_ID)),
            "tokens": {"$ifNull": ["$tokenCount", None]},
            "created": when(is_between("$createdAt", since, until), {"$toLong": "$createdAt"}, 0),
        }
        stages: list[Document] = []
        if first is not None:
            each["id"] = "$_id"
            stages = [{"$sort": {"_id": 1}}, {"$limit": first}]
        if conversations:
            each["conversation"] = CONVERSATION
        shared = {"users": IS_USERS, "failed": FAILED, "model": MODEL}
        group = {"_id": shared} | {name: {"$push": expression} for name, expression in each.items()}
        return [Messages(row) for row in self.aggregate("messages", match, *stages, {"$group": group})]

    def prompt_tokens(self, links: Iterable[Link]) -> dict[Link, float]:
        """The tokens of the users' messages with these links; of several, the most. Those not found are left out."""
        wanted = sorted({message_id for _, message_id in links})
        found: dict[Link, float] = {}
        for start in range(0, len(wanted), _LOOK_UP_AT_ONCE):
            match = {"messageId": {"$in": wanted[start : start + _LOOK_UP_AT_ONCE]}}
            add_prompts(found, self.messages(match, _LONG_AGO, _LONG_AGO))
        return found

    def model_labels(self, models: Iterable[Model]) -> dict[Model, str]:
        """The label `model` of each; an agent's is the model that its document names now."""
        distinct = set(models)
        labels: dict[Model, str] = {model: model or UNKNOWN for model in distinct if not isinstance(model, tuple)}
        agents = [model[0] for model in distinct if isinstance(model, tuple)]
        if agents:
            rows = self.aggregate("agents", {"id": {"$in": agents}}, {"$project": {"id": 1, "model": _text("$model")}})
            named = {row["id"]: row["model"] for row in rows if isinstance(row["id"], str)}
            labels |= {(agent,): (named.get(agent) or UNKNOWN)[:MAX_LABEL_LENGTH] for agent in agents}
        return labels


def changed_since(moment: datetime) -> Document:
    """Matches documents that were inserted or saved since then, and those whose `updatedAt` does not tell."""
    return {"$or": [{"_id": {"$gte": ObjectId.from_datetime(moment)}}, {"updatedAt": {"$not": {"$lt": moment}}}]}


def add_prompts(prompts: dict[Link, float], messages: Iterable[Messages]) -> None:
    """Adds the users' messages' tokens by link; of several with one link, the most."""
    for group in messages:
        if group.by_user:
            for link, tokens in zip(group.links, group.tokens, strict=True):
                if link is not None:
                    prompts[link] = max(tokens, prompts.get(link, 0))


def window(end: datetime, length: timedelta) -> Document:
    """Matches documents created within the window that ends at `end`; those without a date or of the future are out."""
    return {"createdAt": {"$gt": end - length, "$lte": end, "$not": {"$type": "array"}}}
