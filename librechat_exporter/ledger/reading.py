"""Reading documents for a fold, in parts of bounded size, whatever is in them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bson import ObjectId

from librechat_exporter.ledger.source import Source
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document


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
