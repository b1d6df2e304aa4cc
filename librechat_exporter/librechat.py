"""LibreChat's database: what is asked of it, and what its answers are. What its fields mean stands in fields.py."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pymongo.errors
from bson import CodecOptions, ObjectId
from bson.codec_options import DatetimeConversion
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.fields import (
    AMOUNTS,
    BAN_COLLECTIONS,
    BILLED,
    CONVERSATION,
    EMAIL_DOMAIN,
    FAILED,
    GRANTED,
    HAS_AMOUNTS,
    IS_IMPORTED,
    IS_USERS,
    LONGEST_ID,
    MESSAGES_LISTED,
    MILLISECONDS,
    MODEL,
    PROVIDER,
    RATING,
    RATING_FIELD,
    RATINGS,
    REASON,
    TAG,
    TOOLS,
    UNFINISHED,
    UNKNOWN,
    USER,
    Document,
    Expression,
    amount,
    filled,
    hour_of_creation,
    is_amount,
    is_ban,
    is_between,
    text,
    when,
    window,
)
from librechat_exporter.metric import MAX_LABEL_LENGTH
from librechat_exporter.rows import (
    NO_QUESTION,
    Billed,
    Hourly,
    Link,
    Messages,
    Model,
    Question,
    labels_of,
    model_of,
    number,
)
from librechat_exporter.settings import LibreChatSettings

_UNAUTHORIZED = 13
_LOOK_UP_AT_ONCE = 500

# The indexes of LibreChat's schema that the queries here lean on: collection, leading field.
_NEEDED_INDEXES = (("messages", "createdAt"), ("messages", "messageId"))


# From after the first on until the last.
Span = tuple[datetime, datetime]


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

    def probe(self, collections: Iterable[str]) -> None:
        """Reads one document of each, to learn whether that is allowed."""
        for collection in collections:
            self.aggregate(collection, {}, {"$limit": 1}, {"$project": {"_id": 1}})

    def without_messages(self) -> str | None:
        """What to say if this is no database of LibreChat's, None if it is one."""
        if self.identity() is not None:
            return None
        try:
            others = self._databases_with_messages()
        except pymongo.errors.OperationFailure:  # the user may read this database alone
            others = []
        hint = f"; these databases have one: {', '.join(others)}" if others else ""
        return f"MONGODB_DATABASE {self.name!r} has no collection `messages`{hint}"

    def _databases_with_messages(self) -> list[str]:
        found = []
        for name in self._client.list_database_names():
            if name in ("admin", "config", "local", self.name):
                continue
            if self._client[name].list_collection_names(filter={"name": "messages"}):
                found.append(name)
        return found

    def has_ratings_index(self) -> bool:
        """Whether an index leads to rated messages; not if the user may not look."""
        try:
            indexes = self._database["messages"].index_information()
        except pymongo.errors.OperationFailure:
            return False
        return any(index["key"][0][0] == RATING_FIELD for index in indexes.values())

    def missing_indexes(self) -> list[str]:
        """The indexes of LibreChat's schema that the exporter's queries need and this database lacks."""
        missing = []
        for collection, field in _NEEDED_INDEXES:
            indexes = self._database[collection].index_information()
            if indexes and not any(index["key"][0][0] == field for index in indexes.values()):
                missing.append(f"{collection}.{field}")
        return missing

    def messages(
        self,
        match: Document,
        created: Span | None = None,
        *,
        first: int | None = None,
        conversations: bool = False,
        tools: bool = False,
        ratings: bool = False,
    ) -> list[Messages]:
        """The matching messages, by what they share.

        created: the bounds of `created`, which is 0 without them. first: only so many, by `_id`, and with their
        ids. conversations, tools: with these. ratings: set apart by rating and tag.
        """
        shared = {"users": IS_USERS, "failed": FAILED, "model": MODEL}
        each = {
            "user": USER,
            "link": when(IS_USERS, text("$messageId", LONGEST_ID), text("$parentMessageId", LONGEST_ID)),
            "tokens": {"$ifNull": ["$tokenCount", None]},
        }
        if created is not None:
            each["created"] = when(
                is_between("$createdAt", *created),
                when(IS_IMPORTED, {"$multiply": [-1, MILLISECONDS]}, MILLISECONDS),
                0,
            )
        if tools:
            each["tools"] = TOOLS
        if ratings:
            shared["rated"] = when({"$in": [RATING, list(RATINGS)]}, {"rating": RATING, "tag": TAG}, None)
        stages: list[Document] = []
        if first is not None:
            each["id"] = "$_id"
            stages = [{"$sort": {"_id": 1}}, {"$limit": first}]
        if conversations:
            each["conversation"] = CONVERSATION
        group = {"_id": shared} | {name: {"$push": expression} for name, expression in each.items()}
        return [Messages(row) for row in self.aggregate("messages", match, *stages, {"$group": group})]

    def questions(
        self, messages: Iterable[Messages], wanted: set[Link], created: Span | None = None
    ) -> dict[Link, Question]:
        """Users' messages by link; of several with one link, that with the most tokens. Those not found are left out.

        Nearly all questions stand among the same messages as their answers; the rest is looked up.
        """
        questions: dict[Link, Question] = {}
        _add_questions(questions, messages)
        missing = sorted({message_id for _, message_id in wanted - questions.keys()})
        for start in range(0, len(missing), _LOOK_UP_AT_ONCE):
            match = {"messageId": {"$in": missing[start : start + _LOOK_UP_AT_ONCE]}}
            _add_questions(questions, self.messages(match, created))
        return questions

    def billed(self, match: Document, *, first: int | None = None, created: Span | None = None) -> list[Billed]:
        """The matching transactions by kind, model and context; several rows can be of the same.

        first: only so many, by `_id`, each by itself. created: by the hour too, and with their users; the hour is that
        of createdAt, if that lies after the first of these and not after the last.
        """
        sums: Document = {name: {"$sum": parts} for name, parts in AMOUNTS.items()}
        sums |= {"granted": {"$sum": GRANTED}, "skipped": {"$sum": when(HAS_AMOUNTS, 0, 1)}}
        key = BILLED
        if created is not None:
            key, sums = key | {"hour": hour_of_creation(*created)}, sums | {"users": {"$addToSet": USER}}
        return [Billed.of(row) for row in self._grouped("transactions", match, key, sums, first)]

    def messages_by_hour(
        self, match: Document, created: Span, *, first: int | None = None, with_users: bool
    ) -> list[Hourly]:
        """The matching messages by the hour of createdAt. created, first: as in billed."""
        key = {
            "by_user": IS_USERS,
            "failed": FAILED,
            "model": MODEL,
            "unfinished": UNFINISHED,
            "reason": when(FAILED, REASON, None),
            "hour": hour_of_creation(*created),
        }
        sums: Document = {"count": {"$sum": 1}}
        if with_users:
            sums["users"] = {"$addToSet": USER}
        return [
            Hourly.of(
                row,
                model=model_of(row["_id"]["model"]),
                by_user=row["_id"]["by_user"],
                failed=row["_id"]["failed"],
                unfinished=row["_id"]["unfinished"],
                reason=row["_id"].get("reason"),
            )
            for row in self._grouped("messages", match, key, sums, first)
        ]

    def count_by_hour(
        self, collection: str, match: Document, created: Span, *, first: int | None = None
    ) -> list[Hourly]:
        """The matching documents by the hour of createdAt. created, first: as in billed."""
        rows = self._grouped(collection, match, {"hour": hour_of_creation(*created)}, {"count": {"$sum": 1}}, first)
        return [Hourly.of(row) for row in rows]

    def _grouped(
        self, collection: str, match: Document, shared: Document, sums: Document, first: int | None
    ) -> list[Document]:
        stages: list[Document] = [] if first is None else [{"$sort": {"_id": 1}}, {"$limit": first}]
        key = shared if first is None else {"id": "$_id"} | shared
        return self.aggregate(collection, match, *stages, {"$group": {"_id": key} | sums})

    def count(self, collection: str, match: Document) -> int:
        rows = self.aggregate(collection, match, {"$count": "count"})
        return rows[0]["count"] if rows else 0

    def collections(self) -> set[str]:
        """The collections that this LibreChat has."""
        return set(self._database.list_collection_names(filter={"name": {"$not": {"$regex": r"^system\."}}}))

    def size(self, collection: str) -> int | None:
        """About how many documents it has; with a tenant, how many of these are its. None if it may not be read."""
        try:
            if self.tenant is not None:
                return self.count(collection, {})
            return self._database[collection].estimated_document_count()
        except pymongo.errors.OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            return None

    def count_by(
        self, collection: str, *fields: Expression, match: Document | None = None
    ) -> dict[tuple[str, ...], float]:
        """How many documents there are of each combination of texts; "unknown" stands for none."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        key = {str(number): field for number, field in enumerate(fields)}
        for row in self.aggregate(collection, match or {}, {"$group": {"_id": key, "count": {"$sum": 1}}}):
            found[labels_of(row["_id"], len(fields))] += row["count"]
        return found

    def labels(
        self, collection: str, match: Document, fields: Sequence[Expression], first: int
    ) -> dict[ObjectId, tuple[str, ...]]:
        """The texts of each of the first matching documents by `_id`; "unknown" stands for none."""
        shown = {"_id": 1} | {str(number): field for number, field in enumerate(fields)}
        rows = self.aggregate(collection, match, {"$sort": {"_id": 1}}, {"$limit": first}, {"$project": shown})
        return {row["_id"]: labels_of(row, len(fields)) for row in rows}

    def conversation_lengths(self, length: timedelta) -> dict[int, int]:
        """How many conversations of the window that ends now list so many messages; those that list none are out."""
        match = window(self.now(), length)
        rows = self.aggregate("conversations", match, {"$group": {"_id": MESSAGES_LISTED, "count": {"$sum": 1}}})
        return {row["_id"]: row["count"] for row in rows if row["_id"]}

    def bans(self) -> int | None:
        """How many users and addresses are banned now; None where bans are not kept, or are kept for all tenants."""
        kept = [collection for collection in BAN_COLLECTIONS if collection in self.collections()]
        if not kept or self.tenant is not None:
            return None
        return sum(self.count(collection, is_ban(self.now())) for collection in kept)

    def balances(self) -> list[tuple[float, float]]:
        """Each user's credits and refill, which is 0 if there is none. Of several balances the oldest is the user's.

        A balance whose credits are no number is left out.
        """
        rows = self.aggregate(
            "balances",
            {},
            {"$sort": {"_id": 1}},
            {
                "$group": {
                    "_id": "$user",
                    "credits": {"$first": when(is_amount("$tokenCredits"), "$tokenCredits", None)},
                    "refill": {"$first": amount("$refillAmount")},
                }
            },
        )
        return [(number(row["credits"]), number(row["refill"])) for row in rows if row["credits"] is not None]

    def logged_in(self) -> int:
        """How many users have a session that has not expired."""
        return self._distinct("sessions", "$user", {"expiration": {"$gt": self.now()}})

    def users_with_memories(self) -> int:
        return self._distinct("memoryentries", "$userId", {})

    def _distinct(self, collection: str, field: str, match: Document) -> int:
        rows = self.aggregate(collection, match, {"$group": {"_id": field}})
        return sum(row["_id"] is not None for row in rows)

    def files(self) -> list[tuple[str, str, int, float]]:
        """Source, MIME type, number and bytes of files."""
        key = {"source": filled("$source"), "type": filled("$type")}
        group = {"_id": key, "count": {"$sum": 1}, "bytes": {"$sum": amount("$bytes")}}
        return [
            (row["_id"]["source"] or UNKNOWN, row["_id"]["type"] or UNKNOWN, row["count"], number(row["bytes"]))
            for row in self.aggregate("files", {}, {"$group": group})
        ]

    def users(self, match: Document) -> set[str]:
        """Ids of the users who wrote the matching messages."""
        rows = self.aggregate("messages", match, {"$group": {"_id": USER}})
        return {str(row["_id"]) for row in rows if row["_id"]}

    def registrations(self, match: Document) -> list[tuple[datetime, str]]:
        """When each of the matching users was created, and the provider."""
        rows = self.aggregate("users", match, {"$project": {"_id": 0, "createdAt": 1, "provider": PROVIDER}})
        return [(row["createdAt"], (row["provider"] or UNKNOWN)[:MAX_LABEL_LENGTH]) for row in rows]

    def domains_of_users(self) -> dict[str, str]:
        """The domain of each user's e-mail address, by the user's id."""
        rows = self.aggregate("users", {}, {"$project": {"domain": EMAIL_DOMAIN}})
        return {str(row["_id"]): (row["domain"] or UNKNOWN)[:MAX_LABEL_LENGTH] for row in rows}

    def agent_names(self, models: Iterable[Model]) -> dict[Model, str]:
        """The name that the document of each agent among these has now."""
        agents = [model[0] for model in set(models) if isinstance(model, tuple)]
        if not agents:
            return {}
        rows = self.aggregate("agents", {"id": {"$in": agents}}, {"$project": {"id": 1, "name": filled("$name")}})
        named = {row["id"]: row["name"] for row in rows if isinstance(row.get("id"), str)}
        return {(agent,): (named.get(agent) or UNKNOWN)[:MAX_LABEL_LENGTH] for agent in agents}

    def model_labels(self, models: Iterable[Model]) -> dict[Model, str]:
        """The label `model` of each; an agent's is the model that its document names now."""
        distinct = set(models)
        labels: dict[Model, str] = {model: model or UNKNOWN for model in distinct if not isinstance(model, tuple)}
        agents = [model[0] for model in distinct if isinstance(model, tuple)]
        if agents:
            rows = self.aggregate("agents", {"id": {"$in": agents}}, {"$project": {"id": 1, "model": text("$model")}})
            named = {row["id"]: row["model"] for row in rows if isinstance(row.get("id"), str)}
            labels |= {(agent,): (named.get(agent) or UNKNOWN)[:MAX_LABEL_LENGTH] for agent in agents}
        return labels


def _add_questions(questions: dict[Link, Question], messages: Iterable[Messages]) -> None:
    for group in messages:
        if group.by_user:
            for link, tokens, created in zip(group.links, group.tokens, group.created, strict=True):
                if link is not None and tokens >= questions.get(link, NO_QUESTION)[0]:
                    questions[link] = (tokens, created)


def connect(settings: LibreChatSettings) -> LibreChat:
    """The database that the settings name. Does not wait for the server."""
    options: dict[str, Any] = {}
    if settings.mongo_read_preference is not None:
        options["readPreference"] = settings.mongo_read_preference
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(
        settings.mongodb_uri.get_secret_value(),
        appname=f"librechat-exporter/{__version__}",
        tz_aware=True,
        connect=False,
        **options,
    )
    return LibreChat(client, settings.mongodb_database, settings.tenant_id)
