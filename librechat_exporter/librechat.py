"""LibreChat's database: what is asked of it, and what its answers are. What its fields mean stands in fields.py."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import bson
import pymongo
import pymongo.errors
from bson import CodecOptions, ObjectId
from bson.codec_options import DatetimeConversion
from pymongo import ReadPreference
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.fields import (
    AMOUNTS,
    BAN_COLLECTIONS,
    BILLED,
    CONVERSATION,
    CREATED,
    EMAIL_DOMAIN,
    FAILED,
    GRANTED,
    HAS_AMOUNTS,
    IS_UNSETTLED,
    IS_USERS,
    LONGEST_ID,
    MESSAGES_LISTED,
    MODEL,
    PROVIDER,
    RATING,
    RATING_FIELD,
    RATINGS,
    REASON,
    TAG,
    TOKENS,
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
    text,
    when,
    window,
)
from librechat_exporter.metric import MAX_LABEL_LENGTH
from librechat_exporter.rows import (
    NO_QUESTION,
    Billed,
    Link,
    Messages,
    Model,
    Question,
    labels_of,
    number,
)
from librechat_exporter.settings import LibreChatSettings

_T = TypeVar("_T")

_UNAUTHORIZED = 13
_NO_COLLECTION = 26
_LOOK_UP_AT_ONCE = 500
_LISTED = 10_000
_FIRST_IDS = 8
# In a document of BSON that begins with an ObjectId called _id: where that begins and ends.
_ID_AT, _ID_SIZE = 9, 21

# The indexes of LibreChat's schema that the queries here lean on: collection, leading field.
_NEEDED_INDEXES = (("messages", "createdAt"), ("messages", "messageId"))


_MESSAGE_KIND: Document = {
    "users": IS_USERS,
    "failed": FAILED,
    "model": MODEL,
    "unfinished": UNFINISHED,
    "reason": when(FAILED, REASON, None),
}
_OF_EACH_MESSAGE: Document = {
    "user": USER,
    "link": when(IS_USERS, text("$messageId", LONGEST_ID), text("$parentMessageId", LONGEST_ID)),
    "tokens": TOKENS,
}
# A message by itself, of bounded size: for rows.Message.
MESSAGE_ROW: Document = (
    _MESSAGE_KIND
    | _OF_EACH_MESSAGE
    | {"created": CREATED, "tools": TOOLS, "conversation": CONVERSATION, "unsettled": IS_UNSETTLED}
)
# A transaction by itself: for rows.Billed, as BILLED's fields and those that are summed.
TRANSACTION_ROW: Document = (
    {f"key_{name}": expression for name, expression in BILLED.items()}
    | AMOUNTS
    | {"granted": GRANTED, "skipped": when(HAS_AMOUNTS, 0, 1), "user": USER, "created": CREATED}
)

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

    @property
    def may_lag(self) -> bool:
        """Members may be read that are behind others."""
        return self._database.read_preference != ReadPreference.PRIMARY

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

    def ids(self, collection: str, start: bytes, most: int) -> list[bytes]:
        """The first `_id`s from start on, in their order: read from the index alone, unless there is a tenant."""
        first: list[Document] = [{"$sort": {"_id": 1}}, {"$limit": most}]
        group = {"$group": {"_id": None, "ids": {"$push": "$_id"}}}
        found = self.aggregate(collection, {"_id": {"$gte": ObjectId(start)}}, *first, group)
        return [one.binary for one in found[0]["ids"]] if found else []

    def rows(self, collection: str, match: Document, row: Document, most: int) -> Iterator[tuple[bytes, bytes]]:
        """The first matching documents by `_id`, each as its `_id` and a row in BSON, streamed.

        row: expressions by field, each of which gives something of bounded size.
        """
        if self.tenant is not None:
            match = {"$and": [{"tenantId": self.tenant}, match]}
        pipeline: list[Document] = [{"$match": match}, {"$sort": {"_id": 1}}, {"$limit": most}, {"$project": row}]
        with self._database[collection].aggregate_raw_batches(pipeline) as cursor:
            for batch in _bytes(cursor):
                place = 0
                while place < len(batch):
                    end = place + int.from_bytes(batch[place : place + 4], "little")
                    yield batch[place + _ID_AT : place + _ID_SIZE], batch[place:end]
                    place = end

    def decode(self, row: bytes) -> Document:
        return bson.decode(row, self._database.codec_options)

    def found(self, collection: str, ids: Collection[bytes]) -> bool:
        """There is a document with one of these `_id`s."""
        match = {"_id": {"$in": [ObjectId(one) for one in ids]}}
        return self._database[collection].find_one(match, {"_id": 1}) is not None

    def spread_ids(self, collection: str, number: int) -> list[bytes]:
        """About so many `_id`s, the first ones and others at even distances of time up to the newest."""
        first, newest = self.ids(collection, bytes(12), _FIRST_IDS), self.newest_id(collection)
        if newest is None or not first:  # the newest can be another tenant's
            return first
        start, end = (int.from_bytes(one[:4]) for one in (first[0], newest.binary))
        found = set(first)
        for step in range(1, number + 1):
            moment = (start + (end - start) * step // number).to_bytes(4)
            found.update(self.ids(collection, moment + bytes(8), 1))
        return sorted(found)

    def id_after(self, collection: str, start: ObjectId, end: ObjectId, skip: int) -> ObjectId | None:
        """The `_id` that follows the first `skip` ones from start, or None if there are no more before end."""
        match: Document = {"_id": {"$gte": start, "$lt": end}}
        ids = self._database[collection].find(match, {"_id": 1})
        with ids.sort("_id", 1).skip(skip).limit(1) as cursor:
            return next((document["_id"] for document in cursor), None)

    def newest_id(self, collection: str) -> ObjectId | None:
        """The collection's greatest ObjectId, of any tenant; None if it has none."""
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
        for collection in self._listed("listCollections", filter={"name": "messages"}):
            uuid = collection.get("info", {}).get("uuid")
            return str(uuid) if uuid is not None else "without UUID"
        return None

    def _listed(self, command: str, value: Any = 1, **arguments: Any) -> list[Document]:
        """The first batch of a listing, read where everything else is read: PyMongo's methods ask the primary."""
        answer = self._database.command(
            command,
            value,
            **arguments,
            cursor={"batchSize": _LISTED},
            read_preference=self._database.read_preference,
            codec_options=self._database.codec_options,
        )
        batch: list[Document] = answer["cursor"]["firstBatch"]
        return batch

    def _indexes(self, collection: str) -> list[str]:
        """The leading fields of its indexes; none if there is no such collection."""
        try:
            return [next(iter(index["key"])) for index in self._listed("listIndexes", collection)]
        except pymongo.errors.OperationFailure as error:
            if error.code != _NO_COLLECTION:
                raise
            return []

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
        preference = self._database.read_preference
        listed = self._client.admin.command("listDatabases", nameOnly=True, read_preference=preference)
        wanted: Document = {"filter": {"name": "messages"}, "nameOnly": True, "read_preference": preference}
        return [
            name
            for name in (database["name"] for database in listed["databases"])
            if name not in ("admin", "config", "local", self.name)
            and self._client[name].command("listCollections", **wanted)["cursor"]["firstBatch"]
        ]

    def has_ratings_index(self) -> bool:
        """Whether an index leads to rated messages; not if the user may not look."""
        try:
            return RATING_FIELD in self._indexes("messages")
        except pymongo.errors.OperationFailure:
            return False

    def missing_indexes(self) -> list[str]:
        """The indexes of LibreChat's schema that the exporter's queries need and this database lacks."""
        missing = []
        for collection, field in _NEEDED_INDEXES:
            fields = self._indexes(collection)
            if fields and field not in fields:
                missing.append(f"{collection}.{field}")
        return missing

    def messages(
        self,
        match: Document,
        *,
        tools: bool = False,
        created: bool = False,
        ratings: bool = False,
        latest: float = float("inf"),
    ) -> list[Messages]:
        """The matching messages, by what they share.

        tools, created: with these. ratings: set apart by rating and tag. latest: of Messages.
        """
        shared = dict(_MESSAGE_KIND)
        each = dict(_OF_EACH_MESSAGE)
        if created:
            each["created"] = CREATED
        if tools:
            each["tools"] = TOOLS
        if ratings:
            shared["rated"] = when({"$in": [RATING, list(RATINGS)]}, {"rating": RATING, "tag": TAG}, None)
        group = {"_id": shared} | {name: {"$push": expression} for name, expression in each.items()}
        return [Messages(row, latest) for row in self.aggregate("messages", match, {"$group": group})]

    def questions(self, wanted: Iterable[Link]) -> dict[Link, Question]:
        """Users' messages by link, of several with one link that with the most tokens, looked up by their messageId.

        Those that are not found are left out, others may be among them.
        """
        questions: dict[Link, Question] = {}
        ids = sorted({message_id for _, message_id in wanted})
        for start in range(0, len(ids), _LOOK_UP_AT_ONCE):
            match = {"messageId": {"$in": ids[start : start + _LOOK_UP_AT_ONCE]}}
            add_questions(questions, self.messages(match, created=True))
        return questions

    def questions_of(self, messages: Collection[Messages]) -> dict[Link, Question]:
        """The questions of all answers among these: nearly all stand among the same messages, the rest is looked up."""
        questions: dict[Link, Question] = {}
        add_questions(questions, messages)
        answers = (group for group in messages if not group.kind.by_user)
        missing = {link for group in answers for link in group.links if link is not None} - questions.keys()
        if missing:
            questions |= {link: one for link, one in self.questions(missing).items() if link in missing}
        return questions

    def billed(self, match: Document, created: Span | None = None) -> list[Billed]:
        """The matching transactions by kind, model and context; several rows can be of the same.

        created: by the hour too, and with their users; the hour is that of createdAt, if that lies after the first of
        these and not after the last.
        """
        key = BILLED
        sums: Document = {name: {"$sum": parts} for name, parts in AMOUNTS.items()}
        sums |= {"granted": {"$sum": GRANTED}, "skipped": {"$sum": when(HAS_AMOUNTS, 0, 1)}}
        if created is not None:
            key, sums = key | {"hour": hour_of_creation(*created)}, sums | {"users": {"$addToSet": USER}}
        rows = self.aggregate("transactions", match, {"$group": {"_id": key} | sums})
        return [Billed.of(row["_id"], row, _hour(row["_id"].get("hour"))) for row in rows]

    def count_by_hour(self, collection: str, match: Document, created: Span) -> dict[int, int]:
        """Counts the matching documents by the hour of creation, since 1970. created: as in billed."""
        group = {"$group": {"_id": hour_of_creation(*created), "count": {"$sum": 1}}}
        rows = self.aggregate(collection, match, group)
        return {int(row["_id"]): row["count"] for row in rows if row["_id"] is not None}

    def count(self, collection: str, match: Document) -> int:
        rows = self.aggregate(collection, match, {"$count": "count"})
        return rows[0]["count"] if rows else 0

    def collections(self) -> set[str]:
        """The collections that this LibreChat has."""
        shown = {"name": {"$not": {"$regex": r"^system\."}}}
        listed = self._listed("listCollections", filter=shown, nameOnly=True, authorizedCollections=True)
        return {collection["name"] for collection in listed}

    def size(self, collection: str) -> int | None:
        """About how many documents it has; with a tenant, how many of these are its. None if it may not be read."""
        if self.tenant is not None:
            return allowed(lambda: self.count(collection, {}))
        return allowed(self._database[collection].estimated_document_count)

    def count_by(
        self, collection: str, *fields: Expression, match: Document | None = None
    ) -> dict[tuple[str, ...], float]:
        """How many documents there are of each combination of texts; "unknown" stands for none."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        key = {str(number): field for number, field in enumerate(fields)}
        for row in self.aggregate(collection, match or {}, {"$group": {"_id": key, "count": {"$sum": 1}}}):
            found[labels_of(row["_id"], len(fields))] += row["count"]
        return found

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

    def agents(self, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """The model and the name that the document of each of these agents has now."""
        wanted = sorted(set(ids))
        found = dict.fromkeys(wanted, (UNKNOWN, UNKNOWN))
        for start in range(0, len(wanted), _LOOK_UP_AT_ONCE):
            match = {"id": {"$in": wanted[start : start + _LOOK_UP_AT_ONCE]}}
            shown = {"id": 1, "model": filled("$model"), "name": filled("$name")}
            for row in self.aggregate("agents", match, {"$project": shown}):
                if isinstance(row.get("id"), str):
                    model, name = ((row[field] or UNKNOWN)[:MAX_LABEL_LENGTH] for field in ("model", "name"))
                    found[row["id"]] = model, name
        return found

    def model_labels(self, models: Iterable[Model]) -> dict[Model, str]:
        """The label `model` of each; an agent's is the model that its document names now."""
        distinct = set(models)
        agents = self.agents(model[0] for model in distinct if isinstance(model, tuple))
        return {model: agents[model[0]][0] if isinstance(model, tuple) else model or UNKNOWN for model in distinct}


def allowed(read: Callable[[], _T]) -> _T | None:
    """Returns what it reads, None if the user may not read that."""
    try:
        return read()
    except pymongo.errors.OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        return None


def _bytes(batches: Iterable[Any]) -> Iterable[bytes]:
    """PyMongo's types have its raw batches as documents."""
    return batches


def _hour(value: float | None) -> int | None:
    return int(value) if value is not None else None


def add_questions(questions: dict[Link, Question], messages: Iterable[Messages]) -> None:
    """Adds users' messages by their links; of several with one link, that with the most tokens stays."""
    for group in messages:
        if group.kind.by_user:
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
