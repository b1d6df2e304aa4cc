"""Documents that are too much for one query, or one of which is odd, are read in halves."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from bson.errors import BSONError
from pymongo.errors import OperationFailure

log = logging.getLogger(__name__)

_Id = TypeVar("_Id")

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
    ids: Sequence[_Id],
    read: Callable[[Sequence[_Id]], None],
    pass_over: Callable[[_Id], None],
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
