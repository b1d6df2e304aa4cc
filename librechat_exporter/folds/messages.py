"""Messages are read once for all that is counted in them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from librechat_exporter.ledger.cell import Cell, Pins
from librechat_exporter.ledger.fold import Counting, Fold, Found, Kind, Reading
from librechat_exporter.ledger.recent import Moment
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.messages import (
    MESSAGE_ROW,
    NO_QUESTION,
    Link,
    Message,
    MessageKind,
    Messages,
    Question,
    ToolCall,
    look_up,
    questions_among,
    read_messages,
    read_questions,
)
from librechat_exporter.librechat.models import Model, read_labels
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples

MESSAGES = "messages"
# Users are seen with a message.
SEEN = "messages"
# LibreChat's clock, or ours, may be wrong: that changes nothing about how long somebody waited.
_AHEAD = timedelta(days=1)
_LONGEST_WAIT = 3600

# The label of a model, and the name of an agent.
_Labels = Mapping[Model, tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class MessageGroup:
    """Messages of one kind and model.

    agent: its name, if they are an agent's answers. tokens, calls: of each message. prompts: the sum of the tokens of
    the questions that they answer. waits: seconds from the question to each answer, if that is known. skipped: how many
    have a tokenCount that is no number of tokens. hours: how many were created in each hour that is kept, by the last
    label of what is counted in windows. counted: names of the metrics that they were counted in before.
    """

    kind: MessageKind
    model: str
    agent: str | None
    tokens: Sequence[float]
    calls: Sequence[tuple[ToolCall, ...]]
    prompts: float
    waits: Sequence[float]
    skipped: int
    hours: Mapping[str, int]
    counted: Collection[str] = frozenset()

    @property
    def count(self) -> int:
        return len(self.tokens)


def waited(created: float, asked: float) -> float | None:
    """Seconds between the Unix times of a question and its answer; None if either is 0, or they cannot be meant."""
    seconds = created - abs(asked)
    return seconds if created > 0 and asked and 0 <= seconds <= _LONGEST_WAIT else None


def _group(
    reading: Reading,
    messages: Messages,
    labels: tuple[str, str | None],
    asked: Sequence[Question],
    counted: Collection[str] = frozenset(),
) -> MessageGroup:
    """asked: the questions of these answers."""
    hours: Counter[str] = Counter()
    if reading.kept is not None:
        hours.update(hour for created in messages.created if (hour := reading.hour(abs(created))) is not None)
    waits = (waited(created, one.created) for created, one in zip(messages.created, asked, strict=False))
    return MessageGroup(
        messages.kind,
        *labels,
        messages.tokens,
        messages.tool_calls,
        sum(one.tokens for one in asked),
        [one for one in waits if one is not None],
        messages.skipped,
        hours,
        counted,
    )


class MessagesFold(Fold[MessageGroup]):
    name = MESSAGES
    collection = "messages"
    row = MESSAGE_ROW

    def __init__(
        self, countings: Iterable[Counting[MessageGroup]], mirrored: Mapping[str, Metric], seen_kept: timedelta
    ) -> None:
        """seen_kept: for how long a user counts as seen."""
        super().__init__(countings)
        self.mirrored = mirrored
        self._seen_kept = seen_kept
        self.kinds = (Kind(SEEN, str(seen_kept)),)

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        found = [Message(row, latest) for row in rows]
        questions = self._questions(reading, found)
        told = zip(found, cells, strict=True)
        unnamed = (one.kind.model for one, cell in told if not _is_named(cell, one.kind.model))
        labels = read_labels(reading.librechat, unnamed)
        counted = [self._found(reading, one, cell, labels, questions) for one, cell in zip(found, cells, strict=True)]
        return counted, self._seen(reading, found)

    @staticmethod
    def _questions(reading: Reading, found: Sequence[Message]) -> Mapping[Link, Question]:
        """The questions of these answers, among those that were met lately if they can be."""
        for link, question in questions_among(found).items():
            known = reading.questions.get(link, NO_QUESTION)
            reading.questions.put(link, max(question, known, key=lambda one: one.tokens))
        wanted = {one.link for one in found if not one.kind.by_user and one.link is not None}
        return look_up(reading.librechat, wanted, reading.questions)

    def _found(
        self,
        reading: Reading,
        one: Message,
        cell: Cell | None,
        labels: _Labels,
        questions: Mapping[Link, Question],
    ) -> Found:
        """What an answer was first counted with stays: an agent that is given another model moves no count."""
        kind, pins = one.kind, cell.pins if cell is not None else None
        if pins is not None and pins.model == kind.model:
            label, agent = pins.label, pins.agent or labels.get(kind.model, ("", None))[1]
        else:
            label, agent = labels[kind.model]
            if kind.failed or not kind.by_user:  # else no metric has it
                label = reading.guard.admit("model", label)
        asked: Sequence[Question] = ()
        prompt, is_asked = None, True
        if not kind.by_user:
            question = questions.get(one.link, NO_QUESTION) if one.link is not None else NO_QUESTION
            before = pins.prompt if pins is not None else None
            is_asked = one.link is None or before is not None or one.link in questions
            if is_asked:
                prompt = before if before is not None else question.tokens
            asked = (Question(prompt or 0, question.created),)
        counted = cell.names() if cell is not None else frozenset()
        group = _group(reading, one, (label, agent), asked, counted)
        created = abs(one.moment)
        moment = Moment(created, one.user, one.conversation, bool(one.tool_calls[0]))
        is_final = is_asked and created <= reading.now.timestamp()
        pins = Pins(kind.model, label, prompt, agent)
        return Found(self.count(reading, (group,)), pins, is_final, one.unsettled, moment)

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        latest = (reading.now + _AHEAD).timestamp()
        found = read_messages(reading.librechat, match, tools=True, created=True, latest=latest)
        questions = read_questions(reading.librechat, found)
        labels = read_labels(reading.librechat, (messages.kind.model for messages in found))
        groups = (
            _group(
                reading,
                messages,
                labels[messages.kind.model],
                () if messages.kind.by_user else messages.asked(questions),
            )
            for messages in found
        )
        return self.count(reading, groups), self._seen(reading, found)

    def _seen(self, reading: Reading, found: Iterable[Messages]) -> Seen:
        """When each user was last seen."""
        since, until = (reading.now - self._seen_kept).timestamp(), reading.now.timestamp()
        seen: dict[str, float] = {}
        if reading.wants(SEEN):
            for messages in found:
                for user, created in zip(messages.users, messages.created, strict=True):
                    moment = abs(created)
                    if user is not None and since < moment <= until and moment > seen.get(user, 0):
                        seen[user] = moment
        return {SEEN: seen}


def _is_named(cell: Cell | None, model: Model) -> bool:
    """The message was counted before, as one of the same model, and with its agent's name if it has one."""
    pins = cell.pins if cell is not None else None
    return pins is not None and pins.model == model and (pins.agent is not None or not isinstance(model, tuple))
