"""Aggregation expressions that hold for fields of any type: fields.py is made of them.

A field that is missing, null or of another type than LibreChat writes raises no error on the server. Only operators
that MongoDB 4.4 and Amazon DocumentDB 5 both have are used.
"""

from datetime import datetime
from typing import Any

Document = dict[str, Any]
Expression = Any

# Bytes. What is longer is not sent, and counts as unknown: a chat that somebody imported can hold anything. A label
# holds 200 characters, of up to four bytes.
_LONGEST_TEXT = 800
_MAX_AMOUNT = 10**12  # tokens or credits; a million dollars
_MOST_PARTS = 10**18  # of what fits into 64 bits
_WHITESPACE = " \t\n\r\v\f"


def when(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def has_type(field: str, kind: str) -> Expression:
    return {"$eq": [{"$type": field}, kind]}


def is_null(field: str) -> Expression:
    return {"$eq": [{"$ifNull": [field, None]}, None]}


def is_nothing() -> Document:
    """Matches a field that is missing or null, as is_null is true for it."""
    return {"$in": [None], "$not": {"$type": "array"}}


def text(field: str, most_bytes: int = _LONGEST_TEXT, otherwise: Expression = None) -> Expression:
    """The field if it is a string, null if it is absurdly long; otherwise, if it is none.

    It is not cut here: the server's operators that cut fail on a string that is not valid UTF-8.
    """
    short = {"$lte": [{"$strLenBytes": field}, most_bytes]}
    return when(has_type(field, "string"), when(short, field, None), otherwise)


def filled(field: str) -> Expression:
    """Its text, null if that is empty."""
    return when({"$ne": [field, ""]}, text(field), None)


def is_filled(field: str) -> Expression:
    return {"$and": [has_type(field, "string"), {"$ne": [field, ""]}]}


def trimmed(field: Expression) -> Expression:
    return {"$trim": {"input": field, "chars": _WHITESPACE}}


def begins(lowered: Expression, with_text: str) -> Expression:
    trimmed = {"$ltrim": {"input": lowered, "chars": _WHITESPACE}}
    return {"$eq": [{"$indexOfBytes": [trimmed, with_text]}, 0]}


def ends(lowered: Expression, with_text: str) -> Expression:
    trimmed = {"$rtrim": {"input": lowered, "chars": _WHITESPACE}}
    return {"$eq": [{"$arrayElemAt": [{"$split": [trimmed, with_text]}, -1]}, ""]}


def is_between(field: str, start: datetime, end: datetime) -> Expression:
    """True for a date after start and not after end. In BSON's order only dates sort between two dates."""
    return {"$and": [{"$gt": [field, start]}, {"$lte": [field, end]}]}


def is_amount(field: str, most: int = _MAX_AMOUNT) -> Expression:
    """True for a number that can be meant. In BSON's order only numbers sort between two numbers."""
    return {"$and": [{"$gte": [field, -most]}, {"$lte": [field, most]}]}


def amount(field: str) -> Expression:
    """The field without its sign; 0 if it is no amount. LibreChat writes spending as negative numbers."""
    return when(is_amount(field), {"$abs": field}, 0)


def parts(field: str, of_one: int = 1) -> Expression:
    """The amount in whole parts, of which a value of 1 has so many; rounded half up."""
    whole = {"$toLong": {"$add": [{"$multiply": [{"$abs": field}, of_one]}, 0.5]}}
    return when(is_amount(field, min(_MAX_AMOUNT, _MOST_PARTS // of_one)), whole, 0)
