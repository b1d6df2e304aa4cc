"""LibreChat's database: queries of any collection. The meaning of its fields stands in fields.py."""

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

import bson
import pymongo
import pymongo.errors
from bson import CodecOptions, Decimal128, ObjectId
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.command_cursor import CommandCursor
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.librechat.expressions import Document, Expression
from librechat_exporter.librechat.fields import (
    NEEDED_INDEXES,
    RATING_FIELD,
    TENANT_FIELD,
    UNKNOWN,
    hour_of_creation,
)
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH
from librechat_exporter.settings import LibreChatSettings
from librechat_exporter.settings.connection_string import make_client

_T = TypeVar("_T")

_UNAUTHORIZED = 13
_NO_COLLECTION = 26
_LISTED = 10_000
_FIRST_IDS = 8
_CLOSE_SECONDS = 5.0
# So many rows are in memory at a time; MongoDB would send 16 MB of them.
_BATCH = 1000
# In a document of BSON that begins with an ObjectId called _id: where that begins and ends.
_ID_AT, _ID_END = 9, 21
_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)

# From after the first on until the last.
Span = tuple[datetime, datetime]


class LibreChat:
    """LibreChat's database, read only and, with a tenant, only that tenant's documents.

    Every method raises pymongo.errors.PyMongoError when the server does not answer or refuses; those that give
    documents or rows, bson.errors.BSONError when one of them cannot be decoded.
    """

    def __init__(
        self,
        client: pymongo.MongoClient[Document],
        database: str,
        tenant: str | None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """clock: tells the time instead of the server's own."""
        # A date or a string that Python cannot hold is clamped or repaired: it must not break a whole query.
        codec: CodecOptions[Document] = CodecOptions(
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
            unicode_decode_error_handler="replace",
        )
        self._database: Database[Document] = client.get_database(database, codec)
        self._client = client
        self._clock = clock
        self.name = database
        self.tenant = tenant

    def close(self) -> None:
        # A signal that ends a run may leave pymongo's timeout half set, by which closing would fail.
        with pymongo.timeout(_CLOSE_SECONDS):
            self._client.close()

    @property
    def may_lag(self) -> bool:
        """Members may be read that are behind others."""
        return self._database.read_preference != ReadPreference.PRIMARY

    def now(self) -> datetime:
        """The server's own clock, which also makes most of LibreChat's `_id`s."""
        if self._clock is not None:
            return self._clock()
        hello = self._database.command(
            "hello",
            codec_options=self._database.codec_options,  # else the time is naive
            read_preference=self._database.read_preference,
        )
        now: datetime = hello["localTime"]
        return now

    def aggregate(self, collection: str, match: Document, *stages: Document) -> list[Document]:
        """The result of the pipeline over the matching documents of this tenant."""
        return list(self.stream(collection, match, *stages))

    def stream(self, collection: str, match: Document, *stages: Document) -> Iterator[Document]:
        """The same, for results that need not all be in memory at once."""
        pipeline = [{"$match": self._of_tenant(match)}, *stages]
        with self._database[collection].aggregate(pipeline, allowDiskUse=True, batchSize=_BATCH) as cursor:
            yield from cursor

    def _of_tenant(self, match: Document) -> Document:
        if self.tenant is None:
            return match
        return {"$and": [{TENANT_FIELD: self.tenant}, match]} if match else {TENANT_FIELD: self.tenant}

    def ids(self, collection: str, start: bytes, most: int) -> list[bytes]:
        """The first `_id`s from start on, in their order: read from the index alone, unless there is a tenant."""
        with self._database[collection].aggregate(self._ids(collection, start, most), batchSize=_BATCH) as cursor:
            return [one.binary for row in cursor for one in row["ids"]]

    def now_and_ids(self, starts: Mapping[str, bytes], most: int) -> tuple[datetime, dict[str, list[bytes]]]:
        """The same of several collections, by what each starts from, and now(), all in one round trip.

        Raises OperationFailure where the server has no $unionWith, as Amazon DocumentDB 5.
        """
        now = {"now": {"$first": "$$NOW"}}
        (first, pipeline), *others = [(name, self._ids(name, start, most, now)) for name, start in starts.items()]
        pipeline += [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
        with self._database[first].aggregate(pipeline, batchSize=_BATCH) as cursor:
            rows = {row["_id"]: row for row in cursor}
        ids = {name: [one.binary for one in rows[name]["ids"]] if name in rows else [] for name in starts}
        told = next((row["now"] for row in rows.values()), None)
        return told if told is not None and self._clock is None else self.now(), ids

    def _ids(self, collection: str, start: bytes, most: int, more: Document | None = None) -> list[Document]:
        match = self._of_tenant({"_id": {"$gte": ObjectId(start)}})
        group = {"_id": collection, "ids": {"$push": "$_id"}} | (more or {})
        return [{"$match": match}, {"$sort": {"_id": 1}}, {"$limit": most}, {"$group": group}]

    def rows(self, collection: str, match: Document, row: Document, most: int) -> Iterator[tuple[bytes, bytes]]:
        """The first matching documents by `_id`, each as its `_id` and a row in BSON, streamed.

        row: expressions by field, each of which gives something of bounded size.
        """
        first: list[Document] = [{"$match": self._of_tenant(match)}, {"$sort": {"_id": 1}}, {"$limit": most}]
        pipeline = [*first, {"$project": row}]
        # aggregate_raw_batches would ask twice, as its first batch is always empty.
        with self._database.get_collection(collection, _RAW).aggregate(pipeline, batchSize=_BATCH) as cursor:
            for one in cast(CommandCursor[RawBSONDocument], cursor):
                content = bytes(one.raw)
                yield content[_ID_AT:_ID_END], content

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

    def inserted_last(self, collection: str, before: ObjectId) -> ObjectId | None:
        """Of the documents of any tenant whose `_id` is less, that which was inserted last; None if there is none."""
        last = self._database[collection].find_one({"_id": {"$lt": before}}, {"_id": 1}, sort=[("$natural", -1)])
        return last["_id"] if last is not None else None

    def newest_time(self, collections: Iterable[str]) -> datetime | None:
        """When the newest `_id` of these collections was made, of those that can be read; None if there is none."""
        newest = []
        for collection in collections:
            with contextlib.suppress(pymongo.errors.PyMongoError):
                newest.append(self.newest_id(collection))
        return max((one.generation_time for one in newest if one is not None), default=None)

    def has_foreign_ids(self, collection: str) -> bool:
        """True if the collection holds documents whose `_id` is not an ObjectId. They sort at the ends of the index."""
        for direction in (1, -1):
            first = self._database[collection].find_one({}, {"_id": 1}, sort=[("_id", direction)])
            if first is not None and not isinstance(first["_id"], ObjectId):
                return True
        return False

    def identity(self, collection: str = "messages") -> str | None:
        """The UUID of the collection: it tells one of a name from another; None if it is not there."""
        for found in self._listed("listCollections", filter={"name": collection}):
            uuid = found.get("info", {}).get("uuid")
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

    def refused(self, collections: Iterable[str]) -> list[str]:
        """Those of them that the user may not read."""
        return [one for one in collections if allowed(functools.partial(self._first, one)) is None]

    def _first(self, collection: str) -> list[Document]:
        return self.aggregate(collection, {}, {"$limit": 1}, {"$project": {"_id": 1}})

    def without_messages(self) -> str | None:
        """The line that says that this is no database of LibreChat's; None if it is one."""
        if self.identity() is not None:
            return None
        try:
            others = self._databases_with_messages()
        except pymongo.errors.OperationFailure:  # the user may read this database alone
            others = []
        hint = "LibreChat makes it when it first starts"
        if others:
            hint = f"name one that has in MONGODB_DATABASE: {', '.join(others)}"
        return f"The database {self.name!r} has no collection `messages`; {hint}"

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
        """True if an index leads to rated messages; not if the user may not look."""
        try:
            return RATING_FIELD in self._indexes("messages")
        except pymongo.errors.OperationFailure:
            return False

    def missing_indexes(self) -> list[str]:
        """The indexes of LibreChat's schema that the exporter's queries need and this database lacks."""
        missing = []
        for collection, field in NEEDED_INDEXES:
            fields = self._indexes(collection)
            if fields and field not in fields:
                missing.append(f"{collection}.{field}")
        return missing

    def count_by_hour(self, collection: str, match: Document, created: Span) -> dict[int, int]:
        """Counts the matching documents by the hour of createdAt, since 1970, of those that lie in `created`."""
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
        """Counts the documents of each combination of texts; "unknown" stands for none."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        key = {str(number): field for number, field in enumerate(fields)}
        for row in self.aggregate(collection, match or {}, {"$group": {"_id": key, "count": {"$sum": 1}}}):
            found[labels_of(row["_id"], len(fields))] += row["count"]
        return found

    def count_distinct(self, collection: str, field: Expression, match: Document) -> int:
        """Counts the values but null that the field has in the matching documents."""
        rows = self.aggregate(collection, match, {"$group": {"_id": field}})
        return sum(row["_id"] is not None for row in rows)


def allowed(read: Callable[[], _T]) -> _T | None:
    """Returns what it reads, None if the user may not read that."""
    try:
        return read()
    except pymongo.errors.OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        return None


def labels_of(texts: Document, count: int) -> tuple[str, ...]:
    """Of fields "0" to count - 1; "unknown" stands for none."""
    return tuple((texts.get(str(number)) or UNKNOWN)[:MAX_LABEL_LENGTH] for number in range(count))


def number(value: Any) -> float:
    """Of any of MongoDB's kinds of number."""
    return float(str(value)) if isinstance(value, Decimal128) else float(value)


def connect(settings: LibreChatSettings, clock: Callable[[], datetime] | None = None) -> LibreChat:
    """The database that the settings name. Does not wait for the server. clock: of LibreChat."""
    options: dict[str, Any] = {}
    if settings.mongo_read_preference is not None:
        options["readPreference"] = settings.mongo_read_preference
    client = make_client(settings.connection.uri, appname=f"librechat-exporter/{__version__}", tz_aware=True, **options)
    return LibreChat(client, settings.database, settings.tenant_id, clock)
