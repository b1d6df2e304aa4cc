"""Messages are read once for all that is counted in them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from zoneinfo import ZoneInfo

from bson import ObjectId

from librechat_exporter.folds.payers import Payers
from librechat_exporter.ledger.active_days import ACTIVE_DAYS, DAYS_KEPT, Calendar
from librechat_exporter.ledger.cell import Cell, Pins
from librechat_exporter.ledger.fold import Counting, Fold, Found, Kind, Reading
from librechat_exporter.ledger.last_seen import kind_by, merge, of_kind
from librechat_exporter.ledger.recent import Moment
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import UNKNOWN
from librechat_exporter.librechat.messages import (
    MESSAGE_ROW,
    NO_QUESTION,
    Link,
    Message,
    MessageKind,
    Messages,
    Question,
    Usage,
    first_answers,
    look_up,
    questions_among,
    read_messages,
    read_questions,
    read_tokens,
)
from librechat_exporter.librechat.models import Model, read_labels, read_subagents
from librechat_exporter.librechat.tool_calls import ToolCall, name_servers
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.user_ids import UserKey

MESSAGES = "messages"
# Users are seen with a message, on each day with a message, and with an answer of each agent.
SEEN = "messages"
AGENT_USERS = kind_by("agent")
# LibreChat's clock, or ours, may be wrong: that changes nothing about how long somebody waited.
_AHEAD = timedelta(days=1)
_LONGEST_WAIT = 3600
# An answer that is being written and has no model is waited for so long, which is less than it stays open.
_NAMELESS = timedelta(minutes=55)
_NOT_NAMED = ""
# The conversation of a sub-agent's thread, which names it, may be stored after the first answer in it.
_UNTOLD = timedelta(minutes=2)

# The label of a model, and the name of an agent.
_Labels = Mapping[Model, tuple[str, str | None]]

# A change of what all families count that are about people's chats.
WITHOUT_SUBAGENTS = "0.2.0: without sub-agents' threads"


@dataclass(frozen=True, slots=True)
class MessageGroup:
    """Messages of one kind and model.

    model: None as long as it is not known, as of an answer that was half saved. agent: its name, if they are an
    agent's answers. tokens, calls: of each message. prompts: the sum of the tokens of the questions that they answer.
    waits: of each answer the seconds from its question, None if it is not the first or that is not known. skipped: how
    many have a tokenCount that is no number of tokens. usage: of all together, None if none tells it. hours: of each
    message the hour that it was created in, as Reading.hour tells it; empty if all are older than what is kept.
    counted: names of the metrics that they were counted in before. payers: by kind how many are charged to each.
    """

    kind: MessageKind
    model: str | None
    agent: str | None
    tokens: Sequence[float]
    calls: Sequence[tuple[ToolCall, ...]] = ()
    prompts: float = 0
    waits: Sequence[float | None] = ()
    skipped: int = 0
    usage: Usage | None = None
    hours: Sequence[str | None] = ()
    counted: Collection[str] = frozenset()
    payers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.tokens)


def waited(created: float, question: Question) -> float | None:
    """Seconds from the question to its first answer; None if this is not the first, or the times cannot be meant."""
    seconds = created - abs(question.created)
    is_first = 0 < created <= question.answered
    return seconds if is_first and question.created and 0 <= seconds <= _LONGEST_WAIT else None


def _group(
    reading: Reading,
    messages: Messages,
    model: str | None,
    agent: str | None,
    asked: Sequence[Question],
    payers: Mapping[str, Mapping[str, int]],
    counted: Collection[str] = frozenset(),
) -> MessageGroup:
    """asked: the questions of these answers."""
    hours = [reading.hour(abs(created)) for created in messages.created] if reading.kept is not None else ()
    return MessageGroup(
        messages.kind,
        model,
        agent,
        messages.tokens,
        messages.tool_calls,
        sum(one.tokens for one in asked),
        [waited(created, one) for created, one in zip(messages.created, asked, strict=False)],
        messages.skipped,
        messages.usage,
        hours,
        counted,
        payers,
    )


class MessagesFold(Fold[MessageGroup]):
    """Counts people's chats, and the answers of sub-agents' threads apart."""

    name = MESSAGES
    collection = "messages"
    row = MESSAGE_ROW
    reads = ("agents", "conversations", "groups", "mcpservers", "users")

    def __init__(
        self,
        countings: Iterable[Counting[MessageGroup]],
        mirrored: Mapping[str, Metric],
        seen_kept: timedelta,
        timezone: ZoneInfo,
        users_held: str,
        name_user: UserKey,
    ) -> None:
        """seen_kept: for how long a user counts as seen. timezone: of the days. users_held: USERS_HELD, held as users
        are. name_user: of Payers."""
        super().__init__(countings)
        self.mirrored = mirrored
        self._seen_kept = seen_kept
        self._calendar = Calendar(timezone)
        self.kinds = (
            Kind(SEEN, str(seen_kept)),
            Kind(AGENT_USERS, str(seen_kept)),
            Kind(ACTIVE_DAYS, f"{timezone.key} {users_held}"),
        )
        self._payers = Payers(self.countings, name_user)

    def counts(self, counting: Counting[MessageGroup], group: MessageGroup) -> bool:
        return counting.of_subagents == group.kind.subagent

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        found = [Message(row, latest) for row in rows]
        name_servers(reading.librechat, found)
        questions = self._questions(reading, found, cells)
        unnamed = [one for one, cell in zip(found, cells, strict=True) if not _is_named(cell, one.kind)]
        labels = read_labels(reading.librechat, (one.kind.model for one in unnamed if not one.kind.subagent))
        threads = read_subagents(reading.librechat, (one.thread for one in unnamed if one.thread is not None))
        counted = []
        for one, row, cell in zip(found, rows, cells, strict=True):
            if one.kind.subagent:
                counted.append(self._found_subagents(reading, one, row["_id"], cell, threads))
            else:
                counted.append(self._found(reading, one, row["_id"], cell, labels, questions))
        agents = [one.pins.agent if one.pins is not None else None for one in counted]
        return counted, self._seen(reading, found, agents)

    @staticmethod
    def _questions(reading: Reading, found: Sequence[Message], cells: Sequence[Cell | None]) -> Mapping[Link, Question]:
        """The questions of these answers, among those that were met lately if they can be."""
        fresh = questions_among(found)
        for link, question in fresh.items():
            known = reading.questions.get(link, NO_QUESTION)
            reading.questions.put(link, question._replace(answered=min(question.answered, known.answered)))
        for link, created in first_answers(found).items():
            known = reading.questions.get(link, NO_QUESTION)
            if known is not NO_QUESTION and created < known.answered:
                reading.questions.put(link, known._replace(answered=created))
        answers = [
            (one.link, cell.pins if cell is not None else None)
            for one, cell in zip(found, cells, strict=True)
            if one.link is not None and not one.kind.by_user and not one.kind.subagent
        ]
        # LibreChat counts the question's tokens anew just before it saves the answer.
        changing = {link for link, pins in answers if pins is None or pins.prompt is None}
        changing = {link for link in changing if link in reading.questions and link not in fresh}
        for link, tokens in read_tokens(reading.librechat, changing).items():
            reading.questions.put(link, reading.questions.get(link, NO_QUESTION)._replace(tokens=tokens))
        wanted = {link for link, _ in answers}
        return look_up(reading.librechat, wanted, reading.questions)

    def _found(
        self,
        reading: Reading,
        one: Message,
        document: ObjectId,
        cell: Cell | None,
        labels: _Labels,
        questions: Mapping[Link, Question],
    ) -> Found:
        """An agent that is given another model, and a question that is edited, move no count of an answer."""
        pins = cell.pins if cell is not None else None
        named, agent = self._named(reading, one, pins, labels)
        is_waited_for = one.is_nameless and document.generation_time > reading.trusted - _NAMELESS
        model = None if is_waited_for else named
        asked: Sequence[Question] = ()
        prompt, is_asked = None, True
        if not one.kind.by_user:
            question = questions.get(one.link, NO_QUESTION) if one.link is not None else NO_QUESTION
            before = pins.prompt if pins is not None else None
            is_asked = one.link is None or before is not None or one.link in questions
            if is_asked:
                prompt = before if before is not None else question.tokens
            asked = (question._replace(tokens=prompt or 0),)
        counted = cell.names() if cell is not None else frozenset()
        waits = self._payers.are_unknown(reading, one.user)
        payers = self._payers.of_all(reading, one.users) if not waits else {}
        group = _group(reading, one, model, agent, asked, payers, counted)
        created = abs(one.moment)
        moment = Moment(created, one.user, one.conversation, bool(one.tool_calls[0]))
        is_final = is_asked and model is not None and one.told <= reading.now.timestamp() and not waits
        pinned = None if one.is_being_written else prompt
        pins = Pins(one.kind.model, _NOT_NAMED if model is None else model, pinned, agent)
        is_unsettled = one.unsettled or waits or reading.is_coming(created)
        return Found(self.count(reading, (group,)), pins, is_final, is_unsettled, moment)

    @staticmethod
    def _named(reading: Reading, one: Message, pins: Pins | None, labels: _Labels) -> tuple[str, str | None]:
        """The label of its model and the name of its agent, which stay what they were first."""
        if pins is not None and pins.model == one.kind.model and pins.label != _NOT_NAMED:
            return pins.label, pins.agent or labels.get(one.kind.model, ("", None))[1]
        label, agent = labels[one.kind.model]
        if one.kind.failed or not one.kind.by_user:  # else no metric has it
            label = reading.guard.admit("model", label)
        return label, agent

    def _found_subagents(
        self, reading: Reading, one: Message, document: ObjectId, cell: Cell | None, threads: Mapping[str, str]
    ) -> Found:
        pins = cell.pins if cell is not None else None
        agent = (pins.agent if pins is not None else None) or threads.get(one.thread or "")
        if agent is None and one.thread is not None and document.generation_time > reading.trusted - _UNTOLD:
            return Found(reading.samples(), final=False, unsettled=True)
        group = MessageGroup(one.kind, None, agent or UNKNOWN, one.tokens)
        return Found(self.count(reading, (group,)), Pins(one.kind.model, _NOT_NAMED, None, agent or UNKNOWN))

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        found = read_messages(
            reading.librechat, match, tools=True, created=True, usage=True, threads=True, latest=latest
        )
        name_servers(reading.librechat, found)
        models = (messages.kind.model for messages in found if not messages.kind.subagent)
        labels = read_labels(reading.librechat, models)
        agents = [labels.get(messages.kind.model, ("", None))[1] for messages in found]
        return self.count(reading, self._history(reading, found, labels)), self._seen(reading, found, agents)

    def _history(self, reading: Reading, found: Collection[Messages], labels: _Labels) -> Iterator[MessageGroup]:
        of_people = [messages for messages in found if not messages.kind.subagent]
        questions = read_questions(reading.librechat, of_people)
        for messages in of_people:
            asked = () if messages.kind.by_user else messages.asked(questions)
            payers = self._payers.of_all(reading, messages.users)
            yield _group(reading, messages, *labels[messages.kind.model], asked, payers)
        of_subagents = [messages for messages in found if messages.kind.subagent]
        threads = read_subagents(reading.librechat, (one.thread for one in of_subagents if one.thread is not None))
        for messages in of_subagents:
            yield MessageGroup(messages.kind, None, threads.get(messages.thread or "", UNKNOWN), messages.tokens)

    def _seen(self, reading: Reading, found: Iterable[Messages], agents: Iterable[str | None]) -> Seen:
        """When each user was last seen, also on each day; with an answer of an agent, to the hour. agents: of the
        messages."""
        since, until = (reading.now - self._seen_kept).timestamp(), reading.now.timestamp()
        days_since = (reading.now - DAYS_KEPT).timestamp() if reading.wants(ACTIVE_DAYS) else float("inf")
        seen: Seen = {SEEN: {}}
        for messages, agent in zip(found, agents, strict=True):
            if messages.kind.subagent:
                continue
            moments: dict[str, float] = {}
            for user, created in zip(messages.users, messages.created, strict=True):
                moment = abs(created)
                if user is None or not since < moment <= until:
                    continue
                if moment > moments.get(user, 0):
                    moments[user] = moment
                if moment > days_since:
                    of_day = seen.setdefault(self._calendar.kind(moment), {})
                    of_day[user] = max(moment, of_day.get(user, 0))
            if reading.wants(SEEN):
                merge(seen, {SEEN: moments})
            if agent is not None and not messages.kind.by_user and reading.wants(AGENT_USERS):
                name = reading.guard.admit("agent", agent)
                if name != OTHER:
                    hours = {user: moment // 3600 * 3600 for user, moment in moments.items()}
                    merge(seen, {of_kind(AGENT_USERS, name): hours})
        return seen


def _is_named(cell: Cell | None, kind: MessageKind) -> bool:
    """The message was counted before, as one of the same model, and with its agent's name if it has one."""
    pins = cell.pins if cell is not None else None
    if pins is None or pins.model != kind.model:
        return False
    if kind.subagent:
        return pins.agent is not None
    return pins.label != _NOT_NAMED and (pins.agent is not None or not isinstance(kind.model, tuple))
