"""Environment variables and `.env`, with what editors, shells, Docker and Kubernetes put around a value."""

import difflib
import io
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

DOTENV = Path(".env")
_FILE = "_file"
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
# How like a setting's name another one must be, from 0 to 1, to be taken for a slip.
_SLIP = 0.9
# Of a file that holds a secret.
_MOST_BYTES = 65_536


@dataclass
class Given:
    """values: by the setting's name in lower case. origins: by the same, what an error should name instead of the
    variable. problems, warnings: a line each, which names a variable or a file and quotes no value.
    """

    values: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read(names: Set[str], known: Set[str], passwords: Set[str]) -> Given:
    """Reads what is set of these names, in lower case. A variable wins over the same line of `.env`, a file that holds
    a value over both; an empty value is none.

    known: all names that are no slips, these among them. passwords: of which quotes can be a part.
    """
    given = Given()
    found = {**_of_dotenv(given), **_clean(os.environ)}
    for name in sorted(found.keys() & names):
        value = found[name]
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            given.problems.append(f"{name.upper()} holds bytes that are no UTF-8 text")
            continue
        if "\0" in value:
            given.problems.append(f"{name.upper()} holds a NUL character")
            continue
        if _is_quoted(value) and name in passwords:
            given.warnings.append(f"{name.upper()} begins and ends with a quote, which counts as a part of it")
        elif _is_quoted(value):  # Docker's env_file keeps them
            value = value[1:-1].strip()
        given.values[name] = value
    for name in sorted(found.keys() - known):
        meant = difflib.get_close_matches(name, known, 1, _SLIP)
        if meant:
            given.warnings.append(f"{name.upper()} is no setting; is {meant[0].upper()} meant?")
    for name in [name for name in given.values if name.endswith(_FILE) and name.removesuffix(_FILE) in names]:
        _read_secret(name, given)
    return given


def _clean(values: Mapping[str, str | None]) -> dict[str, str]:
    """Without what is empty, and without blanks, newlines and a byte order mark around a value."""
    cleaned = {name.lower(): (value or "").strip().strip(_BOM).strip() for name, value in values.items()}
    return {name: value for name, value in cleaned.items() if value not in ("", '""', "''")}


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def _of_dotenv(given: Given) -> dict[str, str]:
    try:
        text = DOTENV.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        given.problems.append(f"{DOTENV} cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        given.problems.append(f"{DOTENV} is not UTF-8 text; save it as UTF-8 (some editors on Windows write UTF-16)")
        return {}
    wrong = [one.original.line for one in parse_stream(io.StringIO(text)) if one.error]
    if wrong:
        given.problems += [f"{DOTENV} line {line} is not NAME=value, or a quote is not closed" for line in wrong]
        return {}
    return _clean(dotenv_values(stream=io.StringIO(text)))


def _is_in_a_folder(path: str) -> bool:
    try:
        return path.count("/") > 1 and Path(path).is_absolute() and Path(path).parent.is_dir()
    except OSError:  # one that may not be entered
        return True


def _read_secret(name: str, given: Given) -> None:
    path = given.values[name]
    setting = name.removesuffix(_FILE)
    try:
        if Path(path).exists() and not Path(path).is_file():
            given.problems.append(f"{name.upper()}: {path} is not a file")
            return
        with Path(path).open("rb") as file:
            value = file.read(_MOST_BYTES).decode("utf-8-sig").strip()
            if file.read(1):
                given.problems.append(f"{name.upper()}: {path} holds more than a secret: {_MOST_BYTES:,} bytes at most")
                return
    except OSError as error:
        # Somebody may have put the secret itself there.
        named = path if _is_in_a_folder(path) else "it names a file that"
        given.problems.append(f"{name.upper()}: {named} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        given.problems.append(f"{name.upper()}: {path} cannot be read: it is not UTF-8 text")
    else:
        if not value:
            given.problems.append(f"{name.upper()}: {path} is empty")
            return
        if "\0" in value:
            given.problems.append(f"{name.upper()}: {path} holds a NUL character")
            return
        given.values[setting] = value
        given.origins[setting] = f"{name.upper()}: {path}"
