"""Messages: those that share a kind are read together, or each by itself; answers are joined with their questions."""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from bson import Decimal128

from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document, when
from librechat_exporter.librechat.fields import (
    CONVERSATION,
    CONVERSATION_FIELD,
    CREATED,
    FAILED,
    IS_BEING_WRITTEN,
    IS_SUBAGENTS,
    IS_USERS,
    LINK,
    MESSAGE_ID_FIELD,
    MODEL,
    NOT_SUBAGENTS,
    PARENT_FIELD,
    RATING,
    RATINGS,
    TAG,
    THREAD,
    TOKENS,
    UNFINISHED,
    USAGE,
    USER,
)
from librechat_exporter.librechat.models import Model, model_of
from librechat_exporter.librechat.rejection_fields import REASON, REASONS
from librechat_exporter.librechat.tool_calls import tool_calls
from librechat_exporter.librechat.tool_fields import IS_UNSETTLED, TOOLS
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

_LOOK_UP_AT_ONCE = 500

# What links an answer to its question: the user's id and the question's messageId.
Link = tuple[str | None, str]


class Question(NamedTuple):
    """A question's tokens, its createdAt as in Messages, and when the first answer to it was created.

    Those of its answers that are stored tell what is the first, and not when they are imported.
    """

    tokens: float
    created: float
    answered: float = float("inf")


NO_QUESTION = Question(0, 0)
Questions = Mapping[Link, Question]

_KIND: Document = {
    "users": IS_USERS,
    "model": MODEL,
    "unfinished": UNFINISHED,
    "subagent": IS_SUBAGENTS,
    # Why, in an array; null if it did not fail. To evaluate FAILED once more takes a tenth of a fold's time.
    "failed": when(FAILED, [REASON], None),
}
_EACH: Document = {"user": USER, "link": LINK, "tokens": TOKENS}
# A message by itself, of bounded size: for Message.
MESSAGE_ROW: Document = (
    _KIND
    | _EACH
    | {
        "created": CREATED,
        "tools": TOOLS,
        "conversation": CONVERSATION,
        "unsettled": IS_UNSETTLED,
        "written": IS_BEING_WRITTEN,
    }
    | {f"usage_{name}": expression for name, expression in USAGE.items()}
)


class Usage(NamedTuple):
    """Sums over answers' model calls: how many answers told of them, tokens, and the cost in parts of a dollar."""

    told: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: int


class MessageKind(NamedTuple):
    """Messages that are counted together share these.

    unfinished: stopped by the user, or broken off. subagent: written in a sub-agent's thread, by nobody for nobody.
    reason: why one failed, in LibreChat's word; None if it did not, or said nothing that is one of REASONS.
    """

    by_user: bool
    failed: bool
    model: Model
    unfinished: bool
    subagent: bool
    reason: str | None

    @classmethod
    def of(cls, row: Document) -> "MessageKind":
        failed = row["failed"]
        return cls(
            row["users"],
            failed is not None,
            model_of(row["model"]),
            row["unfinished"],
            row["subagent"],
            REASONS[failed[0]] if failed is not None and failed[0] >= 0 else None,
        )


class Messages:
    """Messages of a kind. Its lists have an entry for each.

    links: a user's message by its own id, an answer by its parent's; None where that is no id.
    tokens: whole; 0 where tokenCount cannot be used; skipped counts those of these where there was something.
    created: createdAt as a Unix time; 0 if it is no date that can be meant, or was not asked for; negative if it is
    more than a day before the time of the `_id`, as of an imported chat.
    tool_calls: of each message, if tools were asked for. usage: of all together, if that was asked for.
    thread: the conversationId of the sub-agent's thread that all are of, if threads were asked for. rating, tag: of
    each of them, None where there is none, if ratings were asked for.
    """

    def __init__(self, row: Document, latest: float = float("inf")) -> None:
        """latest: the Unix time after which nothing can have been created."""
        self.kind = MessageKind.of(row["_id"])
        self.users = _users(row["user"])
        self.links = _links(self.users, row["link"])
        self.tokens, self.skipped = _tokens(row["tokens"])
        self.created = _created(row.get("created", [0] * len(self.users)), latest)
        self.tool_calls = [() if tools is None else tool_calls(tools) for tools in row.get("tools", ())]
        self.usage = _usage(row)
        self.thread: str | None = row["_id"].get("thread")
        rated = row["_id"].get("rated") or {}
        self.rating: str | None = rated.get("rating")
        self.tag: str | None = (rated.get("tag") or "")[:MAX_LABEL_LENGTH] or None

    def __len__(self) -> int:
        return len(self.users)

    def asked(self, questions: Questions) -> list[Question]:
        """The question of each of these answers; NO_QUESTION where it is not among these questions."""
        return [questions.get(link, NO_QUESTION) if link is not None else NO_QUESTION for link in self.links]


class Message(Messages):
    """One message.

    unsettled: more is to come, as the answer is being written, or a tool works on. is_nameless: it is being written,
    and has no model yet. conversation: a hash of its id. told: its createdAt, even if that cannot be meant.
    """

    def __init__(self, row: Document, latest: float) -> None:
        """row: what MESSAGE_ROW gives."""
        self.kind = MessageKind.of(row)
        self.user = sys.intern(str(row["user"])) if row["user"] else None  # thousands are held
        self.users = [self.user]
        self.link = (self.user, row["link"]) if row["link"] else None
        self.links = [self.link]
        self.tokens, self.skipped = [_whole(row["tokens"])], int(_is_skipped(row["tokens"]))
        self.told = abs(row["created"]) / 1000
        self.moment = row["created"] / 1000 if row["created"] <= latest * 1000 else 0
        self.created = [self.moment]
        self.tool_calls = [tool_calls(row["tools"]) if row["tools"] is not None else ()]
        self.usage = _usage(row)
        self.is_being_written: bool = row["written"]
        self.is_nameless = self.is_being_written and not self.kind.model and not self.kind.by_user
        self.thread = row["conversation"] if self.kind.subagent else None
        self.conversation = hash(row["conversation"]) if row["conversation"] else None
        self.unsettled: bool = row["unsettled"]


def _usage(row: Document) -> Usage | None:
    """None if none of the messages tells any."""
    return Usage(*(int(row[f"usage_{name}"]) for name in Usage._fields)) if row.get("usage_told") else None


def _users(users: list[Any]) -> list[str | None]:
    """LibreChat writes a string in messages, an ObjectId in other collections."""
    if set(map(type, users)) == {str} and "" not in users:
        return users
    return [str(user) if user else None for user in users]


def _links(users: list[str | None], links: list[str | None]) -> list[Link | None]:
    if all(links):
        return list(zip(users, links, strict=True))  # type: ignore[arg-type]
    return [(user, link) if link else None for user, link in zip(users, links, strict=True)]


def _tokens(tokens: list[Any]) -> tuple[list[float], int]:
    """The usable numbers, and how many there are of what is none."""
    if set(map(type, tokens)) == {int} and min(tokens) >= 0:
        return tokens, 0
    return [_whole(one) for one in tokens], sum(map(_is_skipped, tokens))


def _is_skipped(tokens: Any) -> bool:
    """TOKENS stands for something that is no number of tokens."""
    return tokens is not None and (isinstance(tokens, Decimal128) or tokens < 0)


def _whole(tokens: Any) -> int:
    """Of what TOKENS gives; 0 for what is no number of tokens."""
    return 0 if tokens is None or _is_skipped(tokens) else int(tokens + 0.5)


def _created(milliseconds: list[float], latest: float) -> list[float]:
    created = [one / 1000 for one in milliseconds]
    return created if max(created) <= latest else [one if one <= latest else 0 for one in created]


def read_messages(
    librechat: LibreChat,
    match: Document,
    *,
    tools: bool = False,
    created: bool = False,
    usage: bool = False,
    threads: bool = False,
    ratings: bool = False,
    latest: float = float("inf"),
) -> list[Messages]:
    """The matching messages, by what they share.

    tools, created, usage: with these. threads: those of sub-agents set apart by thread. ratings: all set apart by
    rating and tag. latest: of Messages.
    """
    shared, each = dict(_KIND), dict(_EACH)
    if created:
        each["created"] = CREATED
    if tools:
        each["tools"] = TOOLS
    if threads:
        shared["thread"] = THREAD
    if ratings:
        shared["rated"] = when({"$in": [RATING, list(RATINGS)]}, {"rating": RATING, "tag": TAG}, None)
    group = {"_id": shared} | {name: {"$push": expression} for name, expression in each.items()}
    if usage:
        group |= {f"usage_{name}": {"$sum": expression} for name, expression in USAGE.items()}
    return [Messages(row, latest) for row in librechat.aggregate("messages", match, {"$group": group})]


def read_users(librechat: LibreChat, match: Document) -> set[str]:
    """Ids of the users whose chats the matching messages are of."""
    rows = librechat.aggregate("messages", {"$and": [match, NOT_SUBAGENTS]}, {"$group": {"_id": USER}})
    return {str(row["_id"]) for row in rows if row["_id"]}


def read_questions(librechat: LibreChat, messages: Collection[Messages]) -> dict[Link, Question]:
    """The questions of all answers among these: nearly all stand among the same messages, the rest is looked up.

    These messages must be all of a range of `_id`s: answers follow their question, so that the first one is there.
    """
    questions = questions_among(messages)
    answers = (group for group in messages if not group.kind.by_user)
    return look_up(librechat, {link for group in answers for link in group.links if link is not None}, questions)


def look_up(librechat: LibreChat, wanted: set[Link], known: Mapping[Link, Question]) -> dict[Link, Question]:
    """Those of the wanted questions that are known, or can be found by their messageId."""
    missing = {link for link in wanted if link not in known}  # not by `-`, which goes through all that are known
    ids = sorted({message_id for _, message_id in missing})
    found = {link: known[link] for link in wanted - missing}
    for start in range(0, len(ids), _LOOK_UP_AT_ONCE):
        some = ids[start : start + _LOOK_UP_AT_ONCE]
        match = {MESSAGE_ID_FIELD: {"$in": some}}
        conversations = librechat.aggregate("messages", match, {"$group": {"_id": CONVERSATION}})
        # No index leads from a question to its answers, but one to its conversation.
        named = {CONVERSATION_FIELD: {"$in": [row["_id"] for row in conversations if row["_id"] is not None]}}
        answers = read_messages(librechat, named | {PARENT_FIELD: {"$in": some}}, created=True)
        read = questions_among([*read_messages(librechat, match, created=True), *answers])
        found |= {link: question for link, question in read.items() if link in missing}
    return found


def read_tokens(librechat: LibreChat, links: Collection[Link]) -> dict[Link, float]:
    """The tokens of these questions as they are stored now, of those that are."""
    ids = sorted({message_id for _, message_id in links})
    found: dict[Link, float] = {}
    for start in range(0, len(ids), _LOOK_UP_AT_ONCE):
        read = read_messages(librechat, {MESSAGE_ID_FIELD: {"$in": ids[start : start + _LOOK_UP_AT_ONCE]}})
        found |= {link: question.tokens for link, question in questions_among(read).items() if link in links}
    return found


def questions_among(messages: Collection[Messages]) -> dict[Link, Question]:
    """Users' messages by their links, and when those of their answers that are among these were created.

    Of several questions with one link, that with the most tokens stays.
    """
    first = first_answers(messages)
    questions: dict[Link, Question] = {}
    for group in messages:
        if group.kind.by_user and not group.kind.subagent:
            for link, tokens, created in zip(group.links, group.tokens, group.created, strict=True):
                if link is not None and tokens >= questions.get(link, NO_QUESTION).tokens:
                    questions[link] = Question(tokens, created, first.get(link, float("inf")))
    return questions


def first_answers(messages: Iterable[Messages]) -> dict[Link, float]:
    """When the first of these answers to each question was created."""
    first: dict[Link, float] = {}
    for group in messages:
        if not group.kind.by_user and not group.kind.subagent:
            for link, created in zip(group.links, group.created, strict=True):
                if link is not None and created > 0 and created < first.get(link, float("inf")):
                    first[link] = created
    return first
