"""A request, and its answer."""

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """headers: by their names in lower case; path: without the query, which is what follows its `?`."""

    method: str
    path: str
    headers: dict[str, str]
    query: str = ""

    def parameter(self, name: str) -> str:
        """Of the query, the last of that name; empty if there is none."""
        return parse_qs(self.query).get(name, [""])[-1]


@dataclass(frozen=True)
class Response:
    """Content-Length is added when it is sent; the body is not sent to HEAD."""

    status: HTTPStatus
    headers: Headers
    body: bytes


def plain_text(status: HTTPStatus, content: str, *headers: tuple[str, str]) -> Response:
    """A line of plain text."""
    return Response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers], f"{content}\n".encode())
