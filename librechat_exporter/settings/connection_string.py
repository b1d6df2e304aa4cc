"""MongoDB's connection string, as LibreChat's operators write it: for Node's driver."""

import re
import warnings
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pymongo
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri, split_options

from librechat_exporter.faults import why

_SCHEMES = ("mongodb://", "mongodb+srv://")
_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")
# Without one of these the connection would be another one than was meant.
_SECURITY = ("tls", "ssl", "auth")
_USUAL = (
    "is not a MongoDB connection string; write mongodb://user:password@host:27017/LibreChat, with `%40` for `@`, `%3F` "
    "for `?` and the like in user and password"
)
_DATABASE = re.compile(r"[^/\\. \"$\0]{1,63}")


def check_database(name: str) -> None:
    """Raises ValueError if MongoDB allows no database of this name."""
    if not _DATABASE.fullmatch(name):
        raise ValueError("must be a database's name, such as LibreChat: at most 63 characters, none of / \\ . \" $")


@dataclass(frozen=True)
class ConnectionString:
    """uri: for PyMongo. database: of its path. warnings: a line for each part that counts otherwise than written."""

    uri: str
    database: str | None
    warnings: tuple[str, ...]


def parse(text: str) -> ConnectionString:
    """Asks no server, and no DNS. Raises ValueError, whose text tells no user, password or host."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyMongo's own: ConnectionString.warnings tells what matters
        return _parse(text)


def _parse(text: str) -> ConnectionString:
    scheme = next((one for one in _SCHEMES if text.startswith(one)), None)
    if scheme is None:
        raise ValueError(_USUAL)
    place, _, options = text.removeprefix(scheme).partition("?")
    if "@" in options:  # of a `?` in the password: what follows it must not be told
        raise ValueError(_USUAL)
    told: list[str] = []
    userinfo, at, rest = place.rpartition("@")
    if "+" in userinfo:  # in Node's driver it is itself, in PyMongo a blank
        told.append("`+` in user and password counts as itself; write it as `%2B`, and a blank as `%20`")
        place = userinfo.replace("+", "%2B") + at + rest
    kept = [one for one in re.split("[&;]", options) if one and _is_usable(one, told)]
    uri = f"{scheme}{place}" + (f"{'' if '/' in rest else '/'}?{'&'.join(kept)}" if kept else "")
    path = unquote(rest.partition("/")[2]).partition(".")[0]
    if path:
        _check_path(path)
    _check_place(scheme, place)
    _check_options(scheme, place, kept)
    return ConnectionString(uri, path or None, tuple(told))


def _check_path(path: str) -> None:
    try:
        check_database(path)
    except ValueError as error:
        raise ValueError(f"what follows the host {error}") from None


def _is_usable(option: str, told: list[str]) -> bool:
    """False, with a line that names it, for what PyMongo does not know. Raises ValueError if that would be unsafe."""
    name, _, value = option.partition("=")
    if not re.fullmatch("[A-Za-z]{1,60}", name):
        raise ValueError(_USUAL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            known = split_options(option, validate=True, warn=True)
        except OSError as error:
            raise ValueError(f"{name} {unquote(value)} cannot be read: {why(error)}") from None
        except (PyMongoError, ValueError):
            raise ValueError(f"{name} is not written as name=value, or has a value that cannot be used") from None
    if not caught:
        return True
    is_unknown = str(caught[0].message).startswith("Unknown option")
    if not is_unknown and name.lower().startswith(_SECURITY):
        raise ValueError(f"{name} has a value that cannot be used") from None
    if is_unknown:
        told.append(f"{name} is ignored: PyMongo has no such option")
    elif known:
        told.append(f"{name} counts in part: PyMongo cannot use all of its value")
    else:
        told.append(f"{name} is ignored: PyMongo cannot use its value")
    return bool(known) and not is_unknown


def _check_place(scheme: str, place: str) -> None:
    hosts = place.rpartition("@")[2].partition("/")[0]
    try:
        parse_uri(f"{_SCHEMES[0]}{place}")
        hosts.encode("idna")
    except (PyMongoError, ValueError):
        raise ValueError(_USUAL) from None
    if scheme != _SCHEMES[0] and ("," in hosts or ":" in hosts or re.fullmatch(r"[\d.]+", hosts)):
        raise ValueError("mongodb+srv:// takes one host name without a port, of which the DNS knows the hosts")


def _check_options(scheme: str, place: str, options: list[str]) -> None:
    """Together, with the hosts. A client is made because only then files with certificates and keys are read."""
    of_srv = [one for one in options if one.lower().startswith("srv")]
    if of_srv and scheme == _SCHEMES[0]:
        raise ValueError(f"{of_srv[0].partition('=')[0]} belongs to mongodb+srv:// alone")
    others = "&".join(one for one in options if one not in of_srv)
    try:
        make_client(f"{_SCHEMES[0]}{place}{'' if '/' in place.rpartition('@')[2] else '/'}?{others}").close()
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{_named(options)} cannot be used: {why(error)}") from None
    except (PyMongoError, ValueError) as error:
        raise ValueError(f"{_named(options)} cannot be used: {_without(str(error), place)}") from None


def _named(options: list[str]) -> str:
    """The files that are named there, which most often are what is wrong."""
    files = [one.partition("=") for one in options if one.partition("=")[0].lower() in _FILES]
    return ", ".join(f"{name} {unquote(value)}" for name, _, value in files) or "the options"


def _without(message: str, place: str) -> str:
    """PyMongo's words, unless they tell the password."""
    password = unquote(place.rpartition("@")[0].partition(":")[2])
    return "they contradict each other or the hosts" if password and password in message else message


def make_client(uri: str, **options: Any) -> "pymongo.MongoClient[dict[str, Any]]":
    """A client that connects when it is first used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ConnectionString.warnings has told
        return pymongo.MongoClient(uri, connect=False, **options)
