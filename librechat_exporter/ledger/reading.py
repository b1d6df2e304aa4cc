"""Reading documents for a fold, in parts of bounded size, whatever is in them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bson import ObjectId
from bson.errors import BSONError
from pymongo.errors import OperationFailure

from librechat_exporter.ledger.source import Source
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document

log = logging.getLogger(__name__)

# What the server answers if documents, or what is made of them, are too large, or of a form that an expression cannot
# work on. Expressions' own errors have the highest numbers.
_TOO_LARGE = frozenset((10334, 146, 292, 17280))
_FIRST_OF_EXPRESSIONS = 15_000


def is_documents_fault(error: Exception) -> bool:
    """The error is the documents' fault: fewer of them, or others, could be read."""
    if isinstance(error, BSONError):
        return True
    if not isinstance(error, OperationFailure) or error.timeout:
        return False
    return error.code in _TOO_LARGE or (error.code or 0) >= _FIRST_OF_EXPRESSIONS


def halved(
    collection: str,
    ids: Sequence[bytes],
    read: Callable[[Sequence[bytes]], None],
    pass_over: Callable[[bytes], None],
) -> None:
    """Reads documents in halves, down to one; one that cannot be read even alone is told of and passed over.

    Raises whatever is not the documents' fault.
    """
    try:
        read(ids)
    except (OperationFailure, BSONError) as error:
        if not is_documents_fault(error):
            raise
        if len(ids) > 1:
            middle = len(ids) // 2
            halved(collection, ids[:middle], read, pass_over)
            halved(collection, ids[middle:], read, pass_over)
            return
        read(())  # raises if it is the query that the server cannot work on, not this document
        log.warning("A document of %s cannot be read and is passed over", collection)
        pass_over(ids[0])


def match_of(ids: Sequence[bytes], *, dense: bool) -> Document:
    """Matches these documents. dense: they are all that there are between the first and the last."""
    if dense and ids:
        return {"_id": {"$gte": ObjectId(ids[0]), "$lte": ObjectId(ids[-1])}}
    return {"_id": {"$in": [ObjectId(one) for one in ids]}}


class Row(NamedTuple):
    """A document's `_id`, its row in BSON, and a hash of that."""

    document: bytes
    row: bytes
    digest: int


def changed_rows(librechat: LibreChat, source: Source, ids: Sequence[bytes], *, dense: bool) -> Iterator[Row]:
    """The rows of those of these documents that are not as they were when they were counted last."""
    match = match_of(ids, dense=dense)
    most = 2 * len(ids) + 1000 if dense else max(1, len(ids))
    for document, row in librechat.rows(source.fold.collection, match, source.fold.row, most):
        known = source.cells.get(document)
        digest = hash(row)
        if known is None or known.row != digest:
            yield Row(document, row, digest)
